//! Prints the plans of a model's config: `cargo run -p tilewright-passes --example model -- CONFIG decode|prefill bf16|f32 [full]`.
#![allow(clippy::print_stdout)]

use tilewright_frontend::hf::{BuildOptions, Phase, build_module, load_config};
use tilewright_ir::DType;
use tilewright_passes::{Options, compile_module};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let config = load_config(std::path::Path::new(&args[1])).expect("config");
    let phase = if args[2] == "decode" { Phase::Decode } else { Phase::Prefill };
    let activations = if args[3] == "f32" { DType::F32 } else { DType::Bf16 };
    let options =
        BuildOptions { phase, batch: 1, max_context: if args.len() > 5 { 29 } else { 2048 }, activations };
    let mut module = build_module(&config, &options).expect("module");
    for f in module.functions.values_mut() {
        f.options.insert("activations".into(), activations.name().into());
    }
    if args.len() > 4 {
        println!("{}", tilewright_ir::text::print_module(&module));
    }
    let t = std::time::Instant::now();
    let c = compile_module(&module, &Options::default()).expect("compile");
    println!("{:?} {:?}", t.elapsed(), c.searches);
    for t in &c.timings {
        println!("TIME {t:?}");
    }
    for (_, plan) in &c.plans {
        println!("{}", tilewright_ir::text::print_plan(plan, &module.symbols));
    }
    for p in &c.programs {
        println!("{}", tilewright_ir::text::print_tile(p, &module.symbols));
    }
    for (name, choice) in &c.choices {
        for (n, x) in choice.candidates.iter().enumerate() {
            let mark = if n == choice.chosen { "*" } else { " " };
            println!(
                "{mark} {name} {}: {:.1} us, {} launches",
                x.names.join(", "),
                x.cost.seconds * 1e6,
                x.cost.launches
            );
        }
    }
    println!("{} launches, arena {}", c.step.groups().len(), c.step.arena_bytes);
}
