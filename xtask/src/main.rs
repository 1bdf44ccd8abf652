//! What: chores of this repository. `cargo xtask soak` runs the random tests far longer than continuous integration does;
//! `cargo xtask report` turns results of benchmarks into BENCHMARKS.md.
//! Why here: no shell needed, and one list of what is worth exploring, with the setting that makes each test longer.
//! Pre: run by cargo within the repository; some explorations need NVRTC, as the tests that they run do.
//! Post: the exit code is 0 if all went well, 1 if something failed, 2 for wrong arguments.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod report;

use std::process::{Command, ExitCode};
use std::time::Instant;

/// A test that takes the number of its cases from the environment.
struct Exploration {
    name: &'static str,
    what: &'static str,
    package: &'static str,
    test: &'static str,
    /// The module of it whose tests are run, or all where it is empty.
    only: &'static str,
    /// The variable that says how many cases there are, and how many for each of `--cases`.
    variable: &'static str,
    times: u64,
}

const EXPLORATIONS: &[Exploration] = &[
    Exploration {
        name: "passes",
        what: "random equations, their tile programs interpreted",
        package: "tilewright-passes",
        test: "plans",
        only: "random::",
        variable: "CASES",
        times: 5,
    },
    Exploration {
        name: "classes",
        what: "random equations, every term of the e-graph evaluated",
        package: "tilewright-passes",
        test: "classes",
        only: "",
        variable: "CASES",
        times: 20,
    },
    Exploration {
        name: "forms",
        what: "random terms, their normal forms by every law evaluated",
        package: "tilewright-proof",
        test: "checker",
        only: "soundness::",
        variable: "CASES",
        times: 1000,
    },
    Exploration {
        name: "equations",
        what: "random equations, from text to the emulator (NVRTC)",
        package: "tilewright",
        test: "random_equations",
        only: "",
        variable: "CASES",
        times: 1,
    },
    Exploration {
        name: "programs",
        what: "random tile programs on the emulator (NVRTC)",
        package: "tilewright-codegen",
        test: "programs",
        only: "random::",
        variable: "TILEWRIGHT_PROGRAMS",
        times: 1,
    },
    Exploration {
        name: "tasks",
        what: "persistent kernels in adversarial schedules, by seeds (NVRTC)",
        package: "tilewright",
        test: "megakernel",
        only: "",
        variable: "MEGAKERNEL_SEEDS",
        times: 1,
    },
    Exploration {
        name: "pages",
        what: "weights copied ahead in adversarial schedules by seeds, and a step of a model of a billion weights (NVRTC)",
        package: "tilewright",
        test: "megakernel_pages",
        only: "",
        variable: "MEGAKERNEL_PAGE_SEEDS",
        times: 1,
    },
    Exploration {
        name: "shapes",
        what: "steps of random shapes of models under all checks; SHAPES=triples has any three sizes together, SHAPES=7/100 is a part of all (NVRTC)",
        package: "tilewright",
        test: "breadth",
        only: "",
        variable: "SHAPES",
        times: 1,
    },
    Exploration {
        name: "museum",
        what: "planted bugs and clean kernels of the emulator, seeds of the adversarial schedule",
        package: "tilewright-emulator",
        test: "museum",
        only: "",
        variable: "MUSEUM_SEEDS",
        times: 1,
    },
];

const HELP: &str = "usage: cargo xtask soak [--cases N] [NAME ...]

Runs the random tests with N cases (1000 unless told otherwise) and fresh seeds, which they print; SEED replays one.
Names choose among:";

/// What the arguments ask for.
struct Asked {
    cases: u64,
    chosen: Vec<&'static Exploration>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    match args.next().as_deref() {
        Some("soak") => {}
        Some(other) => return Err(format!("unknown chore `{other}`")),
        None => return Err("a chore is missing".into()),
    }
    let mut asked = Asked { cases: 1000, chosen: Vec::new() };
    while let Some(arg) = args.next() {
        if arg == "--cases" {
            let n = args.next().ok_or("`--cases` needs a number")?;
            asked.cases = n.parse().ok().filter(|n| *n > 0).ok_or(format!("`{n}` is no number of cases"))?;
        } else {
            let found = EXPLORATIONS.iter().find(|e| e.name == arg);
            asked.chosen.push(found.ok_or(format!("unknown exploration `{arg}`"))?);
        }
    }
    if asked.chosen.is_empty() {
        asked.chosen = EXPLORATIONS.iter().collect();
    }
    Ok(asked)
}

fn help() -> String {
    EXPLORATIONS.iter().fold(HELP.to_owned(), |text, e| format!("{text}\n  {:<10} {}", e.name, e.what))
}

/// Runs one; whether it passed.
fn run(e: &Exploration, cases: u64) -> bool {
    let count = cases.saturating_mul(e.times).to_string();
    println!("== {}: {}, {}={count}", e.name, e.what, e.variable);
    let start = Instant::now();
    // The cargo that runs this, so that the toolchain is the same.
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let status = Command::new(cargo)
        .args(["test", "--release", "--package", e.package, "--test", e.test, "--", e.only, "--nocapture"])
        .env(e.variable, count)
        .status();
    let passed = match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {cargo}: {error}");
            false
        }
    };
    println!(
        "== {}: {} after {} s",
        e.name,
        if passed { "passed" } else { "FAILED" },
        start.elapsed().as_secs()
    );
    passed
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{}\n\n{}", help(), report::HELP);
        return ExitCode::SUCCESS;
    }
    if args.first().is_some_and(|a| a == "report") {
        return report::main(&args[1..]);
    }
    let asked = match parse(args.into_iter()) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n\n{}\n\n{}", help(), report::HELP);
            return ExitCode::from(2);
        }
    };
    let failed: Vec<&str> = asked.chosen.iter().filter(|e| !run(e, asked.cases)).map(|e| e.name).collect();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("== failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
