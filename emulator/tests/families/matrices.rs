//! What: `ldmatrix` and `stmatrix`, alone and around an mma.
//! Why here: a product that goes from shared memory to shared memory needs no table of fragments in its oracle.
//! Pre: none.
//! Post: exact.

use crate::common::{Arg, Machine, Rng};
use half::f16;

/// A kernel of one warp: copies 2048 bytes to shared memory, reads two addresses per lane, runs `body`, and copies
/// shared memory back.
fn kernel(body: &str) -> String {
    let copies = |st: &str| -> String { (0..16).map(|i| st.replace("AT", &(128 * i).to_string())).collect() };
    format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 p) {{
         .shared .align 128 .b8 sh[2048]; .reg .b32 %r<30>, %a<4>, %b<4>, %d<4>; .reg .b64 %rd<9>;
         ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [p]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 4;
         add.u64 %rd1, %rd1, %rd3; mov.u32 %r2, sh; shl.b32 %r3, %r1, 2; add.u32 %r3, %r3, %r2;
         {}
         mul.wide.u32 %rd4, %r1, 16; add.u64 %rd2, %rd2, %rd4;
         ld.global.v4.u32 {{%r10, %r11, %r12, %r13}}, [%rd2];
         add.u32 %r10, %r10, %r2; add.u32 %r11, %r11, %r2; add.u32 %r12, %r12, %r2;
         bar.sync 0;
         {body}
         bar.sync 0;
         {} ret; }}",
        copies("ld.global.u32 %r5, [%rd1+AT]; st.shared.u32 [%r3+AT], %r5;\n"),
        copies("ld.shared.u32 %r5, [%r3+AT]; st.global.u32 [%rd1+AT], %r5;\n"),
    )
}

fn run(body: &str, memory: &[u16], addresses: &[[u32; 4]]) -> Vec<u16> {
    let mut m = Machine::new(&kernel(body));
    let flat: Vec<u32> = addresses.iter().flatten().copied().collect();
    let (x, p) = (m.put("x", memory), m.put("p", &flat));
    m.run("k", 1, 32, &[Arg::Ptr(x), Arg::Ptr(p)]);
    m.get(x, 1024)
}

/// Element `i` of a matrix in a fragment register, by lane: row lane / 4, columns 2 (lane % 4) and the next.
fn element(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4, 2 * (lane % 4) + i)
}

#[test]
fn loads_and_stores_of_all_forms() {
    let mut g = Rng::new(41);
    for (count, n) in [("x1", 1), ("x2", 2), ("x4", 4)] {
        for trans in ["", ".trans"] {
            for space in [".shared", ".shared::cta"] {
                // Rows of 16 bytes at distinct random places.
                let mut places: Vec<usize> = (0..64).collect();
                (0..64).for_each(|i| places.swap(i, g.below(64) as usize));
                let memory: Vec<u16> = (0..1024).map(|_| g.u32() as u16).collect();
                let lane = |l: usize| [places[l] as u32 * 16, places[32 + l] as u32 * 16, 0, 0];
                let addresses: Vec<[u32; 4]> = (0..32).map(lane).collect();
                let list = ["%a0", "%a1", "%a2", "%a3"][..n].join(", ");
                let got = run(
                    &format!(
                        "ldmatrix.sync.aligned.m8n8.{count}{trans}{space}.b16 {{{list}}}, [%r10];
                         stmatrix.sync.aligned.m8n8.{count}{space}.b16 [%r11], {{{list}}};"
                    ),
                    &memory,
                    &addresses,
                );
                let back = run(
                    &format!(
                        "ldmatrix.sync.aligned.m8n8.{count}{space}.b16 {{{list}}}, [%r10];
                         stmatrix.sync.aligned.m8n8.{count}{trans}{space}.b16 [%r11], {{{list}}};"
                    ),
                    &memory,
                    &addresses,
                );
                let mut want = memory.clone();
                for m in 0..n {
                    for (r, c) in (0..8).flat_map(|r| (0..8).map(move |c| (r, c))) {
                        let (from_r, from_c) = if trans.is_empty() { (r, c) } else { (c, r) };
                        want[places[32 + 8 * m + r] * 8 + c] = memory[places[8 * m + from_r] * 8 + from_c];
                    }
                }
                assert!(got == want, "ldmatrix {count}{trans}{space}");
                assert!(back == want, "stmatrix {count}{trans}{space}");
            }
        }
    }
}

#[test]
fn fragments_of_a_load() {
    let mut g = Rng::new(42);
    let memory: Vec<u16> = (0..1024).map(|_| g.u32() as u16).collect();
    let addresses: Vec<[u32; 4]> = (0..32).map(|l| [16 * l, 0, 0, 0]).collect();
    for trans in ["", ".trans"] {
        // Each lane writes its four registers behind the matrices.
        let got = run(
            &format!(
                "ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%a0, %a1, %a2, %a3}}, [%r10];
                 shl.b32 %r6, %r1, 4; add.u32 %r6, %r6, %r2; st.shared.v4.u32 [%r6+1024], {{%a0, %a1, %a2, %a3}};"
            ),
            &memory,
            &addresses,
        );
        for lane in 0..32 {
            for (m, i) in (0..4).flat_map(|m| [(m, 0), (m, 1)]) {
                let (r, c) = element(lane, i);
                let (r, c) = if trans.is_empty() { (r, c) } else { (c, r) };
                assert_eq!(got[512 + 8 * lane + 2 * m + i], memory[64 * m + 8 * r + c], "lane {lane}{trans}");
            }
        }
    }
}

/// A 16 x 16 times 16 x 8 product whose operands come by ldmatrix and whose result goes by stmatrix; `a` and `b`
/// are the orders in which the registers are given to the mma. The answer is the number of wrong elements.
fn product(a_regs: &str, b_regs: &str, b_rows: bool, seed: u64) -> usize {
    let mut g = Rng(seed * 31 + 7);
    let mut draw = |n: usize| -> Vec<i32> { (0..n).map(|_| g.below(9) as i32 - 4).collect() };
    let (a, b) = (draw(256), draw(128));
    // A in rows of 24 elements from 0; B from element 400, by rows (k) of 8 or by columns (n) of 24; D from 800.
    let mut memory = vec![0u16; 1024];
    let code = |v: i32| f16::from_f32(v as f32).to_bits();
    for (r, k) in (0..16).flat_map(|r| (0..16).map(move |k| (r, k))) {
        memory[24 * r + k] = code(a[16 * r + k]);
    }
    for (k, n) in (0..16).flat_map(|k| (0..8).map(move |n| (k, n))) {
        memory[if b_rows { 400 + 8 * k + n } else { 400 + 24 * n + k }] = code(b[8 * k + n]);
    }
    let addresses: Vec<[u32; 4]> = (0..32u32)
        .map(|l| {
            let (matrix, row) = (l / 8, l % 8);
            let at_a = 24 * (row + 8 * (matrix % 2)) + 8 * (matrix / 2);
            let at_b =
                if b_rows { 400 + 8 * (row + 8 * (matrix % 2)) } else { 400 + 24 * row + 8 * (matrix % 2) };
            let at_d = 800 + 8 * (row + 8 * (matrix % 2));
            [2 * at_a, 2 * at_b, 2 * at_d, 0]
        })
        .collect();
    let trans = if b_rows { ".trans" } else { "" };
    let got = run(
        &format!(
            "mov.u32 %d0, 0; mov.u32 %d1, 0;
             ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%a0, %a1, %a2, %a3}}, [%r10];
             ldmatrix.sync.aligned.m8n8.x2{trans}.shared.b16 {{%b0, %b1}}, [%r11];
             mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {{%d0, %d1}}, {{{a_regs}}}, {{{b_regs}}}, {{%d0, %d1}};
             stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r12], {{%d0, %d1}};"
        ),
        &memory,
        &addresses,
    );
    let want = |r: usize, n: usize| (0..16).map(|k| a[16 * r + k] * b[8 * k + n]).sum::<i32>();
    (0..128).filter(|i| f16::from_bits(got[800 + i]).to_f32() != want(i / 8, i % 8) as f32).count()
}

#[test]
fn products_from_shared_memory_to_shared_memory() {
    for seed in 0..20 {
        for b_rows in [false, true] {
            assert_eq!(product("%a0, %a1, %a2, %a3", "%b0, %b1", b_rows, seed), 0, "seed {seed}, {b_rows}");
        }
    }
    for (a, b) in [
        ("%a1, %a0, %a2, %a3", "%b0, %b1"),
        ("%a0, %a2, %a1, %a3", "%b0, %b1"),
        ("%a0, %a1, %a2, %a3", "%b1, %b0"),
        ("%a3, %a1, %a2, %a0", "%b0, %b1"),
    ] {
        assert!(product(a, b, true, 1) > 64, "{a} {b} went unnoticed");
    }
}
