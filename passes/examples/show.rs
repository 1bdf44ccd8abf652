//! Prints the plan and the tile programs of equations: `cargo run -p tilewright-passes --example show -- 'EQUATIONS'`.
#![allow(clippy::print_stdout)]

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_passes::{Options, compile_module};

fn main() {
    let text = std::env::args().nth(1).expect("equations");
    let module = parse_equations(&text, &Given::default(), &[]).expect("parse");
    println!("{}", tilewright_ir::text::print_module(&module));
    let t = std::time::Instant::now();
    let c = compile_module(&module, &Options::default()).expect("compile");
    println!("{:?} {:?}", t.elapsed(), c.searches);
    for (_, plan) in &c.plans {
        println!("{}", tilewright_ir::text::print_plan(plan, &module.symbols));
        for k in &plan.kernels {
            for s in &k.derivation {
                println!("LAW {}: {}\n      =  {}", s.law, s.before, s.after);
            }
        }
        for t in &c.timings {
            println!("TIME {t:?}");
        }
    }
    for p in &c.programs {
        println!("{}", tilewright_ir::text::print_tile(p, &module.symbols));
    }
}
