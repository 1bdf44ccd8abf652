//! What: values for the symbols of a step, and with them the sizes of everything.
//! Why here: these checks stand between a caller and kernels that trust their parameters.
//! Pre: a step.
//! Post: one i32 per symbol within its range; sizes that did not overflow.

use cranelift_entity::PrimaryMap;
use tilewright_ir::step::{BufferData, GridAxis};
use tilewright_ir::{Extent, Sym, SymData};

use super::ExecError;

/// The value of each symbol, in the order of the parameter block.
pub(super) fn bind(symbols: &PrimaryMap<Sym, SymData>, given: &[(&str, i64)]) -> Result<Vec<i32>, ExecError> {
    if let Some((name, _)) = given.iter().find(|(name, _)| symbols.values().all(|s| s.name != *name)) {
        let known = match symbols.values().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => "there are none".to_owned(),
            names => format!("the symbols are: {names}"),
        };
        return Err(ExecError::UnknownSymbol { name: (*name).to_owned(), known });
    }
    symbols
        .values()
        .map(|s| {
            // The last value counts when a name is given twice.
            let Some(&(_, value)) = given.iter().rev().find(|(name, _)| *name == s.name) else {
                return Err(ExecError::MissingSymbol { name: s.name.clone(), min: s.min, max: s.max });
            };
            let range = || ExecError::SymbolRange { name: s.name.clone(), value, min: s.min, max: s.max };
            let within = u64::try_from(value).is_ok_and(|v| (s.min..=s.max).contains(&v));
            // The parameter block has 32 bits for each.
            if within { i32::try_from(value).map_err(|_| range()) } else { Err(range()) }
        })
        .collect()
}

/// The largest value of each symbol.
pub(super) fn maxima(symbols: &PrimaryMap<Sym, SymData>) -> Result<Vec<i32>, ExecError> {
    symbols
        .values()
        .map(|s| {
            i32::try_from(s.max)
                .map_err(|_| ExecError::BadStep(format!("the range of `{}` does not fit 32 bits", s.name)))
        })
        .collect()
}

/// An extent.
pub(super) fn extent(e: Extent, values: &[i32]) -> Result<u64, ExecError> {
    match e {
        Extent::Const(n) => Ok(n),
        Extent::Sym(s) => values
            .get(s.as_u32() as usize)
            // Values were checked not to be negative.
            .map(|&v| u64::from(v.unsigned_abs()))
            .ok_or_else(|| ExecError::BadStep(format!("there is no symbol {s}"))),
    }
}

/// The extents of a buffer.
pub(super) fn dims(buffer: &BufferData, values: &[i32]) -> Result<Vec<u64>, ExecError> {
    buffer.dims.iter().map(|&e| extent(e, values)).collect()
}

/// The bytes of a buffer.
pub(super) fn bytes(buffer: &BufferData, values: &[i32]) -> Result<u64, ExecError> {
    dims(buffer, values)?
        .into_iter()
        .try_fold(buffer.dtype.bytes() as u64, u64::checked_mul)
        .ok_or_else(|| ExecError::BadStep(format!("the size of `{}` overflows", buffer.name)))
}

/// The blocks of a grid.
pub(super) fn blocks(kernel: &str, grid: &[GridAxis], values: &[i32]) -> Result<u64, ExecError> {
    grid.iter().try_fold(1u64, |n, axis| {
        if axis.block == 0 {
            return Err(ExecError::BadStep(format!("a grid axis of `{kernel}` has blocks of 0 positions")));
        }
        n.checked_mul(extent(axis.extent, values)?.div_ceil(u64::from(axis.block)))
            .ok_or_else(|| ExecError::BadStep(format!("the grid of `{kernel}` overflows")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> PrimaryMap<Sym, SymData> {
        let mut map = PrimaryMap::new();
        map.push(SymData { name: "past".into(), min: 0, max: 99 });
        map.push(SymData { name: "kv".into(), min: 1, max: 100 });
        map
    }

    #[test]
    fn values_come_in_the_order_of_the_symbols() {
        assert_eq!(bind(&symbols(), &[("kv", 7), ("past", 0)]).unwrap(), [0, 7]);
        assert_eq!(maxima(&symbols()).unwrap(), [99, 100]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |given: &[(&str, i64)]| bind(&symbols(), given).unwrap_err().to_string();
        assert!(error(&[("kv", 7)]).contains("`past`"));
        assert!(error(&[("kv", 0), ("past", 0)]).contains("`kv` is 0"));
        assert!(error(&[("kv", 101), ("past", 0)]).contains("1..=100"));
        assert!(error(&[("kv", 1), ("past", -1)]).contains("`past` is -1"));
        assert!(error(&[("kv", 1), ("past", 0), ("seq", 1)]).contains("`seq`"));
        assert!(error(&[("kv", i64::MAX), ("past", 0)]).contains("`kv`"));
    }

    #[test]
    fn grids_round_up_and_may_be_empty() {
        let axis = |extent, block| GridAxis { extent, block };
        let blocks = |grid: &[GridAxis]| blocks("k", grid, &[0, 65]);
        assert_eq!(blocks(&[]).unwrap(), 1);
        assert_eq!(
            blocks(&[axis(Extent::Const(7), 1), axis(Extent::Sym(Sym::from_u32(1)), 64)]).unwrap(),
            14
        );
        assert_eq!(blocks(&[axis(Extent::Const(7), 1), axis(Extent::Sym(Sym::from_u32(0)), 64)]).unwrap(), 0);
        assert!(blocks(&[axis(Extent::Const(u64::MAX), 1), axis(Extent::Const(2), 1)]).is_err());
        assert!(blocks(&[axis(Extent::Const(1), 0)]).is_err());
        assert!(blocks(&[axis(Extent::Sym(Sym::from_u32(9)), 1)]).is_err());
    }
}
