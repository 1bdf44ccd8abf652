//! Grouping the factors of summed products.
//!
//! An n-ary product under a sum mixes what was computed before (factors that hold reductions) with plain reads. Factors
//! that hold reductions and span the same axes are one quantity: they are gathered so that it can be cut off and stored.

use egg::{Id, Language};
use tilewright_ir::Reduction;

use crate::algebra::dag::{NO_CLASS, as_child, child};
use crate::algebra::extract::Sizes;
use crate::algebra::{AxisSet, Dag, Graph, NodeId, Term};

/// Whether a subterm holds a reduction over more than a block. Indexed like the nodes.
pub fn heavy(dag: &Dag) -> Vec<bool> {
    let mut out = Vec::new();
    for (n, node) in &dag.nodes {
        let own = matches!(node.term, Term::Reduce(..) | Term::Fold(..));
        out.push(own || dag.children(n).any(|c| out[c.as_u32() as usize]));
    }
    out
}

/// Gathers factors in the bodies of sums. Returns the new term; the old one is not changed.
pub fn group(dag: &Dag, graph: &Graph, sizes: &Sizes) -> Dag {
    let heavy = heavy(dag);
    let mut out = Dag::default();
    let mut map: Vec<NodeId> = Vec::new();
    for node in dag.nodes.values() {
        let mut term = node.term.clone();
        if let Term::Reduce(Reduction::Sum, axes, [body]) = &term
            && let Term::Mul(factors) = &dag.nodes[child(*body)].term
        {
            let (mut work, mut plain): (Vec<Id>, Vec<Id>) =
                factors.iter().partition(|&&f| heavy[usize::from(f)]);
            // Widest first, so that a factor over fewer axes joins the first that spans them.
            work.sort_by(|&a, &b| {
                let size = |f: Id| sizes.product(&dag.nodes[child(f)].free);
                size(b).total_cmp(&size(a)).then(a.cmp(&b))
            });
            let mut groups: Vec<(AxisSet, Vec<Id>)> = Vec::new();
            for f in work {
                let free = dag.nodes[child(f)].free;
                match groups.iter_mut().find(|(g, _)| free.is_subset(g)) {
                    Some((_, members)) => members.push(f),
                    None => groups.push((free, vec![f])),
                }
            }
            if groups.iter().any(|(_, m)| m.len() > 1) && (groups.len() > 1 || !plain.is_empty()) {
                for (_, members) in groups {
                    let kind = dag.nodes[child(members[0])].kind;
                    let mut classes: Vec<Id> = members.iter().map(|&m| dag.nodes[child(m)].class).collect();
                    classes.sort_unstable();
                    let class =
                        graph.lookup(Term::Mul(classes.into())).unwrap_or(Id::from(NO_CLASS as usize));
                    let ids: Vec<Id> = members.iter().map(|&m| as_child(map[usize::from(m)])).collect();
                    let id = if ids.len() == 1 {
                        ids[0]
                    } else {
                        as_child(out.push(Term::Mul(ids.into()), class, kind))
                    };
                    // Marked by position beyond the old nodes: already mapped.
                    plain.push(Id::from(usize::from(id) + dag.nodes.len()));
                }
                let ids: Vec<Id> = plain
                    .iter()
                    .map(|&p| {
                        let n = usize::from(p);
                        if n >= dag.nodes.len() { Id::from(n - dag.nodes.len()) } else { as_child(map[n]) }
                    })
                    .collect();
                let b = &dag.nodes[child(*body)];
                let product = out.push(Term::Mul(ids.into()), b.class, b.kind);
                term = Term::Reduce(Reduction::Sum, axes.clone(), [as_child(product)]);
                map.push(out.push(term, node.class, node.kind));
                continue;
            }
        }
        term = term.map_children(|c| as_child(map[usize::from(c)]));
        map.push(out.push(term, node.class, node.kind));
    }
    out.roots = dag.roots.iter().map(|r| map[r.as_u32() as usize]).collect();
    out
}
