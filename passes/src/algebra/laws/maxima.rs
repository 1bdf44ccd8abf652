//! Laws of maxima.

use egg::{Id, Language};
use tilewright_ir::Reduction;

use super::construct::{max, mul, reduce};
use super::{Law, Search};
use crate::algebra::{AxisSet, Graph, SubAxis, Term};

/// Positive factors commute with maxima.
pub(crate) const MAX_SCALE: Law = Law {
    name: "max-scale",
    statement: "c * max[i] x = max[i](c * x)",
    conditions: "i not free in c; c finite and positive",
    apply: max_scale,
};

/// The maxima that a class is known to be: axes and body.
fn maxima_of(s: &Search, class: Id) -> Vec<(Box<[SubAxis]>, Id)> {
    let maximum = |n: &Term| match n {
        Term::Reduce(Reduction::Max, axes, [x]) => Some((axes.clone(), *x)),
        _ => None,
    };
    s.graph[class].nodes.iter().filter_map(maximum).collect()
}

/// Moves the other operands of an n-ary node into each maximum among them, where `legal` allows it.
fn move_in(
    s: &mut Search,
    id: Id,
    node: &Term,
    law: &'static str,
    legal: fn(&Search, &[SubAxis], &[Id]) -> bool,
    combine: fn(&mut Graph, Vec<Id>) -> Id,
) {
    let operands = node.children().to_vec();
    for (n, &operand) in operands.iter().enumerate() {
        for (axes, x) in maxima_of(s, operand) {
            let mut rest = operands.clone();
            rest.remove(n);
            let bound = AxisSet::of(&axes).all_parts();
            let free = rest.iter().all(|&c| s.graph[c].data.free.is_disjoint(&bound));
            if !free || !legal(s, &axes, &rest) {
                continue;
            }
            s.matched(node, n, Term::Reduce(Reduction::Max, axes.clone(), [x]));
            rest.push(x);
            let inner = combine(&mut s.graph, rest);
            let rhs = reduce(&mut s.graph, Reduction::Max, axes.to_vec(), inner);
            s.equate(id, rhs, law);
        }
    }
}

fn max_scale(s: &mut Search, id: Id, node: &Term) {
    let positive = |s: &Search, _: &[SubAxis], rest: &[Id]| {
        rest.iter().map(|&c| &s.graph[c].data).all(|k| k.finite() && k.lo > 0.0)
    };
    if matches!(node, Term::Mul(_)) {
        move_in(s, id, node, "max-scale", positive, mul);
    }
}

/// A maximum with something that does not depend on the axis moves inside.
pub(crate) const MAX_BINARY: Law = Law {
    name: "max-binary",
    statement: "max(c, max[i] x) = max[i] max(c, x)",
    conditions: "i not free in c; at least one position of i",
    apply: max_binary,
};

fn max_binary(s: &mut Search, id: Id, node: &Term) {
    let not_empty = |s: &Search, axes: &[SubAxis], _: &[Id]| s.graph.analysis.inhabited(axes);
    if matches!(node, Term::Max(_)) {
        move_in(s, id, node, "max-binary", not_empty, max);
    }
}
