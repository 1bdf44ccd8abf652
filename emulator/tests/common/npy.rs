//! What: reading .npy arrays.
//! Why here: tests of stored data need it, and the format is a header of one line.
//! Pre: version 1 files in C order, as numpy writes them.
//! Post: the dtype and the raw bytes; values as f64 where asked.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

pub(crate) struct Array {
    pub(crate) dtype: String,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a file; panics name it.
pub(crate) fn read(path: &Path) -> Array {
    let b = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(b.starts_with(b"\x93NUMPY\x01"), "{} is not a version 1 .npy file", path.display());
    let n = usize::from(u16::from_le_bytes([b[8], b[9]]));
    let head = std::str::from_utf8(&b[10..10 + n]).unwrap();
    assert!(head.contains("'fortran_order': False"), "{}: {head}", path.display());
    let dtype = head.split("'descr': '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    Array { dtype, bytes: b[10 + n..].to_vec() }
}

impl Array {
    /// The elements as f64.
    pub(crate) fn values(&self) -> Vec<f64> {
        values(&self.dtype, &self.bytes)
    }
}

/// Bytes of a dtype (or of `bf16`) as f64.
pub(crate) fn values(dtype: &str, b: &[u8]) -> Vec<f64> {
    macro_rules! each {
        ($t:ty) => {
            b.chunks_exact(size_of::<$t>())
                .map(|c| <$t>::from_le_bytes(c.try_into().unwrap()) as f64)
                .collect()
        };
    }
    match dtype {
        "<f8" => each!(f64),
        "<f4" => each!(f32),
        "<f2" => b.chunks_exact(2).map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        "bf16" => b.chunks_exact(2).map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f64()).collect(),
        "<i8" => each!(i64),
        "<i4" => each!(i32),
        "<i2" => each!(i16),
        "|i1" => each!(i8),
        "<u8" => each!(u64),
        "<u4" => each!(u32),
        "<u2" => each!(u16),
        "|u1" => each!(u8),
        other => panic!("dtype {other}"),
    }
}
