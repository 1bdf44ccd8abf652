//! What: which bytes of a memory hold defined data.
//! Why here: shared and local memory start undefined, and so do fresh allocations.
//! Pre: offsets lie in the memory; the caller checked them.
//! Post: one bit per byte.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One bit per byte, set where the byte is defined. Shared by host threads.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<AtomicU64>);

impl Bits {
    /// All undefined.
    pub(crate) fn new(bytes: u64) -> Bits {
        Bits((0..bytes.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }
    /// Sets the state of up to 32 bytes that start at a multiple of their number, or of any range, slowly.
    pub(crate) fn set(&self, at: u64, bytes: u64, defined: bool) {
        let mut at = at;
        let end = at + bytes;
        while at < end {
            let n = (end - at).min(64 - at % 64);
            let mask = (u64::MAX >> (64 - n)) << (at % 64);
            if let Some(w) = self.0.get((at / 64) as usize) {
                let v = w.load(Relaxed);
                if defined && v & mask != mask {
                    w.fetch_or(mask, Relaxed);
                } else if !defined && v & mask != 0 {
                    w.fetch_and(!mask, Relaxed);
                }
            }
            at += n;
        }
    }
    /// Whether all of the bytes are defined.
    pub(crate) fn all(&self, at: u64, bytes: u64) -> bool {
        let mut at = at;
        let end = at + bytes;
        while at < end {
            let n = (end - at).min(64 - at % 64);
            let mask = (u64::MAX >> (64 - n)) << (at % 64);
            if self.0.get((at / 64) as usize).is_some_and(|w| w.load(Relaxed) & mask != mask) {
                return false;
            }
            at += n;
        }
        true
    }
    /// Whether any of the bytes is defined.
    pub(crate) fn any(&self, at: u64, bytes: u64) -> bool {
        let mut at = at;
        let end = at + bytes;
        while at < end {
            let n = (end - at).min(64 - at % 64);
            let mask = (u64::MAX >> (64 - n)) << (at % 64);
            if self.0.get((at / 64) as usize).is_none_or(|w| w.load(Relaxed) & mask != 0) {
                return true;
            }
            at += n;
        }
        false
    }
    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|w| w.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cross_words() {
        let b = Bits::new(200);
        b.set(60, 10, true);
        for at in 0..200 {
            assert_eq!(b.any(at, 1), (60..70).contains(&at), "{at}");
        }
        assert!(b.any(50, 11) && !b.any(50, 10) && b.any(69, 100) && !b.any(70, 100));
        assert!(b.all(60, 10) && !b.all(59, 2) && !b.all(69, 2));
        b.set(63, 2, false);
        assert!(b.any(62, 1) && !b.any(63, 2) && b.any(65, 1));
        b.clear();
        assert!(!b.any(0, 200));
    }
}
