//! What: the contents of computed tables, as they are stored.
//! Why here: tables are formulas in a module; the device needs their elements, rounded once.
//! Pre: a table and the extents of its buffer.
//! Post: the bytes in the buffer's type.

use tilewright_ir::DType;
use tilewright_ir::eval::table_values;
use tilewright_ir::graph::Table;

use super::ExecError;
use crate::values::encode;

/// The bytes of a table with these extents.
pub(super) fn compute(name: &str, table: &Table, dtype: DType, dims: &[u64]) -> Result<Vec<u8>, ExecError> {
    let bad = |reason: String| ExecError::BadStep(format!("table `{name}`: {reason}"));
    let dims = dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| bad("it does not fit in memory".to_owned())))
        .collect::<Result<Vec<_>, _>>()?;
    let values = table_values(name, table, &dims).map_err(|e| bad(e.to_string()))?;
    Ok(encode(dtype, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::decode;

    #[test]
    fn rotations_turn_by_position_times_frequency_and_are_rounded_once() {
        let table = Table::Rotation { frequencies: vec![1.0, 0.01], scale: 2.0 };
        let t = decode(DType::F64, &compute("r", &table, DType::F64, &[3, 2, 2, 2]).unwrap());
        // Turning (1, 0) twice by the angle of position 1 is turning it by the angle of position 2.
        for pair in 0..2 {
            let at = |p: usize| &t[(p * 2 + pair) * 4..][..4];
            assert_eq!(at(0), [2.0, -0.0, 0.0, 2.0]);
            let (a, b) = (at(1), at(2));
            let twice = [a[0] * a[0] + a[1] * a[2], a[2] * a[0] + a[3] * a[2]].map(|x| x / 2.0);
            assert!((twice[0] - b[0]).abs() < 1e-15 && (twice[1] - b[2]).abs() < 1e-15);
            assert!(a[2] > 0.0, "counter-clockwise");
        }
        let rounded = decode(DType::F32, &compute("r", &table, DType::F32, &[3, 2, 2, 2]).unwrap());
        assert!(t.iter().zip(rounded).all(|(&x, y)| DType::F32.round(x) == y));
    }

    #[test]
    fn extents_that_do_not_fit_are_errors() {
        let rotation = Table::Rotation { frequencies: vec![1.0], scale: 1.0 };
        for dims in [&[3, 2, 2, 2][..], &[3, 1, 2], &[3, 1, 2, 3], &[]] {
            assert!(compute("r", &rotation, DType::F32, dims).is_err(), "{dims:?}");
        }
        assert!(compute("v", &Table::Values(vec![1.0]), DType::F32, &[2]).is_err());
        assert_eq!(compute("v", &Table::Values(vec![1.0, 2.0]), DType::U8, &[2]).unwrap(), [1, 2]);
    }
}
