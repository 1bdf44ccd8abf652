//! Laws of sums and products.

use std::collections::HashMap;

use egg::{Id, Language};
use tilewright_ir::expr::Num;
use tilewright_ir::{Reduction, Unary};

use super::blocks::mentions_reduction;
use super::construct::{add, literal, mul, neg, num, reduce};
use super::relative::parted;
use super::{Law, Search};
use crate::algebra::{AxisSet, Part, SubAxis, Term};

/// Flattening and reordering of sums and products.
pub(crate) const ASSOC: Law = Law {
    name: "assoc",
    statement: "a * (b * c) = a * b * c;  a * b = b * a;  the same for sums;  a + 0 = a;  a * 0 = 0",
    conditions: "a finite where a * 0 = 0",
    apply: assoc,
};

/// Longest flattened product or sum.
const WIDTH: usize = 12;

fn assoc(s: &mut Search, id: Id, node: &Term) {
    let same = |t: &Term| match (node, t) {
        (Term::Mul(_), Term::Mul(c)) | (Term::Add(_), Term::Add(c)) => Some(c.to_vec()),
        _ => None,
    };
    if !matches!(node, Term::Mul(_) | Term::Add(_)) {
        return;
    }
    let children = node.children().to_vec();
    // Classes that merged may have left the operands out of order.
    let mut sorted: Vec<Id> = children.iter().map(|&c| s.graph.find(c)).collect();
    sorted.sort_unstable();
    if sorted != children {
        let node =
            if matches!(node, Term::Mul(_)) { Term::Mul(sorted.into()) } else { Term::Add(sorted.into()) };
        let same = s.graph.add(node);
        s.equate(id, same, "assoc");
    }
    for (n, &child) in children.iter().enumerate() {
        if s.graph.find(child) == s.graph.find(id) {
            continue;
        }
        if literal(&s.graph, child) == Some(0.0) {
            // What has become 0 since the node was made.
            s.matched(node, n, Term::Num(Num(0.0)));
            let all = children.clone();
            let without =
                if matches!(node, Term::Mul(_)) { mul(&mut s.graph, all) } else { add(&mut s.graph, all) };
            s.equate(id, without, "assoc");
        }
        let inner: Vec<Vec<Id>> = s.graph[child].nodes.iter().filter_map(same).collect();
        for inner in inner {
            // A product that holds itself (`x = 2 * x`, where `x` is 0) could be written out for ever.
            let own = |&c: &Id| s.graph.find(c) == s.graph.find(id) || s.graph.find(c) == s.graph.find(child);
            if inner.len() + children.len() > WIDTH || inner.iter().any(own) {
                continue;
            }
            let mut all = children.clone();
            all.remove(n);
            all.extend(&inner);
            let inner =
                if matches!(node, Term::Mul(_)) { Term::Mul(inner.into()) } else { Term::Add(inner.into()) };
            s.matched(node, n, inner);
            let flat =
                if matches!(node, Term::Mul(_)) { mul(&mut s.graph, all) } else { add(&mut s.graph, all) };
            s.equate(id, flat, "assoc");
        }
    }
}

/// Factors that do not depend on the summed axes leave the sum.
pub(crate) const FACT: Law = Law {
    name: "fact",
    statement: "sum[i](c * x) = c * sum[i] x",
    conditions: "i not free in c; c finite, or at least one position of i; c is not the inverse of a maximum over i, \
                 which keeps the sum in range; used where c holds no reduction or one over i, and i is streamed",
    apply: fact,
};

fn fact(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(Reduction::Sum, axes, [body]) = node else { return };
    let bound = AxisSet::of(axes);
    let inhabited = s.graph.analysis.inhabited(axes);
    let products = s.products(*body);
    for factors in products {
        let (inside, outside): (Vec<Id>, Vec<Id>) = factors.iter().copied().partition(|&f| {
            let known = &s.graph[f].data;
            !known.free.is_disjoint(&bound)
                // A sum of nothing is 0, and an infinity times it is not.
                || !(inhabited || known.finite())
                || normalises(s, f, &bound)
                || unrelated(s, f, &bound)
        });
        if inside.is_empty()
            || outside.is_empty()
            || inside.iter().any(|&f| s.graph.find(f) == s.graph.find(id))
        {
            continue;
        }
        s.matched(node, 0, Term::Mul(factors.clone().into()));
        let x = mul(&mut s.graph, inside);
        let sum = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), x);
        let mut all = outside;
        all.push(sum);
        let rhs = mul(&mut s.graph, all);
        s.equate(id, rhs, "fact");
    }
}

/// Whether the factor is the inverse of a maximum over a summed axis: it was put there so that nothing overflows.
fn normalises(s: &Search, f: Id, bound: &AxisSet) -> bool {
    let is_maximum = |y: Id| {
        s.graph[y].nodes.iter().any(|n| match n {
            Term::Reduce(Reduction::Max, axes, _) => !AxisSet::of(axes).is_disjoint(bound),
            _ => false,
        })
    };
    s.graph[f].nodes.iter().any(|n| matches!(n, Term::Unary(Unary::Inv, [y]) if is_maximum(*y)))
}

/// Whether the factor holds reductions, but none over a summed axis that is streamed: taking it out saves no pass, and carries a value that
/// was computed beside others away from them.
fn unrelated(s: &Search, f: Id, bound: &AxisSet) -> bool {
    let known = &s.graph[f].data;
    let reduced = known.mentions.difference(known.free);
    let root = |set: &AxisSet| -> AxisSet { set.iter().map(|p| SubAxis::whole(p.axis)).collect() };
    !reduced.is_empty() && root(&reduced).is_disjoint(&root(bound).difference(s.resident))
}

/// Two sums of a product change places.
pub(crate) const SWAP: Law = Law {
    name: "swap",
    statement: "sum[i](c * sum[j] x) = sum[j] sum[i](c * x)",
    conditions: "no part of j free in c; used where i and j are whole axes, i free in c, and a factor of x is free of i",
    apply: swap,
};

fn swap(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(Reduction::Sum, axes, [body]) = node else { return };
    let whole = |axes: &[SubAxis]| axes.iter().all(|a| a.part == Part::Whole);
    if !whole(axes) {
        return;
    }
    let outer = AxisSet::of(axes);
    let free = |s: &Search, f: Id, of: &AxisSet| s.graph[f].data.free.is_disjoint(of);
    let products = s.products(*body);
    for factors in products {
        for (n, &factor) in factors.iter().enumerate() {
            let sums: Vec<(Box<[SubAxis]>, Id)> = s.graph[factor]
                .nodes
                .iter()
                .filter_map(|n| match n {
                    Term::Reduce(Reduction::Sum, inner, [x]) if whole(inner) => Some((inner.clone(), *x)),
                    _ => None,
                })
                .collect();
            let mut rest = factors.clone();
            rest.remove(n);
            if rest.iter().all(|&f| free(s, f, &outer)) {
                continue;
            }
            for (inner, x) in sums {
                // Nor a part of it: whoever cuts or names the axis later takes them for the same.
                let bound = AxisSet::of(&inner).all_parts();
                if !bound.is_disjoint(&outer) || rest.iter().any(|&f| !free(s, f, &bound)) {
                    continue;
                }
                let gains = s.graph[x].nodes.iter().any(|n| {
                    matches!(n, Term::Mul(c) if c.iter().any(|&f| {
                        free(s, f, &outer) && s.graph[f].data.constant().is_none()
                    }))
                });
                if !gains {
                    continue;
                }
                s.matched(node, 0, Term::Mul(factors.clone().into()));
                let mut all = rest.clone();
                all.push(x);
                let product = mul(&mut s.graph, all);
                let near = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), product);
                let rhs = reduce(&mut s.graph, Reduction::Sum, inner.to_vec(), near);
                s.equate(id, rhs, "swap");
            }
        }
    }
}

/// A literal factor distributes over a sum.
pub(crate) const DIST: Law = Law {
    name: "dist",
    statement: "c * (a + b) = c * a + c * b;  -c * (a + b) = c * (-a + -b)",
    conditions: "c a finite literal; used where c is plus or minus a power of 2, or neither a nor b is subtracted",
    apply: dist,
};

fn dist(s: &mut Search, id: Id, node: &Term) {
    let Term::Mul(factors) = node else { return };
    let [a, b] = factors[..] else { return };
    for (at, c, sum) in [(1, a, b), (0, b, a)] {
        let Some(factor) = literal(&s.graph, c).filter(|x| x.is_finite()) else { continue };
        let positive = factor > 0.0;
        let rounds = rounding_factor(s, factors).is_some();
        for terms in s.sums(sum) {
            // Of a factor that rounds only the sign.
            let whole = rounds && terms.iter().any(|&t| is_subtracted(s, t));
            if whole && positive {
                continue;
            }
            s.matched(node, at, Term::Add(terms.clone().into()));
            let by = if whole { num(&mut s.graph, -1.0) } else { c };
            let scaled = terms.into_iter().map(|t| mul(&mut s.graph, vec![by, t])).collect();
            let mut rhs = add(&mut s.graph, scaled);
            if whole {
                let c = neg(&mut s.graph, c);
                rhs = mul(&mut s.graph, vec![c, rhs]);
            }
            s.equate(id, rhs, "dist");
        }
    }
}

/// The literal of a product of two by which multiplying rounds, and the other factor. A difference of such products has lost
/// the digits that `a` and `b` share.
pub(super) fn rounding_factor(s: &Search, factors: &[Id]) -> Option<(Id, Id)> {
    // No bit is set behind the leading one: sign and exponent take 12.
    let exact = |c: f64| c.to_bits() << 12 == 0;
    let [a, b] = *factors else { return None };
    [(a, b), (b, a)]
        .into_iter()
        .find(|&(c, _)| literal(&s.graph, c).is_some_and(|c| c.is_finite() && !exact(c)))
}

/// Whether a term is a multiple by a negative literal.
fn is_subtracted(s: &Search, t: Id) -> bool {
    let negative = |&f: &Id| literal(&s.graph, f).is_some_and(|c| c < 0.0);
    s.products(t).iter().any(|factors| factors.iter().any(negative))
}

fn is_product(s: &Search, f: Id) -> bool {
    matches!(s.graph[f].data.smallest, Term::Mul(_))
}

/// A sum of sums.
pub(crate) const LIN: Law = Law {
    name: "lin",
    statement: "sum[i] c * (a + b) = sum[i] c * a + sum[i] c * b;  sum[i] c * b = b * sum[i] c",
    conditions: "a, b and c finite; used where i is cut into blocks and free in a and in b, and a holds a reduction over i, and b \
                 holds none or one of its own; or else i is free in c and not in b, which holds a reduction over i, and is \
                 finite or i has a position; a is then relative to maxima over i",
    apply: lin,
};

fn lin(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(Reduction::Sum, axes, [body]) = node else { return };
    let cut = axes.iter().find(|a| s.cascades.contains(&a.axis)).map(|a| a.axis);
    let Some(axis) = cut.filter(|_| axes.iter().all(|a| a.part == Part::Whole)) else { return };
    let bound = AxisSet::of(axes);
    let mut products = s.products(*body);
    products.push(vec![*body]);
    for factors in products {
        for (n, &f) in factors.iter().enumerate() {
            for terms in s.sums(f) {
                let reduces = |t: &Id| mentions_reduction(&s.graph, *t, axis, &mut HashMap::new());
                let along = |&t: &Id| !s.graph[t].data.free.is_disjoint(&bound);
                let free = terms.iter().all(along);
                let (a, b): (Vec<Id>, Vec<Id>) = terms.iter().copied().partition(reduces);
                let parts = match (free, b.is_empty()) {
                    (true, _) if axes.len() > 1 => continue,
                    // What is moved from block to block is moved for each reduction by itself.
                    (true, true) => a.into_iter().map(|t| vec![t]).collect(),
                    (true, false) => vec![a, b],
                    // Of products of products there is a flat one, too.
                    (false, _) if factors.iter().all(|f| along(f) && !is_product(s, *f)) => {
                        match parted(s, &terms, axes, axis) {
                            Some((near, far)) => vec![near, far],
                            None => continue,
                        }
                    }
                    (false, _) => continue,
                };
                // What is added to all positions alike may be infinite if there is one: where that is defined all of c has one sign.
                let alike = !free && s.graph.analysis.inhabited(axes);
                let others = factors.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, f)| f);
                let among = parts.iter().take(if alike { 1 } else { parts.len() }).flatten();
                let finite = others.chain(among).all(|&t| s.graph[t].data.finite());
                if !finite || parts.len() < 2 || parts[0].is_empty() {
                    continue;
                }
                let mut c = factors.clone();
                c[n] = s.graph.add_uncanonical(Term::Add(terms.clone().into()));
                let inner =
                    if c.len() == 1 { Term::Add(terms.clone().into()) } else { Term::Mul(c.clone().into()) };
                s.matched(node, 0, inner);
                c.remove(n);
                let mut sums = Vec::new();
                for (n, part) in parts.into_iter().enumerate() {
                    let part = add(&mut s.graph, part);
                    let apart = n > 0 && !free;
                    let inside = c.iter().copied().chain((!apart).then_some(part));
                    let product = mul(&mut s.graph, inside.collect());
                    let sum = reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), product);
                    sums.push(if apart { mul(&mut s.graph, vec![part, sum]) } else { sum });
                }
                let rhs = add(&mut s.graph, sums);
                s.equate(id, rhs, "lin");
            }
        }
    }
}
