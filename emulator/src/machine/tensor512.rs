//! What: `mma.sync` m16n8kK with f32 accumulators on AVX-512.
//! Why here: this is the one place where hand-written vector code pays: fragments become columns of 16 rows by
//! register permutations, and each multiply-add covers a whole column.
//! Pre: AVX-512 (F, BW, VL, DQ) was detected; m is 16; A and B are bf16, f16 or tf32.
//! Post: as the portable path: exact products, f32 sums in ascending k.
#![allow(unsafe_code)] // Vector loads and stores of whole register rows.

use crate::inst::{Mma, MmaTy};
use crate::lanes::RegFile;
use crate::numeric::NAN32;
use std::arch::x86_64::*;

/// The two halves of a row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn row(r: &mut RegFile, off: u32) -> [__m512i; 2] {
    let p = r.row::<u32>(off).as_ptr();
    // SAFETY: a row has 32 words.
    unsafe { [_mm512_loadu_si512(p.cast()), _mm512_loadu_si512(p.add(16).cast())] }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn put(r: &mut RegFile, off: u32, v: [__m512i; 2]) {
    let p = r.row::<u32>(off).as_mut_ptr();
    // SAFETY: a row has 32 words.
    unsafe {
        _mm512_storeu_si512(p.cast(), v[0]);
        _mm512_storeu_si512(p.add(16).cast(), v[1]);
    }
}

/// Words at lane 4 g + t of two rows (g = 0..8 and 8..16) to four vectors by t.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn columns(x: [__m512i; 2], y: [__m512i; 2]) -> [__m512i; 4] {
    let t01 = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    let t23 = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    let (x01, x23) = (_mm512_permutex2var_epi32(x[0], t01, x[1]), _mm512_permutex2var_epi32(x[0], t23, x[1]));
    let (y01, y23) = (_mm512_permutex2var_epi32(y[0], t01, y[1]), _mm512_permutex2var_epi32(y[0], t23, y[1]));
    [
        _mm512_shuffle_i64x2::<0x44>(x01, y01),
        _mm512_shuffle_i64x2::<0xee>(x01, y01),
        _mm512_shuffle_i64x2::<0x44>(x23, y23),
        _mm512_shuffle_i64x2::<0xee>(x23, y23),
    ]
}

/// The inverse of `columns`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn lanes(c: [__m512i; 4]) -> ([__m512i; 2], [__m512i; 2]) {
    let low = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    let high = _mm512_setr_epi32(4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
    let (x01, y01) = (_mm512_shuffle_i64x2::<0x44>(c[0], c[1]), _mm512_shuffle_i64x2::<0xee>(c[0], c[1]));
    let (x23, y23) = (_mm512_shuffle_i64x2::<0x44>(c[2], c[3]), _mm512_shuffle_i64x2::<0xee>(c[2], c[3]));
    (
        [_mm512_permutex2var_epi32(x01, low, x23), _mm512_permutex2var_epi32(x01, high, x23)],
        [_mm512_permutex2var_epi32(y01, low, y23), _mm512_permutex2var_epi32(y01, high, y23)],
    )
}

/// The low and the high element of each word, as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn split(ty: MmaTy, w: __m512i) -> (__m512, __m512) {
    let mask = _mm512_set1_epi32(0xffff_0000u32 as i32);
    if ty == MmaTy::Bf16 {
        (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(w)), _mm512_castsi512_ps(_mm512_and_si512(w, mask)))
    } else {
        (
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(w)),
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(w))),
        )
    }
}

/// Runs the instruction; false when it is not one of those handled here.
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512cd")]
pub(crate) fn mma(r: &mut RegFile, m: &Mma) -> bool {
    match (m.a_ty, m.k) {
        (MmaTy::Bf16, 16) => run::<16>(r, m),
        (MmaTy::F16, 16) => run::<16>(r, m),
        (MmaTy::Bf16 | MmaTy::F16 | MmaTy::Tf32, 8) => run::<8>(r, m),
        (MmaTy::Tf32, 4) => run::<4>(r, m),
        _ => return false,
    }
    true
}

#[inline]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512cd")]
fn run<const K: usize>(r: &mut RegFile, m: &Mma) {
    let tf32 = m.a_ty == MmaTy::Tf32;
    let keep = _mm512_set1_epi32(!0x1fff);
    let mut a = [_mm512_setzero_ps(); K];
    // B as it lies in the fragments: column g, `per` consecutive values of k per register.
    let mut b = [0f32; 128];
    let per = if tf32 { 4 } else { 8 };
    for i in 0..K / per {
        let (x, y) = (row(r, m.a[2 * i]), row(r, m.a[2 * i + 1]));
        let w = columns(x, y);
        let v = row(r, m.b[i]);
        for t in 0..4 {
            if tf32 {
                a[4 * i + t] = _mm512_castsi512_ps(_mm512_and_si512(w[t], keep));
            } else {
                (a[8 * i + 2 * t], a[8 * i + 2 * t + 1]) = split(m.a_ty, w[t]);
            }
        }
        // SAFETY: 16 or 32 values per half, within 64 per register.
        unsafe {
            let p = b.as_mut_ptr().add(64 * i);
            if tf32 {
                _mm512_storeu_ps(
                    b.as_mut_ptr().add(32 * i),
                    _mm512_castsi512_ps(_mm512_and_si512(v[0], keep)),
                );
                _mm512_storeu_ps(
                    b.as_mut_ptr().add(32 * i + 16),
                    _mm512_castsi512_ps(_mm512_and_si512(v[1], keep)),
                );
            } else {
                for (h, v) in v.into_iter().enumerate() {
                    let (lo, hi) = (_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
                    for (q, half) in [lo, hi].into_iter().enumerate() {
                        let wide = if m.a_ty == MmaTy::Bf16 {
                            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
                        } else {
                            _mm512_cvtph_ps(half)
                        };
                        _mm512_storeu_ps(p.add(32 * h + 16 * q), wide);
                    }
                }
            }
        }
    }
    let (c0, c1, c2, c3) = (row(r, m.c[0]), row(r, m.c[1]), row(r, m.c[2]), row(r, m.c[3]));
    let (even, odd) = (columns(c0, c2), columns(c1, c3));
    let mut acc = [_mm512_setzero_ps(); 8];
    for t in 0..4 {
        acc[2 * t] = _mm512_castsi512_ps(even[t]);
        acc[2 * t + 1] = _mm512_castsi512_ps(odd[t]);
    }
    for (k, a) in a.iter().enumerate() {
        for (n, acc) in acc.iter_mut().enumerate() {
            let x = b[k / per * 8 * per + n * per + k % per];
            *acc = _mm512_fmadd_ps(*a, _mm512_set1_ps(x), *acc);
        }
    }
    let nan = _mm512_set1_ps(f32::from_bits(NAN32));
    let mut out = [_mm512_setzero_si512(); 8];
    for (o, a) in out.iter_mut().zip(acc) {
        let bad = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        *o = _mm512_castps_si512(_mm512_mask_mov_ps(a, bad, nan));
    }
    let (d0, d2) = lanes([out[0], out[2], out[4], out[6]]);
    let (d1, d3) = lanes([out[1], out[3], out[5], out[7]]);
    put(r, m.d[0], d0);
    put(r, m.d[1], d1);
    put(r, m.d[2], d2);
    put(r, m.d[3], d3);
}
