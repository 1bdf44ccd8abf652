//! What: the labels of mutants: which findings are right for them, or why there is nothing to find.
//! Why here: a label is reasoned from the program and PTX's rules before the mutant runs, so it lives in a file
//! that runs do not write.
//! Pre: lines `operator place label reason`; `place` may be `*` or end in `#k` for one of several; the first
//! line that fits counts.
//! Post: one label per mutant; a line that fits nothing is an error, so that labels cannot outlive their code.

use crate::mutate::{Mutant, RULES};
use std::cell::Cell;

/// What is right for a mutant.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Label {
    /// A finding of one of these kinds, or a wrong `result` where the bug breaks no rule of memory.
    Caught(Vec<String>),
    /// Nothing: the program means the same.
    Equivalent,
    /// A bug that is not found, with the reason why.
    Missed,
}

impl Label {
    fn parse(text: &str, at: &str) -> Label {
        match text {
            "equivalent" => Label::Equivalent,
            "missed" => Label::Missed,
            list => {
                let kinds: Vec<String> = list.split(',').map(str::to_owned).collect();
                assert!(kinds.iter().all(|k| KINDS.contains(&&k[..])), "{at}: no such kind");
                Label::Caught(kinds)
            }
        }
    }
}

/// The labels of the bugs planted by hand: kernel, bug, label, reason.
pub(crate) fn planted(text: &str) -> Vec<(String, String, Label, String)> {
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    let one = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        assert!(words.len() > 3, "a word is missing: `{l}`");
        (words[0].into(), words[1].into(), Label::parse(words[2], l), words[3..].join(" "))
    };
    lines.map(one).collect()
}

/// A line of a label file.
pub(crate) struct Line {
    op: String,
    place: String,
    pub(crate) label: Label,
    pub(crate) reason: String,
    used: Cell<bool>,
}

pub(crate) struct Labels {
    name: &'static str,
    lines: Vec<Line>,
}

/// The operator that changes the launch and not the text: fewer blocks fit than wait for each other.
pub(crate) const CROWD: &str = "crowd";

/// The names of the checks, `result` where the oracle disagrees, `endless` where the instruction budget is spent.
const KINDS: [&str; 11] = [
    "bounds", "align", "uninit", "race", "nc", "proxy", "mbarrier", "barrier", "deadlock", "result",
    "endless",
];

impl Labels {
    pub(crate) fn parse(name: &'static str, text: &str) -> Labels {
        let mut lines = vec![];
        for (n, l) in text.lines().enumerate() {
            if l.trim().is_empty() || l.starts_with('#') {
                continue;
            }
            let at = format!("labels of {name}, line {}: `{l}`", n + 1);
            let mut words = l.split_whitespace();
            let mut word = || words.next().unwrap_or_else(|| panic!("{at}: a word is missing")).to_owned();
            let (op, place, label) = (word(), word(), word());
            let reason = words.collect::<Vec<_>>().join(" ");
            assert!(!reason.is_empty(), "{at}: no reason");
            assert!(RULES.iter().any(|(r, _)| *r == op) || op == CROWD, "{at}: no such operator");
            let label = Label::parse(&label, &at);
            lines.push(Line { op, place, label, reason, used: Cell::new(false) });
        }
        Labels { name, lines }
    }

    /// The label of the launch on a device that is too small, if the kernel has one.
    pub(crate) fn crowd(&self) -> Option<&Line> {
        let line = self.lines.iter().find(|l| l.op == CROWD)?;
        line.used.set(true);
        Some(line)
    }

    /// The label of a mutant.
    pub(crate) fn of(&self, m: &Mutant) -> Option<&Line> {
        let exact = format!("{}#{}", m.place, m.index);
        let fits = |l: &&Line| l.op == m.op && (l.place == exact || l.place == m.place || l.place == "*");
        let line = self.lines.iter().find(fits)?;
        line.used.set(true);
        Some(line)
    }

    /// Lines that no mutant asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let idle = self.lines.iter().filter(|l| !l.used.get());
        idle.map(|l| format!("{}: {} {}", self.name, l.op, l.place)).collect()
    }
}
