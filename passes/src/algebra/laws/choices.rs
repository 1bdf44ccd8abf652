//! Laws of choices: `where(p, c, d)`.

use egg::Id;
use tilewright_ir::Reduction;

use super::construct::{literal, reduce};
use super::{Law, Search};
use crate::algebra::{AxisSet, Part, Term};

/// A predicate that does not depend on the reduced positions leaves the reduction.
pub(crate) const FACT: Law = Law {
    name: "fact-where",
    statement: "R[i] where(p, c, d) = where(p, R[i] c, d)",
    conditions: "i free in neither p nor d; R is max or min, or d is 0; used where i are the positions of a block, \
                 which has at least one",
    apply: fact,
};

fn fact(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    if axes.iter().any(|a| a.part != Part::Inner) {
        return;
    }
    let bound = AxisSet::of(axes);
    let nodes: Vec<[Id; 3]> = s.graph[*body]
        .nodes
        .iter()
        .filter_map(|n| if let Term::Select(c) = n { Some(*c) } else { None })
        .collect();
    for [p, c, d] in nodes {
        let free = [p, d].iter().all(|&x| s.graph[x].data.free.is_disjoint(&bound));
        if !free || (*op == Reduction::Sum && literal(&s.graph, d) != Some(0.0)) {
            continue;
        }
        s.matched(node, 0, Term::Select([p, c, d]));
        let inner = reduce(&mut s.graph, *op, axes.to_vec(), c);
        let rhs = s.graph.add_uncanonical(Term::Select([p, inner, d]));
        s.equate(id, rhs, "fact-where");
    }
}
