//! `tilewright emulate`: launches of any PTX kernels, described by a JSON file.

mod arrays;
mod describe;
mod npy;
mod outcome;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tilewright::Error;
use tilewright::bench::profile::machine;
use tilewright_emulator::{
    Launch, LaunchError, Memory, Options, Profile, Program, Sanitize, Step, launch_sequence,
};

use crate::cli::args::EmulateArgs;
use crate::cli::ui::Ui;
use arrays::Arrays;
use describe::Description;
use outcome::{Outcome, Seen};
use tilewright::files::{self, Staged};

/// PTX texts by path.
type Texts = Vec<(PathBuf, String)>;

/// What does not change from run to run.
struct Work<'a> {
    description: &'a Description,
    texts: Texts,
    /// Which text each launch uses.
    uses: Vec<usize>,
    arrays: Arrays,
    profile: Profile,
    sanitize: Sanitize,
}

/// Runs the launches; the exit code is 1 when there are findings.
pub(crate) fn run(args: &EmulateArgs, ui: &Ui) -> Result<u8, Error> {
    let sanitize = Sanitize::parse(&args.sanitize).map_err(|unknown| {
        let known = Sanitize::NAMES.join(", ");
        Error::Usage(format!("there is no check `{unknown}`; the checks are all, none, {known}"))
    })?;
    let description = describe::read(&args.launch)?;
    let profile = match args.profile.as_deref().or(description.profile.as_deref()) {
        None => Profile::default(),
        Some(name) => machine(name)?,
    };
    if let Some(path) = &args.counters {
        files::check(path)?;
    }
    if let Some(dir) = &args.out {
        files::check_dir(dir)?;
    }
    let base = args.launch.parent().unwrap_or(Path::new(""));
    let (texts, uses) = read_ptx(&description, base)?;
    let arrays = Arrays::read(&description, base)?;
    let work = Work { description: &description, texts, uses, arrays, profile, sanitize };
    let seeds: Vec<Option<u64>> = match args.explore {
        Some(n) => (0..n).map(Some).collect(),
        None => vec![args.seed],
    };
    let mut seen = Seen::new(work.arrays.all.len());
    for seed in seeds {
        seen.add(seed, work.once(seed)?);
    }
    let counters = seen.first.counters();
    let mut staged = Staged::default();
    let mut written = vec![];
    // A launch that broke off has no results.
    if let (Some(dir), Some(outputs)) = (&args.out, &seen.first.outputs) {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        for (array, data) in work.arrays.all.iter().zip(outputs).filter(|(a, _)| a.inout) {
            let path = dir.join(&array.name);
            staged.add(&path, &[&array.file.header, data])?;
            written.push(path);
        }
    }
    if let (Some(path), Some(counters)) = (&args.counters, &counters) {
        let text = serde_json::to_string_pretty(counters).map_err(|e| Error::Bug(e.to_string()))?;
        staged.add(path, &[text.as_bytes(), b"\n"])?;
    }
    staged.commit()?;
    let differing = seen.differing(&work.arrays.all);
    let value = json!({
        "profile": work.profile.name,
        "seed": args.seed,
        "seeds": args.explore,
        "blocks": seen.first.blocks(),
        "launches": seen.first.launches(&description),
        "findings": seen.findings.iter().map(outcome::as_json).collect::<Result<Vec<_>, Error>>()?,
        "counters": counters,
        "printed": seen.first.printed(),
        "differing_outputs": differing.iter().map(|(label, seed)| json!({ "array": label, "seed": seed })).collect::<Vec<_>>(),
        "written": written,
    });
    ui.result(&value, || seen.text(&differing, args.explore));
    Ok(u8::from(!seen.findings.is_empty()))
}

/// The text of each PTX file once, and which of them each launch uses.
fn read_ptx(d: &Description, base: &Path) -> Result<(Texts, Vec<usize>), Error> {
    let (mut texts, mut known, mut uses) = (vec![], BTreeMap::new(), vec![]);
    for l in &d.launches {
        let path = base.join(&l.ptx);
        let i = match known.get(&path) {
            Some(&i) => i,
            None => {
                let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
                known.insert(path.clone(), texts.len());
                texts.push((path, text));
                texts.len() - 1
            }
        };
        uses.push(i);
    }
    Ok((texts, uses))
}

impl Work<'_> {
    /// One run on fresh arrays and fresh module variables.
    fn once(&self, seed: Option<u64>) -> Result<Outcome, Error> {
        let parse = |(path, text): &(PathBuf, String)| {
            Program::parse(text).map_err(|e| Error::input(format!("`{}`: {e}", path.display())))
        };
        let programs = self.texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let launches = &self.description.launches;
        let mut memory = Memory::new(self.profile.memory_bytes);
        let addresses = self.arrays.place(&mut memory)?;
        let blocks = launches
            .iter()
            .zip(&self.uses)
            .map(|(l, &u)| self.arrays.params(&l.args, &l.entry, &programs[u], &addresses))
            .collect::<Result<Vec<_>, _>>()?;
        let steps: Vec<Step<'_>> = launches
            .iter()
            .zip(&self.uses)
            .zip(&blocks)
            .map(|((l, &u), params)| Step {
                program: &programs[u],
                launch: Launch {
                    entry: &l.entry,
                    grid: l.grid,
                    block: l.block,
                    shared_bytes: l.shared_bytes,
                    cluster: l.cluster,
                    params,
                },
                pdl: l.pdl,
            })
            .collect();
        let registers: Vec<u32> = launches
            .iter()
            .zip(&self.uses)
            .map(|(l, &u)| {
                let assumed = || programs[u].assumed_registers(&l.entry, self.profile.registers_per_sm);
                l.registers_per_thread.or_else(assumed).unwrap_or(0)
            })
            .collect();
        let cooperative = launches.iter().all(|l| l.cooperative);
        if !cooperative {
            for (step, &r) in
                steps.iter().zip(&registers).zip(launches).filter(|(_, l)| l.cooperative).map(|p| p.0)
            {
                fits(step, r, &self.profile)?;
            }
        }
        let options = Options {
            counters: true,
            sanitize: self.sanitize,
            // Launches that overlap share the SMs, so the most that one of them takes decides.
            registers_per_thread: registers.into_iter().max().unwrap_or(0),
            cooperative,
            seed,
            ..Options::default()
        };
        match launch_sequence(&steps, &memory, &self.profile, &options) {
            Err(LaunchError::Fault(f)) => Ok(Outcome::broken(*f, launches.len())),
            Err(other) => Err(Error::input(other.to_string())),
            Ok(reports) => {
                let mut outputs = vec![];
                for (a, &address) in self.arrays.all.iter().zip(&addresses) {
                    let mut data = vec![0; if a.inout { a.file.data.len() } else { 0 }];
                    memory.read(address, &mut data).map_err(|e| Error::Bug(e.to_string()))?;
                    outputs.push(data);
                }
                Ok(Outcome::finished(reports, outputs))
            }
        }
    }
}

/// That all blocks of a cooperative launch are on the device at once; for sequences in which others are not cooperative.
fn fits(step: &Step<'_>, registers: u32, profile: &Profile) -> Result<(), Error> {
    let l = &step.launch;
    let blocks: u64 = l.grid.iter().map(|d| u64::from(*d)).product();
    let threads = l.block.iter().fold(1u32, |n, d| n.saturating_mul(*d));
    let shared = u64::from(step.program.static_shared(l.entry).unwrap_or(0)) + u64::from(l.shared_bytes);
    let most = u64::from(profile.resident_per_sm(threads, registers, shared)) * u64::from(profile.sms);
    if blocks <= most {
        return Ok(());
    }
    let (entry, name) = (l.entry, &profile.name);
    Err(Error::input(format!(
        "launch of `{entry}`: a cooperative grid of {blocks} blocks; `{name}` holds {most} of them at once"
    )))
}
