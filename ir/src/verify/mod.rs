//! Verifiers: what every well-formed program of each level satisfies.
//!
//! Passes run them on what they made (in debug builds and tests); later passes and code generation rely on them. The
//! invariants are numbered; tests and messages name them.
//!
//! * `E1`-`E4`: expressions of all levels, see [`expr`];
//! * `G1`-`G12`: [`graph`] modules;
//! * `P1`-`P10`: [`plan`]s;
//! * `T1`-`T17`: [`tile`] programs;
//! * `S1`-`S9`: [`step`]s.

pub mod expr;
pub mod graph;
pub mod plan;
pub mod step;
pub mod tile;

use cranelift_entity::PrimaryMap;

pub use graph::{verify_function, verify_module};
pub use plan::verify_plan;
pub use step::verify_step;
pub use tile::verify_tile;

use crate::text::Document;
use crate::{Extent, Packing, Sym, SymData};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {at}: {message}")]
pub struct Violation {
    /// The invariant, e.g. `G3`.
    pub rule: &'static str,
    /// Where: the entities from the outside in.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

/// Violations as one message, one per line.
pub fn describe(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Verifies a document of any level.
pub fn verify(document: &Document) -> Result<(), Vec<Violation>> {
    let mut out = Report::default();
    match document {
        Document::Graph(m) => return verify_module(m),
        Document::Plan(f) => f.plans.iter().for_each(|p| out.extend(verify_plan(p, &f.symbols))),
        Document::Tile(f) => f.programs.iter().for_each(|p| out.extend(verify_tile(p, &f.symbols))),
        Document::Step(s) => return verify_step(s),
    }
    out.finish()
}

/// The violations found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn add(&mut self, rule: &'static str, at: &str, message: impl Into<String>) {
        let v = Violation { rule, at: at.to_owned(), message: message.into() };
        if !self.violations.contains(&v) {
            self.violations.push(v);
        }
    }

    /// Adds a violation unless the condition holds; gives the condition.
    pub(crate) fn check(
        &mut self,
        holds: bool,
        rule: &'static str,
        at: &str,
        message: impl FnOnce() -> String,
    ) -> bool {
        if !holds {
            self.add(rule, at, message());
        }
        holds
    }

    pub(crate) fn extend(&mut self, result: Result<(), Vec<Violation>>) {
        if let Err(more) = result {
            self.violations.extend(more);
        }
    }

    pub(crate) fn finish(self) -> Result<(), Vec<Violation>> {
        if self.violations.is_empty() { Ok(()) } else { Err(self.violations) }
    }
}

/// Checks that names are there and differ.
pub(crate) fn unique<'a>(
    report: &mut Report,
    rule: &'static str,
    at: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        report.check(!name.is_empty(), rule, at, || format!("{what} has no name"));
        report.check(seen.insert(name), rule, at, || format!("two of {what} are called `{name}`"));
    }
}

/// That a packing is one of a buffer of these extents.
pub(crate) fn packed(r: &mut Report, rule: &'static str, at: &str, packing: &Packing, dims: &[Extent]) {
    let elements = dims.iter().try_fold(1u64, |n, e| n.checked_mul(e.as_const()?));
    match elements.map(|n| packing.check(n)) {
        None => r.add(rule, at, "it is packed, and its extents are not all constant".to_owned()),
        Some(Err(why)) => r.add(rule, at, format!("the packing {packing}: {why}")),
        Some(Ok(())) => {}
    }
}

pub(crate) fn extent_exists(e: Extent, symbols: &PrimaryMap<Sym, SymData>) -> bool {
    match e {
        Extent::Const(_) => true,
        Extent::Sym(s) => symbols.is_valid(s),
    }
}

/// The largest value of an extent.
pub(crate) fn at_most(e: Extent, symbols: &PrimaryMap<Sym, SymData>) -> u64 {
    match e {
        Extent::Const(n) => n,
        Extent::Sym(s) => symbols.get(s).map_or(u64::MAX, |s| s.max),
    }
}

pub(crate) fn symbols(report: &mut Report, rule: &'static str, symbols: &PrimaryMap<Sym, SymData>) {
    unique(report, rule, "symbols", "the symbols", symbols.values().map(|s| s.name.as_str()));
    for s in symbols.values() {
        report.check(s.min <= s.max, rule, &s.name, || format!("the range {}..={} is empty", s.min, s.max));
    }
}

/// Whether the axes are different from each other.
pub(crate) fn distinct<T: Ord + Copy>(items: &[T]) -> bool {
    let set: std::collections::BTreeSet<T> = items.iter().copied().collect();
    set.len() == items.len()
}
