//! What: which bytes of a buffer were read or written.
//! Why here: unique traffic is the floor that a kernel is held to, and it is a union over all blocks.
//! Pre: ranges within the buffer.
//! Post: one bit per byte, shared by all host threads. A page of bits exists only when a byte of it was touched.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a page, 64 bytes of the buffer each.
const WORDS: usize = 1024;

type Page = OnceLock<Box<[AtomicU64]>>;

/// The bits of one direction.
#[derive(Default)]
struct Map(OnceLock<Box<[Page]>>);

impl Map {
    #[inline(always)]
    fn mark(&self, bytes: u64, start: u64, end: u64) {
        let pages =
            self.0.get_or_init(|| (0..bytes.div_ceil(64 * WORDS as u64)).map(|_| Page::new()).collect());
        let (first, last) = ((start / 64) as usize, (end.saturating_sub(1) / 64) as usize);
        for w in first..=last {
            let low = if w == first { u64::MAX << (start % 64) } else { u64::MAX };
            let high = if w == last { u64::MAX >> (63 - (end - 1) % 64) } else { u64::MAX };
            let bits = low & high;
            // Accesses lie in their buffer, so there is such a page.
            let Some(page) = pages.get(w / WORDS) else { return };
            let page = page.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
            let word = &page[w % WORDS];
            if word.load(Relaxed) & bits != bits {
                word.fetch_or(bits, Relaxed);
            }
        }
    }

    /// Different bytes and different 32-byte sectors.
    fn count(&self) -> [u64; 2] {
        let mut n = [0; 2];
        let pages = self.0.get().into_iter().flat_map(|p| p.iter()).filter_map(OnceLock::get);
        for word in pages.flat_map(|p| p.iter()) {
            let w = word.load(Relaxed);
            n[0] += u64::from(w.count_ones());
            n[1] += u64::from(w as u32 != 0) + u64::from(w >> 32 != 0);
        }
        n
    }
}

/// What a launch touched of one buffer.
#[derive(Default)]
pub(crate) struct Touched {
    read: Map,
    written: Map,
}

impl Touched {
    /// Marks the bytes from `start` to before `end`, which is beyond `start`, of a buffer of that many bytes.
    #[inline(always)]
    pub(super) fn mark(&self, write: bool, bytes: u64, start: u64, end: u64) {
        let map = if write { &self.written } else { &self.read };
        map.mark(bytes, start, end);
    }

    /// Different bytes and sectors.
    pub(super) fn count(&self, write: bool) -> [u64; 2] {
        if write { self.written.count() } else { self.read.count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn bits_match_a_set_of_addresses() {
        let bytes = 3 * 64 * WORDS as u64 + 17;
        let (t, mut set) = (Touched::default(), BTreeSet::new());
        let mut x = 1u64;
        let edges = [(0, 1), (63, 65), (64, 128), (65_535, 65_537), (bytes - 1, bytes), (100, 900)];
        let random = (0..500).map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (x >> 20) % (bytes - 40);
            (start, start + 1 + (x >> 50) % 40)
        });
        for (start, end) in edges.into_iter().chain(random) {
            t.mark(true, bytes, start, end);
            set.extend(start..end);
        }
        let sectors: BTreeSet<u64> = set.iter().map(|b| b / 32).collect();
        assert_eq!(t.count(true), [set.len() as u64, sectors.len() as u64]);
        assert_eq!(t.count(false), [0, 0]);
    }
}
