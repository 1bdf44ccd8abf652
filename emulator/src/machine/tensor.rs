//! What: `mma.sync`.
//! Why here: fragments are unpacked into small dense matrices, multiplied by vector code and packed again.
//! Pre: all 32 lanes execute it; shapes were checked by the decoder.
//! Post: products of 16-bit and narrower types are exact; sums are in f32 (or exact for integers).
#![allow(unsafe_code)] // Dispatch to the instruction-set tier that was detected.

use crate::inst::{Mma, MmaAcc, MmaTy};
use crate::lanes::{RegFile, tier};
use crate::numeric::half::{bf16_to_f32, e4m3_to_f32, e5m2_to_f32, f16_to_f32, f32_to_f16};

/// Runs one `mma.sync`.
#[inline(always)]
pub(crate) fn mma(r: &mut RegFile, m: &Mma) {
    if let Some(columns) = m.quads {
        return quads(r, m, columns);
    }
    if m.acc == MmaAcc::F32 {
        #[cfg(target_arch = "x86_64")]
        match tier() {
            // SAFETY: the tier was detected on this host.
            2 => return unsafe { f32_512(r, m) },
            // SAFETY: as above.
            1 => return unsafe { f32_256(r, m) },
            _ => {}
        }
        return f32_body(r, m);
    }
    other(r, m);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
unsafe fn f32_256(r: &mut RegFile, m: &Mma) {
    f32_body(r, m);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512cd")]
unsafe fn f32_512(r: &mut RegFile, m: &Mma) {
    if !super::tensor512::mma(r, m) {
        f32_body(r, m);
    }
}

/// Elements of one fragment register: rows g = lane / 4 of 4 e elements each.
#[inline(always)]
fn unpack(row: &[u32; 32], ty: MmaTy, out: &mut [f32; 128]) -> usize {
    match ty {
        MmaTy::Bf16 => {
            for l in 0..32 {
                out[2 * l] = bf16_to_f32(row[l] as u16);
                out[2 * l + 1] = bf16_to_f32((row[l] >> 16) as u16);
            }
            8
        }
        MmaTy::F16 => {
            for l in 0..32 {
                out[2 * l] = f16_to_f32(row[l] as u16);
                out[2 * l + 1] = f16_to_f32((row[l] >> 16) as u16);
            }
            8
        }
        MmaTy::Tf32 => {
            for l in 0..32 {
                out[l] = f32::from_bits(row[l] & !0x1fff);
            }
            4
        }
        _ => {
            for l in 0..32 {
                for j in 0..4 {
                    let b = (row[l] >> (8 * j)) as u8;
                    out[4 * l + j] = match ty {
                        MmaTy::E4m3 => e4m3_to_f32(b),
                        MmaTy::E5m2 => e5m2_to_f32(b),
                        MmaTy::S8 => f32::from(b as i8),
                        _ => f32::from(b),
                    };
                }
            }
            16
        }
    }
}

/// A as rows of k; B transposed to k rows of 8.
#[inline(always)]
fn fragments(r: &mut RegFile, m: &Mma, a: &mut [[f32; 32]; 16], b: &mut [[f32; 8]; 32]) {
    let halves = usize::from(m.m / 8);
    let mut e = [0f32; 128];
    for i in 0..usize::from(m.counts[0]) {
        let n = unpack(r.row::<u32>(m.a[i]), m.a_ty, &mut e);
        let (row0, k0) = (i % halves * 8, i / halves * n);
        for g in 0..8 {
            a[row0 + g][k0..k0 + n].copy_from_slice(&e[g * n..g * n + n]);
        }
    }
    for i in 0..usize::from(m.counts[1]) {
        let n = unpack(r.row::<u32>(m.b[i]), m.b_ty, &mut e);
        for k in 0..n {
            for g in 0..8 {
                b[i * n + k][g] = e[g * n + k];
            }
        }
    }
}

#[inline(always)]
fn f32_body(r: &mut RegFile, m: &Mma) {
    let mut a = [[0f32; 32]; 16];
    let mut b = [[0f32; 8]; 32];
    fragments(r, m, &mut a, &mut b);
    match m.k {
        // Constant trip counts.
        16 => product::<16>(r, m, &a, &b),
        8 => product::<8>(r, m, &a, &b),
        4 => product::<4>(r, m, &a, &b),
        _ => product::<32>(r, m, &a, &b),
    }
}

#[inline(always)]
fn product<const K: usize>(r: &mut RegFile, m: &Mma, a: &[[f32; 32]; 16], b: &[[f32; 8]; 32]) {
    let mut c = [[0f32; 8]; 16];
    for h in 0..2 {
        let (x, y) = (*r.row::<f32>(m.c[2 * h]), *r.row::<f32>(m.c[2 * h + 1]));
        for g in 0..8 {
            for t in 0..4 {
                c[8 * h + g][2 * t] = x[4 * g + t];
                c[8 * h + g][2 * t + 1] = y[4 * g + t];
            }
        }
    }
    for (c, a) in c.iter_mut().zip(a) {
        let mut acc = *c;
        for k in 0..K {
            for n in 0..8 {
                acc[n] = a[k].mul_add(b[k][n], acc[n]);
            }
        }
        *c = acc;
    }
    for h in 0..2 {
        let (mut x, mut y) = ([0f32; 32], [0f32; 32]);
        for g in 0..8 {
            for t in 0..4 {
                x[4 * g + t] = crate::numeric::canon(c[8 * h + g][2 * t]);
                y[4 * g + t] = crate::numeric::canon(c[8 * h + g][2 * t + 1]);
            }
        }
        *r.row::<f32>(m.d[2 * h]) = x;
        *r.row::<f32>(m.d[2 * h + 1]) = y;
    }
}

/// The accumulators that are not hot: f16, s32 and f64.
fn other(r: &mut RegFile, m: &Mma) {
    if m.acc == MmaAcc::F64 {
        return doubles(r, m);
    }
    let rows = usize::from(m.m);
    let k = usize::from(m.k);
    let mut a = [[0f32; 32]; 16];
    let mut b = [[0f32; 8]; 32];
    fragments(r, m, &mut a, &mut b);
    if m.acc == MmaAcc::F16 {
        let old: [[u32; 32]; 2] = std::array::from_fn(|h| *r.row::<u32>(m.c[h.min(rows / 8 - 1)]));
        for (h, c) in old.iter().enumerate().take(rows / 8) {
            let mut d = [0u32; 32];
            for l in 0..32 {
                let (g, t) = (l / 4, l % 4);
                for j in 0..2 {
                    let mut s = f16_to_f32((c[l] >> (16 * j)) as u16);
                    for k in 0..k {
                        s = a[8 * h + g][k].mul_add(b[k][2 * t + j], s);
                    }
                    d[l] |= u32::from(f32_to_f16(s)) << (16 * j);
                }
            }
            *r.row::<u32>(m.d[h]) = d;
        }
        return;
    }
    // All of C is read before D is written: their rows may overlap in another order.
    let old: [[i32; 32]; 4] = std::array::from_fn(|i| *r.row::<i32>(m.c[i.min(rows / 4 - 1)]));
    for h in 0..rows / 8 {
        for j in 0..2 {
            let mut c = old[2 * h + j];
            for (l, c) in c.iter_mut().enumerate() {
                let (g, t) = (l / 4, l % 4);
                // 32 products of 8-bit values are exact in an i64.
                let sum: i64 = (0..k).map(|k| a[8 * h + g][k] as i64 * b[k][2 * t + j] as i64).sum();
                *c = if m.saturate {
                    (i64::from(*c) + sum).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
                } else {
                    c.wrapping_add(sum as i32)
                };
            }
            *r.row::<i32>(m.d[2 * h + j]) = c;
        }
    }
}

/// f64: A holds 8 rows and 4 columns per register, B 4 rows, D two neighbours of a row per pair of registers.
fn doubles(r: &mut RegFile, m: &Mma) {
    let (rows, k) = (usize::from(m.m), usize::from(m.k));
    let halves = rows / 8;
    let (mut a, mut b) = ([[0f64; 16]; 16], [[0f64; 8]; 16]);
    for i in 0..usize::from(m.counts[0]) {
        let row = *r.row::<f64>(m.a[i]);
        for (l, v) in row.into_iter().enumerate() {
            a[l / 4 + 8 * (i % halves)][l % 4 + 4 * (i / halves)] = v;
        }
    }
    for i in 0..usize::from(m.counts[1]) {
        let row = *r.row::<f64>(m.b[i]);
        for (l, v) in row.into_iter().enumerate() {
            b[l % 4 + 4 * i][l / 4] = v;
        }
    }
    let n = usize::from(m.counts[2]);
    let mut c: [[f64; 32]; 4] = std::array::from_fn(|i| *r.row::<f64>(m.c[i.min(n - 1)]));
    for (i, c) in c.iter_mut().enumerate().take(n) {
        for (l, c) in c.iter_mut().enumerate() {
            let (row, col) = (l / 4 + 8 * (i / 2), 2 * (l % 4) + i % 2);
            for k in 0..k {
                *c = a[row][k].mul_add(b[k][col], *c);
            }
        }
    }
    for (i, c) in c.iter().enumerate().take(n) {
        *r.row::<f64>(m.d[i]) = *c;
    }
}

/// Four products of 8 x 8 x 4 in f16: lanes 4 q to 4 q + 3 and those 16 above work on the q-th.
fn quads(r: &mut RegFile, m: &Mma, [a_columns, b_columns]: [bool; 2]) {
    let read = |r: &mut RegFile, regs: &[u32]| -> [[u32; 32]; 2] { [*r.row(regs[0]), *r.row(regs[1])] };
    let (a, b) = (read(r, &m.a), read(r, &m.b));
    let n = usize::from(m.counts[2]);
    let half = m.acc == MmaAcc::F16;
    let old: [[u32; 32]; 8] = std::array::from_fn(|i| *r.row::<u32>(m.c[i.min(n - 1)]));
    let mut new = [[0u32; 32]; 8];
    // Element j of a lane's fragment.
    let at =
        |f: &[[u32; 32]; 2], lane: usize, j: usize| f16_to_f32((f[j / 2][lane] >> (16 * (j % 2))) as u16);
    for lane in 0..32 {
        let (quad, low, high) = (lane % 16 / 4 * 4, lane % 4, lane / 16);
        // The lane that holds the i-th row or column of eight.
        let holder = |i: usize| quad + i % 4 + 16 * (i / 4);
        let av = |row: usize, k: usize| {
            if a_columns { at(&a, quad + k + 16 * (row / 4), row % 4) } else { at(&a, holder(row), k) }
        };
        let bv = |k: usize, col: usize| {
            if b_columns { at(&b, holder(col), k) } else { at(&b, quad + k + 16 * (col / 4), col % 4) }
        };
        for i in 0..8 {
            let (row, col) = if half {
                (low + 4 * high, i)
            } else {
                ((low & 1) + (i & 2) + 4 * high, (i & 4) + (low & 2) + (i & 1))
            };
            let c = if half || m.c_half {
                let from = if half { (lane, i) } else { (holder(row), col) };
                f16_to_f32((old[from.1 / 2][from.0] >> (16 * (from.1 % 2))) as u16)
            } else {
                f32::from_bits(old[i][lane])
            };
            let d = (0..4).fold(c, |s, k| av(row, k).mul_add(bv(k, col), s));
            if half {
                new[i / 2][lane] |= u32::from(f32_to_f16(d)) << (16 * (i % 2));
            } else {
                new[i][lane] = crate::numeric::canon(d).to_bits();
            }
        }
    }
    for (i, d) in new.iter().enumerate().take(n) {
        *r.row::<u32>(m.d[i]) = *d;
    }
}
