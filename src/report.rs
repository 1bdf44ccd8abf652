//! What: figures about a compilation and about runs.
//! Why here: the command line, tests and benchmarks report the same figures, computed in one place.
//! Pre: a compiled phase; for traffic, launches with counters.
//! Post: JSON with stable names.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tilewright_ir::Extent;
use tilewright_ir::graph::{Def, Function, ParamKind};
use tilewright_ir::step::{BufferKind, Step};
use tilewright_passes::algebra::saturate::Stop;
use tilewright_runtime::exec::LaunchRecord;

use crate::{CompiledPhase, Module, Planned, explain};

/// Bytes of a memory sector.
const SECTOR: u64 = 32;

/// What runs moved and computed, from the emulator's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Launches.
    pub launches: u64,
    /// Unique sectors of each buffer in each launch, summed, in bytes.
    pub hbm_bytes: u64,
    /// What cannot be avoided: for each run, what it touches of weights, tables, states, inputs and outputs, once.
    pub floor_bytes: u64,
    /// Tensor-core operations by operand type.
    pub tensor_flops: BTreeMap<String, u64>,
    /// Whether any launch had no counters.
    pub incomplete: bool,
}

impl Traffic {
    /// Adds the launches of one run of a step.
    pub fn add_run(&mut self, step: &Step, launches: &[LaunchRecord]) {
        // What a run must touch of a buffer is at least what its hungriest launch touches of it.
        let mut touched: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for launch in launches {
            self.launches += 1;
            let Some(counters) = &launch.counters else {
                self.incomplete = true;
                continue;
            };
            for (label, count) in &counters.buffers {
                let (read, written) = (count.unique_read_sectors, count.unique_written_sectors);
                self.hbm_bytes += (read + written) * SECTOR;
                let most = touched.entry(label).or_default();
                *most = (most.0.max(read), most.1.max(written));
            }
            for (kind, flops) in &counters.tensor_flops {
                *self.tensor_flops.entry(kind.clone()).or_default() += flops;
            }
        }
        for buffer in step.buffers.values() {
            let label = match &buffer.kind {
                BufferKind::Weight(name) => name,
                BufferKind::Arena(_) => continue,
                _ => &buffer.name,
            };
            // Removed, because several buffers may be views of one weight.
            if let Some((read, written)) = touched.remove(label.as_str()) {
                self.floor_bytes += (read + written) * SECTOR;
            }
        }
    }

    /// How much more than unavoidable was moved; nothing without counters.
    pub fn over_floor(&self) -> Option<f64> {
        (!self.incomplete && self.floor_bytes > 0).then(|| self.hbm_bytes as f64 / self.floor_bytes as f64)
    }

    /// All tensor-core operations; nothing without counters.
    pub fn tensor_flops_total(&self) -> Option<u64> {
        (!self.incomplete).then(|| self.tensor_flops.values().sum())
    }
}

/// The most launches that one layer takes. Layers are the functions that keep state; where there are none, every
/// function counts.
pub fn launches_per_layer(planned: &Planned) -> u64 {
    let keeps_state = |f: &Function| f.values.values().any(|v| v.def == Def::Param(ParamKind::State));
    let count = |layers_only: bool| {
        planned
            .compiled
            .plans
            .iter()
            .filter(|(func, _)| !layers_only || keeps_state(&planned.graph.functions[*func]))
            .map(|(_, plan)| {
                let of_each_run = |l: &std::ops::Range<usize>| !plan.kernels[l.start].prologue;
                plan.launches().into_iter().filter(of_each_run).count() as u64
            })
            .max()
    };
    count(true).or_else(|| count(false)).unwrap_or(0)
}

/// How often a step launches a kernel of a phase; a persistent one is all of its step.
pub fn launches_of(p: &CompiledPhase, kernel: &str) -> usize {
    let step = &p.planned.compiled.step;
    match p.persistent {
        true => 1,
        false => step.groups().into_iter().filter(|g| step.kernel_of(g.clone()) == kernel).count(),
    }
}

/// Whether every search of a phase went on until no law added anything.
pub fn search_complete(planned: &Planned) -> bool {
    planned.compiled.searches.iter().all(|(_, s)| s.stop == Stop::Saturated)
}

/// What to know of a plan, one sentence each: axes without positions, and searches that ended early.
pub fn search_notes(planned: &Planned) -> Vec<String> {
    let symbols = &planned.graph.symbols;
    let empty = |e: Extent| match e {
        Extent::Const(n) => n == 0,
        Extent::Sym(s) => symbols[s].max == 0,
    };
    let axes = planned.compiled.plans.iter().flat_map(|(f, _)| planned.graph.functions[*f].axes.values());
    let mut none: Vec<&str> = axes.filter(|a| empty(a.extent)).map(|a| a.name.as_str()).collect();
    none.sort_unstable();
    none.dedup();
    let none = none.into_iter().map(|a| {
        format!("axis `{a}` has no positions: what has it is empty, a sum over it is 0 and a maximum is -inf")
    });
    let early = planned.compiled.searches.iter().filter(|(_, s)| s.stop != Stop::Saturated);
    none.chain(early
        .map(|(function, s)| {
            let spent = match s.stop {
                Stop::Iterations => format!("its budget of {} iterations", s.iterations),
                _ => "its budget of e-nodes (--search-budget)".to_owned(),
            };
            format!(
                "the search of `{function}` ({}) stopped at {spent}, with {} e-nodes: its plan is the best so far, and a \
                 larger budget may find a better one",
                planned.name, s.nodes
            )
        }))
        .collect()
}

/// The report of a compiled module: `report.json`.
pub fn module(module: &Module) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "target": module.target(),
        "arch": module.arch(),
        "nvrtc": module.nvrtc_version(),
        "device": module.device().kind().to_string(),
        "phases": module.phases().iter().map(phase).collect::<Vec<_>>(),
    })
}

/// The report of one phase.
pub fn phase(p: &CompiledPhase) -> Value {
    let c = &p.planned.compiled;
    let kernels: Vec<Value> = p
        .kernels
        .iter()
        .map(|k| {
            json!({
                "name": k.name,
                "threads": k.threads,
                "registers": k.resources.registers,
                "spill_bytes": k.resources.spill_bytes,
                "stack_bytes": k.resources.stack_bytes,
                "static_shared_bytes": k.resources.static_shared_bytes,
                "dynamic_shared_bytes": k.shared_bytes,
                "advisories": k.resources.advisories,
                "launches": launches_of(p, &k.name),
            })
        })
        .collect();
    let searches: Vec<Value> = c
        .searches
        .iter()
        .map(|(function, s)| {
            json!({
                "function": function,
                "nodes": s.nodes,
                "classes": s.classes,
                "iterations": s.iterations,
                "stop": format!("{:?}", s.stop).to_lowercase(),
                "complete": s.stop == Stop::Saturated,
                "assumptions": s.assumptions,
            })
        })
        .collect();
    json!({
        "name": p.planned.name,
        "kernels": kernels,
        "launches": c.step.groups().len(),
        "launches_per_layer": launches_per_layer(&p.planned),
        "arena_bytes": c.step.arena_bytes,
        "packed_bytes_over_logical": packed_over_logical(&c.step),
        "moved_bytes": moved(&p.planned, &[]).map(|m| json!({
            "constants": m.constants, "states": m.states, "others": m.others, "written": m.written,
        })).unwrap_or_default(),
        "searches": searches,
        "functions": explain::functions(&p.planned, &[])
            .map(|all| all.iter().map(explain::function_json).collect::<Vec<_>>())
            .unwrap_or_default(),
        "candidates": c.choices.iter().map(|(n, choice)| explain::candidates_json(n, choice)).collect::<Vec<_>>(),
        "search_complete": search_complete(&p.planned),
        "cached_kernels": p.tally.cached,
        "compiled_kernels": p.tally.compiled,
        "seconds": timings(p).into_iter().map(|(n, s)| (n, json!(s))).collect::<serde_json::Map<_, _>>(),
    })
}

/// Where the time went, in seconds, in order.
pub fn timings(p: &CompiledPhase) -> Vec<(String, f64)> {
    let passes = p.planned.compiled.timings.iter().map(|(name, d)| (name.clone(), d.as_secs_f64()));
    // Kernels are compiled side by side: parts of several may take longer together than all of it did.
    let parts = p.tally.parts.iter().map(|(part, ms)| (format!("nvrtc: {part}"), *ms as f64 * 1e-3));
    passes
        .chain([
            ("emit".to_owned(), p.emitting.as_secs_f64()),
            ("nvrtc".to_owned(), p.compiling.as_secs_f64()),
        ])
        .chain(parts)
        .collect()
}

/// What a phase moves, counted from its plans: each tensor once for each launch that reads or writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes of weights that are read, tables among them.
    pub constants: u64,
    /// Bytes of states that are read.
    pub states: u64,
    /// Bytes of everything else that is read: inputs, and what launches hand to one another.
    pub others: u64,
    /// Bytes that are written.
    pub written: u64,
}

/// What a phase moves at the given values of symbols.
pub fn moved(planned: &Planned, given: &[(String, u64)]) -> Result<Moved, crate::Error> {
    let mut all = Moved::default();
    for (f, (_, plan)) in explain::functions(planned, given)?.iter().zip(&planned.compiled.plans) {
        for kernel in &f.after.kernels {
            for o in &kernel.reads {
                let of = match plan.values[o.storage].def {
                    Def::Param(ParamKind::Weight) => &mut all.constants,
                    Def::Param(ParamKind::State) => &mut all.states,
                    _ => &mut all.others,
                };
                *of += f.calls * o.bytes;
            }
            all.written += f.calls * kernel.written_bytes();
        }
    }
    Ok(all)
}

/// Bytes of packed weights over the bytes of their elements, if there are any.
pub fn packed_over_logical(step: &Step) -> Option<f64> {
    let (packed, logical) = tilewright_passes::pack::padding(step);
    (logical > 0).then(|| packed as f64 / logical as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_emulator::{BufferCount, Counters};
    use tilewright_ir::DType;
    use tilewright_ir::step::BufferData;

    fn launch(buffers: &[(&str, u64, u64)]) -> LaunchRecord {
        let mut counters = Counters::default();
        for &(label, read, written) in buffers {
            let count = BufferCount {
                unique_read_sectors: read,
                unique_written_sectors: written,
                ..BufferCount::default()
            };
            counters.buffers.insert(label.to_owned(), count);
        }
        LaunchRecord { index: 0, kernel: "k".into(), region: "r".into(), blocks: 1, counters: Some(counters) }
    }

    #[test]
    fn the_floor_counts_each_buffer_once_and_no_temporaries() {
        let mut step = Step::default();
        for (name, kind) in [
            ("layer.w", BufferKind::Weight("w".into())),
            ("other view", BufferKind::Weight("w".into())),
            ("x", BufferKind::Input),
            ("y", BufferKind::Output),
            ("t", BufferKind::Arena(0)),
        ] {
            step.buffers.push(BufferData {
                name: name.into(),
                dtype: DType::F32,
                dims: vec![],
                kind,
                packing: None,
            });
        }
        let launches = [
            launch(&[("w", 100, 0), ("x", 2, 0), ("arena", 0, 5)]),
            launch(&[("w", 100, 0), ("arena", 5, 0), ("y", 0, 3)]),
        ];
        let mut traffic = Traffic::default();
        traffic.add_run(&step, &launches);
        assert_eq!(traffic.hbm_bytes, 32 * 215);
        assert_eq!(traffic.floor_bytes, 32 * 105);
        traffic.add_run(&step, &launches);
        assert_eq!(traffic.over_floor(), Some(215.0 / 105.0));
        assert_eq!(traffic.launches, 4);
        traffic.add_run(&step, &[LaunchRecord { counters: None, ..launch(&[]) }]);
        assert_eq!(traffic.over_floor(), None);
    }
}
