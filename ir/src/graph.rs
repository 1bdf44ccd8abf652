//! The graph level: tensor equations in index notation.
//!
//! A [`Module`] holds functions and a *program* that calls them. Repeated layers stay rolled: one [`Function`],
//! one [`Call`] with a count, and per-iteration arguments. A function is a list of values: parameters first, then
//! definitions, each an [`Ex`] over its own axes. Composite operators do not exist at this level: frontends expand
//! them, because what a pass cannot see inside, it cannot fuse.
//!
//! State (a KV cache) is linear: [`Def::Update`] makes a new value that takes over the storage of an old one, and
//! the old one must not be used afterwards.

use cranelift_entity::PrimaryMap;
use indexmap::IndexMap;

use crate::{Axis, AxisData, DType, Ex, Extent, Func, Global, Sym, SymData, Value};

/// A module: symbols, functions, module-level tensors, and the program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Symbols, shared by all functions.
    pub symbols: PrimaryMap<Sym, SymData>,
    /// Functions.
    pub functions: PrimaryMap<Func, Function>,
    /// Module-level tensors.
    pub globals: PrimaryMap<Global, GlobalData>,
    /// Calls, in order.
    pub program: Vec<Call>,
    /// The globals that a user reads back.
    pub outputs: Vec<Global>,
}

/// A tensor at module level.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalData {
    /// Its name, unique in the module.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents, row-major and dense.
    pub dims: Vec<Extent>,
    /// Where its contents come from.
    pub kind: GlobalKind,
}

/// Where the contents of a module-level tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub enum GlobalKind {
    /// Given by the caller for every run.
    Input,
    /// Constant: the named tensor of the model's weights, whose elements in row-major order are this tensor's.
    Weight(String),
    /// Constant: a table computed by the frontend (in f64), e.g. rotation tables.
    Table(Table),
    /// Kept from run to run, zero at first.
    State,
    /// Made by a call.
    Temp,
}

/// A table that is a function of its indices, so that it is never stored in a module.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Rotation table `[position, pair, row=2, column=2]`: entry is the 2x2 rotation by `position * frequency[pair]`,
    /// times `scale`. Computed in f64.
    Rotation {
        /// Angular frequency of each pair, radians per position.
        frequencies: Vec<f64>,
        /// Factor on every entry (the attention factor of some rope scalings); usually 1.
        scale: f64,
    },
    /// Literal values, row-major.
    Values(Vec<f64>),
}

/// One call of the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub func: Func,
    /// How many times it runs in sequence.
    pub count: u32,
    /// One argument per parameter of the function.
    pub args: Vec<Arg>,
    /// One destination per result of the function.
    pub results: Vec<Global>,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// The same tensor in each iteration.
    Shared(Global),
    /// One tensor per iteration.
    PerIteration(Vec<Global>),
    /// The first tensor in iteration 0, afterwards result number `.1` of the iteration before.
    Carried(Global, usize),
}

/// A function: axes, values, results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Function {
    /// Its name, unique in the module.
    pub name: String,
    /// Axes. Names are unique in the function; the same axis may be bound by several reductions, and an inner binder
    /// shadows an outer one.
    pub axes: PrimaryMap<Axis, AxisData>,
    /// Values: parameters first, then definitions that use only earlier values.
    pub values: PrimaryMap<Value, ValueData>,
    /// The values that calls get back. Updated states are returned through their parameter and need not be listed.
    pub results: Vec<Value>,
    /// Limits and settings that passes obey.
    pub options: IndexMap<String, String>,
}

/// A tensor value of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueData {
    /// Its name, unique in the function, or empty for a value that prints by number.
    pub name: String,
    /// The type it is stored in when it is stored. A narrowing here is a refinement, not an equality.
    pub dtype: DType,
    /// Its axes: for a definition, the axes that are free in its expression or along which it is broadcast; for a
    /// parameter, one axis per dimension.
    pub axes: Vec<Axis>,
    /// What it is.
    pub def: Def,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Def {
    /// A parameter.
    Param(ParamKind),
    /// An equation: for all positions of the axes, the value is the expression.
    Equation(Ex),
    /// The state `of` with the elements at `index` (one expression per axis of the state, over `domain`) replaced by
    /// `value`. The axes of the result are those of the state.
    Update {
        /// The state that is consumed.
        of: Value,
        /// The axes over which the update runs.
        domain: Vec<Axis>,
        /// Where each element goes.
        index: Vec<Ex>,
        /// What is written.
        value: Ex,
    },
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Changes from run to run.
    Input,
    /// Constant for the life of the module.
    Weight,
    /// Kept and updated in place.
    State,
}

impl ParamKind {
    /// The syntax.
    pub fn name(self) -> &'static str {
        match self {
            ParamKind::Input => "input",
            ParamKind::Weight => "weight",
            ParamKind::State => "state",
        }
    }
}

impl Function {
    /// Adds an axis.
    pub fn axis(&mut self, name: &str, extent: Extent) -> Axis {
        self.axes.push(AxisData { name: name.to_owned(), extent })
    }

    /// Adds a parameter.
    pub fn param(&mut self, name: &str, kind: ParamKind, dtype: DType, axes: &[Axis]) -> Value {
        self.values.push(ValueData {
            name: name.to_owned(),
            dtype,
            axes: axes.to_vec(),
            def: Def::Param(kind),
        })
    }

    /// Adds an equation.
    pub fn define(&mut self, name: &str, dtype: DType, axes: &[Axis], expr: Ex) -> Value {
        self.values.push(ValueData {
            name: name.to_owned(),
            dtype,
            axes: axes.to_vec(),
            def: Def::Equation(expr),
        })
    }

    /// Adds an update of a state.
    pub fn update(&mut self, name: &str, of: Value, domain: &[Axis], index: Vec<Ex>, value: Ex) -> Value {
        let (dtype, axes) = (self.values[of].dtype, self.values[of].axes.clone());
        self.values.push(ValueData {
            name: name.to_owned(),
            dtype,
            axes,
            def: Def::Update { of, domain: domain.to_vec(), index, value },
        })
    }

    /// The extents of a value.
    pub fn dims(&self, value: Value) -> Vec<Extent> {
        self.values[value].axes.iter().map(|&a| self.axes[a].extent).collect()
    }

    /// The parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = Value> + '_ {
        self.values.iter().filter(|(_, d)| matches!(d.def, Def::Param(_))).map(|(v, _)| v)
    }
}
