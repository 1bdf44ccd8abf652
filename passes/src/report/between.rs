//! What passes between the kernels of a plan, and what is above the floor.
//!
//! Why here: it is asked of all kernels together, once each has been counted.
//!
//! Pre: the counts of all kernels. Post: tensors by their storage, so that an updated state is the state.

use std::collections::BTreeMap;

use tilewright_ir::Value;
use tilewright_ir::graph::Def;

use super::{Boundary, Counter, Excess, KernelCount, PlanCount, value_name};

impl Counter<'_> {
    /// Kernels that read what another writes come a phase later.
    pub(super) fn phases(&self, out: &mut PlanCount) {
        for n in (0..out.kernels.len()).filter(|&n| !self.plan.kernels[n].prologue) {
            let after = out.kernels[..n]
                .iter()
                .filter(|w| !w.prologue)
                .filter(|w| {
                    w.writes.iter().any(|o| out.kernels[n].reads.iter().any(|r| r.storage == o.storage))
                })
                .map(|w| w.phase)
                .max();
            out.kernels[n].phase = after.unwrap_or(0) + 1;
        }
        out.phases = out.kernels.iter().map(|k| k.phase).max().unwrap_or(0);
    }

    pub(super) fn excess(&self, out: &mut PlanCount, floors: &BTreeMap<Value, u64>) {
        let mut moved: BTreeMap<Value, Excess> = BTreeMap::new();
        for k in out.kernels.iter().filter(|k| !k.prologue) {
            for (operands, written) in [(&k.reads, false), (&k.writes, true)] {
                for o in operands {
                    let e = moved.entry(o.storage).or_insert_with(|| Excess {
                        name: value_name(self.plan, o.storage),
                        bytes: 0,
                        writers: Vec::new(),
                        readers: Vec::new(),
                    });
                    e.bytes += o.bytes;
                    if written { &mut e.writers } else { &mut e.readers }.push(k.name.clone());
                }
            }
        }
        for (v, e) in &mut moved {
            e.bytes = e.bytes.saturating_sub(floors.get(v).copied().unwrap_or(0));
        }
        out.excess = moved.into_values().filter(|e| e.bytes > 0).collect();
        out.excess.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    }

    pub(super) fn boundaries(&self, out: &mut PlanCount) {
        let mut all = Vec::new();
        for (writer, plan) in out.kernels.iter().zip(&self.plan.kernels) {
            let stored = plan.stores.iter().filter(|s| !self.kept.contains(&s.value));
            for (o, store) in writer.writes.iter().zip(stored) {
                let readers: Vec<&KernelCount> = out
                    .kernels
                    .iter()
                    .filter(|k| {
                        k.name != writer.name && (k.phase > writer.phase || k.prologue && writer.prologue)
                    })
                    .filter(|k| k.reads.iter().any(|r| r.storage == o.storage))
                    .collect();
                if readers.is_empty() {
                    continue;
                }
                let read: u64 = readers
                    .iter()
                    .flat_map(|k| k.reads.iter().filter(|r| r.storage == o.storage))
                    .map(|r| r.bytes)
                    .sum();
                let why = match &plan.boundaries[..] {
                    [] if matches!(self.plan.values[store.value].def, Def::Update { .. }) => {
                        "it is kept for later runs, and what is stored anyway is read back rather than computed again"
                            .to_owned()
                    }
                    [] => "it is a result of the function, and what is stored anyway is read back rather than computed again"
                        .to_owned(),
                    reasons => reasons.join("; "),
                };
                all.push(Boundary {
                    name: value_name(self.plan, store.value),
                    from: writer.name.clone(),
                    to: readers.iter().map(|k| k.name.clone()).collect(),
                    bytes: o.bytes + read,
                    reason: why,
                });
            }
        }
        out.boundaries = all;
    }
}
