//! Evaluating a graph function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::eval::domain::{Domain, Sort};
use crate::eval::exec::{self, Array};
use crate::eval::nest::{self, Job, Shapes};
use crate::eval::nodes::{Dag, Id, Leaf, Leaves, Node, Src};
use crate::eval::tensor::{Tensor, elements};
use crate::eval::{EvalError, Symbols};
use crate::graph::{Def, Function, ParamKind};
use crate::{Axis, DType, Ex, Expr, Extent, Reduction, Value};

/// What a function call gives back.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// The results, in order.
    pub results: Vec<Arc<Tensor<T>>>,
    /// For each state parameter, in order, its number and its contents after the call.
    pub states: Vec<(Value, Arc<Tensor<T>>)>,
}

/// Evaluates a function on one tensor per parameter.
///
/// Parameters are taken as they are: round them to their types before if they shall be ([`Tensor::rounded`]). A state
/// that nobody else holds is updated in place.
pub fn eval_function<D: Domain>(
    d: &D,
    function: &Function,
    symbols: &Symbols,
    params: Vec<Arc<Tensor<D::T>>>,
) -> Result<Outcome<D::T>, EvalError> {
    let expected = function.params().count();
    if params.len() != expected {
        let what = format!("@{}", function.name);
        return Err(EvalError::Arguments { what, expected, found: params.len() });
    }
    let mut scope = Scope::new(d, symbols, |a| function.axes.get(a).map(|data| data.extent));
    let mut params = params.into_iter();
    let last_use = last_uses(function);
    // The newest version of each state parameter.
    let mut states: Vec<(Value, Value)> = Vec::new();
    for (v, data) in function.values.iter() {
        scope.declare(Src::Value(v), Leaf::Array(Vec::new(), Sort::of(data.dtype)));
        let what = || value_name(function, v);
        let tensor = match &data.def {
            Def::Param(kind) => {
                let tensor = params.next().ok_or(EvalError::Internal("parameters were counted"))?;
                let dims = scope.dims(&data.axes)?;
                if tensor.dims != dims || tensor.data.len() != elements(&what(), &dims)? {
                    return Err(EvalError::Dims { what: what(), expected: dims, found: tensor.dims.clone() });
                }
                if *kind == ParamKind::State {
                    states.push((v, v));
                }
                tensor
            }
            Def::Equation(ex) => Arc::new(scope.value(&what(), ex, &data.axes, data.dtype)?),
            Def::Update { of, domain, index, value } => {
                let values = scope.value(&what(), value, domain, data.dtype)?;
                let index = index
                    .iter()
                    .map(|i| scope.value(&what(), i, domain, DType::I64))
                    .collect::<Result<Vec<_>, _>>()?;
                let of_last = last_use.get(of).is_none_or(|&at| at <= v);
                let old = match of_last {
                    true => scope.arrays.remove(&Src::Value(*of)),
                    false => scope.arrays.get(&Src::Value(*of)).cloned(),
                };
                let mut tensor = old.ok_or_else(|| EvalError::missing(Src::Value(*of)))?.tensor;
                scatter(d, &what(), Arc::make_mut(&mut tensor), &index, &values)?;
                states.iter_mut().filter(|(_, newest)| newest == of).for_each(|(_, newest)| *newest = v);
                tensor
            }
        };
        scope.arrays.insert(Src::Value(v), Array::new(tensor));
        // Values are dropped after their last use, so that memory holds what is live.
        let done: Vec<Value> = last_use.iter().filter(|(_, at)| **at == v).map(|(&v, _)| v).collect();
        for u in done {
            let kept = function.results.contains(&u) || states.iter().any(|&(_, newest)| newest == u);
            if !kept && u != v {
                scope.arrays.remove(&Src::Value(u));
            }
        }
    }
    let get = |v: Value| {
        let array = scope.arrays.get(&Src::Value(v)).ok_or_else(|| EvalError::missing(Src::Value(v)))?;
        Ok(array.tensor.clone())
    };
    Ok(Outcome {
        results: function.results.iter().map(|&v| get(v)).collect::<Result<_, EvalError>>()?,
        states: states.iter().map(|&(p, v)| Ok((p, get(v)?))).collect::<Result<_, EvalError>>()?,
    })
}

fn value_name(function: &Function, v: Value) -> String {
    match function.values[v].name.as_str() {
        "" => format!("@{}: {v}", function.name),
        name => format!("@{}: {name}", function.name),
    }
}

/// For each value that is used, the last value that uses it.
fn last_uses(function: &Function) -> BTreeMap<Value, Value> {
    let mut out = BTreeMap::new();
    for (v, data) in function.values.iter() {
        let mut see = |ex: &Ex| {
            for u in reads(ex) {
                out.insert(u, v);
            }
        };
        match &data.def {
            Def::Param(_) => {}
            Def::Equation(ex) => see(ex),
            Def::Update { of, index, value, .. } => {
                index.iter().for_each(&mut see);
                see(value);
                out.insert(*of, v);
            }
        }
    }
    out
}

/// The values that an expression reads. Shared parts are seen once.
fn reads(ex: &Ex) -> BTreeSet<Value> {
    let mut seen: BTreeSet<*const Expr> = BTreeSet::new();
    let mut out = BTreeSet::new();
    let mut stack = vec![ex];
    while let Some(ex) = stack.pop() {
        if !seen.insert(Arc::as_ptr(ex)) {
            continue;
        }
        if let Expr::Read(v, _) = &**ex {
            out.insert(*v);
        }
        stack.extend(ex.children());
    }
    out
}

/// Replaces the elements of `into` at the given indices; those outside of it are dropped.
pub(crate) fn scatter<D: Domain>(
    d: &D,
    what: &str,
    into: &mut Tensor<D::T>,
    index: &[Tensor<D::T>],
    values: &Tensor<D::T>,
) -> Result<(), EvalError> {
    if index.len() != into.dims.len() {
        let (expected, found) = (into.dims.len(), index.len());
        return Err(EvalError::Rank { what: what.to_owned(), expected, found });
    }
    let strides = crate::eval::strides(&into.dims);
    for (i, &x) in values.data.iter().enumerate() {
        if !index.iter().all(|index| d.is_known(index.data[i])) {
            into.data.fill(d.undefined());
            continue;
        }
        let mut at = Some(0usize);
        for ((index, &size), stride) in index.iter().zip(&into.dims).zip(&strides) {
            let k = d.index(index.data[i]).and_then(|k| usize::try_from(k).ok()).filter(|&k| k < size);
            at = at.zip(k).map(|(at, k)| at + k * stride);
        }
        if let Some(at) = at {
            into.data[at] = x;
        }
    }
    Ok(())
}

/// The arrays in reach and what is needed to evaluate expressions over them.
pub(crate) struct Scope<'a, D: Domain> {
    pub(crate) d: &'a D,
    pub(crate) symbols: Vec<u64>,
    pub(crate) extent: Box<dyn Fn(Axis) -> Option<Extent> + 'a>,
    pub(crate) arrays: HashMap<Src, Array<D::T>>,
    /// What values and locals stand for; graphs of nodes share it.
    leaves: Arc<Leaves>,
    /// Axes of which only a stretch is visited: first position and number of positions.
    pub(crate) windows: HashMap<Axis, (i64, usize)>,
}

impl<'a, D: Domain> Scope<'a, D> {
    pub(crate) fn new(
        d: &'a D,
        symbols: &Symbols,
        extent: impl Fn(Axis) -> Option<Extent> + 'a,
    ) -> Scope<'a, D> {
        Scope {
            d,
            symbols: symbols.values().copied().collect(),
            extent: Box::new(extent),
            arrays: HashMap::new(),
            leaves: Arc::default(),
            windows: HashMap::new(),
        }
    }

    /// The number of positions of an axis.
    pub(crate) fn len(&self, axis: Axis) -> Result<usize, EvalError> {
        if let Some(&(_, len)) = self.windows.get(&axis) {
            return Ok(len);
        }
        let n = match (self.extent)(axis) {
            Some(Extent::Const(n)) => n,
            Some(Extent::Sym(s)) => *self
                .symbols
                .get(s.as_u32() as usize)
                .ok_or_else(|| EvalError::NoSymbol { name: s.to_string(), min: 0, max: u64::MAX })?,
            None => return Err(EvalError::Unbound { axis }),
        };
        usize::try_from(n).map_err(|_| EvalError::Extent { axis, extent: n })
    }

    /// The extents of a list of axes.
    pub(crate) fn dims(&self, axes: &[Axis]) -> Result<Vec<usize>, EvalError> {
        axes.iter().map(|&a| self.len(a)).collect()
    }

    /// Says what a leaf stands for; what it stood for before is given back.
    pub(crate) fn declare(&mut self, src: Src, leaf: Leaf) -> Option<Leaf> {
        Arc::make_mut(&mut self.leaves).insert(src, leaf)
    }

    /// A leaf stands for nothing any more.
    pub(crate) fn forget(&mut self, src: Src) {
        Arc::make_mut(&mut self.leaves).remove(&src);
    }

    /// The graph of nodes in which the leaves in reach are known.
    fn dag(&self) -> Dag {
        Dag::new(self.symbols.clone(), self.leaves.clone())
    }

    /// An expression over axes, stored in a type.
    pub(crate) fn value(
        &mut self,
        what: &str,
        ex: &Ex,
        axes: &[Axis],
        dtype: DType,
    ) -> Result<Tensor<D::T>, EvalError> {
        let mut tensor = self.exact(what, ex, axes)?.0;
        tensor.data.iter_mut().for_each(|x| *x = self.d.store(dtype, *x));
        Ok(tensor)
    }

    /// An expression over axes and its sort.
    pub(crate) fn exact(
        &mut self,
        what: &str,
        ex: &Ex,
        axes: &[Axis],
    ) -> Result<(Tensor<D::T>, Sort), EvalError> {
        let mut dag = self.dag();
        let root = dag.add(ex);
        let sort = dag.sort(root);
        Ok((self.node(what, &dag, root, axes)?, sort))
    }

    /// A reduction of an expression over `bound`, for each position of `free`, and its sort.
    pub(crate) fn reduced(
        &mut self,
        what: &str,
        op: Reduction,
        body: &Ex,
        free: &[Axis],
        bound: &[Axis],
    ) -> Result<(Tensor<D::T>, Sort), EvalError> {
        let mut dag = self.dag();
        let body = dag.add(body);
        let root = dag.push(Node::Reduce(op, bound.to_vec(), body));
        let sort = dag.sort(root);
        Ok((self.node(what, &dag, root, free)?, sort))
    }

    /// A node over axes.
    fn node(&mut self, what: &str, dag: &Dag, root: Id, axes: &[Axis]) -> Result<Tensor<D::T>, EvalError> {
        let wanted: BTreeSet<Axis> = axes.iter().copied().collect();
        let mut made = Vec::new();
        let mut result = None;
        for id in dag.reductions(root) {
            let Node::Reduce(op, bound, body) = dag.node(id) else { continue };
            let direct = id == root && wanted.iter().eq(dag.free(id)) && wanted.len() == axes.len();
            let free = if direct { axes } else { dag.free(id) };
            let tensor = self.nest(what, dag, *body, free, Some((*op, bound, dag.sort(id))))?;
            if direct {
                result = Some(tensor);
            } else {
                self.arrays.insert(Src::Reduction(id), self.windowed(tensor, free));
                made.push(Src::Reduction(id));
            }
        }
        let result = match result {
            Some(tensor) => tensor,
            None => self.nest(what, dag, root, axes, None)?,
        };
        for src in made {
            self.arrays.remove(&src);
        }
        Ok(result)
    }

    /// An array over the visited stretches of axes.
    pub(crate) fn windowed(&self, tensor: Tensor<D::T>, axes: &[Axis]) -> Array<D::T> {
        let origin = axes.iter().map(|a| self.windows.get(a).map_or(0, |w| w.0)).collect();
        Array { tensor: Arc::new(tensor), origin }
    }

    fn nest(
        &self,
        what: &str,
        dag: &Dag,
        root: Id,
        free: &[Axis],
        reduction: Option<(Reduction, &[Axis], Sort)>,
    ) -> Result<Tensor<D::T>, EvalError> {
        let dims = self.dims(free)?;
        elements(what, &dims)?;
        let mut lens: HashMap<Axis, (i64, usize)> = HashMap::new();
        for &a in free.iter().chain(reduction.map_or(&[][..], |(_, bound, _)| bound)) {
            let start = self.windows.get(&a).map_or(0, |w| w.0);
            lens.insert(a, (start, self.len(a)?));
        }
        let job = Job { root, free, reduction, guard: None };
        let shapes = Shapes {
            extent: &|a| lens.get(&a).map_or(0, |&(_, n)| n as u64),
            dims: &|src| self.arrays.get(&src).map(|a| a.tensor.dims.clone()),
        };
        let nest = nest::compile(dag, &job, &shapes)?;
        let arrays = nest
            .arrays
            .iter()
            .map(|src| self.arrays.get(src).ok_or_else(|| EvalError::missing(*src)))
            .collect::<Result<Vec<_>, _>>()?;
        exec::run(self.d, &nest, &arrays, &|a| lens.get(&a).copied().unwrap_or((0, 0)))
            .map_err(|_| EvalError::Internal("a fault in a nest without guards"))
    }
}
