//! Laws of maxima.

use egg::Id;
use tilewright_ir::Reduction;

use super::construct::{max, mul, reduce};
use super::{Law, Search};
use crate::algebra::{AxisSet, Term};

/// Positive factors commute with maxima.
pub(crate) const MAX_SCALE: Law = Law {
    name: "max-scale",
    statement: "c * max[i] x = max[i](c * x)",
    conditions: "i not free in c; c finite and positive",
    apply: max_scale,
};

fn max_scale(s: &mut Search, id: Id, node: &Term) {
    let Term::Mul(factors) = node else { return };
    for (n, &f) in factors.iter().enumerate() {
        let maxima: Vec<(Box<[_]>, Id)> = s.graph[f]
            .nodes
            .iter()
            .filter_map(|n| match n {
                Term::Reduce(Reduction::Max, axes, [x]) => Some((axes.clone(), *x)),
                _ => None,
            })
            .collect();
        for (axes, x) in maxima {
            let bound = AxisSet::of(&axes).all_parts();
            let mut rest = factors.to_vec();
            rest.remove(n);
            let legal = rest.iter().all(|&c| {
                let k = &s.graph[c].data;
                k.free.is_disjoint(&bound) && k.finite() && k.lo > 0.0
            });
            if !legal {
                continue;
            }
            s.matched(node, n, Term::Reduce(Reduction::Max, axes.clone(), [x]));
            rest.push(x);
            let scaled = mul(&mut s.graph, rest);
            let rhs = reduce(&mut s.graph, Reduction::Max, axes.to_vec(), scaled);
            s.equate(id, rhs, "max-scale");
        }
    }
}

/// A maximum with something that does not depend on the axis moves inside.
pub(crate) const MAX_BINARY: Law = Law {
    name: "max-binary",
    statement: "max(c, max[i] x) = max[i] max(c, x)",
    conditions: "i not free in c; at least one position of i, or c is -inf",
    apply: max_binary,
};

fn max_binary(s: &mut Search, id: Id, node: &Term) {
    let Term::Max(operands) = node else { return };
    for (n, &f) in operands.iter().enumerate() {
        let maxima: Vec<(Box<[_]>, Id)> = s.graph[f]
            .nodes
            .iter()
            .filter_map(|n| match n {
                Term::Reduce(Reduction::Max, axes, [x]) => Some((axes.clone(), *x)),
                _ => None,
            })
            .collect();
        for (axes, x) in maxima {
            let bound = AxisSet::of(&axes).all_parts();
            let mut rest = operands.to_vec();
            rest.remove(n);
            let empty = axes
                .iter()
                .any(|a| s.graph.analysis.may_be_empty.contains(crate::algebra::SubAxis::whole(a.axis)));
            if empty || rest.iter().any(|&c| !s.graph[c].data.free.is_disjoint(&bound)) {
                continue;
            }
            s.matched(node, n, Term::Reduce(Reduction::Max, axes.clone(), [x]));
            rest.push(x);
            let inner = max(&mut s.graph, rest);
            let rhs = reduce(&mut s.graph, Reduction::Max, axes.to_vec(), inner);
            s.equate(id, rhs, "max-binary");
        }
    }
}
