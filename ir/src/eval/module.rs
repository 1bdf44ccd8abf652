//! Evaluating a module: its program of rolled calls, with states that live from run to run.

use std::collections::HashMap;
use std::sync::Arc;

use cranelift_entity::SecondaryMap;

use crate::eval::domain::Domain;
use crate::eval::function::eval_function;
use crate::eval::plan::eval_plan;
use crate::eval::table::table_values;
use crate::eval::tensor::{Tensor, elements};
use crate::eval::{EvalError, Symbols};
use crate::graph::{Arg, Def, GlobalKind, Module, ParamKind};
use crate::plan::Plan;
use crate::{Extent, Func, Global};

/// Gives the elements of a tensor of the weights by name, row-major.
pub type WeightSource<'a> = Box<dyn Fn(&str) -> Result<Vec<f64>, String> + 'a>;

/// A module that is ready to run, with its states.
pub struct Evaluator<'a, D: Domain> {
    domain: D,
    module: &'a Module,
    weights: WeightSource<'a>,
    constants: HashMap<Global, Arc<Tensor<D::T>>>,
    states: HashMap<Global, Arc<Tensor<D::T>>>,
    /// Functions that are run by their plans, and the block size of passes.
    plans: (HashMap<Func, &'a Plan>, usize),
}

impl<'a, D: Domain> Evaluator<'a, D> {
    /// A module with zero states. Weights are asked for when they are first used, and kept.
    pub fn new(
        domain: D,
        module: &'a Module,
        weights: impl Fn(&str) -> Result<Vec<f64>, String> + 'a,
    ) -> Evaluator<'a, D> {
        let weights = Box::new(weights);
        let plans = (HashMap::new(), 1);
        Evaluator { domain, module, weights, constants: HashMap::new(), states: HashMap::new(), plans }
    }

    /// The same, with some functions run by their plans and passes cut into blocks of `block` positions.
    #[must_use]
    pub fn with_plans(mut self, plans: impl IntoIterator<Item = (Func, &'a Plan)>, block: usize) -> Self {
        self.plans = (plans.into_iter().collect(), block);
        self
    }

    /// Sets all states to zero.
    pub fn reset(&mut self) {
        self.states.clear();
    }

    /// The contents of a state by name; `None` before the first run that uses it, and for what is no state.
    pub fn state(&self, name: &str) -> Option<&Tensor<D::T>> {
        let g = self.module.globals.iter().find(|(_, data)| data.name == name)?.0;
        self.states.get(&g).map(|t| &**t)
    }

    /// Sets a state by name, rounded to its type. Its extents are checked when it is used.
    pub fn set_state(&mut self, name: &str, contents: Tensor<f64>) -> Result<(), EvalError> {
        let found = self.module.globals.iter().find(|(_, g)| g.name == name && g.kind == GlobalKind::State);
        let (g, data) = found.ok_or_else(|| EvalError::Missing { what: name.to_owned() })?;
        let state = self.import(&contents, data.dtype);
        self.states.insert(g, Arc::new(state));
        Ok(())
    }

    /// Runs the program once on inputs by name; the result is one tensor per output of the module. After an error all
    /// states are zero.
    pub fn run(
        &mut self,
        symbols: &Symbols,
        inputs: &[(&str, Tensor<f64>)],
    ) -> Result<Vec<Tensor<D::T>>, EvalError> {
        let result = self.run_program(symbols, inputs);
        if result.is_err() {
            self.reset();
        }
        result
    }

    fn run_program(
        &mut self,
        symbols: &Symbols,
        inputs: &[(&str, Tensor<f64>)],
    ) -> Result<Vec<Tensor<D::T>>, EvalError> {
        let module = self.module;
        let mut temps: SecondaryMap<Global, Option<Arc<Tensor<D::T>>>> = SecondaryMap::new();
        for (name, tensor) in inputs {
            let found = module.globals.iter().find(|(_, g)| g.name == *name && g.kind == GlobalKind::Input);
            let (g, data) = found.ok_or_else(|| EvalError::Missing { what: (*name).to_owned() })?;
            let dims = self.dims(&data.dims, symbols)?;
            if tensor.dims != dims || tensor.data.len() != elements(name, &dims)? {
                let (expected, found) = (dims, tensor.dims.clone());
                return Err(EvalError::Dims { what: data.name.clone(), expected, found });
            }
            temps[g] = Some(Arc::new(self.import(tensor, data.dtype)));
        }
        for call in &module.program {
            let function = module.functions.get(call.func).ok_or_else(|| EvalError::Malformed {
                what: call.func.to_string(),
                message: "no such function".to_owned(),
            })?;
            let what = format!("@{}", function.name);
            if call.results.len() != function.results.len() {
                let (expected, found) = (function.results.len(), call.results.len());
                return Err(EvalError::Arguments { what, expected, found });
            }
            let params: Vec<_> = function.params().collect();
            if params.len() != call.args.len() {
                return Err(EvalError::Arguments { what, expected: params.len(), found: call.args.len() });
            }
            let mut carried: Vec<Arc<Tensor<D::T>>> = Vec::new();
            for iteration in 0..call.count as usize {
                let mut args = Vec::with_capacity(params.len());
                let mut sources = Vec::with_capacity(params.len());
                for (arg, &param) in call.args.iter().zip(&params) {
                    let g = match arg {
                        Arg::Shared(g) => *g,
                        Arg::PerIteration(gs) => *gs.get(iteration).ok_or_else(|| EvalError::Arguments {
                            what: what.clone(),
                            expected: call.count as usize,
                            found: gs.len(),
                        })?,
                        Arg::Carried(g, _) if iteration == 0 => *g,
                        Arg::Carried(_, r) => {
                            let t = carried.get(*r).ok_or_else(|| EvalError::Malformed {
                                what: what.clone(),
                                message: format!("there is no result {r} to carry"),
                            })?;
                            args.push(t.clone());
                            sources.push(None);
                            continue;
                        }
                    };
                    let updated = function.values[param].def == Def::Param(ParamKind::State);
                    args.push(self.take(g, updated, symbols, &temps)?);
                    sources.push(Some(g));
                }
                let outcome = match self.plans.0.get(&call.func) {
                    Some(plan) => eval_plan(&self.domain, plan, symbols, args, self.plans.1)?,
                    None => eval_function(&self.domain, function, symbols, args)?,
                };
                for (param, state) in outcome.states {
                    let at = params.iter().position(|&p| p == param);
                    if let Some(g) = at.and_then(|i| sources[i]) {
                        self.states.insert(g, state);
                    }
                }
                carried = outcome.results;
            }
            for (g, t) in call.results.iter().zip(carried) {
                temps[*g] = Some(t);
            }
        }
        module.outputs.iter().map(|&g| Ok((*self.take(g, false, symbols, &temps)?).clone())).collect()
    }

    /// A module-level tensor. A state that will be updated is moved out (the call puts it back), so that this can
    /// happen in place.
    fn take(
        &mut self,
        g: Global,
        updated: bool,
        symbols: &Symbols,
        temps: &SecondaryMap<Global, Option<Arc<Tensor<D::T>>>>,
    ) -> Result<Arc<Tensor<D::T>>, EvalError> {
        let data = self.module.globals.get(g).ok_or_else(|| EvalError::Missing { what: g.to_string() })?;
        let what = &data.name;
        match &data.kind {
            GlobalKind::Input | GlobalKind::Temp => {
                temps[g].clone().ok_or_else(|| EvalError::Missing { what: what.clone() })
            }
            GlobalKind::State => {
                let dims = self.dims(&data.dims, symbols)?;
                let state = if updated { self.states.remove(&g) } else { self.states.get(&g).cloned() };
                match state {
                    Some(t) if t.dims != dims => {
                        Err(EvalError::Dims { what: what.clone(), expected: dims, found: t.dims.clone() })
                    }
                    Some(t) => Ok(t),
                    None => {
                        let zeros = vec![self.domain.num(0.0); elements(what, &dims)?];
                        Ok(Arc::new(Tensor::new(&dims, zeros)?))
                    }
                }
            }
            GlobalKind::Weight(_) | GlobalKind::Table(_) => {
                if let Some(t) = self.constants.get(&g) {
                    return Ok(t.clone());
                }
                let dims = self.dims(&data.dims, symbols)?;
                let values = match &data.kind {
                    GlobalKind::Weight(name) => (self.weights)(name)
                        .map_err(|message| EvalError::Source { name: name.clone(), message })?,
                    GlobalKind::Table(table) => table_values(what, table, &dims)?,
                    _ => return Err(EvalError::Internal("constants are weights or tables")),
                };
                if values.len() != elements(what, &dims)? {
                    let (expected, found) = (dims.iter().product(), values.len());
                    return Err(EvalError::Elements { what: what.clone(), expected, found });
                }
                let t = Arc::new(self.import(&Tensor::new(&dims, values)?, data.dtype));
                // A table whose extents depend on a symbol may have others in the next run.
                if data.dims.iter().all(|e| e.as_const().is_some()) {
                    self.constants.insert(g, t.clone());
                }
                Ok(t)
            }
        }
    }

    fn import(&self, tensor: &Tensor<f64>, dtype: crate::DType) -> Tensor<D::T> {
        tensor.map(|&x| self.domain.store(dtype, self.domain.num(x)))
    }

    fn dims(&self, dims: &[Extent], symbols: &Symbols) -> Result<Vec<usize>, EvalError> {
        dims.iter()
            .map(|e| {
                let n = match e {
                    Extent::Const(n) => *n,
                    Extent::Sym(s) => {
                        *symbols.get(*s).ok_or_else(|| EvalError::UnknownSymbol { name: s.to_string() })?
                    }
                };
                usize::try_from(n).map_err(|_| EvalError::Internal("an extent does not fit in memory"))
            })
            .collect()
    }
}
