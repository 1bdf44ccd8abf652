//! What tasks cost, and waiting for them.
//!
//! What: the figures of the machine that a schedule is simulated for.
//! Why here: they are what a schedule is made from; whoever measured a device gives them to the scheduler.
//! Pre: none.
//! Post: figures are positive numbers whatever was given, so that simulated time moves on.

/// What tasks and waits cost, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// A task, besides moving its bytes.
    pub start: f64,
    /// Bytes that one SM moves in a nanosecond while all others do the same.
    pub bytes_per_ns: f64,
    /// From the end of a task to the start of one that waits for it in the same queue: a barrier of the block.
    pub same: f64,
    /// From the end of tasks on one other SM, wherever that is.
    pub near: f64,
    /// From the end of tasks on several SMs: the last signal may come from the farthest.
    pub far: f64,
    /// Whether these were measured. Otherwise they are assumptions, of which only the order of results matters.
    pub measured: bool,
}

impl Default for Costs {
    /// A machine that nobody measured.
    fn default() -> Costs {
        Costs { start: 64.0, bytes_per_ns: 32.0, same: 4.0, near: 96.0, far: 96.0, measured: false }
    }
}

impl Costs {
    /// A task that moves so many bytes.
    pub(crate) fn task(&self, bytes: u64) -> u64 {
        let rate = if self.bytes_per_ns > 0.0 { self.bytes_per_ns } else { Costs::default().bytes_per_ns };
        // The conversion takes what is no number as 0, and ends at the largest one.
        ((self.start.max(1.0) + bytes as f64 / rate) as u64).max(1)
    }

    /// A wait: in the same queue, for one other SM, for several.
    pub(crate) fn wait(&self, place: Place) -> u64 {
        match place {
            Place::Same => self.same as u64,
            Place::Near => self.near as u64,
            Place::Far => self.far as u64,
        }
    }
}

/// Where what is waited for was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Same,
    Near,
    Far,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_usable_whatever_they_are() {
        let usual = Costs::default();
        assert_eq!((usual.task(0), usual.task(3200)), (64, 164));
        assert_eq!([Place::Same, Place::Near, Place::Far].map(|p| usual.wait(p)), [4, 96, 96]);
        for bad in [0.0, -1.0, f64::NAN] {
            let c = Costs { start: bad, bytes_per_ns: bad, same: bad, near: bad, far: bad, measured: true };
            assert_eq!((c.task(0), c.task(3200)), (1, 101), "{bad}");
            assert_eq!(c.wait(Place::Far), 0);
        }
        assert_eq!(Costs { start: f64::INFINITY, ..usual }.task(1), u64::MAX);
    }
}
