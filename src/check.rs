//! What: comparing what a device computed with the evaluator.
//! Why here: `jit --check`, the self-test and tests judge by the same rule.
//! Pre: a graph, its inputs, and the outputs of a run.
//! Post: for each output the norm of the difference over the norm of the reference, and how much is allowed. Infinities
//! must agree exactly, and so must integers.

use tilewright_ir::eval::{Evaluator, F64, Tensor, bind_symbols};
use tilewright_ir::graph::{GlobalKind, Module as Graph};
use tilewright_ir::{DType, Extent};
use tilewright_runtime::exec::{Array, RunResult};

use crate::Error;

/// The comparison of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The output.
    pub name: String,
    /// The relative error; infinite when an infinity, NaN or integer does not agree.
    pub error: f64,
    /// The error that is allowed.
    pub allowed: f64,
}

impl Check {
    /// Whether the error is within what is allowed. (NaN is not.)
    pub fn passes(&self) -> bool {
        self.error <= self.allowed
    }
}

/// The check that fails by most, if any fails.
pub fn worst(checks: &[Check]) -> Option<&Check> {
    let ratio = |c: &Check| if c.error.is_nan() { f64::INFINITY } else { c.error / c.allowed.max(1e-300) };
    checks.iter().filter(|c| !c.passes()).max_by(|a, b| ratio(a).total_cmp(&ratio(b)))
}

/// The relative error that is allowed for results of a type, where `narrow` is the narrowest type on the way.
pub fn allowed(result: DType, narrow: DType) -> f64 {
    let of = |dtype| -> f64 {
        match dtype {
            DType::F64 => 1e-12,
            DType::F32 => 1e-5,
            DType::F16 => 4e-3,
            DType::Bf16 => 3e-2,
            _ => 0.0,
        }
    };
    of(result).max(of(narrow))
}

/// The relative error of one rounding to a type.
pub fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::F16 => 1.0 / 2048.0,
        DType::Bf16 => 1.0 / 256.0,
        _ => 0.0,
    }
}

/// The narrowest real type of some arrays: what goes in narrow may be kept narrow on the way.
pub fn narrowest(inputs: &[(&str, &Array)]) -> DType {
    let reals = inputs.iter().map(|(_, a)| a.dtype).filter(|d| d.is_float());
    reals.min_by_key(|d| (d.bytes(), *d == DType::F16)).unwrap_or(DType::F64)
}

/// The relative error of an array, `expected` being exact.
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&x, &y) in found.iter().zip(expected) {
        if y.is_finite() {
            difference += (x - y).powi(2);
            norm += y * y;
        } else if !(x == y || x.is_nan() && y.is_nan()) {
            return f64::INFINITY;
        }
    }
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

/// Evaluates a graph in f64 on inputs, weights among them, and compares the outputs of a run. Symbols that are not given
/// take their values from the extents of the inputs.
pub fn check_outputs(
    graph: &Graph,
    symbols: &[(&str, i64)],
    inputs: &[(&str, &Array)],
    result: &RunResult,
) -> Result<Vec<Check>, Error> {
    let mut values: Vec<(&str, u64)> =
        symbols.iter().map(|(n, v)| (*n, u64::try_from(*v).unwrap_or(u64::MAX))).collect();
    for (name, array) in inputs {
        let Some(global) = graph.globals.values().find(|g| g.name == *name) else { continue };
        for (&extent, &n) in global.dims.iter().zip(&array.dims) {
            if let Extent::Sym(s) = extent {
                let symbol = graph.symbols[s].name.as_str();
                if values.iter().all(|(known, _)| *known != symbol) {
                    values.push((symbol, n));
                }
            }
        }
    }
    let bound = bind_symbols(&graph.symbols, &values)?;
    let weight = |name: &str| graph.globals.values().any(|g| g.kind == GlobalKind::Weight(name.to_owned()));
    let tensors = inputs
        .iter()
        .filter(|(name, _)| !weight(name))
        .map(|(name, a)| {
            let dims: Vec<usize> = a.dims.iter().map(|&d| d as usize).collect();
            Ok((*name, Tensor::new(&dims, a.values())?))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let mut evaluator = Evaluator::new(F64, graph, |name| {
        let given = inputs.iter().find(|(n, _)| *n == name);
        given.map(|(_, a)| a.values()).ok_or_else(|| format!("the weight `{name}` is not given"))
    });
    let expected = evaluator.run(&bound, &tensors)?;

    let narrow = narrowest(inputs);
    let mut checks = Vec::new();
    for (&output, tensor) in graph.outputs.iter().zip(&expected) {
        let global = &graph.globals[output];
        let found = result
            .output(&global.name)
            .ok_or_else(|| Error::Bug(format!("the run returned no `{}`", global.name)))?;
        let rounded: Vec<f64> = if global.dtype.is_float() {
            tensor.data.clone()
        } else {
            tensor.data.iter().map(|&x| global.dtype.round(x)).collect()
        };
        checks.push(Check {
            name: global.name.clone(),
            error: relative_error(&found.values(), &rounded),
            allowed: allowed(global.dtype, if global.dtype.is_float() { narrow } else { global.dtype }),
        });
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_integers_must_agree() {
        let inf = f64::INFINITY;
        assert_eq!(relative_error(&[1.0, inf], &[1.0, inf]), 0.0);
        assert_eq!(relative_error(&[1.0, -inf], &[1.0, inf]), inf);
        assert_eq!(relative_error(&[1.0, 5.0], &[1.0, inf]), inf);
        assert_eq!(relative_error(&[f64::NAN], &[f64::NAN]), 0.0);
        assert!(
            !Check { name: String::new(), error: relative_error(&[f64::NAN], &[1.0]), allowed: 1.0 }.passes()
        );
        assert!(Check { name: String::new(), error: 0.0, allowed: allowed(DType::I32, DType::I32) }.passes());
        assert_eq!(relative_error(&[0.0; 3], &[0.0; 3]), 0.0);
        assert_eq!(relative_error(&[], &[]), 0.0);
    }

    #[test]
    fn the_worst_failure_is_named() {
        let check = |name: &str, error, allowed| Check { name: name.into(), error, allowed };
        let checks = [check("a", 2e-5, 1e-5), check("b", 1e-2, 3e-2), check("c", 1e-3, 1e-5)];
        assert_eq!(worst(&checks).map(|c| c.name.as_str()), Some("c"));
        assert_eq!(worst(&checks[1..2]), None);
        assert_eq!(worst(&[check("n", f64::NAN, 1.0)]).map(|c| c.name.as_str()), Some("n"));
    }
}
