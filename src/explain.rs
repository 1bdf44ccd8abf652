//! What: the choice between plans, and what the chosen one moves, as JSON and text.
//! Why here: `explain`, `report.json` and the page show the same figures under the same names.
//! Pre: planned phases; values for symbols where the caller knows them.
//! Post: counts of `passes::report` at those values; nothing is estimated but the costs of candidates.

pub mod drawing;
pub mod marks;
pub mod page;

use std::fmt::Write as _;

use serde_json::{Value, json};
use tilewright_passes::candidates::{Candidate, Choice};
use tilewright_passes::report::{self, KernelCount, PlanCount};
use tilewright_passes::step::narrow;

pub use marks::Marks;

use crate::{Error, Planned};

/// One function: the plan that was taken, beside the one without fusion.
#[derive(Clone, Debug)]
pub struct FunctionReport<'a> {
    /// Its name.
    pub name: &'a str,
    /// How often a step calls it.
    pub calls: u64,
    /// The values of symbols that bytes are counted at.
    pub sizes: Vec<(String, u64)>,
    /// The plan without fusion: one kernel per reduction.
    pub before: PlanCount,
    /// The plan that was taken.
    pub after: PlanCount,
    /// What there was to choose from.
    pub choice: &'a Choice,
}

impl FunctionReport<'_> {
    /// What is computed as the source asks although numbers may overflow, be undefined or lose digits.
    pub fn risks(&self) -> &[String] {
        self.choice.candidates.get(self.choice.chosen).map_or(&[], |c| &c.risks)
    }
}

/// The reports of a phase, function by function. `given` are values of symbols; the others take typical ones.
pub fn functions<'a>(
    planned: &'a Planned,
    given: &[(String, u64)],
) -> Result<Vec<FunctionReport<'a>>, Error> {
    let symbols = &planned.graph.symbols;
    for (name, value) in given {
        if let Some(s) = symbols.values().find(|s| s.name == *name)
            && !(s.min..=s.max).contains(value)
        {
            return Err(Error::Input {
                message: format!("`{name}` is {value}, and it is in {}..={}", s.min, s.max),
                help: None,
            });
        }
    }
    let sizes = report::bind(symbols, given);
    let compiled = &planned.compiled;
    Ok(compiled
        .plans
        .iter()
        .zip(&compiled.choices)
        .map(|((func, plan), (name, choice))| {
            let function = &planned.graph.functions[*func];
            let count = |plan| report::count(plan, symbols, &sizes, narrow(&function.options));
            FunctionReport {
                name,
                calls: planned
                    .graph
                    .program
                    .iter()
                    .filter(|c| c.func == *func)
                    .map(|c| u64::from(c.count))
                    .sum(),
                sizes: symbols.iter().map(|(s, d)| (d.name.clone(), sizes[s])).collect(),
                before: choice.unfused().map(|c| count(&c.plan)).unwrap_or_default(),
                after: count(plan),
                choice,
            }
        })
        .collect())
}

/// The report of a function as JSON.
pub fn function_json(f: &FunctionReport<'_>) -> Value {
    json!({
        "function": f.name,
        "calls": f.calls,
        "sizes": f.sizes.iter().map(|(n, v)| (n.clone(), json!(v))).collect::<serde_json::Map<_, _>>(),
        "chosen": f.choice.candidates[f.choice.chosen].names,
        "as_the_source_asks": f.risks(),
        "multiply_adds_over_source": f.after.over_source(&f.before),
        "before": plan_json(&f.before),
        "after": plan_json(&f.after),
    })
}

fn plan_json(p: &PlanCount) -> Value {
    json!({
        "kernels": p.kernels.iter().map(kernel_json).collect::<Vec<_>>(),
        "phases": p.phases,
        "hbm_bytes": p.bytes,
        "floor_bytes": p.floor,
        "hbm_bytes_over_floor": p.over_floor(),
        "multiply_adds": p.multiply_adds(),
        "above_floor": p.excess.iter().map(|e| json!({
            "tensor": e.name, "bytes": e.bytes, "written_by": e.writers, "read_by": e.readers,
        })).collect::<Vec<_>>(),
        "boundaries": p.boundaries.iter().map(|b| json!({
            "tensor": b.name, "from": b.from, "to": b.to, "bytes": b.bytes, "why_not_fused": b.reason,
        })).collect::<Vec<_>>(),
    })
}

fn kernel_json(k: &KernelCount) -> Value {
    let operands = |all: &[report::Operand]| -> Value {
        all.iter().map(|o| json!({ "tensor": o.name, "bytes": o.bytes })).collect()
    };
    json!({
        "name": k.name,
        "launch": k.launch,
        "phase": k.phase,
        "read_bytes": k.read_bytes(),
        "written_bytes": k.written_bytes(),
        "reads": operands(&k.reads),
        "writes": operands(&k.writes),
        "multiply_adds": k.multiply_adds,
        "passes": k.passes.iter().map(|(a, n)| (a.clone(), json!(n))).collect::<serde_json::Map<_, _>>(),
    })
}

/// The candidates of a function as JSON; costs at typical sizes.
pub fn candidates_json(name: &str, choice: &Choice) -> Value {
    let one = |(n, c): (usize, &Candidate)| {
        json!({
            "names": c.names,
            "about": c.about,
            "chosen": n == choice.chosen,
            "kernels": c.count.kernels.len(),
            "launches": c.cost.launches,
            "phases": c.count.phases,
            "hbm_bytes": c.cost.bytes,
            "estimated_us": c.cost.seconds * 1e6,
            "refused": c.refused,
            "last": c.last,
        })
    };
    json!({ "function": name, "candidates": choice.candidates.iter().enumerate().map(one).collect::<Vec<_>>() })
}

/// Bytes for people, to four figures.
pub fn bytes(n: u64) -> String {
    if n < 10_000 {
        return format!("{n} B");
    }
    let mut x = n as f64 / 1e3;
    let mut unit = "kB";
    for larger in ["MB", "GB", "TB"] {
        // What would be rounded to a thousand is one of the next unit.
        if x >= 999.95 {
            (x, unit) = (x / 1e3, larger);
        }
    }
    let digits = if x < 9.9995 {
        3
    } else if x < 99.995 {
        2
    } else {
        1
    };
    format!("{x:.digits$} {unit}")
}

/// A number of any size for people, to four figures.
pub fn amount(x: f64) -> String {
    match x {
        x if x >= 1e4 => format!("{x:.3e}"),
        x if x >= 1e3 || x == x.trunc() && x >= 10.0 => format!("{x:.0}"),
        x => format!("{x:.3}"),
    }
}

/// So many of something.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Passes over axes for people.
pub fn passes(k: &KernelCount) -> String {
    let all: Vec<String> = k.passes.iter().map(|(a, n)| format!("{a} {n}")).collect();
    if all.is_empty() { "-".into() } else { all.join(", ") }
}

/// The launch and the phase of a kernel for people; what runs when weights are loaded has none.
pub fn when(k: &KernelCount) -> (String, String) {
    if k.prologue { ("at load".into(), "-".into()) } else { (k.launch.to_string(), k.phase.to_string()) }
}

/// Rows of cells in columns as wide as they need to be.
fn columns(indent: &str, rows: &[Vec<String>]) -> String {
    let width = |n: usize| rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(n, c)| format!("{c:<w$}", w = width(n))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{indent}{}", cells.join("  ").trim_end());
    }
    out
}

/// The report of a function for people.
pub fn function_text(f: &FunctionReport<'_>) -> String {
    let mut out = String::new();
    let sizes: Vec<String> = f.sizes.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let at = if sizes.is_empty() { String::new() } else { format!(", counted at {}", sizes.join(", ")) };
    let calls = if f.calls == 1 { String::new() } else { format!(", {} calls", f.calls) };
    let _ = writeln!(out, "function @{}{calls}{at}", f.name);
    let row = |name: &str, p: &PlanCount| {
        vec![
            name.to_owned(),
            p.kernels.len().to_string(),
            p.launches().count().to_string(),
            p.phases.to_string(),
            bytes(p.bytes),
            format!("{:.3}", p.over_floor()),
            amount(p.multiply_adds()),
            p.over_source(&f.before).map_or_else(|| "-".to_owned(), amount),
        ]
    };
    let head = ["", "kernels", "launches", "phases", "bytes", "over floor", "multiply-adds", "over source"];
    let head = head.map(str::to_owned).to_vec();
    out += &columns("  ", &[head, row("without fusion", &f.before), row("chosen", &f.after)]);
    let head = ["kernel", "launch", "phase", "reads", "writes", "passes"].map(str::to_owned).to_vec();
    let rows = f.after.kernels.iter().map(|k| {
        let (launch, phase) = when(k);
        vec![k.name.clone(), launch, phase, bytes(k.read_bytes()), bytes(k.written_bytes()), passes(k)]
    });
    out += &columns("  ", &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    if !f.risks().is_empty() {
        let _ = writeln!(out, "  {RISKS}:");
        for r in f.risks() {
            let _ = writeln!(out, "    {r}");
        }
    }
    if !f.after.excess.is_empty() {
        let _ = writeln!(out, "  above the floor:");
        let rows = f.after.excess.iter().map(|e| {
            let written = match &e.writers[..] {
                [] => String::new(),
                w => format!("written by {}; ", w.join(", ")),
            };
            vec![e.name.clone(), bytes(e.bytes), format!("{written}read by {}", e.readers.join(", "))]
        });
        out += &columns("    ", &rows.collect::<Vec<_>>());
    }
    if !f.after.boundaries.is_empty() {
        let _ = writeln!(out, "  why not fused:");
        for b in &f.after.boundaries {
            let _ = writeln!(out, "    {} -> {} ({}, {})", b.from, b.to.join(", "), b.name, bytes(b.bytes));
            let _ = writeln!(out, "        {}", b.reason);
        }
    }
    out
}

/// What a list of [`FunctionReport::risks`] is called.
pub(crate) const RISKS: &str =
    "as the source asks, although numbers may overflow, be undefined or lose their digits";

/// What is said about a candidate: how it came to be, and why it is not taken, or only where no other can be.
pub(crate) fn remark(c: &Candidate) -> String {
    match (&c.refused, &c.last) {
        (Some(why), _) => format!("refused: {why}"),
        (None, Some(why)) => format!("only if no other can be taken, because {why}: {}", c.about),
        (None, None) => c.about.to_owned(),
    }
}

/// The candidates of a function for people.
pub fn candidates_text(name: &str, choice: &Choice) -> String {
    let head = ["", "candidate", "kernels", "launches", "phases", "bytes", "estimate", ""]
        .map(str::to_owned)
        .to_vec();
    let rows = choice.candidates.iter().enumerate().map(|(n, c)| {
        vec![
            if n == choice.chosen { "*" } else { "" }.to_owned(),
            c.names.join(", "),
            c.count.kernels.len().to_string(),
            c.cost.launches.to_string(),
            c.count.phases.to_string(),
            bytes(c.cost.bytes),
            format!("{:.1} us", c.cost.seconds * 1e6),
            remark(c),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    format!("candidates of @{name}\n{}", columns("  ", &rows))
}
