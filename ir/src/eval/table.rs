//! The contents of tables, which modules hold as formulas.

use crate::eval::EvalError;
use crate::eval::tensor::elements;
use crate::graph::Table;

/// The elements of a table with the given extents, row-major, in f64.
pub fn table_values(name: &str, table: &Table, dims: &[usize]) -> Result<Vec<f64>, EvalError> {
    let count = elements(name, dims)?;
    match table {
        Table::Values(values) => {
            if values.len() != count {
                return Err(EvalError::Elements {
                    what: name.to_owned(),
                    expected: count,
                    found: values.len(),
                });
            }
            Ok(values.clone())
        }
        Table::Rotation { frequencies, scale } => {
            let [positions, pairs, 2, 2] = dims else {
                return Err(EvalError::Dims {
                    what: name.to_owned(),
                    expected: vec![dims.first().copied().unwrap_or(0), frequencies.len(), 2, 2],
                    found: dims.to_vec(),
                });
            };
            if *pairs != frequencies.len() {
                let expected = vec![*positions, frequencies.len(), 2, 2];
                return Err(EvalError::Dims { what: name.to_owned(), expected, found: dims.to_vec() });
            }
            let mut out = Vec::with_capacity(count);
            for position in 0..*positions {
                for frequency in frequencies {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    out.extend([cos * scale, -sin * scale, sin * scale, cos * scale]);
                }
            }
            Ok(out)
        }
    }
}
