//! What: running tile programs in any domain, and comparing results.
//! Why here: the evaluator runs graphs and plans; the launches of a step are run here, as a device runs them.
//! Pre: a compiled module. Post: buffers hold what the programs wrote; what nobody wrote is undefined.

use std::collections::HashMap;
use std::sync::Arc;

use tilewright_ir::eval::{
    Domain, FieldValue, Outcome, Symbols, Tensor, eval_function, eval_plan, eval_tile, sizes, table_values,
};
use tilewright_ir::graph::Module;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::{Buffer, DType};
use tilewright_passes::Compiled;
use tilewright_passes::step::MADE;

use crate::Error;

/// A tensor with its name.
pub(super) type Named<T> = (String, Tensor<T>);

/// The programs of a step, with states.
pub(super) struct Programs<'a, D: Domain> {
    domain: D,
    compiled: &'a Compiled,
    /// What states hold before anything is written to them.
    fresh: D::T,
    buffers: HashMap<Buffer, Tensor<D::T>>,
    /// What the prologue made, once it has run.
    made: Option<HashMap<String, Tensor<D::T>>>,
}

impl<'a, D: Domain> Programs<'a, D> {
    pub(super) fn new(domain: D, compiled: &'a Compiled, fresh: D::T) -> Programs<'a, D> {
        Programs { domain, compiled, fresh, buffers: HashMap::new(), made: None }
    }

    /// Runs all launches once; the outputs by name.
    pub(super) fn run(
        &mut self,
        symbols: &Symbols,
        inputs: &[(&str, Tensor<f64>)],
        weights: &dyn Fn(&str) -> Result<Vec<f64>, String>,
    ) -> Result<Vec<Named<D::T>>, Error> {
        if self.made.is_none() {
            let mut made = HashMap::new();
            if let Some(prologue) = &self.compiled.prologue {
                let outputs = self.launch(prologue, symbols, &[], weights)?;
                made.extend(outputs.into_iter().map(|(name, t)| (format!("{MADE}{name}"), t)));
                self.buffers.clear();
            }
            self.made = Some(made);
        }
        self.launch(&self.compiled.step, symbols, inputs, weights)
    }

    /// Runs the launches of a step.
    fn launch(
        &mut self,
        step: &Step,
        symbols: &Symbols,
        inputs: &[(&str, Tensor<f64>)],
        weights: &dyn Fn(&str) -> Result<Vec<f64>, String>,
    ) -> Result<Vec<Named<D::T>>, Error> {
        for (b, data) in &step.buffers {
            let dims = sizes(&data.dims, symbols);
            let count: usize = dims.iter().product();
            let number = |x: &f64| self.domain.num(*x);
            let tensor = match &data.kind {
                BufferKind::Input => {
                    let given = inputs.iter().find(|(n, _)| *n == data.name);
                    given
                        .map(|(_, t)| t.map(number))
                        .ok_or_else(|| Error::Bug(format!("input `{}` is not there", data.name)))?
                }
                BufferKind::Arena(_) | BufferKind::Output => {
                    Tensor { dims, data: vec![self.domain.undefined(); count] }
                }
                _ if self.buffers.contains_key(&b) => continue,
                BufferKind::Weight(name) => match self.made.as_ref().and_then(|m| m.get(name)) {
                    Some(made) => made.clone(),
                    None => {
                        let values =
                            weights(name).map_err(|e| Error::input(format!("weight `{name}`: {e}")))?;
                        Tensor::new(&dims, values)?.map(number)
                    }
                },
                BufferKind::Table(t) => Tensor::new(&dims, table_values(&data.name, t, &dims)?)?.map(number),
                BufferKind::State => Tensor { dims, data: vec![self.fresh; count] },
            };
            self.buffers.insert(b, tensor);
        }
        for launch in &step.launches {
            let program = self.compiled.programs.iter().find(|p| p.name == launch.kernel);
            let program =
                program.ok_or_else(|| Error::Bug(format!("kernel `{}` has no program", launch.kernel)))?;
            let args = launch.args.iter().map(|a| self.buffers[a].clone()).collect();
            let out = eval_tile(&self.domain, program, symbols, args)?;
            for ((&a, t), &written) in launch.args.iter().zip(out).zip(&launch.writes) {
                if written {
                    self.buffers.insert(a, t);
                }
            }
        }
        let outputs = step.buffers.iter().filter(|(_, d)| d.kind == BufferKind::Output);
        Ok(outputs.map(|(b, d)| (d.name.clone(), self.buffers[&b].clone())).collect())
    }
}

/// Outputs in the order of the graph.
pub(super) fn ordered<T: Clone>(graph: &Module, outputs: &[Named<T>]) -> Result<Vec<Tensor<T>>, Error> {
    let find = |name: &str| outputs.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    graph
        .outputs
        .iter()
        .map(|&g| {
            let name = &graph.globals[g].name;
            find(name).ok_or_else(|| Error::Bug(format!("no launch makes `{name}`")))
        })
        .collect()
}

/// Exact comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Elements that are the same.
    pub same: usize,
    /// Elements that are not.
    pub differ: usize,
    /// Elements of which the method says nothing: an infinity minus itself, an exponential of an exponential, a logarithm of one.
    pub untold: usize,
}

impl Tally {
    /// Counts the elements of results.
    pub(super) fn compare(&mut self, found: &[Tensor<FieldValue>], want: &[Tensor<FieldValue>]) {
        if found.len() != want.len() {
            self.differ += 1;
        }
        for (f, w) in found.iter().zip(want) {
            if f.dims != w.dims {
                self.differ += 1;
            }
            for (a, b) in f.data.iter().zip(&w.data) {
                if a.same(b) {
                    self.same += 1;
                } else if b.is_outside() || a.is_loose() || b.is_loose() {
                    self.untold += 1;
                } else {
                    self.differ += 1;
                }
            }
        }
    }
}

/// Each function of a graph against its plan, on arguments of its own: what goes through many functions is often outside of
/// the method in the end, since an exponential of an exponential is.
pub(super) fn functions(
    field: &impl Domain<T = FieldValue>,
    graph: &Module,
    compiled: &Compiled,
    symbols: &Symbols,
    element: &dyn Fn(DType, &str, u64) -> f64,
    block: usize,
) -> Result<Vec<(String, Tally)>, Error> {
    let mut out = Vec::new();
    for (func, plan) in &compiled.plans {
        let function = &graph.functions[*func];
        let params: Vec<_> = function
            .params()
            .map(|v| {
                let data = &function.values[v];
                let dims = sizes(&function.dims(v), symbols);
                let mut at = 0;
                Arc::new(Tensor::from_fn(&dims, |_| {
                    at += 1;
                    field.num(element(data.dtype, &data.name, at))
                }))
            })
            .collect();
        let want = eval_function(field, function, symbols, params.clone())?;
        let got = eval_plan(field, plan, symbols, params, block)?;
        let all = |o: &Outcome<FieldValue>| -> Vec<Tensor<FieldValue>> {
            let states = o.states.iter().map(|(_, t)| (**t).clone());
            o.results.iter().map(|t| (**t).clone()).chain(states).collect()
        };
        let mut tally = Tally::default();
        tally.compare(&all(&got), &all(&want));
        out.push((function.name.clone(), tally));
    }
    Ok(out)
}

/// The relative error of results, where the reference is defined.
pub(super) fn distance(found: &[Tensor<f64>], want: &[Tensor<f64>]) -> f64 {
    let mut worst = if found.len() == want.len() { 0.0f64 } else { f64::INFINITY };
    for (f, w) in found.iter().zip(want) {
        if f.dims != w.dims {
            return f64::INFINITY;
        }
        let (a, b): (Vec<f64>, Vec<f64>) = f.data.iter().zip(&w.data).filter(|(_, w)| !w.is_nan()).unzip();
        let error = crate::check::relative_error(&a, &b);
        worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
    }
    worst
}
