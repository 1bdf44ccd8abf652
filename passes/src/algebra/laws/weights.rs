//! Laws that move work to where it is done once.
//!
//! What depends on weights alone costs a run no more than reading it. Which of equal terms is cheaper follows from that; a law
//! is needed only where the part that depends on weights is no subterm of what is written.

use std::collections::BTreeMap;

use egg::Id;
use tilewright_ir::Reduction;

use super::construct::{add, mul, reduce};
use super::{Law, Search};
use crate::algebra::facts::Depends;
use crate::algebra::{AxisSet, Part, SubAxis, Term};

/// Sums that share what changes from run to run.
pub(crate) const COLLECT: Law = Law {
    name: "collect",
    statement: "c * sum[i] x * a + d * sum[i] x * b = sum[i] x * (c * a + d * b)",
    conditions: "i not free in c and d; all finite; used where i is a whole axis, and a, b, c and d depend on weights \
                 alone and x does not",
    apply: collect,
};

/// An operand of a sum, as `c * sum[i] x * a`.
struct Operand {
    /// Which operand of the sum it is.
    at: usize,
    /// It, written so.
    term: Term,
    /// `c * a`.
    scale: Vec<Id>,
}

/// What the sums of operands must share: the axes and what changes from run to run.
type Shared = (Box<[SubAxis]>, Vec<Id>);

fn collect(s: &mut Search, id: Id, node: &Term) {
    let Term::Add(operands) = node else { return };
    let operands = operands.to_vec();
    if !s.graph[id].data.finite() {
        return;
    }
    let mut alike: BTreeMap<Shared, Vec<Operand>> = BTreeMap::new();
    for (at, &operand) in operands.iter().enumerate() {
        for Scaled { outer, axes, at: sum, body } in scaled_sums(s, operand) {
            let mut products = s.products(body);
            products.push(vec![body]);
            for factors in products {
                let (x, a): (Vec<Id>, Vec<Id>) =
                    factors.iter().map(|&f| s.graph.find(f)).partition(|&f| depends(s, f) == Depends::Run);
                let weighs = a.iter().any(|&f| depends(s, f) == Depends::Weights);
                let known =
                    alike.get(&(axes.clone(), x.clone())).is_some_and(|o| o.iter().any(|o| o.at == at));
                if x.is_empty() || !weighs || known {
                    continue;
                }
                let body = match factors.len() {
                    1 => body,
                    _ => s.graph.add_uncanonical(Term::Mul(factors.into())),
                };
                let mut term = Term::Reduce(Reduction::Sum, axes.clone(), [body]);
                if let Some(n) = sum {
                    let inner = s.graph.add_uncanonical(term);
                    let mut all = outer.clone();
                    all.insert(n, inner);
                    term = Term::Mul(all.into());
                }
                let scale = outer.iter().copied().chain(a).collect();
                alike.entry((axes.clone(), x)).or_default().push(Operand { at, term, scale });
            }
        }
    }
    for ((axes, x), found) in alike {
        if found.len() < 2 {
            continue;
        }
        let written: Vec<(usize, Term)> = found.iter().map(|o| (o.at, o.term.clone())).collect();
        s.matched_all(node, &written);
        let scales = found.iter().map(|o| mul(&mut s.graph, o.scale.clone())).collect();
        let scale = add(&mut s.graph, scales);
        let product = mul(&mut s.graph, x.into_iter().chain([scale]).collect());
        let mut all = vec![reduce(&mut s.graph, Reduction::Sum, axes.to_vec(), product)];
        all.extend(
            operands.iter().enumerate().filter(|(n, _)| found.iter().all(|o| o.at != *n)).map(|(_, &o)| o),
        );
        let rhs = add(&mut s.graph, all);
        s.equate(id, rhs, "collect");
    }
}

fn depends(s: &Search, id: Id) -> Depends {
    s.graph[id].data.depends
}

/// A form `c * sum[i] body` of a class.
struct Scaled {
    /// The factors of `c`.
    outer: Vec<Id>,
    /// The axes of the sum.
    axes: Box<[SubAxis]>,
    /// The place of the sum among the factors, if there are any.
    at: Option<usize>,
    body: Id,
}

/// The ways in which a class is `c * sum[i] body` over whole axes, `c` free of `i` and of what changes from run to run.
fn scaled_sums(s: &Search, class: Id) -> Vec<Scaled> {
    let sums = |class: Id| -> Vec<(Box<[SubAxis]>, Id)> {
        let whole = |axes: &[SubAxis]| axes.iter().all(|a| a.part == Part::Whole);
        let sum = |n: &Term| match n {
            Term::Reduce(Reduction::Sum, axes, [body]) if whole(axes) => Some((axes.clone(), *body)),
            _ => None,
        };
        s.graph[class].nodes.iter().filter_map(sum).collect()
    };
    let alone = |(axes, body)| Scaled { outer: Vec::new(), axes, at: None, body };
    let mut out: Vec<Scaled> = sums(class).into_iter().map(alone).collect();
    for factors in s.products(class) {
        for (n, &f) in factors.iter().enumerate() {
            let mut outer = factors.clone();
            outer.remove(n);
            for (axes, body) in sums(f) {
                let bound = AxisSet::of(&axes).all_parts();
                let fixed =
                    |&c: &Id| depends(s, c) != Depends::Run && s.graph[c].data.free.is_disjoint(&bound);
                if outer.iter().all(fixed) {
                    out.push(Scaled { outer: outer.clone(), axes, at: Some(n), body });
                }
            }
        }
    }
    out
}
