//! Plans and tile programs against graphs that say the same: folds must not depend on the block size, ragged blocks
//! not on what lies beyond the extent.

use std::sync::Arc;

use crate::common::{Rng, seed};
use tilewright_ir::eval::{
    Domain, EvalError, F64, Rounded, Symbols, Tensor, eval_function, eval_plan, eval_tile,
};
use tilewright_ir::text::{parse_module, parse_plans, parse_tiles};

/// One-pass masked softmax-weighted mean: the graph says it in four steps.
const GRAPH: &str = "
symbol kv: 0..=100
graph @f(q: f32[h=2, i=5, d=3] input, k: f32[g=1, j=kv, d] input, v: f32[g, j, e=4] input) {
    s[h,i,j]: f32 = where(j <= i + 2 and j != 4, sum[d](q[h,i,d] * k[0,j,d]), -inf)
    m[h,i]: f32 = max(max[j](s[h,i,j]), -3e38)
    p[h,i,j]: f32 = exp(s[h,i,j] - m[h,i])
    o[h,i,e]: f32 = sum[j](p[h,i,j] * v[0,j,e]) * inv(max(sum[j](p[h,i,j]), 1e-30))
    return o
}";

const PLAN: &str = "
symbol kv: 0..=100
plan @f(q: f32[h=2, i=5, d=3] input, k: f32[g=1, j=kv, d] input, v: f32[g, j, e=4] input) {
    s[h,i,j]: f32 = where(j <= i + 2 and j != 4, sum[d](q[h,i,d] * k[0,j,d]), -inf)
    m[h,i]: f32 = max(max[j](s[h,i,j]), -3e38)
    p[h,i,j]: f32 = exp(s[h,i,j] - m[h,i])
    o[h,i,e]: f32 = sum[j](p[h,i,j] * v[0,j,e]) * inv(max(sum[j](p[h,i,j]), 1e-30))
    temps 7
    return o
    kernel @o over [h,i,e] {
        t0[h,i,j] = reduce sum[d] q[h,i,d] * k[0,j,d]
        t1[h,i,j] = where(j <= i + 2 and j != 4, t0, -inf)
        t2[h,i] = block max[j] t1
        t3[h,i] = running max[j] t2
        t4[h,i,j] = exp(t1 - t2)
        t5[h,i] = block sum[j] t4
        t6[h,i,e] = block sum[j] t4 * v[0,j,e]
        t7[h,i] = fold sum[j] t5 moves t7 * exp(t2 - t3) tracks [t2 -> t3]
        t8[h,i,e] = fold sum[j] t6 moves t8 * exp(t2 - t3) tracks [t2 -> t3]
        store o[h,i,e] over [h,i,e] = t8 * inv(max(t7, 1e-30))
    }
}";

fn random(rng: &mut Rng, dims: &[usize]) -> Tensor<f64> {
    Tensor::from_fn(dims, |_| rng.real() * 4.0)
}

fn assert_close(what: &str, got: &Tensor<f64>, want: &Tensor<f64>, tolerance: f64) {
    assert_eq!(got.dims, want.dims, "{what}");
    for (i, (g, w)) in got.data.iter().zip(&want.data).enumerate() {
        assert!((g - w).abs() <= tolerance * w.abs().max(1.0), "{what}: element {i} is {g}, should be {w}");
    }
}

#[test]
fn folds_do_not_depend_on_the_block_size() {
    let module = parse_module(GRAPH).unwrap_or_else(|e| panic!("{}", e.render("graph", GRAPH)));
    let plans = parse_plans(PLAN).unwrap_or_else(|e| panic!("{}", e.render("plan", PLAN)));
    let f = module.functions.values().next().unwrap();
    let mut rng = Rng(seed());
    for kv in [0, 1, 2, 7, 13] {
        let symbols: Symbols = [kv as u64].into_iter().collect();
        let inputs: Vec<_> = [vec![2, 5, 3], vec![1, kv, 3], vec![1, kv, 4]]
            .iter()
            .map(|d| Arc::new(random(&mut rng, d)))
            .collect();
        let want = eval_function(&F64, f, &symbols, inputs.clone()).unwrap();
        for block in [1, 2, 3, 5, 8, 64] {
            let got = eval_plan(&F64, &plans.plans[0], &symbols, inputs.clone(), block).unwrap();
            assert_close(&format!("kv {kv} block {block}"), &got.results[0], &want.results[0], 1e-12);
            let got = eval_plan(&Rounded, &plans.plans[0], &symbols, inputs.clone(), block).unwrap();
            assert_close(&format!("rounded, kv {kv} block {block}"), &got.results[0], &want.results[0], 1e-5);
        }
    }
    // Without its action the result depends on the blocks: the evaluator would notice.
    let wrong = PLAN.replace(" * exp(t2 - t3)", "");
    let wrong = parse_plans(&wrong).unwrap();
    let symbols: Symbols = [13].into_iter().collect();
    let inputs: Vec<_> = [vec![2, 5, 3], vec![1, 13, 3], vec![1, 13, 4]]
        .iter()
        .map(|d| Arc::new(random(&mut rng, d)))
        .collect();
    let want = eval_function(&F64, f, &symbols, inputs.clone()).unwrap();
    let got = eval_plan(&F64, &wrong.plans[0], &symbols, inputs, 2).unwrap();
    let differ = got.results[0].data.iter().zip(&want.results[0].data).any(|(g, w)| (g - w).abs() > 1e-3);
    assert!(differ);
}

/// Two kernels with a value between them, and a state that is updated and read.
#[test]
fn kernels_pass_values_and_update_states() {
    let graph = "
symbol past: 0..=3
graph @f(x: f32[i=1, c=5] input, w: f32[n=3, c] weight, cache: f32[p=4, n] state) {
    y[i,n]: f32 = sum[c](x[i,c] * w[n,c])
    new[p,n]: f32 = update cache over [i,n] at [size(past) + i, n] with y[i,n] * 2
    z[i]: f32 = sum[p,n](new[p,n])
    return z, y
}";
    let plan = "
symbol past: 0..=3
plan @f(x: f32[i=1, c=5] input, w: f32[n=3, c] weight, cache: f32[p=4, n] state) {
    y[i,n]: f32 = sum[c](x[i,c] * w[n,c])
    new[p,n]: f32 = update cache over [i,n] at [size(past) + i, n] with y[i,n] * 2
    z[i]: f32 = sum[p,n](new[p,n])
    temps 6
    v6[n]: f32 = param input
    return z, y
    kernel @a over [i,n] {
        t0[i,n] = reduce sum[c] x[i,c] * w[n,c]
        store y[i,n] over [i,n] = t0
        store new[size(past) + i, n] over [i,n] = t0 * 2
    }
    kernel @b over [n] {
        t0[n] = block sum[p] new[p,n]
        t1[n] = running sum[p] t0
        store v6[n] over [n] = t1
    }
    kernel @c over [i] {
        t0[] = reduce sum[n] v6[n]
        store z[i] over [i] = t0
    }
}";
    let module = parse_module(graph).unwrap_or_else(|e| panic!("{}", e.render("graph", graph)));
    let plans = parse_plans(plan).unwrap_or_else(|e| panic!("{}", e.render("plan", plan)));
    let f = module.functions.values().next().unwrap();
    let mut rng = Rng(seed());
    for past in 0..=3u64 {
        let symbols: Symbols = [past].into_iter().collect();
        let inputs: Vec<_> =
            [vec![1, 5], vec![3, 5], vec![4, 3]].iter().map(|d| Arc::new(random(&mut rng, d))).collect();
        let want = eval_function(&F64, f, &symbols, inputs.clone()).unwrap();
        let got = eval_plan(&F64, &plans.plans[0], &symbols, inputs, 3).unwrap();
        for (g, w) in got.results.iter().zip(&want.results) {
            assert_close("result", g, w, 1e-12);
        }
        assert_close("state", &got.states[0].1, &want.states[0].1, 1e-12);
    }
}

/// The same as `PLAN`, as a tile program with ragged blocks everywhere and NaN beyond the keys.
const TILES: &str = "
symbol kv: 0..=100
tile @o warps 1 {
    axis h=2 block 1 grid
    axis i=5 block 4 grid
    axis d=3 block 4 resident
    axis e=4 block 4 resident
    axis j=kv block 4 loop
    buffer p0 q: f32[2, 5, 3]
    buffer p1 k: f32[1, kv, 3]
    buffer p2 v: f32[1, kv, 4]
    buffer p3 o: f32[2, 5, 4] written
    tile0[i,d]: f32
    tile1[j,d]: f32
    tile2[i,j]: f32
    tile3[i,j]: f32
    tile4[i]: f32
    tile5[i]: f32
    tile6[i]: f32
    tile7[i]: f32
    tile8[i,j]: f32
    tile9[i]: f32
    tile10[j,e]: f32
    tile11[i]: f32
    tile12[i,e]: f32
    tile13[i]: f32
    tile14[i,e]: f32
    tile15[i,e]: f32
    tile16[i]: f32
    tile17[i,e]: f32
    tile18[i]: f32
    tile19[i,e]: f32
    tile20[i,e]: f32
    tile21[i,e]: f32
    tile22[i]: f32
    tile0 = load p0[h,i,d] if i < size(5) and d < size(3) else 0
    tile4 = -3e38
    tile11 = 0
    tile12 = 0
    loop j carry [tile4 -> tile5 -> tile7 -> tile16, tile11 -> tile13 -> tile18 -> tile9, tile12 -> tile14 -> tile17 -> tile15] {
        tile1 = load p1[0,j,d] if j < size(kv) and d < size(3) else 0
        tile2 = dot fma tile0 tile1 over [d]
        tile3 = where(j <= i + 2 and j != 4 and j < size(kv), tile2, -inf)
        tile6 = reduce max[j] tile3
        tile7 = max(tile5, tile6)
        tile8 = exp(tile3 - tile7)
        tile10 = load p2[0,j,e] if j < size(kv) else 0
        tile19 = dot fma tile8 tile10 over [j]
        tile20 = tile14 * exp(tile5 - tile7)
        tile17 = dot fma tile8 tile10 over [j] + tile20
        tile22 = reduce sum[j] tile8
        tile18 = tile13 * exp(tile5 - tile7) + tile22
    }
    tile21 = tile15 * inv(max(tile9, 1e-30))
    store p3[h,i,e] = tile21 if i < size(5)
}";

#[test]
fn tile_programs_mean_what_graphs_mean() {
    let module = parse_module(GRAPH).unwrap();
    let file = parse_tiles(TILES).unwrap_or_else(|e| panic!("{}", e.render("tiles", TILES)));
    let f = module.functions.values().next().unwrap();
    let mut rng = Rng(seed());
    for kv in [0, 1, 4, 5, 13] {
        let symbols: Symbols = [kv as u64].into_iter().collect();
        let inputs: Vec<_> =
            [vec![2, 5, 3], vec![1, kv, 3], vec![1, kv, 4]].iter().map(|d| random(&mut rng, d)).collect();
        let want = eval_function(&F64, f, &symbols, inputs.iter().cloned().map(Arc::new).collect()).unwrap();
        let mut buffers = inputs.clone();
        buffers.push(Tensor { dims: vec![2, 5, 4], data: vec![F64.undefined(); 40] });
        let got = eval_tile(&F64, &file.programs[0], &symbols, buffers).unwrap_or_else(|e| panic!("{e}"));
        assert_close(&format!("kv {kv}"), &got[3], &want.results[0], 1e-12);
    }
    // A mask that lets a ragged block out of its buffer is an error that names the buffer.
    let wrong =
        TILES.replace("if j < size(kv) and d < size(3) else 0", "if j <= size(kv) and d < size(3) else 0");
    let wrong = parse_tiles(&wrong).unwrap();
    let symbols: Symbols = [5].into_iter().collect();
    let buffers = [vec![2, 5, 3], vec![1, 5, 3], vec![1, 5, 4], vec![2, 5, 4]];
    let buffers = buffers.iter().map(|d| random(&mut rng, d)).collect();
    let e = eval_tile(&F64, &wrong.programs[0], &symbols, buffers).unwrap_err();
    assert!(matches!(&e, EvalError::OutOfBounds { dim: 1, extent: 5, .. }), "{e}");
    assert!(e.to_string().contains("load of p1 `k`"), "{e}");
}

/// An accumulator with the loop axis among its own, gathers, integers, masks on stores, batched dots.
#[test]
fn tiles_of_loop_axes_and_gathers() {
    let text = "
tile @t warps 1 {
    axis n=3 block 2 grid
    axis k=11 block 4 loop
    buffer p0 x: f32[11]
    buffer p1 w: bf16[7, 11]
    buffer p2 ids: i32[3]
    buffer p3 y: f32[3] written
    tile0[k]: f32
    tile1[n,k]: f32
    tile2[n,k]: f32
    tile3[n,k]: f32
    tile4[n,k]: f32
    tile5[n]: i32
    tile6[n]: f32
    tile7[n,k]: f32
    tile5 = load p2[n] if n < size(3) else -1
    tile1 = 0
    loop k carry [tile1 -> tile2 -> tile3 -> tile7] {
        tile0 = load p0[k] if k < size(11) else 0
        tile4 = load p1[tile5, k] if k < size(11) and tile5 >= 0 else 0
        tile3 = tile2 + tile0 * tile4
    }
    tile6 = reduce sum[k] tile7
    store p3[n] = tile6 if n < size(3)
}";
    let file = parse_tiles(text).unwrap_or_else(|e| panic!("{}", e.render("tiles", text)));
    let mut rng = Rng(seed());
    let (x, w) = (random(&mut rng, &[11]), random(&mut rng, &[7, 11]));
    let ids = [6usize, 0, 6];
    let want: Vec<f64> =
        ids.iter().map(|&r| (0..11).map(|k| x.data[k] * w.data[r * 11 + k]).sum::<f64>()).collect();
    let ids = Tensor { dims: vec![3], data: ids.iter().map(|&i| i as f64).collect() };
    let y = Tensor { dims: vec![3], data: vec![f64::NAN; 3] };
    let got = eval_tile(&F64, &file.programs[0], &Symbols::new(), vec![x, w, ids, y]).unwrap();
    assert_close("gathered", &got[3], &Tensor { dims: vec![3], data: want }, 1e-12);
}
