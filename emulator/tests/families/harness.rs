//! What: a kernel around a few instructions, run over rows of operands.
//! Why here: every family checks the same way: instructions in, one 64-bit result per row out, compared with a function of the host.
//! Pre: none.
//! Post: a mismatch names the instruction and its operands.

use crate::common::{Arg, EDGES32, Machine, Rng};

/// Runs `body` over rows of inputs `a`, `b`, `c` (as %rda, %rdb, %rdc; %ra, %fa, %ha, %fda hold the same bits)
/// and returns %rdo of each row.
pub(crate) fn run(body: &str, rows: &[[u64; 3]]) -> Vec<u64> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 o, .param .u32 n)\n\
         {{\n.reg .pred %p<9>;\n.reg .pred %q<9>;\n.reg .b16 %h<9>;\n.reg .b16 %ha;\n.reg .b16 %hb;\n.reg .b16 %hc;\n\
         .reg .b32 %r<9>;\n.reg .b32 %ra;\n.reg .b32 %rb;\n.reg .b32 %rc;\n.reg .b32 %ro;\n.reg .b64 %rd<9>;\n\
         .reg .b64 %rda;\n.reg .b64 %rdb;\n.reg .b64 %rdc;\n.reg .b64 %rdo;\n.reg .f32 %f<9>;\n.reg .f64 %fd<9>;\n\
         .reg .f32 %fa;\n.reg .f32 %fb;\n.reg .f32 %fc;\n.reg .f64 %fda;\n.reg .f64 %fdb;\n.reg .f64 %fdc;\n\
         .reg .b16 %ho;\n\
         ld.param.u64 %rd1, [x];\nld.param.u64 %rd2, [o];\nld.param.u32 %r3, [n];\n\
         mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmov.u32 %r0, %tid.x;\nmad.lo.u32 %r1, %r1, %r2, %r0;\n\
         setp.ge.u32 %p1, %r1, %r3;\n@%p1 bra END;\n\
         mul.wide.u32 %rd3, %r1, 24;\nadd.u64 %rd1, %rd1, %rd3;\n\
         ld.global.u64 %rda, [%rd1];\nld.global.u64 %rdb, [%rd1+8];\nld.global.u64 %rdc, [%rd1+16];\n\
         cvt.u32.u64 %ra, %rda;\ncvt.u32.u64 %rb, %rdb;\ncvt.u32.u64 %rc, %rdc;\n\
         cvt.u16.u64 %ha, %rda;\ncvt.u16.u64 %hb, %rdb;\ncvt.u16.u64 %hc, %rdc;\n\
         mov.b32 %fa, %ra;\nmov.b32 %fb, %rb;\nmov.b32 %fc, %rc;\nmov.b64 %fda, %rda;\nmov.b64 %fdb, %rdb;\n\
         mov.b64 %fdc, %rdc;\nmov.u64 %rdo, 0;\nmov.u32 %ro, 0;\nmov.u16 %ho, 0;\n\
         {{\n{body}\n}}\n\
         mul.wide.u32 %rd3, %r1, 8;\nadd.u64 %rd2, %rd2, %rd3;\nst.global.u64 [%rd2], %rdo;\nEND:\nret;\n}}\n"
    );
    let mut m = Machine::new(&ptx);
    let flat: Vec<u64> = rows.iter().flatten().copied().collect();
    let (x, o) = (m.put("x", &flat), m.zeros::<u64>("o", rows.len()));
    m.run("k", rows.len().div_ceil(96) as u32, 96, &[Arg::Ptr(x), Arg::Ptr(o), Arg::I32(rows.len() as i32)]);
    m.get(o, rows.len())
}

/// Edge and random operands; the upper words of 64-bit inputs are random or sign extensions.
pub(crate) fn rows(seed: u64) -> Vec<[u64; 3]> {
    let mut g = Rng::new(seed);
    let mut v = vec![];
    for a in EDGES32 {
        for b in EDGES32 {
            let wide = |x: u32, k: u64| {
                if k & 1 == 0 { x as i32 as i64 as u64 } else { u64::from(x) << 32 | u64::from(x) }
            };
            v.push([wide(a, g.next()), wide(b, g.next()), wide(EDGES32[g.below(24) as usize], g.next())]);
        }
    }
    v.extend((0..1500).map(|_| [g.next(), g.next(), g.next()]));
    // Floats of moderate size.
    v.extend((0..1500).map(|_| {
        let mut f = || u64::from((g.f64(-100.0, 100.0) as f32).to_bits());
        [f(), f(), f()]
    }));
    v
}

/// Checks one instruction that writes %ro.
pub(crate) fn check32(inst: &str, seed: u64, f: impl Fn(u32, u32, u32) -> u32) {
    let rows = rows(seed);
    let got = run(&format!("{inst}\ncvt.u64.u32 %rdo, %ro;"), &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = r.map(|v| v as u32);
        assert_eq!(g as u32, f(a, b, c), "{inst} of {a:#x} {b:#x} {c:#x}");
    }
}

/// As `check32` for f32 results, where any NaN equals any other.
pub(crate) fn checkf(inst: &str, seed: u64, f: impl Fn(f32, f32, f32) -> f32) {
    let rows = rows(seed);
    let got = run(&format!("{inst}\ncvt.u64.u32 %rdo, %ro;"), &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = r.map(|v| f32::from_bits(v as u32));
        let (g, w) = (f32::from_bits(g as u32), f(a, b, c));
        assert!(
            g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan(),
            "{inst} of {a:e} {b:e} {c:e} is {g:e}, not {w:e}"
        );
    }
}

pub(crate) fn check64(inst: &str, seed: u64, f: impl Fn(u64, u64, u64) -> u64) {
    let rows = rows(seed);
    let got = run(inst, &rows);
    for (r, g) in rows.iter().zip(got) {
        let [a, b, c] = *r;
        assert_eq!(g, f(a, b, c), "{inst} of {a:#x} {b:#x} {c:#x}");
    }
}

/// A predicate %p2 as a number.
pub(crate) fn checkp(inst: &str, seed: u64, f: impl Fn(u64, u64) -> bool) {
    check64(&format!("{inst}\nselp.u64 %rdo, 1, 0, %p2;"), seed, |a, b, _| u64::from(f(a, b)));
}
