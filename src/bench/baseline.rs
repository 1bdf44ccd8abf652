//! What: a comparison with earlier results.
//! Why here: whether something became slower is a question about two files.
//! Pre: results of the same format.
//! Post: rows that both have, with the ratio of what both measured. Times are compared only where both were taken on the
//! same kind of device; counts anywhere.

use super::record::{Results, Row};

/// The comparison of one figure of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The case and its mode.
    pub case: String,
    /// The figure.
    pub what: &'static str,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub after: f64,
}

impl Change {
    /// How many times what it was; 1 where both are nothing.
    pub fn ratio(&self) -> f64 {
        if self.before == self.after { 1.0 } else { self.after / self.before }
    }

    /// Whether it is worse by more than what two runs of the same program differ by.
    pub fn is_worse(&self) -> bool {
        // Counts are exact; times are not.
        let allowed = if self.what == TIME { 1.05 } else { 1.0 };
        self.ratio() > allowed
    }
}

/// The name of the only figure that is a time.
const TIME: &str = "median us";

/// A figure of a row.
type Figure = (&'static str, fn(&Row) -> Option<f64>);

const COUNTS: &[Figure] = &[
    ("bytes", |r| r.counts.as_ref().map(|c| c.hbm_bytes as f64)),
    ("sectors", |r| r.counts.as_ref().map(|c| c.sectors as f64)),
    ("wavefronts", |r| r.counts.as_ref().map(|c| c.wavefronts as f64)),
    ("instructions", |r| r.counts.as_ref().map(|c| c.instructions as f64)),
    ("launches", |r| r.counts.as_ref().map(|c| c.launches as f64)),
];

/// All figures that two runs share.
pub fn compare(before: &Results, after: &Results) -> Vec<Change> {
    let same_device = before.device.name == after.device.name;
    let mut changes = Vec::new();
    for row in &after.rows {
        let Some(old) = before.row(row) else { continue };
        let mut push = |what, a: Option<f64>, b: Option<f64>| {
            if let (Some(before), Some(after)) = (a, b) {
                changes.push(Change { case: format!("{} ({})", row.case, row.mode), what, before, after });
            }
        };
        if same_device {
            push(TIME, old.time.map(|t| t.median_us), row.time.map(|t| t.median_us));
        }
        for (what, figure) in COUNTS {
            push(what, figure(old), figure(row));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::counts::Counts;
    use super::super::record::{Ceilings, DeviceInfo, FORMAT, Method, Suite, Time, VERSION};
    use super::*;

    fn results(device: &str, us: f64, sectors: u64) -> Results {
        let mut row = Row::new(Suite::Kernels, "f", "c", Default::default(), "launch");
        row.time = Some(Time { median_us: us, p99_us: us, samples: 9 });
        row.counts = Some(Counts { sectors, ..Counts::default() });
        Results {
            format: FORMAT.into(),
            version: VERSION,
            producer: "tilewright".into(),
            date: String::new(),
            session: None,
            versions: Default::default(),
            device: DeviceInfo { kind: "cuda:0".into(), name: device.into(), arch: None },
            method: Method::default(),
            ceilings: Ceilings::default(),
            rows: vec![row],
        }
    }

    #[test]
    fn what_became_worse_is_found() {
        let worse = |a: &Results, b: &Results| {
            let changes = compare(a, b);
            changes.iter().filter(|c| c.is_worse()).map(|c| c.what).collect::<Vec<_>>()
        };
        let old = results("A", 10.0, 100);
        assert_eq!(worse(&old, &results("A", 10.4, 100)), [""; 0]);
        assert_eq!(worse(&old, &results("A", 12.0, 100)), ["median us"]);
        // Times of another device say nothing; counts do.
        assert_eq!(worse(&old, &results("B", 12.0, 101)), ["sectors"]);
        assert_eq!(worse(&old, &results("A", 9.0, 99)), [""; 0]);
    }
}
