//! How often what a kernel computes in place is computed again within one block.
//!
//! What: a reduction over an axis that does not fit a block is a loop. What its body needs is computed within that loop if it
//! varies along it, and before it otherwise; so what varies along an inner loop and not along the outer ones is computed again
//! for each block of those.
//! Why here: this is where counts from plans come from; that a kernel has few launches must not hide that it computes
//! something thousands of times.
//! Pre: a kernel of a plan, whose locals need earlier ones only.
//! Post: loops as the lowering nests them, where it does not merge them with others.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::{KernelPlan, LocalDef, locals_of};
use tilewright_ir::{Axis, Expr, Local};

/// The loops around what a kernel computes.
pub(super) struct Nests {
    /// Loops around each local, from the outermost.
    around: BTreeMap<Local, Vec<Axis>>,
    /// The axes that each local varies along.
    varies: BTreeMap<Local, BTreeSet<Axis>>,
    /// Blocks of each axis that is looped over.
    trips: BTreeMap<Axis, f64>,
}

impl Nests {
    /// The nests of a kernel, whose loops over axes take so many steps. `outer` are loops around all that it stores.
    pub(super) fn of(kernel: &KernelPlan, trips: BTreeMap<Axis, f64>, outer: &[Axis]) -> Nests {
        let mut varies: BTreeMap<Local, BTreeSet<Axis>> = BTreeMap::new();
        for (l, data) in kernel.locals.iter() {
            let mut own: BTreeSet<Axis> = data.axes.iter().copied().collect();
            match &data.def {
                LocalDef::Map(e) => {
                    own.extend(locals_of(e).iter().filter_map(|n| varies.get(n)).flatten().copied());
                }
                LocalDef::Block { axis, .. } => {
                    own.insert(*axis);
                }
                LocalDef::Reduce { .. } | LocalDef::Running { .. } | LocalDef::Fold { .. } => {}
            }
            varies.insert(l, own);
        }
        let mut nests = Nests { around: BTreeMap::new(), varies, trips };
        let locals: Vec<Local> = kernel.locals.keys().collect();
        for &l in locals.iter().rev() {
            // What no other local needs, something that is stored does.
            let stored = prefix(outer, &nests.varies[&l]).to_vec();
            nests.around.entry(l).or_insert(stored);
            let within = nests.within(kernel, l);
            for e in kernel.locals[l].def.exprs() {
                for need in locals_of(e) {
                    let varies = nests.varies.get(&need).cloned().unwrap_or_default();
                    let found = prefix(&within, &varies);
                    let times = nests.again(found, &varies);
                    let known = nests.around.get(&need).map(|n| nests.again(n, &varies));
                    // Of several uses the one within the most loops: others take what is at hand there or compute less.
                    if need != l && known.is_none_or(|k| times > k) {
                        nests.around.insert(need, found.to_vec());
                    }
                }
            }
        }
        nests
    }

    /// The loops within which the body of a local is computed.
    fn within(&self, kernel: &KernelPlan, l: Local) -> Vec<Axis> {
        let mut out = self.around.get(&l).cloned().unwrap_or_default();
        for &a in kernel.locals[l].def.bound() {
            if self.trips.contains_key(&a) && !out.contains(&a) {
                out.push(a);
            }
        }
        out
    }

    fn again(&self, loops: &[Axis], varies: &BTreeSet<Axis>) -> f64 {
        loops.iter().filter(|a| !varies.contains(a)).filter_map(|a| self.trips.get(a)).product()
    }

    /// How often a local is computed for each of its positions.
    pub(super) fn computed(&self, l: Local) -> f64 {
        let (Some(around), Some(varies)) = (self.around.get(&l), self.varies.get(&l)) else { return 1.0 };
        self.again(around, varies)
    }

    /// How often a part of a local's body is evaluated for each position along the axes that it varies along.
    pub(super) fn evaluated(&self, kernel: &KernelPlan, l: Local, part: &Expr) -> f64 {
        let mut varies = BTreeSet::new();
        part.visit(&mut |e| match e {
            Expr::Pos(a) => {
                varies.insert(*a);
            }
            Expr::Local(l) => varies.extend(self.varies.get(l).into_iter().flatten().copied()),
            _ => {}
        });
        let within = self.within(kernel, l);
        self.again(prefix(&within, &varies), &varies)
    }
}

/// The loops up to the last one that something varies along.
fn prefix<'a>(loops: &'a [Axis], varies: &BTreeSet<Axis>) -> &'a [Axis] {
    let last = loops.iter().rposition(|a| varies.contains(a));
    &loops[..last.map_or(0, |n| n + 1)]
}
