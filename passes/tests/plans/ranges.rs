//! Streams that end where a mask ends: which bounds are found, that they change no result, and that what is beyond them is
//! not looked at.

use std::sync::Arc;

use crate::common::Rng;
use crate::steps::{launch, poisoned};
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::eval::{EvalError, F64, Symbols, Tensor, bind_symbols, eval_function, sizes};
use tilewright_ir::expr::Num;
use tilewright_ir::graph::{GlobalKind, Module};
use tilewright_ir::step::BufferKind;
use tilewright_ir::text::print_tile;
use tilewright_ir::tile::{Op, TileProgram};
use tilewright_ir::verify::verify_tile;
use tilewright_ir::{Axis, Ex, Expr};
use tilewright_passes::partition::CostModel;
use tilewright_passes::{Compiled, Options, compile_module};

fn compile(text: &str, options: &Options) -> (Module, Compiled) {
    let module = parse_equations(text, &Given::default(), &[]).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let compiled = compile_module(&module, options).unwrap_or_else(|e| panic!("{text}: {e}"));
    for p in &compiled.programs {
        verify_tile(p, &module.symbols).unwrap_or_else(|v| panic!("{text}: {v:?}"));
    }
    (module, compiled)
}

/// The ranges of the loops over `j`, as they are printed.
fn ranges(text: &str) -> Vec<String> {
    let (module, compiled) = compile(text, &Options::default());
    let mut out: Vec<String> = Vec::new();
    for p in &compiled.programs {
        for line in print_tile(p, &module.symbols).lines().map(str::trim) {
            let Some(rest) = line.strip_prefix("loop j") else { continue };
            let end = rest.find(" carry").or_else(|| rest.find(" {")).expect("a loop");
            out.push(rest[..end].trim().to_owned());
        }
    }
    out
}

const SOFTMAX: &str = "Q: f32[i=seq, d=32]; K: f32[j=kv, d=32]; V: f32[j, e=32]; seq in 1..512; kv in 1..512";

#[test]
fn bounds_are_those_of_the_predicates() {
    let masked = |mask: &str| {
        format!(
            "{SOFTMAX}; s[i,j] = where({mask}, sum[d](Q[i,d] * K[j,d]), -inf); O[i,e] = sum[j](softmax[j](s[i,j]) * V[j,e])"
        )
    };
    let mut wrong = Vec::new();
    for (mask, expected) in [
        ("j <= i", "to i + 1"),
        ("j < i + 3", "to 3 + i"),
        ("i >= j", "to i + 1"),
        ("not (j > i)", "to i + 1"),
        ("j >= i - 7", "from -7 + i"),
        ("j > i - 7 and j <= i", "from -7 + i + 1 to i + 1"),
        ("i - j < 7 and i - j >= 0", "from i + -7 + 1 to i + 1"),
        ("j == i", "from i to i + 1"),
        ("j <= i or j <= i", "to i + 1"),
        ("j < 100", "to 100"),
        ("j <= i and i < 9", "to min(i + 1, (9 - i) * 1073741824)"),
        // Blocks of two ends, a quotient, and a mask without an end.
        ("j <= i or j > 40", ""),
        ("j % 2 == 0", ""),
        ("j * 2 <= i", ""),
        ("i < 5 or j > 3", ""),
    ] {
        let text = masked(mask);
        let found = ranges(&text);
        assert!(!found.is_empty(), "{text} has no loop over j");
        if found.iter().any(|r| *r != expected) {
            wrong.push(format!("{mask}: {found:?}, not `{expected}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (body, expected) in [
        ("sum[j](where(j < n[i], x[j], 0))", true),
        ("sum[j](where(j < n[i], x[j], 1))", false),
        ("max[j](where(j < n[i], x[j], -inf))", true),
        ("max[j](where(j < n[i], x[j], 0))", false),
        ("min[j](where(j < n[i], x[j], inf))", true),
        ("min[j](where(j < n[i], x[j], -inf))", false),
        ("sum[j](exp(where(j < n[i], x[j], -inf)))", true),
        ("sum[j](where(j < n[i], x[j], 0) * x[j] + where(j < n[i], 1, 0))", true),
        ("sum[j](where(j < n[i], x[j], 0) + x[j])", false),
        ("sum[j](where(j < n[i], 0, x[j]))", true),
    ] {
        let text = format!("x: f32[j=kv]; n: i32[i=8]; kv in 1..100000; O[i] = {body}");
        let found = ranges(&text);
        assert!(!found.is_empty(), "{text} has no loop over j");
        assert_eq!(found.iter().all(|r| !r.is_empty()), expected, "{text}: {found:?}");
    }
}

/// Runs the programs on inputs.
fn run(
    compiled: &Compiled,
    programs: &[TileProgram],
    symbols: &Symbols,
    inputs: &[(String, Tensor<f64>)],
) -> Result<Vec<f64>, EvalError> {
    let mut buffers = poisoned(&compiled.step, symbols, inputs);
    launch(&F64, &compiled.step, programs, symbols, &mut buffers).map_err(|(_, e)| e)?;
    let (out, _) =
        compiled.step.buffers.iter().find(|(_, d)| d.kind == BufferKind::Output).expect("an output");
    Ok(buffers[&out].data.clone())
}

/// Changes the bounds of all loops; says whether there were any.
fn change(body: &mut [Op], with: &dyn Fn(&Ex, bool, Axis) -> Ex) -> bool {
    let mut any = false;
    for op in body {
        let Op::Loop { axis, range, body, .. } = op else { continue };
        for (bound, upper) in [(&mut range.from, false), (&mut range.to, true)] {
            if let Some(e) = bound {
                *e = with(e, upper, *axis);
                any = true;
            }
        }
        any |= change(body, with);
    }
    any
}

/// The programs with bounds that are so many blocks tighter.
fn moved(programs: &[TileProgram], blocks: i64) -> Option<Vec<TileProgram>> {
    let mut out = programs.to_vec();
    let mut any = false;
    for p in &mut out {
        let axes = p.axes.clone();
        let shift = |e: &Ex, upper: bool, axis: Axis| {
            let by = blocks * i64::from(axes[axis].block);
            let by = Num(if upper { -by } else { by } as f64);
            Ex::new(Expr::Binary(tilewright_ir::Binary::Add, e.clone(), Ex::new(Expr::Num(by))))
        };
        any |= change(&mut p.body, &shift);
    }
    any.then_some(out)
}

/// A condition on `j` with `i`, `b`, lengths from memory and a symbol, as text and as a function.
fn condition(rng: &mut Rng, depth: usize) -> String {
    let end = |rng: &mut Rng| {
        let plus = rng.below(400) as i64 - 30;
        match rng.below(6) {
            0 => format!("i + {plus}"),
            1 => format!("n[b] + {plus}"),
            2 => format!("i + n[b] + {plus}"),
            3 => format!("size(past) + i + {plus}"),
            4 => format!("{} - i", plus + 100),
            _ => format!("2 * i + b * {plus}"),
        }
    };
    let end = end(rng);
    let simple = match rng.below(9) {
        0 => format!("j <= {end}"),
        1 => format!("j < {end}"),
        2 => format!("j >= {end}"),
        3 => format!("j > {end}"),
        4 => format!("({end}) - j > 0"),
        5 => format!("not (j >= {end})"),
        6 => format!("j - ({end}) >= -{}", rng.below(50)),
        7 => format!("i < {}", rng.below(20)),
        _ => format!("j == {end}"),
    };
    if depth > 0 && rng.below(3) > 0 {
        let op = if rng.below(4) == 0 { "or" } else { "and" };
        return format!("(({simple}) {op} ({}))", condition(rng, depth - 1));
    }
    format!("({simple})")
}

/// Random predicates at random sizes: with ranges and without them the results are those of the equations; where bounds
/// are a block too tight they are not, and memory beyond the bounds is not looked at.
#[test]
fn ranges_change_nothing_and_are_tight() {
    let mut rng = Rng::fresh("ranges");
    let count: usize = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(120);
    let idle = Options {
        cost: CostModel { launch: 0.0, processors: 1e9, ..CostModel::default() },
        ..Options::default()
    };
    let (mut bounded, mut tight, mut sums, mut saved) = (0, 0, 0, 0);
    for case in 0..count {
        let mask = condition(&mut rng, 2);
        let head = "n: i32[b=3]; x: f32[b, j=kv, e=4]; y: f32[b, i=seq, j]; axis p=past; seq in 1..100; kv in 1..600; past in 0..50";
        let kind = rng.below(4);
        let body = match kind {
            0 => format!("O[b,i,e] = sum[j](where({mask}, y[b,i,j], 0) * x[b,j,e])"),
            1 => format!("O[b,i,e] = max[j](where({mask}, y[b,i,j] + x[b,j,e], -inf))"),
            2 => format!("O[b,i,e] = min[j](max(where({mask}, y[b,i,j], inf), x[b,j,e]))"),
            _ => format!("O[b,i,e] = sum[j](softmax[j](where({mask}, y[b,i,j], -inf)) * x[b,j,e])"),
        };
        let body = body.replace("size(past)", "size(p)");
        let text = format!("{head}; {body}");
        let options = if rng.below(2) == 0 { idle.clone() } else { Options::default() };
        let (module, compiled) = compile(&text, &options);
        let named: Vec<(String, u64)> = module
            .symbols
            .values()
            .map(|s| {
                let most = if s.name == "kv" { 599 } else { 30 };
                (s.name.clone(), s.min + rng.below(most) as u64)
            })
            .collect();
        let values: Vec<(&str, u64)> = named.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let symbols = bind_symbols(&module.symbols, &values).expect("symbols");
        let inputs: Vec<(String, Tensor<f64>)> = module
            .globals
            .values()
            .filter(|g| g.kind == GlobalKind::Input)
            .map(|g| {
                let dims = sizes(&g.dims, &symbols);
                let t = Tensor::from_fn(&dims, |_| match g.dtype.is_int() {
                    // Lengths below 0 and beyond the end too.
                    true => rng.below(700) as f64 - 50.0,
                    false => rng.real(),
                });
                (g.name.clone(), t)
            })
            .collect();
        let function = module.functions.values().next().expect("a function");
        let params = inputs.iter().map(|(_, t)| Arc::new(t.clone())).collect();
        let want = eval_function(&F64, function, &symbols, params).expect("source").results[0].data.clone();
        let close = |found: &[f64]| {
            found.iter().zip(&want).all(|(f, w)| f == w || (f - w).abs() <= 1e-9 * w.abs().max(1.0))
        };
        let found = run(&compiled, &compiled.programs, &symbols, &inputs).expect("it runs");
        assert!(close(&found), "case {case} at {values:?}: {text}");
        let Some(shifted) = moved(&compiled.programs, 1) else { continue };
        bounded += 1;
        let wide = moved(&compiled.programs, -10_000).expect("ranges");
        let whole = run(&compiled, &wide, &symbols, &inputs).expect("it runs");
        assert!(close(&whole), "case {case} without ranges at {values:?}: {text}");
        tight += usize::from(!close(&run(&compiled, &shifted, &symbols, &inputs).expect("it runs")));
        if (1..3).contains(&kind) {
            // A maximum does not look at what is not a number.
            continue;
        }
        sums += 1;
        // Where a predicate leaves nothing of any row, what is not a number may be there.
        let mut poisoned = inputs.clone();
        let kv = named.iter().find(|s| s.0 == "kv").map_or(0, |s| s.1) as usize;
        let poison = poisoned.iter_mut().find(|i| i.0 == "x").expect("x");
        let from = kv.saturating_sub(64);
        for (at, x) in poison.1.data.iter_mut().enumerate() {
            if at / 4 % kv >= from {
                *x = f64::NAN;
            }
        }
        let far = run(&compiled, &compiled.programs, &symbols, &poisoned).expect("it runs");
        let without = run(&compiled, &wide, &symbols, &poisoned).expect("it runs");
        let numbers = |all: &[f64]| all.iter().filter(|x| !x.is_nan()).count();
        saved += usize::from(numbers(&far) > numbers(&without));
        let same =
            far.iter().zip(&found).all(|(f, w)| f.is_nan() || (f - w).abs() <= 1e-9 * w.abs().max(1.0));
        assert!(same, "case {case}: what is left out counts");
    }
    println!(
        "{bounded} of {count} have bounds, {tight} of these notice tighter ones; {saved} of {sums} read less"
    );
    assert!(
        bounded * 3 > count && tight * 10 > bounded && saved * 20 > sums,
        "{bounded} {tight} {sums} {saved}"
    );
}
