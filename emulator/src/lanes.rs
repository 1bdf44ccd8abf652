//! What: the register file of a warp and the trampolines that run a scalar function over its 32 lanes.
//! Why here: this is the hot loop. A closure over scalars becomes a loop over rows, compiled once per
//! instruction-set tier, so a binary built for baseline x86-64 still uses AVX2, FMA and AVX-512 where present.
//! Pre: row offsets and widths were checked by the decoder and the register allocator (`RegFile::new` holds
//! every row of its kernel).
//! Post: only the lanes of the mask change; a lane function has no effect but its result.
#![allow(unsafe_code)] // Unchecked row access and per-tier function pointers; the decoder proves the bounds.

use crate::inst::{Inst, NONE};
use std::sync::OnceLock;

/// A lane-wise instruction body. Unsafe to call: the rows of the instruction must lie in the register file,
/// and the host must have the instruction-set tier it was picked for.
pub(crate) type AluFn = unsafe fn(&mut RegFile, &Inst, u32);

/// Scalars that rows hold.
pub(crate) trait Elem: Copy + Default + 'static {}
impl Elem for u16 {}
impl Elem for i16 {}
impl Elem for u32 {}
impl Elem for i32 {}
impl Elem for u64 {}
impl Elem for i64 {}
impl Elem for f32 {}
impl Elem for f64 {}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u32; 16]);

/// The registers of one warp: rows of 32 lanes, and predicates as one bit per lane.
pub(crate) struct RegFile {
    lines: Vec<Line>,
    pub(crate) preds: Vec<u32>,
}

impl RegFile {
    /// A register file of `words` 32-bit words and `preds` predicates, all zero.
    pub(crate) fn new(words: u32, preds: u32) -> RegFile {
        RegFile { lines: vec![Line([0; 16]); (words as usize).div_ceil(16)], preds: vec![0; preds as usize] }
    }
    /// All rows.
    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: lines are words without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16) }
    }
    #[inline(always)]
    pub(crate) fn ptr(&mut self, off: u32) -> *mut u32 {
        debug_assert!(off as usize <= self.lines.len() * 16);
        // SAFETY: offsets come from the allocator that sized this file.
        unsafe { self.lines.as_mut_ptr().cast::<u32>().add(off as usize) }
    }
    /// The row at `off`. Rows are 64-byte aligned.
    #[inline(always)]
    pub(crate) fn row<T: Elem>(&mut self, off: u32) -> &mut [T; 32] {
        // SAFETY: as `ptr`; the allocator gives each row the words of its width, aligned to a line, and any
        // bit pattern is a value of T.
        unsafe { &mut *self.ptr(off).cast::<[T; 32]>() }
    }
    /// Stores the lanes of `mask`.
    #[inline(always)]
    pub(crate) fn store<T: Elem>(&mut self, off: u32, v: &[T; 32], mask: u32) {
        let d = self.row::<T>(off);
        if mask == u32::MAX {
            *d = *v;
        } else {
            for l in 0..32 {
                d[l] = if mask >> l & 1 != 0 { v[l] } else { d[l] };
            }
        }
    }
    #[inline(always)]
    pub(crate) fn pred(&self, slot: u32) -> u32 {
        // SAFETY: slots are counted by the decoder that sized `preds`.
        unsafe { *self.preds.get_unchecked(slot as usize) }
    }
    #[inline(always)]
    pub(crate) fn set_pred(&mut self, slot: u32, v: u32, mask: u32) {
        if slot != NONE {
            // SAFETY: as `pred`.
            let p = unsafe { self.preds.get_unchecked_mut(slot as usize) };
            *p = *p & !mask | v & mask;
        }
    }
}

/// 0 = baseline, 1 = AVX2 and FMA, 2 = AVX-512.
pub(crate) fn tier() -> usize {
    static TIER: OnceLock<usize> = OnceLock::new();
    *TIER.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
                && std::arch::is_x86_feature_detected!("bmi2")
                && std::arch::is_x86_feature_detected!("lzcnt")
                && std::arch::is_x86_feature_detected!("popcnt")
                && std::arch::is_x86_feature_detected!("f16c")
            {
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512cd")
                {
                    return 2;
                }
                return 1;
            }
        }
        0
    })
}

/// Conjures the function that a trampoline runs.
#[inline(always)]
fn conjure<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "lane functions capture nothing") };
    // SAFETY: F has size zero and a value of it existed (the trampoline's constructor took one).
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// Defines a trampoline constructor: the body once per tier, and the pick at decode time.
macro_rules! trampoline {
    ($(#[$doc:meta])* $name:ident<$($t:ident),*>($($f:tt)*) = |$rf:ident, $i:ident, $mask:ident, $fun:ident| $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name<$($t: Elem,)* F: $($f)* + Copy + 'static>(_f: F) -> AluFn {
            #[inline(always)]
            unsafe fn body<$($t: Elem,)* F: $($f)* + Copy + 'static>($rf: &mut RegFile, $i: &Inst, $mask: u32) {
                let $fun = conjure::<F>();
                $body
            }
            unsafe fn t0<$($t: Elem,)* F: $($f)* + Copy + 'static>(r: &mut RegFile, i: &Inst, m: u32) {
                // SAFETY: the caller keeps the contract of `AluFn`.
                unsafe { body::<$($t,)* F>(r, i, m) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
            unsafe fn t1<$($t: Elem,)* F: $($f)* + Copy + 'static>(r: &mut RegFile, i: &Inst, m: u32) {
                // SAFETY: the caller keeps the contract of `AluFn`.
                unsafe { body::<$($t,)* F>(r, i, m) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512cd")]
            unsafe fn t2<$($t: Elem,)* F: $($f)* + Copy + 'static>(r: &mut RegFile, i: &Inst, m: u32) {
                // SAFETY: the caller keeps the contract of `AluFn`.
                unsafe { body::<$($t,)* F>(r, i, m) }
            }
            #[cfg(target_arch = "x86_64")]
            match tier() {
                2 => return t2::<$($t,)* F>,
                1 => return t1::<$($t,)* F>,
                _ => {}
            }
            t0::<$($t,)* F>
        }
    };
}

trampoline! {
    /// d = f(a).
    un<A, R>(Fn(A) -> R) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let mut r = [R::default(); 32];
        for l in 0..32 { r[l] = f(a[l]); }
        rf.store(i.d, &r, mask);
    }
}
trampoline! {
    /// d = f(a, b).
    bin<A, B, R>(Fn(A, B) -> R) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<B>(i.b);
        let mut r = [R::default(); 32];
        for l in 0..32 { r[l] = f(a[l], b[l]); }
        rf.store(i.d, &r, mask);
    }
}
trampoline! {
    /// d = f(a, b, c).
    ter<A, B, C, R>(Fn(A, B, C) -> R) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<B>(i.b);
        let c = *rf.row::<C>(i.c);
        let mut r = [R::default(); 32];
        for l in 0..32 { r[l] = f(a[l], b[l], c[l]); }
        rf.store(i.d, &r, mask);
    }
}
trampoline! {
    /// d = f(a, b, c, old d): for four-operand instructions whose last operand was moved into d.
    quad<A, B, C, R>(Fn(A, B, C, R) -> R) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<B>(i.b);
        let c = *rf.row::<C>(i.c);
        let mut r = *rf.row::<R>(i.d);
        for l in 0..32 { r[l] = f(a[l], b[l], c[l], r[l]); }
        rf.store(i.d, &r, mask);
    }
}
trampoline! {
    /// Predicate d = f(a, b).
    cmp<A>(Fn(A, A) -> bool) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<A>(i.b);
        let mut m = 0u32;
        for l in 0..32 { m |= u32::from(f(a[l], b[l])) << l; }
        rf.set_pred(i.d, m, mask);
    }
}
trampoline! {
    /// Predicate d = f(a).
    test<A>(Fn(A) -> bool) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let mut m = 0u32;
        for l in 0..32 { m |= u32::from(f(a[l])) << l; }
        rf.set_pred(i.d, m, mask);
    }
}
trampoline! {
    /// d = f(a, b, predicate c).
    select<A, R>(Fn(A, A, bool) -> R) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<A>(i.b);
        let p = rf.pred(i.c);
        let mut r = [R::default(); 32];
        for l in 0..32 { r[l] = f(a[l], b[l], p >> l & 1 != 0); }
        rf.store(i.d, &r, mask);
    }
}
trampoline! {
    /// d = f(a, b, carry), where the carry is predicate slot 0; the carry changes as the function says.
    carry<A>(Fn(A, A, bool) -> (A, bool)) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<A>(i.b);
        let p = rf.pred(0);
        let mut r = [A::default(); 32];
        let mut q = 0u32;
        for l in 0..32 {
            let (v, c) = f(a[l], b[l], p >> l & 1 != 0);
            r[l] = v;
            q |= u32::from(c) << l;
        }
        rf.store(i.d, &r, mask);
        rf.set_pred(0, q, mask);
    }
}
trampoline! {
    /// d = f(a, b, c, carry), as `carry`.
    carry3<A>(Fn(A, A, A, bool) -> (A, bool)) = |rf, i, mask, f| {
        let a = *rf.row::<A>(i.a);
        let b = *rf.row::<A>(i.b);
        let c = *rf.row::<A>(i.c);
        let p = rf.pred(0);
        let mut r = [A::default(); 32];
        let mut q = 0u32;
        for l in 0..32 {
            let (v, o) = f(a[l], b[l], c[l], p >> l & 1 != 0);
            r[l] = v;
            q |= u32::from(o) << l;
        }
        rf.store(i.d, &r, mask);
        rf.set_pred(0, q, mask);
    }
}
