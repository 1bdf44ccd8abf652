//! Random equations: tile programs, interpreted in f64, against a direct evaluation that shares no code with the compiler.

use std::sync::Arc;

use crate::common::Rng;
use crate::common::grammar::{Case, case};
use crate::steps::{Buffers, launch};
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::Value;
use tilewright_ir::eval::{F64, Interval, Range, Tensor, bind_symbols, eval_function, sizes};
use tilewright_ir::graph::Module;
use tilewright_ir::step::BufferKind;
use tilewright_passes::{Options, PassError, compile_module};

fn run(c: &Case) -> Result<(), String> {
    let mut given = Given::default();
    for (name, dtype, dims, _) in &c.inputs {
        let dims: Vec<u64> = dims.iter().map(|&d| d as u64).collect();
        given = given.with(name, *dtype, &dims);
    }
    let outputs: Vec<String> = c.outputs.iter().map(|o| o.0.clone()).collect();
    let module = parse_equations(&c.text, &given, &outputs).map_err(|e| format!("parse: {e:?}"))?;
    let compiled = match compile_module(&module, &Options::default()) {
        Ok(c) => c,
        Err(PassError::Limit(l)) => return Err(format!("limit: {l}")),
        Err(e) => return Err(e.to_string()),
    };
    let symbols = bind_symbols(&module.symbols, &[]).map_err(|e| e.to_string())?;
    let mut buffers = Buffers::new();
    for (b, data) in &compiled.step.buffers {
        let dims = sizes(&data.dims, &symbols);
        let given = c.inputs.iter().find(|i| i.0 == data.name && data.kind == BufferKind::Input);
        let t = match given {
            Some(i) => Tensor::new(&dims, i.3.clone()).map_err(|e| e.to_string())?,
            None => Tensor::from_fn(&dims, |_| f64::NAN),
        };
        buffers.insert(b, t);
    }
    launch(&F64, &compiled.step, &compiled.programs, &symbols, &mut buffers)
        .map_err(|(name, e)| format!("{name}: {e}"))?;
    for (name, _, want) in &c.outputs {
        let (b, _) = compiled
            .step
            .buffers
            .iter()
            .find(|(_, d)| d.name == *name && d.kind == BufferKind::Output)
            .ok_or_else(|| format!("no output {name}"))?;
        let got = &buffers[&b].data;
        for (n, (g, w)) in got.iter().zip(want).enumerate() {
            let close = g == w || (g - w).abs() <= 1e-6 * w.abs().max(1.0) || (g.is_nan() && w.is_nan());
            if !close {
                let what = if rounding(&module, c, name, n, [*g, *w]) { "untold" } else { "wrong" };
                return Err(format!("{what}: {name} at {n} is {g}, not {w}"));
            }
        }
    }
    Ok(())
}

/// Whether rounding alone may tell these numbers apart: what the equations say, bounded with all errors of f64, holds them all.
fn rounding(module: &Module, c: &Case, output: &str, at: usize, found: [f64; 2]) -> bool {
    let Some(function) = module.functions.values().next() else { return false };
    let Ok(symbols) = bind_symbols(&module.symbols, &[]) else { return false };
    let given = |v: &Value| {
        let (_, _, dims, data) = c.inputs.iter().find(|i| i.0 == function.values[*v].name)?;
        Some(Arc::new(Tensor::new(dims, data.iter().map(|&x| Range::point(x)).collect()).ok()?))
    };
    let Some(params) = function.params().map(|v| given(&v)).collect() else { return false };
    let Ok(bounds) = eval_function(&Interval, function, &symbols, params) else { return false };
    let result = function.results.iter().position(|&v| function.values[v].name == output);
    let bound = result.and_then(|n| bounds.results[n].data.get(at));
    bound.is_some_and(|b| found.iter().all(|&x| b.contains(x)) && *b != Range::ALL)
}

#[test]
fn random_equations_mean_what_they_say() {
    let count: usize = std::env::var("CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(300);
    let mut rng = Rng::fresh("random equations");
    let (mut refused, mut untold, mut wrong) = (0, 0, 0);
    for n in 0..count {
        let c = case(&mut rng);
        if std::env::var("ECHO").is_ok() {
            println!("{}\n", c.text);
        }
        // One case of a run that is replayed.
        if std::env::var("ONLY").is_ok_and(|only| only != n.to_string()) {
            continue;
        }
        match run(&c) {
            Ok(()) => {}
            Err(e) if e.starts_with("limit") => {
                println!("case {n}: {e}\n{}", c.text);
                refused += 1;
            }
            Err(e) => {
                println!("case {n}: {e}\n{}", c.text);
                for (name, _, _, data) in &c.inputs {
                    println!("{name} is {:?}", &data[..data.len().min(64)]);
                }
                println!();
                if e.starts_with("untold") {
                    untold += 1;
                } else {
                    wrong += 1;
                }
            }
        }
    }
    println!("{count} cases, {refused} refused, {untold} not told from rounding, {wrong} wrong");
    assert_eq!(wrong, 0);
    assert!(untold * 1000 <= count.max(1000));
    assert!(refused * 100 < 3 * count);
}
