//! What: results as a table for people.
//! Why here: the command line, and whoever else shows results, show the same columns.
//! Pre: rows of one suite.
//! Post: a dash where there is nothing; no number is made up.

use super::record::{Results, Row, Status, Suite};

/// A table: a header and rows of as many cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<&'static str>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

/// A column: its name, and the cell of a row.
type Column = (&'static str, fn(&Row) -> Option<String>);

const WHAT: &[Column] = &[
    ("case", |r| Some(r.case.clone())),
    ("by", |r| Some(r.implementation.clone())),
    ("mode", |r| {
        Some(r.chosen.as_ref().map_or_else(|| r.mode.clone(), |c| format!("{}: {}", r.mode, c.mode)))
    }),
];

const TIMES: &[Column] = &[
    ("median us", |r| r.time.map(|t| format!("{:.2}", t.median_us))),
    ("p99 us", |r| r.time.map(|t| format!("{:.2}", t.p99_us))),
    ("of read", |r| r.fraction.and_then(|f| f.of_read).map(share)),
    ("of copy", |r| r.fraction.and_then(|f| f.of_copy).map(share)),
    ("of matmul", |r| r.fraction.and_then(|f| f.of_matmul).map(share)),
];

const COUNTS: &[Column] = &[
    ("bytes/floor", |r| r.counts.as_ref().map(|c| format!("{:.3}", c.bytes_over_floor()))),
    ("asked", |r| r.counts.as_ref().map(|c| format!("{:.2}", c.rereads()))),
    ("sectors/ideal", |r| r.counts.as_ref().map(|c| format!("{:.3}", c.sectors_over_ideal()))),
    ("large", |r| r.counts.as_ref().map(|c| format!("{:.3}", c.large_sectors_over_ideal()))),
    ("conflicts", |r| r.counts.as_ref().map(|c| format!("{:.1}%", 100.0 * c.conflicts()))),
    ("in loops", |r| r.counts.as_ref().map(|c| c.loop_conflicts.to_string())),
    ("instructions", |r| r.counts.as_ref().map(|c| c.instructions.to_string())),
    ("tensor/flops", |r| {
        let counts = r.counts.as_ref()?;
        Some(format!("{:.2}", counts.tensor_flops_total() as f64 / r.flops? as f64))
    }),
];

const KERNELS: &[Column] = &[
    ("error", |r| r.error.map(|e| format!("{e:.1e}"))),
    ("launches", |r| r.kernels.map(|k| k.launches.to_string())),
    ("a layer", |r| r.kernels.and_then(|k| k.launches_per_layer).map(|n| n.to_string())),
    ("registers", |r| r.kernels.map(|k| k.registers.to_string())),
    ("spills", |r| r.kernels.map(|k| k.spill_bytes.to_string())),
];

const OF_MODELS: &[Column] = &[
    ("kernels", |r| r.kernels.map(|k| k.kernels.to_string())),
    ("launches", |r| r.kernels.map(|k| k.launches.to_string())),
    ("registers", |r| r.kernels.map(|k| k.registers.to_string())),
    ("spills", |r| r.kernels.map(|k| k.spill_bytes.to_string())),
];

const COMPILE: &[Column] = &[
    ("total s", |r| r.compile.map(|c| format!("{:.2}", c.total_s))),
    ("passes s", |r| r.compile.map(|c| format!("{:.2}", c.passes_s))),
    ("emit s", |r| r.compile.map(|c| format!("{:.2}", c.emit_s))),
    ("nvrtc s", |r| r.compile.map(|c| format!("{:.2}", c.nvrtc_s))),
    ("compiled", |r| r.compile.map(|c| c.compiled.to_string())),
    ("cached", |r| r.compile.map(|c| c.cached.to_string())),
];

const COMPILE_SECONDS: &[Column] = &[("compile s", |r| {
    // Kernels that all came from the cache took no time that says anything.
    let cached = |c: &super::record::Compile| c.compiled == 0 && c.cached > 0;
    r.compile.map(|c| if cached(&c) { "cached".into() } else { format!("{:.2}", c.total_s) })
})];

/// A share of a ceiling.
fn share(x: f64) -> String {
    format!("{:.0}%", 100.0 * x)
}

/// The table of a suite; nothing if it was not run.
pub fn table(results: &Results, suite: Suite) -> Option<Table> {
    let rows: Vec<&Row> = results.rows.iter().filter(|r| r.suite == suite).collect();
    if rows.is_empty() {
        return None;
    }
    let timed = rows.iter().any(|r| r.time.is_some());
    let counted = rows.iter().any(|r| r.counts.is_some());
    let mut columns: Vec<&Column> = WHAT.iter().collect();
    if suite == Suite::Compile {
        columns.extend(COMPILE);
        columns.extend(OF_MODELS);
    } else {
        if timed || !counted {
            columns.extend(TIMES);
        }
        if counted {
            columns.extend(COUNTS);
        }
        columns.extend(KERNELS);
        columns.extend(COMPILE_SECONDS);
    }
    let header = columns.iter().map(|(name, _)| *name).chain(["remark"]).collect();
    let line = |row: &&Row| {
        let cells = columns.iter().map(|(_, cell)| cell(row).unwrap_or_else(|| "-".into()));
        cells.chain([remark(row)]).collect()
    };
    Some(Table { header, rows: rows.iter().map(line).collect() })
}

/// What else to say of a row.
fn remark(row: &Row) -> String {
    let why = row.reason.as_deref().unwrap_or("");
    match row.status {
        Status::Ok => row.error_of.as_ref().map_or(String::new(), |what| format!("error of {what}")),
        Status::NotAvailable => format!("not available: {why}"),
        Status::Failed => format!("FAILED: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Ceilings, DeviceInfo, FORMAT, Method, Time, VERSION};
    use super::*;

    #[test]
    fn nothing_is_made_up() {
        let mut row = Row::new(Suite::Kernels, "f", "c", Default::default(), "launch");
        row.status = Status::NotAvailable;
        row.reason = Some("there is none".into());
        let mut results = Results {
            format: FORMAT.into(),
            version: VERSION,
            producer: "tilewright".into(),
            date: String::new(),
            session: None,
            versions: Default::default(),
            device: DeviceInfo { kind: "cuda:0".into(), name: "x".into(), arch: None },
            method: Method::default(),
            ceilings: Ceilings::default(),
            rows: vec![row.clone()],
        };
        let t = table(&results, Suite::Kernels).unwrap();
        assert_eq!(t.rows[0].len(), t.header.len());
        assert!(t.rows[0][3..t.header.len() - 1].iter().all(|c| c == "-"), "{t:?}");
        assert!(t.rows[0].last().unwrap().contains("there is none"));
        assert_eq!(table(&results, Suite::Steps), None);
        results.rows[0].time = Some(Time { median_us: 2.0, p99_us: 3.0, samples: 4 });
        assert!(table(&results, Suite::Kernels).unwrap().rows[0].contains(&"2.00".to_owned()));
    }
}
