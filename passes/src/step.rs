//! From plans and programs to one step: buffers, lifetimes, launches.
//!
//! What depends on weights alone is a step of its own, the prologue: what it makes is a weight to the step.
//!
//! Layers are unrolled here and only here: the same kernels run for each iteration with other buffers. Temporaries share
//! an arena; two live at once never overlap.

use std::collections::{BTreeMap, HashMap, HashSet};

use tilewright_ir::graph::{Arg, Def, GlobalKind, Module};
use tilewright_ir::plan::{KernelPlan, Plan};
use tilewright_ir::step::{BufferData, BufferKind, GridAxis, Launch, Step};
use tilewright_ir::tile::{Role, TileProgram};
use tilewright_ir::{Buffer, DType, Extent, Func, Global, Value};

use crate::PassError;

/// A kernel, ready to be launched: its program and the values behind its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// The number of the plan's kernel that it is, or of the first of the chain.
    pub at: usize,
    /// The program.
    pub program: TileProgram,
    /// One value of the plan per argument.
    pub params: Vec<Value>,
}

struct Builder<'a> {
    module: &'a Module,
    step: Step,
    /// Launches of the prologue.
    once: Vec<Launch>,
    globals: HashMap<Global, Buffer>,
    names: HashSet<String>,
    /// The number of the first entry of the launch at hand.
    time: usize,
    /// First and last launch that touches a buffer of the arena.
    lives: BTreeMap<Buffer, (usize, usize)>,
}

/// What stands in front of the names of weights that a prologue makes.
pub const MADE: &str = "prologue:";

/// A step, and what runs once before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// What runs each time.
    pub step: Step,
    /// What runs when weights are loaded, if anything does. Its output `x` is the step's weight [`MADE`]`x`.
    pub prologue: Option<Step>,
}

/// Builds the step. `kernels` are those of each function, in the order of its plan.
pub fn build(
    module: &Module,
    plans: &HashMap<Func, Plan>,
    kernels: &HashMap<Func, Vec<Kernel>>,
) -> Result<Built, PassError> {
    let mut b = Builder {
        module,
        step: Step { symbols: module.symbols.clone(), ..Step::default() },
        once: Vec::new(),
        globals: HashMap::new(),
        names: module.globals.values().map(|g| g.name.clone()).collect(),
        time: 0,
        lives: BTreeMap::new(),
    };
    for (g, data) in &module.globals {
        let kind = match &data.kind {
            GlobalKind::Input => BufferKind::Input,
            GlobalKind::Weight(name) => BufferKind::Weight(name.clone()),
            GlobalKind::Table(t) => BufferKind::Table(t.clone()),
            GlobalKind::State => BufferKind::State,
            GlobalKind::Temp if module.outputs.contains(&g) => BufferKind::Output,
            GlobalKind::Temp => BufferKind::Arena(0),
        };
        let dims = data.dims.clone();
        let buffer = b.step.buffers.push(BufferData {
            name: data.name.clone(),
            dtype: data.dtype,
            dims,
            kind,
            packing: None,
        });
        b.globals.insert(g, buffer);
    }
    for call in &module.program {
        let function = &module.functions[call.func];
        let plan = &plans[&call.func];
        let params: Vec<Value> = function.params().collect();
        let mut previous: Vec<Buffer> = Vec::new();
        for iteration in 0..call.count {
            let last = iteration + 1 == call.count;
            let region =
                if call.count > 1 { format!("{}.{iteration}", function.name) } else { function.name.clone() };
            let mut place: HashMap<Value, Buffer> = HashMap::new();
            for (&p, arg) in params.iter().zip(&call.args) {
                let buffer = match arg {
                    Arg::Shared(g) => b.globals[g],
                    Arg::PerIteration(gs) => b.globals[&gs[iteration as usize]],
                    Arg::Carried(g, result) => {
                        if iteration == 0 {
                            b.globals[g]
                        } else {
                            previous[*result]
                        }
                    }
                };
                place.insert(p, buffer);
            }
            // An updated state lives where the state lives.
            for (v, data) in &plan.values {
                if let Def::Update { of, .. } = &data.def {
                    let buffer = place[of];
                    place.insert(v, buffer);
                }
            }
            previous.clear();
            for (n, &r) in function.results.iter().enumerate() {
                let buffer = match place.get(&r) {
                    Some(&b) => b,
                    None if last => b.globals[&call.results[n]],
                    None => b.temp(plan, r, &region),
                };
                place.insert(r, buffer);
                previous.push(buffer);
                if last && buffer != b.globals[&call.results[n]] {
                    return Err(PassError::Limit(format!(
                        "function `{}` returns its parameter or state `{}` unchanged",
                        function.name, function.values[r].name
                    )));
                }
            }
            for kernel in &kernels[&call.func] {
                let planned = &plan.kernels[kernel.at];
                let mut args = Vec::new();
                let mut writes = Vec::new();
                for (&v, data) in kernel.params.iter().zip(kernel.program.params.values()) {
                    let buffer = match place.get(&v) {
                        Some(&b) => b,
                        None => {
                            let t = b.temp(plan, v, &region);
                            place.insert(v, t);
                            t
                        }
                    };
                    args.push(buffer);
                    writes.push(data.written);
                }
                b.launch(&kernel.program, &region, args, writes, planned)?;
            }
        }
    }
    let prologue = b.prologue();
    b.arena()?;
    Ok(Built { step: b.step, prologue })
}

impl Builder<'_> {
    fn temp(&mut self, plan: &Plan, v: Value, region: &str) -> Buffer {
        let data = &plan.values[v];
        let name = if data.name.is_empty() { v.to_string() } else { data.name.clone() };
        let dims = data.axes.iter().map(|&a| plan.axes[a].extent).collect();
        let mut name = format!("{region}.{name}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        self.step.buffers.push(BufferData {
            name,
            dtype: data.dtype,
            dims,
            kind: BufferKind::Arena(0),
            packing: None,
        })
    }

    fn launch(
        &mut self,
        program: &TileProgram,
        region: &str,
        args: Vec<Buffer>,
        writes: Vec<bool>,
        planned: &KernelPlan,
    ) -> Result<(), PassError> {
        for (n, (&a, &w)) in args.iter().zip(&writes).enumerate() {
            if w && args.iter().enumerate().any(|(m, &other)| m != n && other == a) {
                let name = &self.step.buffers[a].name;
                return Err(PassError::Limit(format!(
                    "kernel `{}` would read `{name}` while writing it",
                    program.name
                )));
            }
        }
        let grid = program
            .axes
            .values()
            .filter(|a| a.role == Role::Grid)
            .map(|a| GridAxis { extent: a.extent, block: a.block })
            .collect();
        let launch = Launch {
            kernel: program.name.clone(),
            region: region.to_owned(),
            args,
            writes,
            grid,
            beside: planned.beside,
        };
        if planned.prologue {
            self.once.push(launch);
            return Ok(());
        }
        // What happens side by side has one time.
        if !launch.beside {
            self.time = self.step.launches.len();
        }
        let at = self.time;
        for &a in &launch.args {
            if matches!(self.step.buffers[a].kind, BufferKind::Arena(_)) {
                let life = self.lives.entry(a).or_insert((at, at));
                life.1 = at;
            }
        }
        self.step.launches.push(launch);
        Ok(())
    }

    /// Takes the launches that run once out of the step; what they write becomes weights of it.
    fn prologue(&mut self) -> Option<Step> {
        let mut out = Step::default();
        let mut moved: HashMap<Buffer, Buffer> = HashMap::new();
        for mut launch in std::mem::take(&mut self.once) {
            for (arg, &written) in launch.args.iter_mut().zip(&launch.writes) {
                let own = &mut self.step.buffers[*arg];
                let at = *moved.entry(*arg).or_insert_with(|| out.buffers.push(own.clone()));
                if written {
                    out.buffers[at].kind = BufferKind::Output;
                    own.kind = BufferKind::Weight(format!("{MADE}{}", own.name));
                    self.lives.remove(arg);
                }
                *arg = at;
            }
            out.launches.push(launch);
        }
        (!out.launches.is_empty()).then_some(out)
    }

    /// Bytes of a buffer at its largest.
    fn bytes(&self, b: Buffer) -> Result<u64, PassError> {
        let data = &self.step.buffers[b];
        let mut n = data.dtype.bytes() as u64;
        for d in &data.dims {
            let d = match d {
                Extent::Const(n) => *n,
                Extent::Sym(s) => self.module.symbols[*s].max,
            };
            n = n.checked_mul(d).ok_or_else(|| {
                PassError::Limit(format!("buffer `{}` has more bytes than can be addressed", data.name))
            })?;
        }
        Ok(n)
    }

    /// First fit by order of birth: offsets are multiples of 256 bytes.
    fn arena(&mut self) -> Result<(), PassError> {
        let mut placed: Vec<(u64, u64, (usize, usize))> = Vec::new();
        let mut order: Vec<(Buffer, (usize, usize))> = self.lives.iter().map(|(&b, &l)| (b, l)).collect();
        order.sort_by_key(|&(b, (first, _))| (first, b));
        for (b, life) in order {
            let size = self.bytes(b)?.max(1).next_multiple_of(256);
            let mut busy: Vec<(u64, u64)> = placed
                .iter()
                .filter(|(_, _, l)| l.0 <= life.1 && life.0 <= l.1)
                .map(|&(start, end, _)| (start, end))
                .collect();
            busy.sort_unstable();
            let mut at = 0;
            for (start, end) in busy {
                if at + size <= start {
                    break;
                }
                at = at.max(end);
            }
            placed.push((at, at + size, life));
            self.step.buffers[b].kind = BufferKind::Arena(at);
            self.step.arena_bytes = self.step.arena_bytes.max(at + size);
        }
        Ok(())
    }
}

/// The 16-bit type that a function declares for its activations, if it does.
pub fn narrow(options: &indexmap::IndexMap<String, String>) -> Option<DType> {
    match options.get("activations").map(String::as_str) {
        Some("bf16") => Some(DType::Bf16),
        Some("f16") => Some(DType::F16),
        _ => None,
    }
}
