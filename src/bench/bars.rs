//! What: limits of counts, and which of them a kernel breaks.
//! Why here: continuous integration holds kernels to traffic, on machines without a GPU.
//! Pre: counts of one case.
//! Post: every broken limit is named with its figure; a limit that is not set is not judged.

use serde::{Deserialize, Serialize};

use super::counts::Counts;

/// Limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bars {
    /// Why they are other than usual.
    pub reason: Option<String>,
    /// Bytes over the floor, at most.
    pub bytes_over_floor: Option<f64>,
    /// How often a sector that moves is asked for, on average, at most.
    pub rereads: Option<f64>,
    /// Sectors over ideal ones in buffers of 64 KiB and more, at most.
    pub large_sectors_over_ideal: Option<f64>,
    /// Wavefronts beyond the ideal ones, as a share of them, at most.
    pub conflicts: Option<f64>,
    /// Wavefronts beyond the ideal ones in loops, at most.
    pub loop_conflicts: Option<u64>,
    /// Bytes of local memory, at most.
    pub local_bytes: Option<u64>,
    /// Launches of the whole case, at most.
    pub launches: Option<u64>,
    /// Launches of a layer, at most.
    pub launches_per_layer: Option<u64>,
    /// Tensor-core operations over those of the formula, at least.
    pub tensor_flops_at_least: Option<f64>,
    /// Tensor-core operations over those of the formula, at most.
    pub tensor_flops_at_most: Option<f64>,
    /// Warp instructions, at most.
    pub instructions: Option<u64>,
}

impl Bars {
    /// These limits, and where they say nothing those.
    #[must_use]
    pub fn or(&self, usual: &Bars) -> Bars {
        Bars {
            reason: self.reason.clone(),
            bytes_over_floor: self.bytes_over_floor.or(usual.bytes_over_floor),
            rereads: self.rereads.or(usual.rereads),
            large_sectors_over_ideal: self.large_sectors_over_ideal.or(usual.large_sectors_over_ideal),
            conflicts: self.conflicts.or(usual.conflicts),
            loop_conflicts: self.loop_conflicts.or(usual.loop_conflicts),
            local_bytes: self.local_bytes.or(usual.local_bytes),
            launches: self.launches.or(usual.launches),
            launches_per_layer: self.launches_per_layer.or(usual.launches_per_layer),
            tensor_flops_at_least: self.tensor_flops_at_least.or(usual.tensor_flops_at_least),
            tensor_flops_at_most: self.tensor_flops_at_most.or(usual.tensor_flops_at_most),
            instructions: self.instructions.or(usual.instructions),
        }
    }

    /// The tightest limits that these counts keep, where `known` ones are broken or do not say anything; launches and
    /// instructions in any case. Reasons are for people to write.
    #[must_use]
    pub fn around(counts: &Counts, flops: u64, launches_per_layer: Option<u64>, known: &Bars) -> Bars {
        // Rounded up, so that the figure itself keeps the limit.
        let above = |found: f64, limit: Option<f64>, steps: f64| {
            let broken = limit.is_some_and(|l| found > l);
            (broken && found.is_finite()).then(|| (found * steps - 1e-6).ceil() / steps)
        };
        let more = |found: u64, limit: Option<u64>| limit.is_some_and(|l| found > l).then_some(found);
        let tensor = counts.tensor_flops_total() as f64 / flops.max(1) as f64;
        let exact = |x: f64| (x * 100.0 + 1e-9).floor() / 100.0;
        let least = (tensor > 0.0).then(|| exact(tensor)).filter(|&x| known.tensor_flops_at_least != Some(x));
        Bars {
            reason: None,
            bytes_over_floor: above(counts.bytes_over_floor(), known.bytes_over_floor, 100.0),
            rereads: above(counts.rereads(), known.rereads, 10.0),
            large_sectors_over_ideal: above(
                counts.large_sectors_over_ideal(),
                known.large_sectors_over_ideal,
                100.0,
            ),
            conflicts: above(counts.conflicts(), known.conflicts, 1000.0),
            loop_conflicts: more(counts.loop_conflicts, known.loop_conflicts),
            local_bytes: more(counts.local_bytes, known.local_bytes),
            launches: Some(counts.launches).filter(|_| known.launches != Some(counts.launches)),
            launches_per_layer: launches_per_layer.filter(|&n| known.launches_per_layer != Some(n)),
            tensor_flops_at_least: least,
            tensor_flops_at_most: least.map(|_| (tensor * 100.0 - 1e-9).ceil() / 100.0),
            // A hundredth for what a change elsewhere may add, such as an index that is computed otherwise.
            instructions: Some((counts.instructions + counts.instructions / 100).next_multiple_of(100)),
        }
    }

    /// The limits that are broken, one sentence each. `flops` are those of the formula.
    pub fn broken(&self, counts: &Counts, flops: u64, launches_per_layer: Option<u64>) -> Vec<String> {
        let tensor = counts.tensor_flops_total() as f64 / flops.max(1) as f64;
        let most: [(&str, f64, Option<f64>); 10] = [
            ("bytes over the floor", counts.bytes_over_floor(), self.bytes_over_floor),
            ("sectors asked for over different ones", counts.rereads(), self.rereads),
            (
                "sectors over ideal ones in large buffers",
                counts.large_sectors_over_ideal(),
                self.large_sectors_over_ideal,
            ),
            ("share of wavefronts beyond ideal ones", counts.conflicts(), self.conflicts),
            ("bank conflicts in loops", counts.loop_conflicts as f64, whole(self.loop_conflicts)),
            ("bytes of local memory", counts.local_bytes as f64, whole(self.local_bytes)),
            ("launches", counts.launches as f64, whole(self.launches)),
            ("launches of a layer", launches_per_layer.unwrap_or(0) as f64, whole(self.launches_per_layer)),
            ("tensor-core operations over those of the formula", tensor, self.tensor_flops_at_most),
            ("warp instructions", counts.instructions as f64, whole(self.instructions)),
        ];
        let mut broken = Vec::new();
        for (what, found, limit) in most {
            // A figure that is no number breaks its limit; the last digit of a quotient does not.
            if let Some(limit) = limit
                && (found > limit + 1e-9 || found.is_nan())
            {
                broken.push(format!("{what}: {}, and at most {} are allowed", shown(found), shown(limit)));
            }
        }
        if let Some(limit) = self.tensor_flops_at_least
            && tensor < limit - 1e-9
        {
            broken.push(format!(
                "tensor-core operations over those of the formula: {}, and at least {} are wanted",
                shown(tensor),
                shown(limit)
            ));
        }
        broken
    }
}

fn whole(limit: Option<u64>) -> Option<f64> {
    limit.map(|n| n as f64)
}

/// A figure without needless digits.
fn shown(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x}") } else { format!("{x:.4}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_limit_is_judged() {
        let counts = Counts {
            launches: 3,
            instructions: 1000,
            hbm_bytes: 150,
            floor_bytes: 100,
            sectors: 9,
            large_sectors: 110,
            large_sectors_ideal: 100,
            wavefronts: 105,
            wavefronts_ideal: 100,
            loop_conflicts: 2,
            local_bytes: 8,
            tensor_flops: [("bf16".to_owned(), 50)].into(),
            ..Counts::default()
        };
        let broken = |bars: Bars| bars.broken(&counts, 100, Some(7)).len();
        assert_eq!(broken(Bars::default()), 0);
        let none = Bars::default;
        for (bars, good) in [
            (Bars { bytes_over_floor: Some(1.5), ..none() }, true),
            (Bars { bytes_over_floor: Some(1.4), ..none() }, false),
            (Bars { rereads: Some(1.92), ..none() }, true),
            (Bars { rereads: Some(1.9), ..none() }, false),
            (Bars { large_sectors_over_ideal: Some(1.1), ..none() }, true),
            (Bars { large_sectors_over_ideal: Some(1.02), ..none() }, false),
            (Bars { conflicts: Some(0.06), ..none() }, true),
            (Bars { conflicts: Some(0.01), ..none() }, false),
            (Bars { loop_conflicts: Some(2), ..none() }, true),
            (Bars { loop_conflicts: Some(0), ..none() }, false),
            (Bars { local_bytes: Some(0), ..none() }, false),
            (Bars { launches: Some(3), ..none() }, true),
            (Bars { launches: Some(2), ..none() }, false),
            (Bars { launches_per_layer: Some(7), ..none() }, true),
            (Bars { launches_per_layer: Some(6), ..none() }, false),
            (Bars { tensor_flops_at_least: Some(0.5), ..none() }, true),
            (Bars { tensor_flops_at_least: Some(0.6), ..none() }, false),
            (Bars { tensor_flops_at_most: Some(0.4), ..none() }, false),
            (Bars { instructions: Some(999), ..none() }, false),
        ] {
            assert_eq!(broken(bars.clone()) == 0, good, "{bars:?}");
        }
        // Limits around counts keep them, are not looser than they need be, and say nothing where those there are suffice.
        let usual = Bars { rereads: Some(4.0), conflicts: Some(0.01), loop_conflicts: Some(0), ..none() };
        let around = Bars::around(&counts, 100, Some(7), &usual);
        assert_eq!((around.rereads, around.conflicts, around.loop_conflicts), (None, Some(0.05), Some(2)));
        assert_eq!(
            (around.launches, around.tensor_flops_at_most, around.instructions),
            (Some(3), Some(0.5), Some(1100))
        );
        assert_eq!(broken(around.or(&usual)), 0);
        for worse in [
            Counts { wavefronts: 106, ..counts.clone() },
            Counts { loop_conflicts: 3, ..counts.clone() },
            Counts { instructions: 1101, ..counts.clone() },
            Counts { launches: 4, ..counts.clone() },
            Counts { tensor_flops: [("bf16".to_owned(), 52)].into(), ..counts.clone() },
            Counts { tensor_flops: BTreeMap::new(), ..counts.clone() },
        ] {
            assert_eq!(around.or(&usual).broken(&worse, 100, Some(7)).len(), 1, "{worse:?}");
        }
        let own = Bars { launches: Some(9), ..none() };
        let both = own.or(&Bars { launches: Some(1), local_bytes: Some(0), ..none() });
        assert_eq!((both.launches, both.local_bytes), (Some(9), Some(0)));
    }
}
