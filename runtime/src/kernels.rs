//! What: sources of kernels to binaries, through the cache, on all cores.
//! Why here: NVRTC has no cache and takes tens of milliseconds a kernel, and it scales with threads.
//! Pre: an NVRTC, a target, options; the caller says how a log is read, because that belongs to code generation.
//! Post: one binary per source in the same order, the same whether it came from the cache or not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tilewright_ir::artifact::{KernelBinary, KernelSource, Resources};

use crate::cache::{Key, Store};
use crate::nvrtc::{Nvrtc, NvrtcError};

/// How kernels are compiled.
#[derive(Clone, Copy)]
pub struct KernelCompiler<'a> {
    /// The compiler.
    pub nvrtc: &'a Nvrtc,
    /// Where binaries are kept; `None` always compiles.
    pub store: Option<&'a Store>,
    /// The target, e.g. `sm_90a`.
    pub arch: &'a str,
    /// Options of NVRTC.
    pub options: &'a [String],
    /// Reads the compiler's log of the named kernel.
    pub read_log: fn(&str, &str) -> Resources,
}

/// How many kernels came from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From the cache.
    pub cached: usize,
    /// From the compiler.
    pub compiled: usize,
    /// What the compiler's parts took for these, in milliseconds, all kernels together; empty if it does not say.
    pub parts: Vec<(String, u64)>,
}

impl Tally {
    fn add(&mut self, parts: Option<Vec<(String, u64)>>) {
        let Some(parts) = parts else {
            self.cached += 1;
            return;
        };
        self.compiled += 1;
        for (part, time) in parts {
            match self.parts.iter_mut().find(|(known, _)| *known == part) {
                Some((_, sum)) => *sum += time,
                None => self.parts.push((part, time)),
            }
        }
    }
}

/// A binary, and what the compiler's parts took if it did not come from the cache.
type Made = (KernelBinary, Option<Vec<(String, u64)>>);

impl KernelCompiler<'_> {
    /// Compiles all sources; `progress` is called with the number of kernels that are done and that there are, from
    /// several threads. The first error in the order of the sources wins.
    pub fn compile_all(
        &self,
        sources: &[KernelSource],
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(Vec<KernelBinary>, Tally), NvrtcError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(sources.len());
        let (next, done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::with_capacity(sources.len()));
        progress(0, sources.len());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while !failed.load(Ordering::Relaxed) {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(source) = sources.get(i) else { break };
                        let result = self.make(source);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        // No code that can panic runs while the lock is held.
                        results.lock().unwrap_or_else(|e| e.into_inner()).push((i, result));
                        progress(done.fetch_add(1, Ordering::Relaxed) + 1, sources.len());
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
        results.sort_by_key(|(i, _)| *i);
        let mut tally = Tally::default();
        let mut binaries = Vec::with_capacity(sources.len());
        for (_, result) in results {
            let (binary, parts) = result?;
            tally.add(parts);
            binaries.push(binary);
        }
        Ok((binaries, tally))
    }

    /// Compiles one source; says whether it came from the cache.
    pub fn compile(&self, source: &KernelSource) -> Result<(KernelBinary, bool), NvrtcError> {
        self.make(source).map(|(binary, parts)| (binary, parts.is_none()))
    }

    fn make(&self, source: &KernelSource) -> Result<Made, NvrtcError> {
        let Some(store) = self.store else { return self.build(source) };
        let key = self.key(source);
        if let Some(bytes) = store.get(key) {
            if let Some(binary) = unpack(&bytes) {
                return Ok((binary, None));
            }
            store.discard(key, "its content cannot be read");
        }
        let made = self.build(source)?;
        store.put(key, &pack(&made.0));
        Ok(made)
    }

    fn build(&self, source: &KernelSource) -> Result<Made, NvrtcError> {
        let compiled = self.nvrtc.compile(source, self.arch, self.options)?;
        let binary = KernelBinary {
            name: source.name.clone(),
            ptx: compiled.ptx,
            cubin: compiled.cubin,
            threads: source.threads,
            shared_bytes: source.shared_bytes,
            resources: (self.read_log)(&compiled.log, &source.name),
        };
        Ok((binary, Some(compiled.parts)))
    }

    /// Everything that the binary depends on. Our own version is part of it, because the reading of logs changes.
    fn key(&self, source: &KernelSource) -> Key {
        let key = Key::of("kernel")
            .with(env!("CARGO_PKG_VERSION"))
            .with(self.nvrtc.version_text())
            .with(self.arch)
            .with(&source.name)
            .with(&source.cuda)
            .with(source.threads.to_le_bytes())
            .with(source.shared_bytes.to_le_bytes());
        self.options.iter().fold(key, |key, option| key.with(option)).finish()
    }
}

/// The fields of a binary besides PTX and CUBIN.
#[derive(Serialize, Deserialize)]
struct Head {
    name: String,
    threads: u32,
    shared_bytes: u32,
    resources: Resources,
    ptx_bytes: usize,
}

/// The length of the head, the head as JSON, PTX, CUBIN.
pub fn pack(binary: &KernelBinary) -> Vec<u8> {
    let head = Head {
        name: binary.name.clone(),
        threads: binary.threads,
        shared_bytes: binary.shared_bytes,
        resources: binary.resources.clone(),
        ptx_bytes: binary.ptx.len(),
    };
    // A struct of strings and numbers always has a JSON form.
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(binary.ptx.as_bytes());
    bytes.extend_from_slice(&binary.cubin);
    bytes
}

/// The inverse of [`pack`].
pub fn unpack(bytes: &[u8]) -> Option<KernelBinary> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (head, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let (ptx, cubin) = rest.split_at_checked(head.ptx_bytes)?;
    Some(KernelBinary {
        name: head.name,
        ptx: String::from_utf8(ptx.to_vec()).ok()?,
        cubin: cubin.to_vec(),
        threads: head.threads,
        shared_bytes: head.shared_bytes,
        resources: head.resources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing_and_truncation_is_noticed() {
        let binary = KernelBinary {
            name: "k".into(),
            ptx: "ptx é".into(),
            cubin: vec![0, 255, 7],
            threads: 128,
            shared_bytes: 12,
            resources: Resources { registers: 33, advisories: vec!["a".into()], ..Resources::default() },
        };
        let bytes = pack(&binary);
        assert_eq!(unpack(&bytes), Some(binary.clone()));
        for n in 0..bytes.len() - binary.cubin.len() {
            assert_eq!(unpack(&bytes[..n]), None, "{n}");
        }
    }
}
