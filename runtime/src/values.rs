//! What: elements of stored tensors as numbers, and back.
//! Why here: weights in another type than the kernels', computed tables, and comparisons all need it.
//! Pre: little-endian bytes of a whole number of elements.
//! Post: conversions round as [`DType::round`] says; the same type on both sides changes no bit.

use half::{bf16, f16};
use tilewright_ir::DType;

/// The elements as f64. Bytes beyond the last whole element are ignored. (i64 beyond 2^53 lose low bits.)
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| f(chunk)).collect()
    }
    match dtype {
        DType::Bool => each(bytes, |[b]| f64::from(u8::from(b != 0))),
        DType::I8 => each(bytes, |b| f64::from(i8::from_le_bytes(b))),
        DType::U8 => each(bytes, |[b]| f64::from(b)),
        DType::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        DType::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        DType::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f64()),
        DType::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        DType::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        DType::F64 => each(bytes, f64::from_le_bytes),
    }
}

/// The elements as bytes, rounded to the type.
pub fn encode(dtype: DType, values: impl IntoIterator<Item = f64>) -> Vec<u8> {
    let values = values.into_iter();
    let mut bytes = Vec::with_capacity(values.size_hint().0 * dtype.bytes());
    for x in values {
        match dtype {
            DType::Bool => bytes.push(u8::from(x != 0.0)),
            DType::I8 => bytes.extend((x as i8).to_le_bytes()),
            DType::U8 => bytes.push(x as u8),
            DType::I32 => bytes.extend((x as i32).to_le_bytes()),
            DType::I64 => bytes.extend((x as i64).to_le_bytes()),
            DType::F16 => bytes.extend(f16::from_f64(x).to_le_bytes()),
            DType::Bf16 => bytes.extend(bf16::from_f64(x).to_le_bytes()),
            DType::F32 => bytes.extend((x as f32).to_le_bytes()),
            DType::F64 => bytes.extend(x.to_le_bytes()),
        }
    }
    bytes
}

/// The elements in another type.
pub fn convert(from: DType, to: DType, bytes: &[u8]) -> Vec<u8> {
    if from == to {
        return bytes.to_vec();
    }
    // In pieces, so that a large tensor is not held as f64 as a whole.
    let piece = 4096 * from.bytes();
    let mut out = Vec::with_capacity(bytes.len() / from.bytes() * to.bytes());
    for chunk in bytes.chunks(piece) {
        out.extend(encode(to, decode(from, chunk)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::dtype::ALL_DTYPES;

    #[test]
    fn conversions_round_like_the_type_says() {
        let values =
            [0.0, -0.0, 1.0, -1.5, 2.0f64.powi(-20), 65504.0, 1e6, -129.0, 255.0, 0.1, 1.0 / 3.0, 3e38];
        for dtype in ALL_DTYPES {
            let back = decode(dtype, &encode(dtype, values));
            for (x, y) in values.iter().zip(back) {
                assert_eq!(dtype.round(*x), y, "{x} as {dtype}");
            }
        }
        for from in ALL_DTYPES {
            let bytes = encode(from, (0..5000).map(|i| f64::from(i % 100)));
            assert_eq!(convert(from, from, &bytes), bytes);
            for to in ALL_DTYPES {
                let direct = encode(to, decode(from, &bytes));
                assert_eq!(convert(from, to, &bytes), direct, "{from} to {to}");
            }
        }
    }

    #[test]
    fn special_numbers_survive() {
        for dtype in [DType::F16, DType::Bf16, DType::F32, DType::F64] {
            let back = decode(dtype, &encode(dtype, [f64::INFINITY, f64::NEG_INFINITY, f64::NAN]));
            assert!(back[0] == f64::INFINITY && back[1] == f64::NEG_INFINITY && back[2].is_nan());
        }
    }
}
