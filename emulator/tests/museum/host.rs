//! What: one run of a specimen: fresh memory, the launches, what the checks found and whether the results are right.
//! Why here: clean kernels, mutants and planted bugs all run the same way.
//! Pre: PTX of the specimen or of a changed copy of it.
//! Post: the kinds that were found, by the names of the checks; `result` where the host's oracle disagrees.

use std::collections::BTreeMap;
use tilewright_emulator::{
    FaultKind, Finding, FindingKind, Launch, LaunchError, Memory, Options, Profile, Program, Sanitize, Site,
    Step, launch_sequence,
};

/// A buffer of 32-bit words.
#[derive(Clone)]
pub(crate) struct Buf {
    pub(crate) name: &'static str,
    pub(crate) words: usize,
    /// What the host writes before the launches; without it the buffer is undefined.
    pub(crate) init: Option<Vec<u32>>,
    /// What it must hold at the end.
    pub(crate) want: Option<Vec<u32>>,
    /// Whether the order of its words is left open.
    pub(crate) any_order: bool,
}

/// A kernel argument.
#[derive(Clone, Copy)]
pub(crate) enum Arg {
    /// The address of a buffer, by its index.
    At(usize),
    U32(u32),
}

/// A launch.
#[derive(Clone)]
pub(crate) struct Go {
    pub(crate) entry: &'static str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) cluster: u32,
    pub(crate) shared: u32,
    pub(crate) pdl: bool,
    pub(crate) args: Vec<Arg>,
}

/// What to run and what must come out.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) bufs: Vec<Buf>,
    pub(crate) gos: Vec<Go>,
    pub(crate) cooperative: bool,
    /// Registers of a thread; 0 where they do not matter.
    pub(crate) registers: u32,
    pub(crate) profile: &'static str,
}

impl Case {
    /// The same launches on a device that holds two of their blocks at once.
    pub(crate) fn crowded(&self) -> Case {
        let mut c = Case { cooperative: false, profile: "tiny1", ..self.clone() };
        // Two blocks of this size, and what the system takes, fit 228 KiB.
        c.gos.iter_mut().for_each(|g| g.shared = 100 << 10);
        c
    }
}

/// What a run showed.
#[derive(Default)]
pub(crate) struct Outcome {
    /// By kind: the first finding, in words.
    pub(crate) kinds: BTreeMap<&'static str, String>,
    /// An answer of the machine that is no finding.
    pub(crate) error: Option<String>,
    /// A finding that does not name what it should.
    pub(crate) poor: Option<String>,
}

impl Outcome {
    /// Nothing was found and the results are right.
    pub(crate) fn clean(&self) -> bool {
        self.kinds.is_empty() && self.error.is_none()
    }

    /// All of it in words.
    pub(crate) fn words(&self) -> String {
        let mut all: Vec<String> = self.kinds.iter().map(|(k, m)| format!("[{k}] {m}")).collect();
        all.extend(self.error.iter().map(|e| format!("[error] {e}")));
        if all.is_empty() { "nothing".into() } else { all.join("\n      ") }
    }
}

fn params(args: &[Arg], at: &[u64]) -> Vec<u8> {
    let mut p = vec![];
    for a in args {
        match a {
            Arg::At(i) => {
                p.resize(p.len().next_multiple_of(8), 0);
                p.extend(at[*i].to_le_bytes());
            }
            Arg::U32(v) => p.extend(v.to_le_bytes()),
        }
    }
    p
}

/// Runs a case once under all checks.
pub(crate) fn run(program: &Program, case: &Case, seed: Option<u64>) -> Outcome {
    run_with(program, case, seed, Sanitize::ALL)
}

/// What a finding must name beside its kind; words if it does not.
fn lacks(f: &Finding) -> Option<&'static str> {
    let named = |s: &Site| s.ptx_line > 0 && s.source_line.as_ref().is_some_and(|(f, _)| f.ends_with(".cu"));
    if f.kernel.is_empty() || f.message.is_empty() {
        return Some("the kernel or the words");
    }
    // A non-coherent load that came before the store is known by its instruction alone.
    let by_thread = |s: &Site| s.thread.is_some() || f.kind == FindingKind::NonCoherent;
    if !named(&f.at) || !by_thread(&f.at) || f.at.instruction.is_empty() {
        return Some("its place");
    }
    let pair = f.kind == FindingKind::Race && f.message.contains("races with");
    if pair && !f.other.as_ref().is_some_and(|o| named(o) && o.thread.is_some()) {
        return Some("the other access");
    }
    (pair && !f.message.contains("missing: ")).then_some("the missing edge")
}

/// Runs a case once.
pub(crate) fn run_with(program: &Program, case: &Case, seed: Option<u64>, sanitize: Sanitize) -> Outcome {
    let mut memory = Memory::new(1 << 24);
    let mut at = vec![];
    for b in &case.bufs {
        let bytes = 4 * b.words as u64;
        let a = match b.init {
            Some(_) => memory.alloc(b.name, bytes),
            None => memory.alloc_undefined(b.name, bytes),
        };
        let a = a.unwrap();
        if let Some(v) = &b.init {
            assert_eq!(v.len(), b.words, "{}", b.name);
            let bytes: Vec<u8> = v.iter().flat_map(|w| w.to_le_bytes()).collect();
            memory.write(a, &bytes).unwrap();
        }
        at.push(a);
    }
    let packed: Vec<Vec<u8>> = case.gos.iter().map(|g| params(&g.args, &at)).collect();
    let steps: Vec<Step<'_>> = case
        .gos
        .iter()
        .zip(&packed)
        .map(|(g, p)| Step {
            program,
            launch: Launch {
                entry: g.entry,
                grid: g.grid,
                block: g.block,
                shared_bytes: g.shared,
                cluster: [g.cluster, 1, 1],
                params: p,
            },
            pdl: g.pdl,
        })
        .collect();
    let options = Options {
        threads: 1,
        instruction_budget: 400_000,
        sanitize,
        cooperative: case.cooperative,
        registers_per_thread: case.registers,
        seed,
        ..Options::default()
    };
    let profile = Profile::named(case.profile).unwrap();
    let mut out = Outcome::default();
    let (mut found, mut ended) = (vec![], false);
    match launch_sequence(&steps, &memory, &profile, &options) {
        Ok(reports) => {
            ended = true;
            found.extend(reports.into_iter().flat_map(|r| r.findings));
        }
        Err(LaunchError::Fault(f)) => {
            found.extend(f.findings.iter().cloned());
            match f.finding() {
                Some(x) => found.push(x),
                None if matches!(f.kind, FaultKind::Budget { .. }) => {
                    out.kinds.insert("endless", f.to_string());
                }
                None => out.error = Some(f.to_string()),
            }
        }
        Err(e) => out.error = Some(e.to_string()),
    }
    for f in &found {
        if let Some(what) = lacks(f) {
            out.poor = Some(format!("a finding does not name {what}: {f}"));
        }
        out.kinds.entry(f.kind.name()).or_insert_with(|| f.to_string());
    }
    if ended {
        for (b, a) in case.bufs.iter().zip(&at) {
            let Some(want) = &b.want else { continue };
            let mut bytes = vec![0u8; 4 * b.words];
            memory.read(*a, &mut bytes).unwrap();
            let words = bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            let (mut have, mut want): (Vec<u32>, Vec<u32>) = (words.collect(), want.clone());
            if b.any_order {
                have.sort_unstable();
                want.sort_unstable();
            }
            if let Some((i, (h, w))) = have.iter().zip(&want).enumerate().find(|(_, (h, w))| h != w) {
                let text = format!("`{}`[{i}] is {h:#x}, the host has {w:#x}", b.name);
                out.kinds.entry("result").or_insert(text);
            }
        }
    }
    out
}
