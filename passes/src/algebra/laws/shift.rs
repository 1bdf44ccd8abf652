//! Moving the reference point of a homomorphism, or of a quotient, from a whole axis to one of its blocks.
//!
//! For any finite `t`: `f(x - y) = f(x - t) * f(t - y)` when `f(a+b) = f(a) f(b)`, and
//! `x * inv y = (x * inv t) * (t * inv y)` for non-zero `t`. Applied without bounds this fills the graph with
//! pointless reference points; it is scoped to `y = max[j.o] t`, the block value of a maximum.
//!
//! A comparison moves likewise: of `x <= t <= y` the outer two are equal if and only if each is equal to the middle one.

use std::collections::BTreeSet;

use egg::Id;
use tilewright_ir::{Axis, Binary, Reduction, Unary};

use super::blocks::part_of;
use super::construct::{add, max, mul, neg, num, reduce, unary};
use super::{HOMOMORPHISMS, LOWEST, Law, Search, TINY, positions};
use crate::algebra::{SubAxis, Term};

/// Shifting a homomorphism.
pub(crate) const SHIFT: Law = Law {
    name: "loc",
    statement: "f(x - y) = f(x - t) * f(t - y)",
    conditions: "f(a+b) = f(a) f(b); y = max[j.o] t; j.o free in x and not in y; t finite",
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
    statement: "f(x - y) = f(x - max(y, LOWEST))",
    conditions: "f(a+b) = f(a) f(b); y a maximum over an axis that is free in x; assumes that the left side is defined, i.e. y > -inf",
    apply: guard_shift,
};

/// Guarding a divisor that may be 0.
pub(crate) const GUARD_SCALE: Law = Law {
    name: "guard-scale",
    statement: "inv y = inv max(y, TINY)",
    conditions: "y >= 0 a maximum over an axis; assumes that the left side is defined, i.e. y is a positive normal number",
    apply: guard_scale,
};

/// A way to write a sum as `x - y`.
struct Difference {
    y: Id,
    /// The terms of `x`.
    x: Vec<Id>,
    /// The sum as it stands.
    sum: Term,
}

/// The ways to write a sum as a difference.
fn differences(s: &mut Search, argument: Id) -> Vec<Difference> {
    let sums = s.sums(argument);
    let mut out = Vec::new();
    for terms in sums {
        for (n, &t) in terms.iter().enumerate() {
            let products = s.products(t);
            for factors in products {
                let negative =
                    factors.iter().any(|&f| super::construct::literal(&s.graph, f).is_some_and(|x| x < 0.0));
                if negative {
                    let minus = num(&mut s.graph, -1.0);
                    let mut factors = factors;
                    factors.push(minus);
                    let y = mul(&mut s.graph, factors);
                    let mut rest = terms.clone();
                    rest.remove(n);
                    out.push(Difference { y, x: rest, sum: Term::Add(terms.clone().into()) });
                }
            }
        }
    }
    out
}

/// The block value `t` with `y = max[j.o] t`, if the graph shows it.
fn block_value(s: &mut Search, y: Id, j: Axis) -> Option<Id> {
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
    for Difference { y, x, sum } in differences(s, *argument) {
        for j in s.cascades.clone() {
            if !depends(s, &x, SubAxis::outer(j)) || s.graph[y].data.free.contains(SubAxis::outer(j)) {
                continue;
            }
            let Some(t) = block_value(s, y, j) else { continue };
            if !s.graph[t].data.finite() {
                continue;
            }
            s.matched(node, 0, sum.clone());
            let minus_t = neg(&mut s.graph, t);
            let minus_y = neg(&mut s.graph, y);
            let mut near = x.clone();
            near.push(minus_t);
            let near = add(&mut s.graph, near);
            let far = add(&mut s.graph, vec![t, minus_y]);
            let near = unary(&mut s.graph, *f, near);
            let far = unary(&mut s.graph, *f, far);
            // The factor over t and y alone, as it stands: normal forms may have looked inside y.
            let minus = num(&mut s.graph, -1.0);
            let minus_y = raw(s, Term::Mul, vec![minus, y]);
            let plain = raw(s, Term::Add, vec![t, minus_y]);
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
    for Difference { y, x, sum } in differences(s, *argument) {
        if s.graph[y].data.finite() {
            continue;
        }
        for j in s.cascades.clone() {
            let along = [SubAxis::whole(j), SubAxis::inner(j)].iter().any(|&p| depends(s, &x, p));
            if is_maximum_over(s, y, j) && along {
                s.matched(node, 0, sum.clone());
                let lowest = num(&mut s.graph, LOWEST);
                let guarded = max(&mut s.graph, vec![y, lowest]);
                let minus = neg(&mut s.graph, guarded);
                let mut terms = x.clone();
                terms.push(minus);
                let guarded = add(&mut s.graph, terms);
                let rhs = unary(&mut s.graph, *f, guarded);
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

/// Shifting a comparison with a maximum.
pub(crate) const COMPARE: Law = Law {
    name: "loc-eq",
    statement: "where(x ~ y, c, d) = where(t == y, where(x ~ t, c, d), e), ~ one of ==, !=, <, >=; e is c if ~ holds of lesser x, \
                and else d",
    conditions: "t = max[j.i] x; y = max[j.o] t",
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
        // Whether the comparison holds of what is less.
        let less = match f {
            Binary::Eq | Binary::Ge => false,
            Binary::Ne | Binary::Lt => true,
            _ => continue,
        };
        for j in s.cascades.clone() {
            if !depends(s, &[x], SubAxis::outer(j)) || depends(s, &[y], SubAxis::outer(j)) {
                continue;
            }
            for (_, t) in chosen(s, y, j, &[Reduction::Max]) {
                let highest = s.graph[t].nodes.iter().any(|n| {
                    matches!(n, Term::Reduce(Reduction::Max, axes, [z])
                        if axes[..] == [SubAxis::inner(j)] && s.graph.find(*z) == s.graph.find(x))
                });
                if highest {
                    let t = reduce(&mut s.graph, Reduction::Max, vec![SubAxis::inner(j)], x);
                    shifted(s, id, node, (f, [x, y], turned), t, less, "loc-eq");
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
            Binary::Ge => Binary::Le,
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
