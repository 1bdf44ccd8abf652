//! Folds whose action is linear in several sums.
//!
//! `E = sum[j.o] h * (q + g * l)`, `q = part[j] E`, is a fold with the action `h * (v + g * l)` if `h` and `g` are terms over maxima
//! within the block and over all blocks, and `l` is the block's own value of a sum that runs along. `sum[j] exp(x - m) * (x - m)`
//! moves so beside `sum[j] exp(x - m)`: what is moved is a vector, by a matrix. The matrices must follow one another:
//! moving nothing is the identity, and moving twice is moving once. That is tried at random elements of a finite field, in
//! which exponentials keep their law.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::eval::FieldValue;
use tilewright_ir::{Axis, Reduction};

use super::Search;
use super::blocks::mentions_reduction;
use super::construct::reduce;
use super::folds::{Tracks, extreme_of_blocks, rescale};
use super::means::blocked;
use super::trial::{elements, for_each, moving, plus, value};
use crate::algebra::{SubAxis, Term};

/// The ways in which the body is the block value, and multiples of the block values of other sums, scaled together: what it is,
/// the action, and what it tracks.
pub(super) fn linear(
    s: &mut Search,
    op: Reduction,
    body: Id,
    j: Axis,
    q: Id,
    hole: Id,
) -> Vec<(Term, Id, Tracks)> {
    let mut out = Vec::new();
    if op != Reduction::Sum {
        return out;
    }
    let mut products: Vec<Vec<Id>> = s.products(body);
    products.push(vec![body]);
    for factors in products {
        for (n, &f) in factors.iter().enumerate() {
            let mut scale = factors.clone();
            scale.remove(n);
            for terms in s.sums(f) {
                let Some(at) = terms.iter().position(|&t| s.graph.find(t) == q) else { continue };
                let mut moves = terms.clone();
                moves.remove(at);
                let mut system = System::default();
                let known = scale.iter().all(|&f| rescale(s, f, j, &mut system.maxima, &mut BTreeSet::new()))
                    && moves.iter().all(|&m| system.multiple(s, m, j));
                if moves.is_empty() || !known || system.maxima.is_empty() {
                    continue;
                }
                moves.push(hole);
                let moved = s.graph.add_uncanonical(Term::Add(moves.into()));
                let whole = s.graph.add_uncanonical(Term::Add(terms.into()));
                let around = |inner: Id| Term::Mul(scale.iter().copied().chain([inner]).collect());
                let [action, written] = match scale.is_empty() {
                    true => [moved, whole],
                    false => [moved, whole].map(|inner| s.graph.add_uncanonical(around(inner))),
                };
                if system.composes(s, action, hole) {
                    let written = s.graph.id_to_node(written).clone();
                    let tracks = system.maxima.into_iter().chain(system.sums.into_iter().map(|l| l.pair));
                    out.push((written, action, tracks.collect()));
                }
            }
        }
    }
    out
}

/// A sum that runs along.
struct Sum {
    /// Its block value, and what it is of all blocks.
    pair: (Id, Id),
    /// Its own action, if it moves.
    action: Option<Id>,
}

/// What an action is over.
#[derive(Default)]
struct System {
    maxima: Tracks,
    sums: Vec<Sum>,
}

/// A vector: the fold's own value, and those of the sums.
#[derive(Clone)]
struct State {
    own: FieldValue,
    sums: Vec<FieldValue>,
}

impl System {
    /// Whether a class is a multiple of the block value of a sum by terms over maxima; collects them.
    fn multiple(&mut self, s: &mut Search, id: Id, j: Axis) -> bool {
        let mut products = s.products(id);
        products.push(vec![id]);
        products.into_iter().any(|factors| {
            factors.iter().enumerate().any(|(n, &f)| {
                let mut maxima = self.maxima.clone();
                let mut others = factors.iter().enumerate().filter(|(m, _)| *m != n);
                if !others.all(|(_, &o)| rescale(s, o, j, &mut maxima, &mut BTreeSet::new())) {
                    return false;
                }
                let known = self.sums.iter().any(|l| l.pair.0 == s.graph.find(f));
                let found = if known { None } else { sum(s, f, j) };
                let is_sum = known || found.is_some();
                self.sums.extend(found);
                if is_sum {
                    self.maxima = maxima;
                }
                is_sum
            })
        })
    }

    /// Whether the action is a linear one that may be taken step by step.
    fn composes(&self, s: &Search, action: Id, hole: Id) -> bool {
        (0..2).all(|trial| self.tried(s, action, hole, trial) == Some(true))
    }

    fn tried(&self, s: &Search, action: Id, hole: Id, trial: u64) -> Option<bool> {
        let mut fresh = elements(trial);
        let [a, b, c] = [(); 3].map(|()| for_each(&self.maxima, &mut fresh));
        let [one, other] =
            [(); 2].map(|()| State { own: fresh(), sums: self.sums.iter().map(|_| fresh()).collect() });
        let moved =
            |action: Id, own: FieldValue, sums: &[FieldValue], from: &[FieldValue], to: &[FieldValue]| {
                let mut names = moving(s, &self.maxima, from, to);
                names.insert(s.graph.find(hole), own);
                names.extend(self.sums.iter().zip(sums).map(|(sum, &l)| (s.graph.find(sum.pair.0), l)));
                value(s, action, &names)
            };
        let sums: Vec<FieldValue> = one.sums.iter().zip(&other.sums).map(|(&x, &y)| plus(x, y)).collect();
        let together = moved(action, plus(one.own, other.own), &sums, &a, &b)?;
        let near = moved(action, one.own, &one.sums, &a, &b)?;
        let apart = plus(near, moved(action, other.own, &other.sums, &a, &b)?);
        let still = moved(action, one.own, &one.sums, &a, &a)?;
        let follow = |(sum, &l): (&Sum, &FieldValue)| match sum.action {
            Some(of) => moved(of, l, &one.sums, &a, &b),
            None => Some(l),
        };
        let followed = self.sums.iter().zip(&one.sums).map(follow).collect::<Option<Vec<_>>>()?;
        let twice = moved(action, near, &followed, &b, &c)?;
        let once = moved(action, one.own, &one.sums, &a, &c)?;
        Some(together.same(&apart) && still.same(&one.own) && twice.same(&once))
    }
}

/// The sum that runs along of which a class is the value of one block.
fn sum(s: &mut Search, block: Id, j: Axis) -> Option<Sum> {
    let block = s.graph.find(block);
    if extreme_of_blocks(s, block, j, Reduction::Max).is_some() {
        return None;
    }
    let runs = |s: &Search, y: Id| {
        s.graph[y].nodes.iter().find_map(|n| match n {
            Term::Reduce(Reduction::Sum, axes, [t]) if axes[..] == [SubAxis::outer(j)] => {
                (s.graph.find(*t) == block).then_some(None)
            }
            Term::Fold(a, Reduction::Sum, c) if *a == j => {
                (s.graph.find(c[0]) == block).then_some(Some(c[1]))
            }
            _ => None,
        })
    };
    let owners: Vec<Id> = s.graph[block]
        .nodes
        .iter()
        .filter_map(|n| match n {
            Term::Part(a, [y]) if *a == j => Some(s.graph.find(*y)),
            _ => None,
        })
        .collect();
    if let Some(found) = owners.into_iter().find_map(|y| Some(Sum { pair: (block, y), action: runs(s, y)? }))
    {
        return Some(found);
    }
    // What knows nothing of its block but its positions is a sum of blocks as it is.
    let plain = s.graph[block].nodes.iter().any(|n| match n {
        Term::Reduce(Reduction::Sum, axes, [x]) => {
            blocked(s, axes) == Some(j)
                && !mentions_reduction(&s.graph, *x, j, &mut HashMap::new())
                && !within_block(s, *x, j, &mut BTreeSet::new())
        }
        _ => false,
    });
    if !plain {
        return None;
    }
    let all = reduce(&mut s.graph, Reduction::Sum, vec![SubAxis::outer(j)], block);
    Some(Sum { pair: (block, s.graph.find(all)), action: None })
}

/// Whether the smallest term of a class reduces over the positions of a block.
fn within_block(s: &Search, id: Id, j: Axis, seen: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    if !seen.insert(id) {
        return false;
    }
    let node = &s.graph[id].data.smallest;
    matches!(node, Term::Reduce(_, axes, _) if axes.contains(&SubAxis::inner(j)))
        || node.children().iter().any(|&c| within_block(s, c, j, seen))
}
