//! The one place that maps a file.
//!
//! Why here: mapping is `unsafe`, because a file that another process shortens while it is mapped takes the pages away.
//! Nothing else of the crate needs it.

#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

/// Maps a file for reading.
pub(super) fn map(file: &File) -> std::io::Result<Arc<Mmap>> {
    // SAFETY: the map is read-only and private to readers that treat it as plain bytes, so a concurrent change of the
    // file can change values but break no invariant of a type. Shortening the file while it is mapped ends the process
    // with a signal, as for every program that maps its weights; nothing that we write is ever mapped.
    unsafe { Mmap::map(file) }.map(Arc::new)
}

/// A part of a mapped file.
pub(super) struct Slice {
    /// The file.
    pub(super) map: Arc<Mmap>,
    /// The bytes; within the file, checked by whoever makes it.
    pub(super) range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }
}
