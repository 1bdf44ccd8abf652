//! Steps, their tile programs interpreted in f64, and those of models.

use std::collections::HashMap;

use tilewright_frontend::hf::lengths;
use tilewright_frontend::weights::{Weights, elements};
use tilewright_ir::Buffer;
use tilewright_ir::eval::{
    Domain, EvalError, F64, Symbols, Tensor, bind_symbols, eval_tile, sizes, table_values,
};
use tilewright_ir::graph::Module;
use tilewright_ir::step::{BufferData, BufferKind, Step};
use tilewright_ir::tile::TileProgram;
use tilewright_passes::Compiled;

/// Tensors by buffer.
pub(crate) type Buffers = HashMap<Buffer, Tensor<f64>>;

/// The buffers of a step: inputs by name, and NaN in all others, so that what nobody writes is noticed.
pub(crate) fn poisoned(step: &Step, symbols: &Symbols, inputs: &[(String, Tensor<f64>)]) -> Buffers {
    let filled = |data: &BufferData| {
        let given = inputs.iter().find(|(name, _)| *name == data.name);
        given.map_or_else(|| Tensor::from_fn(&sizes(&data.dims, symbols), |_| f64::NAN), |(_, t)| t.clone())
    };
    step.buffers.iter().map(|(b, data)| (b, filled(data))).collect()
}

/// Runs the launches of a step in order; an error comes with the name of its program.
pub(crate) fn launch<D: Domain<T = f64>>(
    domain: &D,
    step: &Step,
    programs: &[TileProgram],
    symbols: &Symbols,
    buffers: &mut Buffers,
) -> Result<(), (String, EvalError)> {
    for launch in &step.launches {
        let program = programs.iter().find(|p| p.name == launch.kernel).expect("a program for each launch");
        let args = launch.args.iter().map(|a| buffers[a].clone()).collect();
        let out = eval_tile(domain, program, symbols, args).map_err(|e| (program.name.clone(), e))?;
        for ((&a, t), &w) in launch.args.iter().zip(out).zip(&launch.writes) {
            if w {
                buffers.insert(a, t);
            }
        }
    }
    Ok(())
}

/// The step of a model, with its buffers.
pub(crate) struct Runner<'a> {
    compiled: &'a Compiled,
    buffers: Buffers,
}

impl<'a> Runner<'a> {
    /// With weights, and states that hold nothing.
    pub(crate) fn new(compiled: &'a Compiled, weights: &dyn Weights, symbols: &Symbols) -> Self {
        let mut buffers = HashMap::new();
        for (b, data) in &compiled.step.buffers {
            let dims = sizes(&data.dims, symbols);
            let values = match &data.kind {
                BufferKind::Weight(name) => elements(weights, name).expect("weight"),
                BufferKind::Table(t) => table_values(&data.name, t, &dims).expect("table"),
                BufferKind::State => vec![0.0; dims.iter().product()],
                _ => continue,
            };
            buffers.insert(b, Tensor::new(&dims, values).expect("dims"));
        }
        Runner { compiled, buffers }
    }

    /// The output of a run.
    pub(crate) fn run(&mut self, symbols: &Symbols, inputs: &[(&str, Vec<i64>)]) -> Vec<f64> {
        let step = &self.compiled.step;
        for (b, data) in &step.buffers {
            let dims = sizes(&data.dims, symbols);
            match data.kind {
                BufferKind::Input => {
                    let (_, given) = inputs.iter().find(|(n, _)| *n == data.name).expect("an input");
                    let t = Tensor::new(&dims, given.iter().map(|&t| t as f64).collect()).expect("numbers");
                    self.buffers.insert(b, t);
                }
                BufferKind::Arena(_) | BufferKind::Output => {
                    self.buffers.insert(b, Tensor::from_fn(&dims, |_| f64::NAN));
                }
                _ => {}
            }
        }
        launch(&F64, step, &self.compiled.programs, symbols, &mut self.buffers)
            .unwrap_or_else(|(name, e)| panic!("{name}: {e}"));
        let (out, _) = step.buffers.iter().find(|(_, d)| d.kind == BufferKind::Output).expect("an output");
        self.buffers[&out].data.clone()
    }
}

/// Symbols and inputs of a run of sequences that have so many tokens and get these; what is new is padded.
pub(crate) fn given(
    module: &Module,
    past: &[usize],
    rows: &[&[u64]],
) -> (Symbols, Vec<(&'static str, Vec<i64>)>) {
    let both: Vec<(u64, u64)> =
        past.iter().zip(rows).map(|(&past, row)| (past as u64, row.len() as u64)).collect();
    let known = lengths(module, &both);
    let named: Vec<(&str, u64)> =
        known.symbols.iter().map(|(s, v)| (module.symbols[*s].name.as_str(), *v)).collect();
    let wide = rows.iter().map(|r| r.len()).max().unwrap_or(0).max(1);
    let padded = |r: &&[u64]| (0..wide).map(|n| r.get(n).map_or(1, |&t| t as i64)).collect::<Vec<_>>();
    let mut inputs = known.inputs;
    inputs.push(("ids", rows.iter().flat_map(padded).collect()));
    (bind_symbols(&module.symbols, &named).expect("in range"), inputs)
}
