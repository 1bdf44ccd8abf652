//! Kernels that run one after the other in the same blocks, and what stays in a block between them.
//!
//! What: a chain is a kernel with those that continue it. A block of the chain has some positions along the *rows*, axes
//! that all its kernels have, and runs kernel after kernel for these. A value that one of them stores and only later ones
//! read is *kept* by the block, if all of this happens at the block's own positions.
//! Why here: the verifier says what is a chain, counts leave out what is kept, and the lowering gives it memory of the block.
//!
//! Pre: a plan. Post: along each of the rows a block reads of what is kept the positions only that it stores itself; along
//! the other axes it stores all positions.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::graph::Def;
use crate::plan::{KernelPlan, Plan};
use crate::{Axis, Ex, Expr, Value};

/// Some kernels of a plan as a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The axes whose positions are dealt out to blocks.
    pub rows: Vec<Axis>,
    /// What never leaves a block.
    pub kept: BTreeSet<Value>,
}

/// The chain that these kernels of the plan make in this order. What they pass to one another and is not kept keeps them
/// from being one.
pub fn chain(plan: &Plan, kernels: &[usize]) -> Chain {
    let members: Vec<&KernelPlan> = kernels.iter().map(|&n| &plan.kernels[n]).collect();
    let Some(first) = members.first().filter(|_| members.len() > 1) else { return Chain::default() };
    let others = (0..plan.kernels.len()).filter(|n| !kernels.contains(n));
    let outside: BTreeSet<Value> = others.flat_map(|n| reads(&plan.kernels[n])).collect();
    let inside: BTreeSet<Value> = members.iter().flat_map(|k| reads(k)).collect();
    let leaves = |v: Value| {
        plan.results.contains(&v) || plan.values.get(v).is_none_or(|d| matches!(d.def, Def::Update { .. }))
    };
    let kept: BTreeSet<Value> = members
        .iter()
        .flat_map(|k| k.stores.iter().map(|s| s.value))
        .filter(|v| inside.contains(v) && !outside.contains(v) && !leaves(*v))
        .collect();
    let shared = |a: &Axis| members.iter().all(|k| k.grid.contains(a) && !binds(k, *a));
    let rows = first.grid.iter().copied().filter(shared);
    let rows = rows.filter(|&a| kept.iter().all(|&v| own(&members, v, a))).collect();
    Chain { rows, kept }
}

/// Whether all stores and reads of a value are at the position along an axis where the kernel is, in one dimension.
fn own(kernels: &[&KernelPlan], v: Value, a: Axis) -> bool {
    let mut places: Vec<Option<usize>> = Vec::new();
    let mut note = |index: &[Ex]| {
        places.push(index.iter().position(|e| matches!(&**e, Expr::Pos(p) if *p == a)));
    };
    for k in kernels {
        k.stores.iter().filter(|s| s.value == v).for_each(|s| note(&s.index));
        for e in k.exprs() {
            e.visit(&mut |e| match e {
                Expr::Read(r, index) if *r == v => note(index),
                _ => {}
            });
        }
    }
    places.iter().all(|p| p.is_some() && *p == places[0])
}

/// The chains of a plan: runs of kernels that continue one another.
pub fn chains(plan: &Plan) -> Vec<Range<usize>> {
    crate::plan::groups(plan.kernels.iter().map(|k| k.continues))
}

/// What no kernel of the plan passes on through memory.
pub fn kept(plan: &Plan) -> BTreeSet<Value> {
    chains(plan).into_iter().flat_map(|c| chain(plan, &c.collect::<Vec<_>>()).kept).collect()
}

fn reads(k: &KernelPlan) -> BTreeSet<Value> {
    let mut out = BTreeSet::new();
    for e in k.exprs() {
        e.visit(&mut |e| {
            if let Expr::Read(v, _) = e {
                out.insert(*v);
            }
        });
    }
    out
}

/// Whether a reduction or a pass of a kernel goes along an axis.
fn binds(k: &KernelPlan, a: Axis) -> bool {
    k.locals.values().any(|l| l.def.bound().contains(&a))
}
