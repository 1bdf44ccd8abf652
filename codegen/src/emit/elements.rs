//! Elements as bits: how each type is taken out of words, put into words, and turned into another type.
//!
//! Why here: loads, stores and fills must agree on it.

use tilewright_ir::DType;

/// Words filled with an element.
pub(super) fn fill_words(dtype: DType, fill: f64, words: usize) -> String {
    let all: Vec<String> = match dtype.bytes() {
        8 => {
            let x = if dtype == DType::F64 { fill.to_bits() } else { fill as i64 as u64 };
            vec![format!("{:#x}u", x as u32), format!("{:#x}u", (x >> 32) as u32)]
        }
        4 => vec![format!(
            "{:#x}u",
            if dtype == DType::F32 { (fill as f32).to_bits() } else { fill as i32 as u32 }
        )],
        2 => {
            let h = half_bits(dtype, fill);
            vec![format!("{:#x}u", h | h << 16)]
        }
        _ => {
            let b = match dtype {
                DType::Bool => u32::from(fill != 0.0),
                DType::I8 => u32::from(fill as i8 as u8),
                _ => u32::from(fill as u8),
            };
            vec![format!("{:#x}u", b * 0x0101_0101)]
        }
    };
    (0..words).map(|w| all[w % all.len()].clone()).collect::<Vec<_>>().join(", ")
}

/// The bits of a value as a 16-bit float. The value is representable or is rounded by its type.
fn half_bits(dtype: DType, x: f64) -> u32 {
    let x = dtype.round(x);
    if dtype == DType::Bf16 {
        return (x as f32).to_bits() >> 16;
    }
    let f = (x as f32).to_bits();
    let sign = f >> 16 & 0x8000;
    let magnitude = f & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: a multiple of 2^-24.
        return sign | (x.abs() * 16_777_216.0) as u32;
    }
    sign | ((magnitude - 0x3800_0000) >> 13)
}

/// The bits of element `q` of the words `v`.
pub(super) fn word_element(dtype: DType, q: &str) -> String {
    match dtype.bytes() {
        1 => format!("((v[{q} >> 2] >> (({q} & 3) * 8)) & 0xffu)"),
        2 => format!("tw_half(v[{q} >> 1], {q} & 1)"),
        _ => format!("v[{q}]"),
    }
}

/// The element with the given bits, in its array's type.
pub(super) fn from_bits(dtype: DType, bits: &str, q: &str) -> String {
    match dtype {
        DType::Bool => format!("({bits} != 0)"),
        DType::U8 => format!("(int){bits}"),
        DType::I8 => format!("(int)(signed char){bits}"),
        DType::I32 => format!("(int){bits}"),
        DType::F32 => format!("__uint_as_float({bits})"),
        DType::Bf16 => format!("tw_bf16({bits}, 0)"),
        DType::F16 => format!("tw_f16({bits}, 0)"),
        DType::I64 => format!("(i64)((u64)v[2 * {q} + 1] << 32 | v[2 * {q}])"),
        DType::F64 => format!("__longlong_as_double((i64)((u64)v[2 * {q} + 1] << 32 | v[2 * {q}]))"),
    }
}

/// An element of one type as the element of another: floats for what is packed later.
pub(super) fn round_element(from: DType, to: DType, code: &str) -> String {
    if from == to {
        return code.to_owned();
    }
    match to {
        DType::Bool => format!("({code} != 0)"),
        DType::F16 | DType::Bf16 | DType::F32 => format!("(float){code}"),
        DType::F64 => format!("(double){code}"),
        DType::I64 if from.is_float() => format!("tw_to_long({code})"),
        DType::I64 => format!("(i64){code}"),
        _ => {
            let (lo, hi) = match to {
                DType::I8 => ("-128", "127"),
                DType::U8 => ("0", "255"),
                _ => ("(-2147483647 - 1)", "2147483647"),
            };
            match from {
                DType::I64 => format!("(int)tw_min(tw_max({code}, (i64){lo}), (i64){hi})"),
                _ if from.is_float() && to == DType::I32 => format!("tw_to_int({code})"),
                _ if from.is_float() => format!("tw_min(tw_max(tw_to_int({code}), {lo}), {hi})"),
                _ => format!("tw_min(tw_max((int){code}, {lo}), {hi})"),
            }
        }
    }
}

/// The bits of an element that was rounded to at most 32 bits.
pub(super) fn to_bits(dtype: DType, code: &str) -> String {
    match dtype {
        DType::F32 => format!("tw_bits({code})"),
        DType::Bf16 => format!("tw_pack_bf16({code}, 0.0f)"),
        DType::F16 => format!("tw_pack_f16({code}, 0.0f)"),
        _ => format!("(u32)({code})"),
    }
}
