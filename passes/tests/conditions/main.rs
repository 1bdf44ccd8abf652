//! Every condition of every law is needed and kept: for each there are terms that break it and nothing else, on which the
//! law must find nothing, beside a twin that keeps it, on which the law must find something.
//!
//! Conditions are taken from the law table. One without terms that break it fails here, and so does one that is reworded:
//! whoever changes a condition looks at its terms.

#![allow(clippy::print_stdout)]

mod cases;
mod maker;

use std::collections::BTreeMap;

use cases::{CASES, STATEMENTS};
use maker::Maker;
use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_passes::algebra::ingest::{Ingested, ingest};
use tilewright_passes::algebra::laws::LAWS;
use tilewright_passes::algebra::saturate::{Budget, Stop, Summary, saturate};

/// Where terms come from.
#[derive(Clone, Copy)]
enum Source {
    /// Equations.
    Text(&'static str),
    /// Terms that no equation has: parts of axes.
    Terms(fn(&mut Maker)),
}
use Source::{Terms, Text};

struct Case {
    law: &'static str,
    condition: &'static str,
    /// Breaks this condition only.
    breaks: Source,
    /// The same, with the condition met.
    keeps: Source,
    /// Laws that may not be used: their results would meet the condition by another way.
    without: &'static [&'static str],
    /// The same, for the terms that keep it.
    keeps_without: &'static [&'static str],
}

const fn case(law: &'static str, condition: &'static str, breaks: Source, keeps: Source) -> Case {
    Case { law, condition, breaks, keeps, without: &[], keeps_without: &[] }
}

fn search(source: Source, without: &[&str]) -> Summary {
    let (mut ingested, more) = match source {
        Text(text) => {
            let module = parse_equations(text, &Given::default(), &[]).expect("parses");
            let function = module.functions.values().next().expect("a function");
            (ingest(function, &module.symbols).expect("ingests"), Vec::new())
        }
        Terms(make) => {
            let mut m = Maker::new();
            make(&mut m);
            m.graph.rebuild();
            let Maker { graph, axes, cascades, disabled } = m;
            let source_terms = graph.nodes().len();
            let values = BTreeMap::new();
            let (roots, forwarded) = (Vec::new(), false);
            (Ingested { graph, roots, axes, cascades, values, source_terms, forwarded }, disabled)
        }
    };
    let disabled: Vec<String> = without.iter().chain(&more).map(|l| (*l).to_owned()).collect();
    let summary = saturate(&mut ingested, Budget::default(), &disabled);
    assert_eq!(summary.stop, Stop::Saturated);
    summary
}

fn conditions(law: &str) -> Vec<&'static str> {
    let law = LAWS.iter().find(|l| l.name == law).expect("in the table");
    law.conditions.split("; ").collect()
}

#[test]
fn a_law_finds_nothing_where_a_condition_is_broken() {
    let mut faults = Vec::new();
    for c in CASES {
        let breaks = search(c.breaks, c.without);
        let keeps = search(c.keeps, c.keeps_without);
        let found = |s: &Summary| s.laws.get(c.law).copied().unwrap_or(0);
        println!("{} ({}): {} and {}", c.law, c.condition, found(&breaks), found(&keeps));
        if found(&breaks) != 0 || found(&keeps) == 0 {
            faults.push(format!(
                "{} ({}): {} where it is broken, {} where not",
                c.law,
                c.condition,
                found(&breaks),
                found(&keeps)
            ));
        }
        if c.condition.starts_with("assumes")
            && (!breaks.assumptions.is_empty() || keeps.assumptions.is_empty())
        {
            faults.push(format!("{}: what is assumed is not on the list: {:?}", c.law, keeps.assumptions));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_condition_of_the_table_is_broken_by_some_terms() {
    for law in LAWS {
        for condition in conditions(law.name) {
            let stated = STATEMENTS.iter().any(|(l, c, _)| *l == law.name && *c == condition);
            let broken = CASES.iter().any(|c| c.law == law.name && c.condition == condition);
            assert!(stated != broken, "`{}`: nothing breaks the condition `{condition}`", law.name);
        }
    }
    let known = CASES.iter().map(|c| (c.law, c.condition)).chain(STATEMENTS.iter().map(|s| (s.0, s.1)));
    for (law, condition) in known {
        assert!(conditions(law).contains(&condition), "`{law}` has no condition `{condition}`");
    }
}
