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
            // A figure that is no number breaks its limit.
            if let Some(limit) = limit
                && (found > limit || found.is_nan())
            {
                broken.push(format!("{what}: {}, and at most {} are allowed", shown(found), shown(limit)));
            }
        }
        if let Some(limit) = self.tensor_flops_at_least
            && tensor < limit
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
        let own = Bars { launches: Some(9), ..none() };
        let both = own.or(&Bars { launches: Some(1), local_bytes: Some(0), ..none() });
        assert_eq!((both.launches, both.local_bytes), (Some(9), Some(0)));
    }
}
