//! Moving the reference point of a homomorphism, or of a quotient, from a whole axis to one of its blocks.
//!
//! For any finite `t`: `f(x - y) = f(x - t) * f(t - y)` when `f(a+b) = f(a) f(b)`, and
//! `x * inv y = (x * inv t) * (t * inv y)` for non-zero `t`. Applied without bounds this fills the graph with
//! pointless reference points; it is scoped to `y = max[j.o] t`, the block value of a maximum. A factor of the difference stays
//! outside: `c*x - c*y` has lost the digits that `x` and `y` share where the products are rounded.
//!
//! A comparison moves likewise: of `x <= t <= y`, or `x >= t >= y`, the outer two are equal if and only if each is equal to the
//! middle one.

use std::collections::BTreeSet;

use egg::Id;
use tilewright_ir::{Axis, Binary, Reduction, Unary};

use super::blocks::part_of;
use super::construct::{add, literal, max, mul, neg, num, reduce, unary};
use super::sums::rounding_factor;
use super::{HOMOMORPHISMS, LOWEST, Law, Search, TINY, positions};
use crate::algebra::{SubAxis, Term};

/// Shifting a homomorphism.
pub(crate) const SHIFT: Law = Law {
    name: "loc",
    statement: "f(b + c*(x - y)) = f(b + c*(x - t)) * f(c*(t - y))",
    conditions: "f(a+b) = f(a) f(b); y = max[j.o] t; j.o free in x and not in y; t finite; c a finite literal",
    apply: shift,
};

/// Shifting a quotient.
pub(crate) const SCALE: Law = Law {
    name: "loc-scale",
    statement: "x * inv y = (x * inv t) * (t * inv y)",
    conditions: "y = max[j.o] t; j.o free in x and not in y; t positive and finite",
    apply: scale,
};

/// Guarding a reference point that may be -inf.
pub(crate) const GUARD_SHIFT: Law = Law {
    name: "guard",
    statement: "f(b + c*(x - y)) = f(b + c*(x - max(y, LOWEST)))",
    conditions: "f(a+b) = f(a) f(b); y a maximum over an axis that is free in x; c a finite literal; assumes that the left side is \
                 defined, i.e. y > -inf",
    apply: guard_shift,
};

/// Guarding a divisor that may be 0.
pub(crate) const GUARD_SCALE: Law = Law {
    name: "guard-scale",
    statement: "inv y = inv max(y, TINY)",
    conditions: "y >= 0 a maximum over an axis; assumes that the left side is defined, i.e. y is a positive normal number",
    apply: guard_scale,
};

/// A way to write a term as `rest + scale * (x - y)`.
struct Difference {
    /// Terms that are added, none without a scale.
    rest: Vec<Id>,
    /// A literal, if there is one.
    scale: Option<Id>,
    /// The terms of `x`.
    x: Vec<Id>,
    y: Id,
    /// The term as it stands.
    whole: Term,
}

impl Difference {
    /// The term for other `rest`, `x` and `y`.
    fn of(&self, s: &mut Search, rest: &[Id], x: &[Id], y: Id) -> Id {
        let minus = neg(&mut s.graph, y);
        let sum = add(&mut s.graph, x.iter().copied().chain([minus]).collect());
        let Some(c) = self.scale else { return sum };
        let scaled = mul(&mut s.graph, vec![c, sum]);
        add(&mut s.graph, rest.iter().copied().chain([scaled]).collect())
    }
}

/// The ways to take a multiple of something out of a sum: what is left, and the multiple negated.
fn subtracted(s: &mut Search, terms: &[Id]) -> Vec<(Vec<Id>, Id)> {
    let mut out = Vec::new();
    for (n, &t) in terms.iter().enumerate() {
        for mut factors in s.products(t) {
            if factors.iter().any(|&f| literal(&s.graph, f).is_some_and(|x| x < 0.0)) {
                factors.push(num(&mut s.graph, -1.0));
                let y = mul(&mut s.graph, factors);
                let mut left = terms.to_vec();
                left.remove(n);
                out.push((left, y));
            }
        }
    }
    out
}

/// The ways to write a class as something and a difference, or a multiple of one.
fn differences(s: &mut Search, argument: Id) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut scaled = vec![(vec![argument], None)];
    for terms in s.sums(argument) {
        let whole = Term::Add(terms.clone().into());
        for (x, y) in subtracted(s, &terms) {
            out.push(Difference { rest: Vec::new(), scale: None, x, y, whole: whole.clone() });
        }
        scaled.push((terms, Some(whole)));
    }
    for (terms, sum) in scaled {
        for (n, &t) in terms.iter().enumerate() {
            for factors in s.products(t) {
                let Some((c, inner)) = rounding_factor(s, &factors) else { continue };
                let whole = sum.clone().unwrap_or(Term::Mul(factors.into()));
                let mut rest = terms.clone();
                rest.remove(n);
                for inner in s.sums(inner) {
                    for (x, y) in subtracted(s, &inner) {
                        let (rest, whole) = (rest.clone(), whole.clone());
                        out.push(Difference { rest, scale: Some(c), x, y, whole });
                    }
                }
            }
        }
    }
    out
}

/// The block value `t` with `y = max[j.o] t`, if the graph shows it.
pub(super) fn block_value(s: &mut Search, y: Id, j: Axis) -> Option<Id> {
    let t = part_of(s, y, j)?;
    let t = s.graph.find(t);
    let shown = s.graph[y].nodes.iter().any(|n| {
        matches!(n, Term::Reduce(Reduction::Max, axes, [x]) if axes[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t)
    });
    shown.then_some(t)
}

fn depends(s: &Search, ids: &[Id], p: SubAxis) -> bool {
    ids.iter().any(|&x| s.graph[x].data.free.contains(p))
}

fn shift(s: &mut Search, id: Id, node: &Term) {
    let Term::Unary(f, [argument]) = node else { return };
    if !HOMOMORPHISMS.contains(f) {
        return;
    }
    for d in differences(s, *argument) {
        for j in s.cascades.clone() {
            if !depends(s, &d.x, SubAxis::outer(j)) || s.graph[d.y].data.free.contains(SubAxis::outer(j)) {
                continue;
            }
            let Some(t) = block_value(s, d.y, j) else { continue };
            if !s.graph[t].data.finite() {
                continue;
            }
            s.matched(node, 0, d.whole.clone());
            let near = d.of(s, &d.rest, &d.x, t);
            let near = unary(&mut s.graph, *f, near);
            let far = d.of(s, &[], &[t], d.y);
            let far = unary(&mut s.graph, *f, far);
            // The factor over t and y alone, as it stands: normal forms may have looked inside y.
            let minus = num(&mut s.graph, -1.0);
            let minus_y = raw(s, Term::Mul, vec![minus, d.y]);
            let mut plain = raw(s, Term::Add, vec![t, minus_y]);
            if let Some(c) = d.scale {
                plain = raw(s, Term::Mul, vec![c, plain]);
            }
            let plain = s.graph.add_uncanonical(Term::Unary(*f, [plain]));
            if s.enabled("assoc") {
                s.equate(far, plain, "assoc");
            }
            let rhs = mul(&mut s.graph, vec![near, far]);
            s.equate(id, rhs, "loc");
        }
    }
}

/// A node over exactly these children.
pub(super) fn raw(s: &mut Search, make: fn(Box<[Id]>) -> Term, mut children: Vec<Id>) -> Id {
    children.sort_unstable();
    s.graph.add_uncanonical(make(children.into()))
}

fn is_maximum_over(s: &Search, y: Id, j: Axis) -> bool {
    s.graph[y]
        .nodes
        .iter()
        .any(|n| matches!(n, Term::Reduce(Reduction::Max, axes, _) if axes.iter().any(|a| a.axis == j)))
}

fn guard_shift(s: &mut Search, id: Id, node: &Term) {
    let Term::Unary(f, [argument]) = node else { return };
    if !HOMOMORPHISMS.contains(f) {
        return;
    }
    for d in differences(s, *argument) {
        if s.graph[d.y].data.finite() {
            continue;
        }
        for j in s.cascades.clone() {
            let along = [SubAxis::whole(j), SubAxis::inner(j)].iter().any(|&p| depends(s, &d.x, p));
            if is_maximum_over(s, d.y, j) && along {
                s.matched(node, 0, d.whole.clone());
                let lowest = num(&mut s.graph, LOWEST);
                let guarded = max(&mut s.graph, vec![d.y, lowest]);
                let rhs = d.of(s, &d.rest, &d.x, guarded);
                let rhs = unary(&mut s.graph, *f, rhs);
                s.assumptions
                    .insert(format!("a maximum over {j} that is subtracted in {} is above -inf", f.name()));
                s.equate(id, rhs, "guard");
            }
        }
    }
}

fn scale(s: &mut Search, id: Id, node: &Term) {
    let Term::Mul(factors) = node else { return };
    for (at, &inverse) in factors.iter().enumerate() {
        let divisors: Vec<Id> = s.graph[inverse]
            .nodes
            .iter()
            .filter_map(|n| if let Term::Unary(Unary::Inv, [y]) = n { Some(*y) } else { None })
            .collect();
        for y in divisors {
            for j in s.cascades.clone() {
                let (same, x): (Vec<Id>, Vec<Id>) =
                    factors.iter().partition(|&&f| s.graph.find(f) == s.graph.find(inverse));
                if !depends(s, &x, SubAxis::outer(j)) || s.graph[y].data.free.contains(SubAxis::outer(j)) {
                    continue;
                }
                let Some(t) = block_value(s, y, j) else { continue };
                if x.iter().any(|&f| s.graph.find(f) == t) {
                    continue;
                }
                let known = &s.graph[t].data;
                if !(known.finite() && known.lo > 0.0) {
                    continue;
                }
                s.matched(node, at, Term::Unary(Unary::Inv, [y]));
                let inverse_t = unary(&mut s.graph, Unary::Inv, t);
                let mut all = x;
                for _ in &same {
                    all.extend([inverse_t, t, inverse]);
                }
                let rhs = mul(&mut s.graph, all);
                s.equate(id, rhs, "loc-scale");
            }
        }
    }
}

fn guard_scale(s: &mut Search, id: Id, node: &Term) {
    let Term::Unary(Unary::Inv, [y]) = node else { return };
    let known = &s.graph[*y].data;
    if known.lo != 0.0 {
        return;
    }
    for j in s.cascades.clone() {
        if is_maximum_over(s, *y, j) {
            let tiny = num(&mut s.graph, TINY);
            let guarded = max(&mut s.graph, vec![*y, tiny]);
            let rhs = unary(&mut s.graph, Unary::Inv, guarded);
            s.assumptions.insert(format!("a maximum over {j} that divides is positive"));
            s.equate(id, rhs, "guard-scale");
        }
    }
}

/// Shifting a comparison with a maximum or a minimum.
pub(crate) const COMPARE: Law = Law {
    name: "loc-eq",
    statement: "where(x ~ y, c, d) = where(t == y, where(x ~ t, c, d), e), ~ one of ==, !=, and < or >= if R is max, > or <= if it \
                is min; e is c if ~ holds of an x that is not y, and else d",
    conditions: "t = R[j.i] x; y = R[j.o] t; R is max or min",
    apply: compare,
};

/// Shifting a comparison with a position that was chosen from all.
pub(crate) const PLACE: Law = Law {
    name: "loc-at",
    statement: "where(j ~ y, c, d) = where(t == y, where(j ~ t, c, d), e), ~ one of ==, !=; e is c if ~ is !=, and else d",
    conditions: "t a position of its block along j, or of none; y = min[j.o] or max[j.o] of t, or of where(p, t, n) with n a \
                 position of no block",
    apply: place,
};

/// The comparisons that a class is known to be, with either side first.
fn comparisons(s: &Search, p: Id) -> Vec<(Binary, [Id; 2], bool)> {
    let both = |n: &Term| match n {
        Term::Binary(f, [a, b]) => {
            let turned = match f {
                Binary::Eq | Binary::Ne => *f,
                Binary::Lt => Binary::Gt,
                Binary::Gt => Binary::Lt,
                Binary::Le => Binary::Ge,
                Binary::Ge => Binary::Le,
                _ => return Vec::new(),
            };
            vec![(*f, [*a, *b], false), (turned, [*b, *a], true)]
        }
        _ => Vec::new(),
    };
    s.graph[p].nodes.iter().flat_map(both).collect()
}

fn compare(s: &mut Search, id: Id, node: &Term) {
    let Term::Select([p, ..]) = node else { return };
    for (f, [x, y], turned) in comparisons(s, *p) {
        for j in s.cascades.clone() {
            if !depends(s, &[x], SubAxis::outer(j)) || depends(s, &[y], SubAxis::outer(j)) {
                continue;
            }
            for (op, t) in chosen(s, y, j, &[Reduction::Max, Reduction::Min]) {
                // Whether the comparison holds of an x that is less than a maximum, or more than a minimum.
                let apart = match (f, op) {
                    (Binary::Eq, _) | (Binary::Ge, Reduction::Max) | (Binary::Le, Reduction::Min) => false,
                    (Binary::Ne, _) | (Binary::Lt, Reduction::Max) | (Binary::Gt, Reduction::Min) => true,
                    _ => continue,
                };
                let of_block = s.graph[t].nodes.iter().any(|n| {
                    matches!(n, Term::Reduce(o, axes, [z])
                        if *o == op && axes[..] == [SubAxis::inner(j)] && s.graph.find(*z) == s.graph.find(x))
                });
                if of_block {
                    let t = reduce(&mut s.graph, op, vec![SubAxis::inner(j)], x);
                    shifted(s, id, node, (f, [x, y], turned), t, apart, "loc-eq");
                }
            }
        }
    }
}

fn place(s: &mut Search, id: Id, node: &Term) {
    let Term::Select([p, ..]) = node else { return };
    for (f, [x, y], turned) in comparisons(s, *p) {
        for j in s.cascades.clone() {
            let is_position = s.graph[x].nodes.contains(&Term::CutPos(j));
            if !is_position || !matches!(f, Binary::Eq | Binary::Ne) || depends(s, &[y], SubAxis::outer(j)) {
                continue;
            }
            for (op, of) in chosen(s, y, j, &[Reduction::Min, Reduction::Max]) {
                for [of, t] in positions::of_block(s, of, j) {
                    let y = reduce(&mut s.graph, op, vec![SubAxis::outer(j)], of);
                    shifted(s, id, node, (f, [x, y], turned), t, f == Binary::Ne, "loc-at");
                }
            }
        }
    }
}

/// The values of blocks of which a class is known to be an extreme.
fn chosen(s: &Search, y: Id, j: Axis, ops: &[Reduction]) -> BTreeSet<(Reduction, Id)> {
    let of = |n: &Term| match n {
        Term::Reduce(op, axes, [t]) if ops.contains(op) && axes[..] == [SubAxis::outer(j)] => {
            Some((*op, s.graph.find(*t)))
        }
        _ => None,
    };
    s.graph[y].nodes.iter().filter_map(of).collect()
}

/// Moves a comparison with `y` to the block's `t`. Where the block's is another, the comparison is as `apart` says.
fn shifted(
    s: &mut Search,
    id: Id,
    node: &Term,
    (f, [x, y], turned): (Binary, [Id; 2], bool),
    t: Id,
    apart: bool,
    law: &'static str,
) {
    let Term::Select([_, c, d]) = *node else { return };
    let written = |s: &mut Search, with: Id| {
        let back = match f {
            Binary::Lt => Binary::Gt,
            Binary::Gt => Binary::Lt,
            Binary::Ge => Binary::Le,
            Binary::Le => Binary::Ge,
            f => f,
        };
        s.graph.add_uncanonical(match turned {
            false => Term::Binary(f, [x, with]),
            true => Term::Binary(back, [with, x]),
        })
    };
    let whole = written(s, y);
    s.matched(node, 0, s.graph.id_to_node(whole).clone());
    let near = written(s, t);
    let near = s.graph.add_uncanonical(Term::Select([near, c, d]));
    let far = s.graph.add_uncanonical(Term::Binary(Binary::Eq, [t, y]));
    let rhs = s.graph.add_uncanonical(Term::Select([far, near, if apart { c } else { d }]));
    s.equate(id, rhs, law);
}
