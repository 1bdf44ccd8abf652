//! What: calls: structs by value, tables of functions, virtual functions, pointers that lead nowhere or back.
//! Why here: functions have static frames, and pointers decide at run time which of them are used.
//! Pre: tests/ptx/calls.ptx.
//! Post: exact; what cannot run is refused with its reason.

use crate::common::{Arg, Machine, Rng};
use tilewright_emulator::Program;

const PTX: &str = include_str!("../ptx/calls.ptx");
const N: usize = 101;

fn numbers(seed: u64) -> Vec<i32> {
    let mut g = Rng::new(seed);
    (0..N).map(|_| g.below(2001) as i32 - 1000).collect()
}

#[test]
fn structs_by_value() {
    let mut m = Machine::new(PTX);
    let x: Vec<f32> = (0..5 * N).map(|i| i as f32).collect();
    let (px, py) = (m.put("x", &x), m.zeros::<f32>("y", 5 * N));
    m.run("structs", 2, 64, &[Arg::Ptr(px), Arg::Ptr(py), Arg::I32(N as i32)]);
    let shifted =
        |v: [f32; 5], by: usize| -> [f32; 5] { std::array::from_fn(|i| v[(i + by) % 5] + by as f32) };
    for (i, y) in m.get::<f32>(py, 5 * N).chunks(5).enumerate() {
        let v = std::array::from_fn(|j| x[5 * i + j]);
        assert_eq!(y, shifted(shifted(v, i % 5), 1), "element {i}");
    }
}

#[test]
fn tables_of_functions() {
    let mut m = Machine::new(PTX);
    let x = numbers(1);
    let (px, py) = (m.put("x", &x), m.zeros::<i32>("y", N));
    m.run("pointers", 2, 64, &[Arg::Ptr(px), Arg::Ptr(py), Arg::I32(N as i32)]);
    for (i, y) in m.get::<i32>(py, N).into_iter().enumerate() {
        let n = i as i32;
        let f = |a: i32, b: i32| match i % 3 {
            _ if x[i] < 0 => a * b,
            0 => a + b,
            1 => a - b,
            _ => a * b,
        };
        assert_eq!(y, f(x[i], 7 * n) + if i & 1 == 1 { f(n, 2) } else { 0 }, "element {i}");
    }
}

#[test]
fn virtual_functions() {
    let mut m = Machine::new(PTX);
    let x = numbers(2);
    let (px, py) = (m.put("x", &x), m.zeros::<i32>("y", N));
    m.run("virtuals", 2, 64, &[Arg::Ptr(px), Arg::Ptr(py), Arg::I32(N as i32)]);
    for (i, y) in m.get::<i32>(py, N).into_iter().enumerate() {
        let square = |s: i32| s * s + i as i32;
        let want = if x[i] & 1 == 1 { 20 * square(x[i] + 1) + 1 } else { 10 * square(x[i]) + 4 };
        assert_eq!(y, want, "element {i}");
    }
}

#[test]
fn a_function_within_itself_is_refused() {
    let mut m = Machine::new(PTX);
    let (no, yes, y) = (m.put("no", &[0i32]), m.put("yes", &[1i32]), m.zeros::<i32>("y", 32));
    m.run("endless", 1, 32, &[Arg::Ptr(no), Arg::Ptr(y)]);
    assert_eq!(m.get::<i32>(y, 32)[31], 2 * 4 * 4);
    // Deeper, the same function would need a second frame.
    let e = m.try_run("endless", 1, 32, &[Arg::Ptr(yes), Arg::Ptr(y)]).unwrap_err().to_string();
    assert!(e.contains("area") && e.contains("recursion is not supported"), "{e}");
}

#[test]
fn a_wild_pointer_is_refused() {
    let mut m = Machine::new(PTX);
    let y = m.zeros::<i32>("y", 32);
    let e = m.try_run("wild", 1, 32, &[Arg::Ptr(y), Arg::Ptr(0x1234)]).unwrap_err().to_string();
    assert!(e.contains("names no function of this signature (0x1234)"), "{e}");
}

fn with_calls(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\
         .func (.param .b32 r) inc(.param .b32 a) {{ .reg .b32 %r<3>; ld.param.b32 %r1, [a]; add.u32 %r1, %r1, 1;\n\
         st.param.b32 [r], %r1; ret; }}\n\
         .func (.param .b32 r) dec(.param .b32 a) {{ .reg .b32 %r<3>; ld.param.b32 %r1, [a]; sub.u32 %r1, %r1, 1;\n\
         st.param.b32 [r], %r1; ret; }}\n\
         .global .u64 both[2] = {{inc, dec}};\n\
         .visible .entry k(.param .u64 o) {{ .reg .pred %p; .reg .b32 %r<9>; .reg .b64 %rd<9>; .param .b32 a, r;\n\
         ld.param.u64 %rd1, [o]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd1, %rd1, %rd2;\n\
         st.param.b32 [a], %r1; setp.lt.u32 %p, %r1, 10; mov.u64 %rd3, inc; @%p mov.u64 %rd3, dec;\n{body}\n\
         ld.param.b32 %r2, [r]; st.global.u32 [%rd1], %r2; ret; }}\n"
    )
}

#[test]
fn lists_of_targets() {
    for body in [
        "T: .calltargets inc, dec; call (r), %rd3, (a), T;",
        "call (r), %rd3, (a), both;",
        "P: .callprototype (.param .b32 _) _ (.param .b32 _); call.uni (r), %rd3, (a), P;",
        // The argument itself is a register, and the call has a guard.
        "st.param.b32 [r], -7; P: .callprototype (.param .b32 _) _ (.param .b32 _);
         setp.ne.u32 %p, %r1, 20; @%p call (r), %rd3, (%r1), P;",
    ] {
        let mut m = Machine::new(&with_calls(body));
        let o = m.zeros::<u32>("o", 32);
        m.run("k", 1, 32, &[Arg::Ptr(o)]);
        for (t, v) in m.get::<u32>(o, 32).into_iter().enumerate() {
            let t = t as u32;
            let want = match t {
                20 if body.contains('@') => u32::MAX - 6,
                0..10 => t.wrapping_sub(1),
                _ => t + 1,
            };
            assert_eq!(v, want, "thread {t} of {body}");
        }
    }
}

#[test]
fn refusals_say_why() {
    for (body, want) in [
        ("call (r), %rd3, (a), nowhere;", "no `.callprototype` or `.calltargets` under `nowhere`"),
        ("T: .calltargets missing; call (r), %rd3, (a), T;", "no body of function `missing`"),
        ("T: .calltargets inc; call %rd3, (a), T;", "take 1 arguments and give 1 results"),
        ("call (r), %rd3, (a);", "wants a prototype"),
        ("call (r), malloc, (a);", "no body of function `malloc`"),
    ] {
        let e = Program::parse(&with_calls(body)).unwrap_err();
        assert!(e.message.contains(want), "{body}: {e}");
        assert_eq!(e.line, 12, "{body}: {e}");
    }
    let cycle = ".version 8.0\n.target sm_80\n.address_size 64\n.func f();\n.func g() { call f; ret; }\n\
                 .func f() { call g; ret; }\n.entry k() { call f; ret; }";
    let e = Program::parse(cycle).unwrap_err();
    assert!(e.message.contains("g calls f calls g") || e.message.contains("f calls g calls f"), "{e}");
}
