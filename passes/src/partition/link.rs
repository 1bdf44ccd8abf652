//! Kernels that become one chain: what passes between them stays in a block.
//!
//! Why here: which values are stored is settled, and whether a value can stay in a block is a matter of all kernels that read
//! it.
//!
//! Pre: a verified plan without chains. Post: the same kernels, those of a chain next to each other and in an order that
//! respects dependencies; whatever members of a chain pass to one another is kept, and a chain deals out axes of unknown
//! extents to its blocks, so that there are many.

use std::collections::BTreeSet;

use tilewright_ir::chain::chain;
use tilewright_ir::plan::Plan;
use tilewright_ir::{Extent, Value};

/// Links kernels to chains, as many as can be.
pub fn link(plan: &mut Plan) {
    let touches: Vec<(BTreeSet<Value>, BTreeSet<Value>)> =
        plan.kernels.iter().map(|k| plan.touches(k)).collect();
    let n = plan.kernels.len();
    // What it reads or overwrites is there before, and what it overwrites was read before.
    let needs = |late: usize, early: usize| {
        let ((read, written), (reads, writes)) = (&touches[early], &touches[late]);
        late > early
            && (!written.is_disjoint(reads) || !written.is_disjoint(writes) || !read.is_disjoint(writes))
    };
    let mut of: Vec<usize> = (0..n).collect();
    // Whoever reads last decides: a chain takes in what its first members read.
    for late in (0..n).rev() {
        for early in (0..late).rev().filter(|&early| needs(late, early)) {
            if of[early] == of[late] || plan.kernels[early].prologue || plan.kernels[late].prologue {
                continue;
            }
            let members: Vec<usize> = (0..n).filter(|&k| of[k] == of[early] || of[k] == of[late]).collect();
            if fits(plan, &members, &touches) && apart(&members, n, &needs) {
                let (one, other) = (of[late], of[early]);
                of.iter_mut().filter(|o| **o == other).for_each(|o| *o = one);
            }
        }
    }
    let mut kernels: Vec<_> = std::mem::take(&mut plan.kernels).into_iter().map(Some).collect();
    let mut placed = vec![false; n];
    // Each round places a chain: none comes between the kernels of another.
    for _ in 0..n {
        let ready = (0..n).find(|&k| {
            let free = |m: usize| (0..m).all(|e| placed[e] || of[e] == of[k] || !needs(m, e));
            !placed[k] && (0..n).filter(|&m| of[m] == of[k]).all(free)
        });
        let Some(first) = ready else { break };
        for m in (0..n).filter(|&m| of[m] == of[first]) {
            placed[m] = true;
            if let Some(mut kernel) = kernels[m].take() {
                kernel.continues = m != first;
                plan.kernels.push(kernel);
            }
        }
    }
}

/// Whether the kernels are a chain that keeps all that they pass to one another.
fn fits(plan: &Plan, members: &[usize], touches: &[(BTreeSet<Value>, BTreeSet<Value>)]) -> bool {
    let chain = chain(plan, members);
    let passed = members
        .iter()
        .flat_map(|&w| &touches[w].1)
        .filter(|v| members.iter().any(|&r| touches[r].0.contains(*v)));
    let many = chain.rows.iter().any(|&a| matches!(plan.axes[a].extent, Extent::Sym(_)));
    many && passed.into_iter().all(|v| chain.kept.contains(v))
}

/// Whether no other kernel comes between the members: one that needs some of them, and that others of them need.
fn apart(members: &[usize], n: usize, needs: &impl Fn(usize, usize) -> bool) -> bool {
    let mut after: BTreeSet<usize> = members.iter().copied().collect();
    for k in 0..n {
        if !members.contains(&k) && (0..k).any(|e| after.contains(&e) && needs(k, e)) {
            after.insert(k);
        }
    }
    members.iter().all(|&m| (0..m).all(|e| members.contains(&e) || !after.contains(&e) || !needs(m, e)))
}
