//! What: what the addresses of a warp access cost: contiguous runs, sectors, bank wavefronts.
//! Why here: an instruction repeats its pattern, moved by a constant, nearly every time; so the answer is kept and
//! only the pattern is compared, which is vector code.
//! Pre: offsets of inactive lanes repeat an active lane's.
//! Post: exactly what the addresses say, whether the answer was kept or not.

/// The answers for the last pattern of an instruction.
pub(super) struct Pattern {
    /// Offsets of the lanes relative to the first one's.
    deltas: [u64; 32],
    exec: u32,
    bytes: u32,
    /// The low bits of the first offset, as far as they matter.
    low: u64,
    /// Runs of different bytes, relative to the first offset, sorted and apart from each other.
    pub(super) runs: Vec<(u64, u64)>,
    /// Different bytes.
    pub(super) unique: u64,
    /// Wavefronts needed, and without conflicts.
    pub(super) wavefronts: [u64; 2],
}

impl Pattern {
    pub(super) fn new() -> Pattern {
        Pattern { deltas: [0; 32], exec: 0, bytes: 0, low: 0, runs: vec![], unique: 0, wavefronts: [0; 2] }
    }

    /// Whether the last answers hold for these addresses; else they must be found anew.
    #[inline(always)]
    fn holds(&self, off: &[u64; 32], bytes: u64, exec: u32, low: u64) -> bool {
        let mut differ = 0;
        for l in 0..32 {
            differ |= off[l].wrapping_sub(off[0]) ^ self.deltas[l];
        }
        differ == 0 && self.exec == exec && u64::from(self.bytes) == bytes && self.low == low
    }

    fn take(&mut self, off: &[u64; 32], bytes: u64, exec: u32, low: u64) {
        self.deltas = off.map(|o| o.wrapping_sub(off[0]));
        (self.exec, self.bytes, self.low) = (exec, bytes as u32, low);
    }

    /// Finds the runs of a global access.
    #[inline(always)]
    pub(super) fn global(&mut self, off: &[u64; 32], bytes: u64, exec: u32) {
        if !self.holds(off, bytes, exec, 0) {
            self.take(off, bytes, exec, 0);
            self.find_runs(off);
        }
    }

    /// Finds the wavefronts of a shared access.
    #[inline(always)]
    pub(super) fn shared(&mut self, off: &[u64; 32], bytes: u64, exec: u32) {
        // Moving all addresses by a word turns the banks around; moving them within words does more than that.
        let low = off[0] & 3;
        if !self.holds(off, bytes, exec, low) {
            self.take(off, bytes, exec, low);
            self.wavefronts = wavefronts(off, bytes, exec);
        }
    }

    #[inline(never)]
    fn find_runs(&mut self, off: &[u64; 32]) {
        let bytes = u64::from(self.bytes);
        let mut lanes = [0u64; 32];
        let mut n = 0;
        for (l, o) in off.iter().enumerate() {
            if self.exec >> l & 1 != 0 {
                lanes[n] = *o;
                n += 1;
            }
        }
        let lanes = &mut lanes[..n];
        if !lanes.is_sorted() {
            lanes.sort_unstable();
        }
        self.runs.clear();
        let mut run = (0, 0);
        for (i, &start) in lanes.iter().enumerate() {
            if i > 0 && start <= run.1 {
                run.1 = run.1.max(start + bytes);
            } else {
                if i > 0 {
                    self.runs.push(run);
                }
                run = (start, start + bytes);
            }
        }
        self.runs.push(run);
        self.unique = self.runs.iter().map(|(a, b)| b - a).sum();
        for (a, b) in &mut self.runs {
            (*a, *b) = (a.wrapping_sub(off[0]), b.wrapping_sub(off[0]));
        }
    }
}

/// Wavefronts of a shared-memory access: needed, and without conflicts.
fn wavefronts(off: &[u64; 32], bytes: u64, exec: u32) -> [u64; 2] {
    // Wide accesses are served in groups whose lanes together ask for 128 bytes.
    let words = bytes.div_ceil(4).clamp(1, 8);
    let group = 32 / words as usize;
    let (mut need, mut ideal) = (0, 0);
    for start in (0..32).step_by(group) {
        // Different words, bank by bank.
        let mut seen = [0u64; 256];
        let mut n = 0;
        for l in (start..(start + group).min(32)).filter(|l| exec >> l & 1 != 0) {
            for w in off[l] / 4..off[l] / 4 + words {
                seen[n] = w;
                n += 1;
            }
        }
        if n == 0 {
            continue;
        }
        ideal += 1;
        let seen = &mut seen[..n];
        seen.sort_unstable();
        let mut depth = [0u64; 32];
        for (i, w) in seen.iter().enumerate() {
            if i == 0 || *w != seen[i - 1] {
                depth[(*w % 32) as usize] += 1;
            }
        }
        need += depth.iter().max().copied().unwrap_or(1);
    }
    [need, ideal]
}
