//! What: weights in the order of their packing, kept in files between runs.
//! Why here: a weight is put in order once, when it is first wanted; the order is the step's, the elements the source's.
//! Pre: a source of tensors, and a packing that the verifier accepts.
//! Post: bytes in packed order, padding included as zeros. Where the source says what its contents depend on and there is
//! a directory, large weights are written there piece by piece and mapped, so that neither this run nor the next holds a
//! copy in memory. A file is complete or absent: it is written aside and renamed, and ends in its own key. What cannot be
//! written is packed in memory instead.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use tilewright_ir::{DType, Packing};

use super::{ExecError, TensorSource, source};
use crate::cache::Key;
use crate::device::SharedBytes;

/// Weights of fewer bytes are put in order each time: that is faster than a file.
const LEAST_FILE: u64 = 1 << 20;
/// What is put in order at a time, in bytes.
const PIECE: u64 = 8 << 20;
/// Changes with the content of files.
const FORMAT: &str = "packed 1";

/// The tensor `name` as `elements` elements of type `dtype` in packed order.
pub(super) fn read(
    from: &dyn TensorSource,
    name: &str,
    dtype: DType,
    elements: u64,
    packing: &Packing,
    dir: Option<&Path>,
) -> Result<SharedBytes, ExecError> {
    let bad = |why: String| ExecError::BadStep(format!("the packing {packing} of `{name}`: {why}"));
    packing.check(elements).map_err(bad)?;
    let bytes = packing.elements().and_then(|n| n.checked_mul(dtype.bytes() as u64));
    let bytes = bytes.ok_or_else(|| bad("it has too many bytes".to_owned()))?;
    let kept = dir.filter(|_| bytes >= LEAST_FILE).zip(from.fingerprint(name));
    let Some((dir, print)) = kept else {
        let data = source::read(from, name, dtype, elements)?;
        let mut out = vec![0; bytes as usize];
        packing.pack((*data).as_ref(), dtype.bytes(), 0, &mut out);
        return Ok(Arc::new(out));
    };
    let key = Key::of(FORMAT).with(print).with(name).with(dtype.name()).with(packing.to_string()).finish();
    let path = dir.join(key.to_string());
    if let Some(found) = open(&path, bytes, key) {
        return Ok(found);
    }
    let data = source::read(from, name, dtype, elements)?;
    let written = write(&path, (*data).as_ref(), dtype, packing, bytes, key);
    if let Some(found) = written.ok().and_then(|()| open(&path, bytes, key)) {
        return Ok(found);
    }
    let mut out = vec![0; bytes as usize];
    packing.pack((*data).as_ref(), dtype.bytes(), 0, &mut out);
    Ok(Arc::new(out))
}

/// A mapped file without what follows its elements.
struct Packed {
    map: Mmap,
    bytes: usize,
}

impl AsRef<[u8]> for Packed {
    fn as_ref(&self) -> &[u8] {
        self.map.get(..self.bytes).unwrap_or_default()
    }
}

/// The file, if it is there and whole.
fn open(path: &Path, bytes: u64, key: Key) -> Option<SharedBytes> {
    let file = File::open(path).ok()?;
    // SAFETY: the map is read-only and its readers take it for plain bytes. Files of this name are renamed into place
    // when they are complete, and never changed after that; who shortens one from outside ends the process, as for
    // every program that maps a file.
    let map = unsafe { Mmap::map(&file) }.ok()?;
    let bytes = usize::try_from(bytes).ok()?;
    let whole = map.get(bytes..)? == key.to_string().as_bytes();
    whole.then(|| Arc::new(Packed { map, bytes }) as SharedBytes)
}

/// Writes the file piece by piece.
fn write(path: &Path, from: &[u8], dtype: DType, packing: &Packing, bytes: u64, key: Key) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    let (size, run) = (dtype.bytes() as u64, packing.run() * dtype.bytes() as u64);
    let piece = PIECE.next_multiple_of(run);
    let mut buffer = vec![0; piece.min(bytes) as usize];
    let mut at = 0;
    while at < bytes {
        let some = &mut buffer[..piece.min(bytes - at) as usize];
        packing.pack(from, dtype.bytes(), at / size, some);
        file.write_all(some)?;
        at += some.len() as u64;
    }
    file.write_all(key.to_string().as_bytes())?;
    file.flush()?;
    // Dropped without this, the file is removed: nothing partial stays behind.
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::MemoryTensors;

    /// Tensors with a fingerprint.
    struct Printed(MemoryTensors, &'static str);

    impl TensorSource for Printed {
        fn info(&self, name: &str) -> Option<(DType, Vec<u64>)> {
            self.0.info(name)
        }
        fn bytes(&self, name: &str) -> Result<SharedBytes, Box<dyn std::error::Error + Send + Sync>> {
            self.0.bytes(name)
        }
        fn fingerprint(&self, _: &str) -> Option<String> {
            Some(self.1.to_owned())
        }
    }

    #[test]
    fn large_weights_are_kept_in_files_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (rows, columns) = (1000u64, 1024u64);
        let packing = Packing::blocks(rows, columns, 16, 32).unwrap();
        let source = |print, add: u64| {
            let bytes = (0..rows * columns).flat_map(|n| ((n * 7 + add) as u16).to_le_bytes()).collect();
            let mut tensors = MemoryTensors::default();
            tensors.insert("w", DType::Bf16, &[rows, columns], bytes);
            Printed(tensors, print)
        };
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let get = |s: &Printed, dir| read(s, "w", DType::Bf16, rows * columns, &packing, dir).unwrap();
        let right = |data: &SharedBytes, add: u64| {
            let data = (**data).as_ref();
            assert_eq!(data.len() as u64, 2 * 1008 * columns, "padding to whole bands");
            for (row, column) in [(0, 0), (17, 33), (999, 1023), (512, 31)] {
                let n = row * columns + column;
                let at = 2 * packing.address(n) as usize;
                assert_eq!(data[at..at + 2], ((n * 7 + add) as u16).to_le_bytes(), "{row}, {column}");
            }
            let beyond = 2 * packing.address(1000 * columns) as usize;
            assert!(data[beyond..][..64].iter().all(|&b| b == 0), "padding is zeros");
        };
        let first = source("a", 1);
        right(&get(&first, Some(dir.path())), 1);
        assert_eq!(files(), 1);
        // The file is read and not the source, whose contents are others now.
        right(&get(&source("a", 2), Some(dir.path())), 1);
        // Other contents say so, and have another file.
        right(&get(&source("b", 2), Some(dir.path())), 2);
        assert_eq!(files(), 2);
        // A file that was cut short is made again; without a directory there is none.
        for file in fs::read_dir(dir.path()).unwrap() {
            let file = File::options().write(true).open(file.unwrap().path()).unwrap();
            file.set_len(1000).unwrap();
        }
        right(&get(&source("a", 3), Some(dir.path())), 3);
        right(&get(&source("a", 4), None), 4);
        assert_eq!(files(), 2);
        // Where nothing can be written, nothing is lost.
        right(&get(&source("c", 5), Some(Path::new("/dev/null/no"))), 5);
    }
}
