//! What: the inputs of a verification, and the sizes at which it is made.
//! Why here: the same for every level.
//! Pre: a graph. Post: equal seeds give equal inputs; sizes are small and multiples of nothing.

use std::fmt;

use tilewright_frontend::hf::symbol_values;
use tilewright_ir::eval::{Symbols, Tensor, size, sizes};
use tilewright_ir::graph::{Def, GlobalKind, Module};
use tilewright_ir::{DType, Expr, splitmix};
use tilewright_runtime::exec::Array;

use crate::Error;
use crate::compiler::Planned;

/// Runs that follow on one another, each with the values of its symbols.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) symbols: Vec<Vec<(String, u64)>>,
    /// Whether no run reads of a state what none before it wrote: then states may begin as anything.
    pub(super) fresh: bool,
}

impl Round {
    /// What is said of its states.
    pub(super) fn states(&self) -> &'static str {
        if self.fresh { ", states begin as NaN" } else { "" }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.symbols.last().filter(|s| !s.is_empty()) else {
            return f.write_str("as declared");
        };
        for (n, (name, value)) in last.iter().enumerate() {
            write!(f, "{}{name} = {value}", if n > 0 { ", " } else { "" })?;
        }
        match self.symbols.len() {
            1 => Ok(()),
            n => write!(f, " after {} runs", n - 1),
        }
    }
}

/// The rounds of a phase: of models a few tokens and a single one; of equations a ragged size, one position, and none.
pub(super) fn rounds(p: &Planned, model: bool, known: &[(String, u64)]) -> Vec<Round> {
    let graph = &p.graph;
    if model {
        let at = |past, new| {
            let values = symbol_values(graph, past, new);
            let named = values.iter().map(|&(s, v)| (graph.symbols[s].name.clone(), v));
            named.collect::<Vec<_>>()
        };
        return match p.name.as_str() {
            "decode" => vec![Round { symbols: (0..4).map(|n| at(n, 1)).collect(), fresh: true }],
            _ => [7, 1].map(|new| Round { symbols: vec![at(0, new)], fresh: true }).to_vec(),
        };
    }
    let at = |size: u64| -> Vec<(String, u64)> {
        graph
            .symbols
            .values()
            .map(|s| {
                let given = known.iter().find(|(n, _)| *n == s.name).map(|(_, v)| *v);
                (s.name.clone(), given.unwrap_or_else(|| size.clamp(s.min, s.max)))
            })
            .collect()
    };
    let mut sizes = vec![at(7), at(1), at(0)];
    sizes.dedup();
    sizes.into_iter().map(|s| Round { symbols: vec![s], fresh: false }).collect()
}

/// Roughly how many operations one evaluation takes.
pub(super) fn work(graph: &Module, symbols: &Symbols) -> f64 {
    let mut total = 0.0;
    for call in &graph.program {
        let f = &graph.functions[call.func];
        let size = |axes: &mut dyn Iterator<Item = tilewright_ir::Axis>| -> f64 {
            axes.map(|a| size(f.axes[a].extent, symbols) as f64).product()
        };
        let mut own = 0.0;
        for data in f.values.values() {
            let e = match &data.def {
                Def::Param(_) => {
                    own += size(&mut data.axes.iter().copied());
                    continue;
                }
                Def::Equation(e) => e,
                Def::Update { value, .. } => value,
            };
            own += size(&mut data.axes.iter().copied());
            e.visit(&mut |x| {
                if let Expr::Reduce(_, bound, body) = x {
                    let mut axes = body.free_axes();
                    axes.extend(bound.iter().copied());
                    own += size(&mut axes.into_iter());
                }
            });
        }
        total += own * f64::from(call.count);
    }
    total
}

/// What real inputs are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// Between -2 and 2.
    Uniform,
    /// Either -1e4 or 1e4.
    Large,
    /// Between -2 and -1.
    Negative,
    /// All 0; lengths and indices too, so that what they mask is masked everywhere.
    Zero,
}

impl Variant {
    pub(super) const ALL: [Variant; 4] = [Variant::Uniform, Variant::Large, Variant::Negative, Variant::Zero];
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Uniform => "uniform",
            Variant::Large => "1e4 of either sign",
            Variant::Negative => "all negative",
            Variant::Zero => "all 0",
        })
    }
}

/// A source of inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    pub(super) seed: u64,
    pub(super) variant: Variant,
}

impl Inputs {
    /// One element: a function of the seed, the input and the position.
    pub(super) fn element(&self, dtype: DType, name: &str, at: u64) -> f64 {
        let seed = name
            .bytes()
            .fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let z = splitmix::at(seed, at + 1);
        let unit = (z >> 11) as f64 / (1u64 << 53) as f64;
        let x = match (self.variant, dtype.is_float()) {
            (Variant::Zero, _) => 0.0,
            (_, false) => (z % if dtype == DType::Bool { 2 } else { 5 }) as f64,
            (Variant::Uniform, true) => unit * 4.0 - 2.0,
            (Variant::Large, true) => {
                if z & 1 == 0 {
                    1e4
                } else {
                    -1e4
                }
            }
            (Variant::Negative, true) => -1.0 - unit,
        };
        dtype.round(x)
    }

    /// An array of such elements.
    fn array(&self, name: &str, dtype: DType, dims: &[u64]) -> Result<Array, Error> {
        let values: Vec<f64> = (0..dims.iter().product()).map(|n| self.element(dtype, name, n)).collect();
        Array::new(dtype, dims, &values)
            .ok_or_else(|| Error::Bug(format!("the elements of `{name}` do not fill it")))
    }

    fn all(&self, graph: &Module, symbols: &Symbols) -> Vec<(String, DType, Vec<usize>, Vec<f64>)> {
        let given = graph.globals.values().filter(|g| g.kind == GlobalKind::Input);
        given
            .map(|g| {
                let dims = sizes(&g.dims, symbols);
                let count: usize = dims.iter().product();
                let values = (0..count as u64).map(|n| self.element(g.dtype, &g.name, n)).collect();
                (g.name.clone(), g.dtype, dims, values)
            })
            .collect()
    }

    /// Tensors for the evaluator.
    pub(super) fn tensors(&self, graph: &Module, symbols: &Symbols) -> Vec<(String, Tensor<f64>)> {
        let all = self.all(graph, symbols).into_iter();
        all.map(|(name, _, dims, data)| (name, Tensor { dims, data })).collect()
    }

    /// Arrays for a device.
    pub(super) fn arrays(&self, graph: &Module, symbols: &Symbols) -> Result<Vec<(String, Array)>, Error> {
        self.all(graph, symbols)
            .into_iter()
            .map(|(name, dtype, dims, data)| {
                let dims: Vec<u64> = dims.into_iter().map(|d| d as u64).collect();
                let array = Array::new(dtype, &dims, &data)
                    .ok_or_else(|| Error::Bug(format!("the elements of `{name}` do not fill it")))?;
                Ok((name, array))
            })
            .collect()
    }
}

/// A weight made up from a seed: uniform, and a function of its name.
pub(crate) fn made_up(seed: u64, name: &str, dtype: DType, dims: &[u64]) -> Result<Array, Error> {
    Inputs { seed, variant: Variant::Uniform }.array(name, dtype, dims)
}
