//! `tilewright jit`: equations to kernels, run on arrays.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tilewright::artifacts::Stage;
use tilewright::check::{check_outputs, worst};
use tilewright::frontend::equations::{Declared, declarations};
use tilewright::report::Traffic;
use tilewright::spec::{Assignment, is_name};
use tilewright::{Array, Compiler, DType, Error, Module, Toolchain};
use tilewright_ir::Extent;
use tilewright_ir::step::BufferKind;
use tilewright_runtime::npy::{self, NpyType};

use crate::cli::args::{Emit, JitArgs};
use crate::cli::ui::Ui;

/// Compiles; runs when there are inputs, or when none are needed.
pub(crate) fn run(args: &JitArgs, ui: &Ui, toolchain: &Toolchain) -> Result<(), Error> {
    if args.emit.contains(&Emit::Cubin) {
        return Err(Error::Usage("`--emit cubin` is for `compile -e EQUATIONS -o DIR`".into()));
    }
    if args.emit.contains(&Emit::EgraphDot) {
        return Err(Error::Usage("`--emit egraph-dot` is for `compile -e EQUATIONS`".into()));
    }
    let outputs = args.outputs.iter().map(|o| parse_output(o)).collect::<Result<Vec<_>, _>>()?;
    super::distinct("--in", args.inputs.iter().map(|a| a.name.as_str()))?;
    super::distinct("--out", outputs.iter().map(|(name, _)| name.as_str()))?;
    let files: Vec<String> =
        outputs.iter().filter_map(|(_, path)| Some(path.as_ref()?.display().to_string())).collect();
    super::distinct("--out", files.iter().map(String::as_str))?;
    super::distinct("--set", args.symbols.iter().map(|s| s.name.as_str()))?;
    let equations = &args.equations;
    let declared = declarations(equations).map_err(|d| Error::text("equations", equations, d))?;
    let inputs = args.inputs.iter().map(|a| read_input(a, &declared)).collect::<Result<Vec<_>, _>>()?;

    let (bar, listener) = super::progress(ui);
    let mut compiler = Compiler::equations(&args.equations)
        .outputs(outputs.iter().map(|(name, _)| name.as_str()))
        .toolchain(toolchain.clone())
        .device(super::device(&args.device)?)
        .target(args.target.clone())
        .listener(listener);
    let (weights, inputs): (Vec<_>, Vec<_>) =
        inputs.into_iter().partition(|(name, _)| declared.iter().any(|d| d.constant && d.name == *name));
    for (name, array) in &inputs {
        compiler = compiler.given(name, array.dtype, &array.dims);
    }
    for (name, array) in &weights {
        compiler = compiler.weight(name, array.clone());
    }
    let module = compiler.compile()?;
    drop(bar);
    super::tell_notes(ui, &module);

    let stages: Vec<Stage> = args.emit.iter().map(|&e| e.into()).collect();
    let emitted = super::compile::print(&module, &stages)?;
    let step = &module.phases()[0].planned.compiled.step;
    let needs_inputs = step.buffers.values().any(|b| b.kind == BufferKind::Input);
    let needs_weights =
        weights.is_empty() && step.buffers.values().any(|b| matches!(b.kind, BufferKind::Weight(_)));
    let (mut value, mut text) = if inputs.is_empty() && (needs_inputs || needs_weights) {
        if let Some((name, _)) = outputs.iter().find(|(_, path)| path.is_some()) {
            return Err(Error::Usage(format!("`--out {name}=...` needs inputs: add `--in NAME=FILE`")));
        }
        if let Some(symbol) = args.symbols.first() {
            return Err(Error::Usage(format!(
                "`--set {}=...` needs inputs: add `--in NAME=FILE`",
                symbol.name
            )));
        }
        (compiled(&module), super::kernel_table(&module))
    } else {
        ran(&module, args, &inputs, &weights, &outputs)?
    };
    if !emitted.is_empty() {
        let files = emitted.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
        value["emitted"] = Value::Object(files.collect::<Map<_, _>>());
        let stages = emitted.iter().map(|(name, t)| format!("; ---- {name}\n{}", t.trim_end()));
        text = stages.chain([text]).collect::<Vec<_>>().join("\n\n");
    }
    ui.result(&value, || text);
    Ok(())
}

/// `NAME` or `NAME=FILE`.
fn parse_output(text: &str) -> Result<(String, Option<PathBuf>), Error> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) if !path.is_empty() => (name, Some(PathBuf::from(path))),
        Some(_) => return Err(Error::Usage(format!("`--out {text}` names no file"))),
        None => (text, None),
    };
    if !is_name(name) {
        return Err(Error::Usage(format!("`--out {text}`: `{name}` is no name")));
    }
    Ok((name.to_owned(), path))
}

/// Reads an array; 16-bit words are bf16 where the equations say so.
fn read_input(input: &Assignment, declared: &[Declared]) -> Result<(String, Array), Error> {
    let file = npy::read(&input.path)?;
    let own = declared.iter().find(|d| d.name == input.name);
    let declared = own.and_then(|d| d.dtype).filter(|&d| d == DType::Bf16 && file.dtype == NpyType::Bits16);
    let dtype = file.dtype.resolve(declared, &input.path)?;
    Ok((input.name.clone(), Array { dtype, dims: file.dims, data: file.data }))
}

/// The result of a compilation alone.
fn compiled(module: &Module) -> Value {
    let phase = &module.phases()[0];
    let step = &phase.planned.compiled.step;
    let outputs: Vec<Value> = step
        .buffers
        .values()
        .filter(|b| b.kind == BufferKind::Output)
        .map(|b| {
            let shape: Vec<Value> = b
                .dims
                .iter()
                .map(|d| match d {
                    Extent::Const(n) => json!(n),
                    Extent::Sym(s) => json!(step.symbols[*s].name),
                })
                .collect();
            json!({ "name": b.name, "dtype": b.dtype.name(), "shape": shape })
        })
        .collect();
    json!({
        "outputs": outputs,
        "device": module.device().kind().to_string(),
        "kernels": phase.kernels.len(),
        "launches": step.groups().len(),
        "hbm_bytes_over_floor": null,
        "report": tilewright::report::phase(phase),
    })
}

/// Runs, writes the outputs, and makes the result.
fn ran(
    module: &Module,
    args: &JitArgs,
    inputs: &[(String, Array)],
    weights: &[(String, Array)],
    outputs: &[(String, Option<PathBuf>)],
) -> Result<(Value, String), Error> {
    let symbols: Vec<(&str, i64)> = args.symbols.iter().map(|s| (s.name.as_str(), s.value)).collect();
    let arrays: Vec<(&str, &Array)> = inputs.iter().map(|(n, a)| (n.as_str(), a)).collect();
    let result = module.run_with(&symbols, &arrays)?;
    let phase = &module.phases()[0];
    let step = &phase.planned.compiled.step;
    let mut traffic = Traffic::default();
    traffic.add_run(step, &result.launches);

    let mut value = json!({
        "outputs": result.outputs.iter().map(|(name, array)| {
            json!({ "name": name, "dtype": array.dtype.name(), "shape": array.dims })
        }).collect::<Vec<_>>(),
        "device": module.device().kind().to_string(),
        "kernels": phase.kernels.len(),
        "launches": result.launches.len(),
        "tensor_flops": traffic.tensor_flops_total(),
        "hbm_bytes_over_floor": traffic.over_floor(),
    });
    let mut text: Vec<String> = result.outputs.iter().map(|(name, array)| show(name, array)).collect();
    if args.check {
        let all: Vec<(&str, &Array)> = inputs.iter().chain(weights).map(|(n, a)| (n.as_str(), a)).collect();
        let checks = check_outputs(&phase.planned.graph, &symbols, &all, &result)?;
        value["check"] = checks
            .iter()
            .map(|c| json!({ "name": c.name, "relative_error": c.error, "allowed": c.allowed }))
            .collect();
        if let Some(bad) = worst(&checks) {
            return Err(Error::Check(format!(
                "`{}` differs from the evaluator's by {:.2e} (relative), and {:.0e} is allowed",
                bad.name, bad.error, bad.allowed
            )));
        }
        let errors = checks.iter().map(|c| format!("{}: {:.2e}", c.name, c.error));
        text.push(format!("relative errors: {}", errors.collect::<Vec<_>>().join(", ")));
    }
    // All are written before the first one shows, so that a failure leaves none.
    let mut staged = Vec::new();
    for (name, path) in outputs {
        if let (Some(path), Some(array)) = (path, result.output(name)) {
            staged.push(npy::Staged::new(path, array.dtype, &array.dims, &array.data)?);
        }
    }
    for file in staged {
        file.commit()?;
    }
    text.push(format!(
        "{} kernels, {} launches on {}, bytes / floor {}",
        phase.kernels.len(),
        result.launches.len(),
        module.device().name(),
        super::or_dash(traffic.over_floor().map(|x| format!("{x:.3}"))),
    ));
    Ok((value, text.join("\n")))
}

/// The first elements of an array.
fn show(name: &str, array: &Array) -> String {
    const MOST: usize = 8;
    let values = array.values();
    let shown: Vec<String> = values.iter().take(MOST).map(|v| format!("{v:.6}")).collect();
    let more = if values.len() > MOST { ", ..." } else { "" };
    format!("{name}: {}{:?} = [{}{more}]", array.dtype, array.dims, shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_names_and_maybe_files() {
        assert_eq!(parse_output("O").unwrap(), ("O".into(), None));
        assert_eq!(parse_output("O=a=b").unwrap(), ("O".into(), Some("a=b".into())));
        for bad in ["", "O=", "=x", "a b"] {
            assert!(parse_output(bad).is_err(), "{bad}");
        }
    }
}
