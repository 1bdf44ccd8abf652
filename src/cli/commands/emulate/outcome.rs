//! What: what runs showed: findings, counters, outputs, and what differs between seeds.
//! Why here: faults are findings too, and the same finding of several seeds is one.
//! Pre: the reports of runs.
//! Post: each finding once, with the first seed that showed it.

use serde::Serialize;
use serde_json::{Value, json};
use tilewright::Error;
use tilewright_emulator::{Counters, Fault, FaultKind, Finding, LaunchReport, Printed, Site};

use super::arrays::Array;
use super::describe::Description;

/// A finding as it is reported. Faults that belong to no check have kinds of their own.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    kind: &'static str,
    kernel: String,
    block: [u32; 3],
    at: Site,
    other: Option<Site>,
    message: String,
    /// The launch, where it is known.
    launch: Option<usize>,
    /// The first seed that showed it; none for the fast schedule.
    seed: Option<u64>,
    /// For people.
    #[serde(skip)]
    text: String,
}

/// What one run gave.
pub(super) struct Outcome {
    reports: Vec<LaunchReport>,
    findings: Vec<Shown>,
    /// The bytes of the arrays that are written back; nothing if a fault ended the run.
    pub(super) outputs: Option<Vec<Vec<u8>>>,
}

fn shown(f: &Finding, launch: Option<usize>) -> Shown {
    Shown {
        kind: f.kind.name(),
        kernel: f.kernel.clone(),
        block: f.block,
        at: f.at.clone(),
        other: f.other.clone(),
        message: f.message.clone(),
        launch,
        seed: None,
        text: f.to_string(),
    }
}

impl Outcome {
    pub(super) fn finished(reports: Vec<LaunchReport>, outputs: Vec<Vec<u8>>) -> Outcome {
        let of =
            |(i, r): (usize, &LaunchReport)| r.findings.iter().map(|f| shown(f, Some(i))).collect::<Vec<_>>();
        let findings = reports.iter().enumerate().flat_map(of).collect();
        Outcome { reports, findings, outputs: Some(outputs) }
    }

    /// A run that a fault ended.
    pub(super) fn broken(fault: Fault, launches: usize) -> Outcome {
        let launch = (launches == 1).then_some(0);
        let mut findings: Vec<Shown> = fault.findings.iter().map(|f| shown(f, launch)).collect();
        let last = match fault.finding() {
            Some(f) => shown(&f, launch),
            None => Shown {
                kind: match fault.kind {
                    FaultKind::Trap => "trap",
                    FaultKind::Assert { .. } => "assert",
                    FaultKind::Budget { .. } => "budget",
                    _ => "operand",
                },
                kernel: fault.kernel.clone(),
                block: fault.block,
                at: Site {
                    block: fault.block,
                    thread: Some(fault.thread),
                    ptx_line: fault.ptx_line,
                    source_line: fault.source_line.clone(),
                    instruction: fault.instruction.clone(),
                },
                other: None,
                message: fault.kind.to_string(),
                launch,
                seed: None,
                text: fault.to_string(),
            },
        };
        if findings.iter().all(|f| f.key() != last.key()) {
            findings.push(last);
        }
        Outcome { reports: vec![], findings, outputs: None }
    }

    /// The sums over all launches, if the run came to its end.
    pub(super) fn counters(&self) -> Option<Counters> {
        self.outputs.is_some().then(|| {
            let mut sum = Counters::default();
            self.reports.iter().for_each(|r| sum += &r.counters);
            sum
        })
    }

    /// What kernels printed, launch by launch.
    pub(super) fn printed(&self) -> Vec<Value> {
        let of = |(i, r): (usize, &LaunchReport)| {
            let one =
                |p: &Printed| json!({ "launch": i, "block": p.block, "thread": p.thread, "text": p.text });
            r.printed.iter().map(one).collect::<Vec<_>>()
        };
        self.reports.iter().enumerate().flat_map(of).collect()
    }

    pub(super) fn blocks(&self) -> u64 {
        self.reports.iter().map(|r| r.blocks).sum()
    }

    /// Each launch by itself.
    pub(super) fn launches(&self, d: &Description) -> Vec<Value> {
        let one = |(i, l): (usize, &super::describe::One)| {
            let report = self.reports.get(i);
            json!({
                "entry": l.entry,
                "blocks": report.map(|r| r.blocks),
                // A single launch has nothing to add to the sums.
                "counters": report.filter(|_| d.launches.len() > 1).map(|r| &r.counters),
            })
        };
        d.launches.iter().enumerate().map(one).collect()
    }
}

impl Shown {
    /// What makes two findings the same one.
    fn key(&self) -> (&str, &str, Option<usize>, u32, Option<u32>) {
        (self.kind, &self.kernel, self.launch, self.at.ptx_line, self.other.as_ref().map(|o| o.ptx_line))
    }
}

/// The runs so far.
pub(super) struct Seen {
    /// The first run, which the results are taken from.
    pub(super) first: Outcome,
    runs: u64,
    pub(super) findings: Vec<Shown>,
    /// For each array the first seed whose result is not that of the first run.
    differ: Vec<Option<u64>>,
}

impl Seen {
    pub(super) fn new(arrays: usize) -> Seen {
        let first = Outcome { reports: vec![], findings: vec![], outputs: None };
        Seen { first, runs: 0, findings: vec![], differ: vec![None; arrays] }
    }

    pub(super) fn add(&mut self, seed: Option<u64>, mut run: Outcome) {
        for mut f in std::mem::take(&mut run.findings) {
            if self.findings.iter().all(|g| g.key() != f.key()) {
                f.seed = seed;
                self.findings.push(f);
            }
        }
        self.runs += 1;
        if self.runs == 1 {
            self.first = run;
            return;
        }
        let (Some(a), Some(b)) = (&self.first.outputs, &run.outputs) else { return };
        for ((old, new), differ) in a.iter().zip(b).zip(&mut self.differ) {
            if old != new && differ.is_none() {
                *differ = seed;
            }
        }
    }

    /// Arrays whose results depend on the seed, and the first seed that shows it.
    pub(super) fn differing<'a>(&self, arrays: &'a [Array]) -> Vec<(&'a str, u64)> {
        let pairs = arrays.iter().zip(&self.differ);
        pairs.filter_map(|(a, seed)| seed.map(|s| (a.label.as_str(), s))).collect()
    }

    pub(super) fn text(&self, differing: &[(&str, u64)], explored: Option<u64>) -> String {
        let seed = |f: &Shown| match (f.seed, explored) {
            (Some(s), Some(_)) => format!("seed {s}: "),
            _ => String::new(),
        };
        let printed: String =
            self.first.reports.iter().flat_map(|r| &r.printed).map(|p| p.text.as_str()).collect();
        let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        lines.extend(self.findings.iter().map(|f| format!("{}{}", seed(f), f.text)));
        for (label, seed) in differing {
            lines.push(format!("`{label}` differs between seed 0 and seed {seed}"));
        }
        let n = self.findings.len();
        let findings = if n == 1 { "1 finding".to_owned() } else { format!("{n} findings") };
        let schedules = explored.map_or(String::new(), |n| format!(" in {n} schedules"));
        lines.push(match self.first.counters() {
            None => format!("the run broke off; {findings}{schedules}"),
            Some(c) => format!(
                "{} blocks, {} warp instructions, {} bytes read and {} written in global memory; {findings}{schedules}",
                self.first.blocks(),
                c.instructions,
                c.global_read_bytes,
                c.global_write_bytes,
            ),
        });
        lines.join("\n")
    }
}

/// A finding as JSON.
pub(super) fn as_json(f: &Shown) -> Result<Value, Error> {
    serde_json::to_value(f).map_err(|e| Error::Bug(e.to_string()))
}
