//! Moving the reference point of a difference that is summed, from the mean or the maximum of all blocks to that of one.
//!
//! For any finite `t`: `sum[i] c * (x - y) = sum[i] c * (x - t) + (t - y) * sum[i] c`. Applied without bounds this fills the
//! graph with pointless reference points; it is scoped to a `y` that is a mean or a maximum over all blocks, `i` being the
//! positions of one, and its mean or maximum `t`. Several maxima move together. Squares are such sums twice over, and what
//! lies around its own mean sums to 0: together these are the parallel-axis theorem, by which moments of a whole are those of
//! its parts.

use std::collections::HashMap;

use egg::Id;
use tilewright_ir::{Axis, Reduction, Unary};

use super::blocks::mentions_reduction;
use super::construct::{add, literal, mul, multiple, neg, num, reduce, unary};
use super::shift::{block_value, raw};
use super::{Law, Search};
use crate::algebra::{AxisSet, Part, SubAxis, Term};

/// Shifting what is summed.
pub(crate) const SHIFT: Law = Law {
    name: "loc-sum",
    statement: "sum[i] c * (x - y) = sum[i] c * (x - t) + (t - y) * sum[i] c",
    conditions: "t = s * inv n; t finite; y = (sum[j.o] s) * inv(sum[j.o] n), finite, with s = sum[i] x and n = \
                 sum[i] 1; used where i is j.i, or that and whole axes, and j.i is free in all factors of c; or else y = \
                 max[j.o] t, i not free in y and t, and c holds no reduction over j",
    apply: shift,
};

/// What lies around its own mean.
pub(crate) const CENTRE: Law = Law {
    name: "centre",
    statement: "sum[i](x - t) = 0",
    conditions: "t = (sum[i] x) * inv(sum[i] 1); t finite; used where i is j.i, or that and whole axes",
    apply: centre,
};

/// A mean that is subtracted from the terms of a sum.
struct Centred {
    /// The other terms.
    x: Vec<Id>,
    /// The sum of what is averaged, and how many there are.
    mean: [Id; 2],
    /// The same of the block at hand.
    block: [Id; 2],
}

/// The ways to write a sum of terms as `x - y` with a mean `y` over `axes`: of all blocks of `j`, or of the one at hand.
fn centred(s: &Search, terms: &[Id], axes: &[SubAxis], j: Axis, all: bool) -> Vec<Centred> {
    let mut out = Vec::new();
    for (n, &term) in terms.iter().enumerate() {
        for factors in s.products(term) {
            let [a, b, c] = factors[..] else { continue };
            for [minus, sum, inverse] in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
                if literal(&s.graph, minus) != Some(-1.0) {
                    continue;
                }
                for count in inverted(s, inverse) {
                    let (Some(part), Some(ones)) = (of_block(s, sum, j, all), of_block(s, count, j, all))
                    else {
                        continue;
                    };
                    let mut x = terms.to_vec();
                    x.remove(n);
                    if counts(s, ones, axes) && sums(s, part, &x, axes) {
                        out.push(Centred { x, mean: [sum, count], block: [part, ones] });
                    }
                }
            }
        }
    }
    out
}

fn inverted(s: &Search, id: Id) -> Vec<Id> {
    let argument = |n: &Term| if let Term::Unary(Unary::Inv, [y]) = n { Some(*y) } else { None };
    s.graph[id].nodes.iter().filter_map(argument).collect()
}

/// What a block adds to a sum over all blocks; or else the value itself, of the block at hand.
fn of_block(s: &Search, id: Id, j: Axis, all: bool) -> Option<Id> {
    if !all {
        return Some(id);
    }
    s.graph[id].nodes.iter().find_map(|n| match n {
        Term::Reduce(Reduction::Sum, axes, [t]) if axes[..] == [SubAxis::outer(j)] => Some(*t),
        _ => None,
    })
}

fn within(s: &Search, id: Id, axes: &[SubAxis], fits: impl Fn(Id) -> bool) -> bool {
    s.graph[id]
        .nodes
        .iter()
        .any(|n| matches!(n, Term::Reduce(Reduction::Sum, own, [x]) if own[..] == *axes && fits(*x)))
}

/// Whether it is the number of positions of a block.
fn counts(s: &Search, id: Id, axes: &[SubAxis]) -> bool {
    within(s, id, axes, |x| literal(&s.graph, x) == Some(1.0))
}

/// Whether it is the sum of these terms over the positions of a block.
fn sums(s: &Search, id: Id, terms: &[Id], axes: &[SubAxis]) -> bool {
    let same = |mine: &[Id]| {
        let key = |c: &[Id]| {
            let mut c: Vec<Id> = c.iter().map(|&c| s.graph.find(c)).collect();
            c.sort_unstable();
            c
        };
        key(mine) == key(terms)
    };
    within(s, id, axes, |x| match terms {
        [one] => s.graph.find(*one) == s.graph.find(x),
        _ => s.sums(x).iter().any(|c| same(c)),
    })
}

/// The axis of which positions within a block are summed, alone or with whole axes.
pub(super) fn blocked(s: &Search, axes: &[SubAxis]) -> Option<Axis> {
    let mut parts = axes.iter().filter(|a| a.part != Part::Whole);
    let (cut, more) = (parts.next()?, parts.next());
    (more.is_none() && cut.part == Part::Inner && s.cascades.contains(&cut.axis)).then_some(cut.axis)
}

fn shift(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(Reduction::Sum, axes, [body]) = node else { return };
    let Some(j) = blocked(s, axes) else { return };
    let mut products = s.products(*body);
    products.push(vec![*body]);
    for factors in products {
        for (n, &f) in factors.iter().enumerate() {
            let varies =
                |&f: &Id| s.graph[f].data.free.contains(SubAxis::inner(j)) || literal(&s.graph, f).is_some();
            if factors[..n].contains(&f) || !factors.iter().all(varies) {
                continue;
            }
            for terms in s.sums(f) {
                shift_maxima(s, id, node, (j, &factors, n), &terms);
                for Centred { x, mean: [sum, count], block: [part, ones] } in
                    centred(s, &terms, axes, j, true)
                {
                    let mut c = factors.clone();
                    c[n] = s.graph.add_uncanonical(Term::Add(terms.clone().into()));
                    s.matched(
                        node,
                        0,
                        if c.len() == 1 {
                            Term::Add(terms.clone().into())
                        } else {
                            Term::Mul(c.clone().into())
                        },
                    );
                    c.remove(n);
                    let inverse = unary(&mut s.graph, Unary::Inv, ones);
                    let t = mul(&mut s.graph, vec![part, inverse]);
                    let inverse = unary(&mut s.graph, Unary::Inv, count);
                    let y = mul(&mut s.graph, vec![sum, inverse]);
                    // Of an axis that may be empty the mean is not.
                    if [t, y].iter().any(|&m| !s.graph[m].data.finite()) {
                        continue;
                    }
                    let (minus_t, minus_y) = (neg(&mut s.graph, t), neg(&mut s.graph, y));
                    let near = add(&mut s.graph, x.iter().copied().chain([minus_t]).collect());
                    let far = add(&mut s.graph, vec![t, minus_y]);
                    let body = mul(&mut s.graph, c.iter().copied().chain([near]).collect());
                    let near = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), body);
                    let weights = mul(&mut s.graph, c);
                    let weights = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), weights);
                    // As they stand: either sum may be known to be 0, and that is another law.
                    let far = raw(s, Term::Mul, vec![far, weights]);
                    let rhs = raw(s, Term::Add, vec![near, far]);
                    s.equate(id, rhs, "loc-sum");
                }
            }
        }
    }
}

/// The same for maxima: of the factors the one of this number is the sum of these terms.
fn shift_maxima(s: &mut Search, id: Id, node: &Term, (j, factors, n): (Axis, &[Id], usize), terms: &[Id]) {
    let Term::Reduce(_, axes, _) = node else { return };
    let bound = AxisSet::of(axes);
    let mut c = factors.to_vec();
    c.remove(n);
    // What is a multiple of a maximum of all blocks: the factor, the maximum, and the block's.
    let mut moved = Vec::new();
    for &term in terms {
        let (scale, of) = multiple(&s.graph, term);
        let [y] = of[..] else { continue };
        let maximum =
            |n: &Term| matches!(n, Term::Reduce(Reduction::Max, a, _) if a[..] == [SubAxis::outer(j)]);
        if s.graph[y].nodes.iter().any(maximum)
            && let Some(t) = block_value(s, y, j)
            && s.graph[t].data.finite()
            && [y, t].iter().all(|&x| s.graph[x].data.free.is_disjoint(&bound))
        {
            moved.push((term, scale, y, t));
        }
    }
    let along = terms.iter().any(|&t| s.graph[t].data.free.contains(SubAxis::inner(j)));
    let whole = |&f: &Id| mentions_reduction(&s.graph, f, j, &mut HashMap::new());
    if moved.is_empty() || !along || c.iter().any(whole) {
        return;
    }
    let mut written = factors.to_vec();
    written[n] = s.graph.add_uncanonical(Term::Add(terms.into()));
    let written = if c.is_empty() { Term::Add(terms.into()) } else { Term::Mul(written.into()) };
    s.matched(node, 0, written);
    let kept = terms.iter().copied().filter(|t| moved.iter().all(|m| m.0 != *t)).collect::<Vec<_>>();
    let mut near = kept;
    for &(_, scale, _, t) in &moved {
        let scale = num(&mut s.graph, scale);
        near.push(mul(&mut s.graph, vec![scale, t]));
    }
    let near = add(&mut s.graph, near);
    let body = mul(&mut s.graph, c.iter().copied().chain([near]).collect());
    let near = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), body);
    let weights = mul(&mut s.graph, c);
    let weights = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), weights);
    // Each by itself: `(t - y) - (u - z)` may round where `t - y` and `u - z` do not.
    let mut all = vec![near];
    for (_, scale, y, t) in moved {
        let minus = neg(&mut s.graph, y);
        let by = add(&mut s.graph, vec![t, minus]);
        let scale = num(&mut s.graph, -scale);
        let by = mul(&mut s.graph, vec![scale, by, weights]);
        all.push(by);
    }
    let rhs = raw(s, Term::Add, all);
    s.equate(id, rhs, "loc-sum");
}

fn centre(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(Reduction::Sum, axes, [body]) = node else { return };
    let Some(j) = blocked(s, axes) else { return };
    for terms in s.sums(*body) {
        for Centred { mean: [sum, count], .. } in centred(s, &terms, axes, j, false) {
            let inverse = unary(&mut s.graph, Unary::Inv, count);
            let t = mul(&mut s.graph, vec![sum, inverse]);
            if s.graph[t].data.finite() {
                s.matched(node, 0, Term::Add(terms.clone().into()));
                let zero = num(&mut s.graph, 0.0);
                s.equate(id, zero, "centre");
            }
        }
    }
}
