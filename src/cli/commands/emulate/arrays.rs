//! What: the arrays of all launches, their buffers, and the parameter blocks.
//! Why here: an array that several launches (or several arguments) name is one buffer; that is how launches pass results
//! on.
//! Pre: a description.
//! Post: for each launch a parameter block with the size and the layout that its entry wants.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tilewright::Error;
use tilewright_emulator::{Memory, MemoryError, Program};

use super::describe::{Arg, Description};
use super::npy::{self, Raw};

/// An array file.
pub(super) struct Array {
    /// What counters and findings call it.
    pub(super) label: String,
    /// Its own name.
    pub(super) name: OsString,
    /// Whether it is written back.
    pub(super) inout: bool,
    pub(super) file: Raw,
}

/// Every array once.
pub(super) struct Arrays {
    pub(super) all: Vec<Array>,
    /// By the path as written.
    index: BTreeMap<PathBuf, usize>,
}

impl Arrays {
    /// Reads the arrays that a description names. Two spellings of one path are one array.
    pub(super) fn read(d: &Description, base: &Path) -> Result<Arrays, Error> {
        let mut arrays = Arrays { all: vec![], index: BTreeMap::new() };
        let mut known: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for arg in d.launches.iter().flat_map(|l| &l.args) {
            let (Arg::In(file) | Arg::Inout(file)) = arg else { continue };
            let path = base.join(file);
            let full = path.canonicalize().map_err(|e| Error::io(&path, e))?;
            let i = match known.get(&full) {
                Some(&i) => i,
                None => {
                    let raw = npy::read(&path)?;
                    let name = path.file_name().unwrap_or_default().to_owned();
                    let short = name.to_string_lossy().into_owned();
                    let taken = arrays.all.iter().any(|a| a.label == short);
                    let label = if taken { file.display().to_string() } else { short };
                    arrays.all.push(Array { label, name, inout: false, file: raw });
                    known.insert(full, arrays.all.len() - 1);
                    arrays.all.len() - 1
                }
            };
            arrays.all[i].inout |= matches!(arg, Arg::Inout(_));
            arrays.index.insert(file.clone(), i);
        }
        let mut names = BTreeSet::new();
        if let Some(a) = arrays.all.iter().filter(|a| a.inout).find(|a| !names.insert(&a.name)) {
            return Err(Error::Input {
                message: format!("two different `inout` arrays are named `{}`", a.name.display()),
                help: Some("each is written under its own file name, so give one of them another".into()),
            });
        }
        Ok(arrays)
    }

    /// Puts the arrays into a memory; the addresses are in the order of the arrays.
    pub(super) fn place(&self, memory: &mut Memory) -> Result<Vec<u64>, Error> {
        let full = |e: MemoryError| Error::input(e.to_string());
        let mut addresses = vec![];
        for a in &self.all {
            let address = memory.alloc(&a.label, a.file.data.len() as u64).map_err(full)?;
            memory.write(address, &a.file.data).map_err(full)?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    /// The parameter block of a launch.
    pub(super) fn params(
        &self,
        args: &[Arg],
        entry: &str,
        program: &Program,
        addresses: &[u64],
    ) -> Result<Vec<u8>, Error> {
        let Some(params) = program.params(entry) else {
            let known: Vec<&str> = program.entries().collect();
            return Err(Error::input(format!("no entry `{entry}`; the PTX has {}", known.join(", "))));
        };
        if params.len() != args.len() {
            let (n, m) = (args.len(), params.len());
            return Err(Error::input(format!("{n} arguments where `{entry}` takes {m}")));
        }
        let mut block = vec![];
        for (i, (arg, p)) in args.iter().zip(&params).enumerate() {
            let bytes = match arg {
                Arg::In(file) | Arg::Inout(file) => {
                    // `read` has seen every argument.
                    let address = self.index.get(file).and_then(|i| addresses.get(*i));
                    address.ok_or_else(|| Error::Bug("an array was not read".into()))?.to_le_bytes().to_vec()
                }
                other => other
                    .value()
                    .map_err(|e| Error::input(format!("argument {i} of `{entry}`: {e}")))?
                    .unwrap_or_default(),
            };
            if bytes.len() != p.size as usize {
                return Err(Error::input(format!(
                    "argument {i} has {} bytes where parameter `{}` of `{entry}` has {}",
                    bytes.len(),
                    p.name,
                    p.size
                )));
            }
            block.resize(p.offset as usize, 0);
            block.extend(bytes);
        }
        Ok(block)
    }
}
