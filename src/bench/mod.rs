//! What: benchmarks: kernels, whole steps and compilations, timed on a GPU and counted on the emulator.
//! Why here: a claim is a command that anyone can repeat; the command line, continuous integration and the report work on
//! the results that this makes.
//! Pre: NVRTC and a device.
//! Post: one row per case and mode, in the order of the tables. A case that fails, or a mode that is not there, is a
//! row that says so. What was not measured is absent, not a number.

pub mod bars;
pub mod baseline;
pub mod calibrate;
mod ceilings;
mod compile;
pub mod counts;
mod exact;
pub mod inputs;
mod kernels;
pub mod plot;
pub mod probe;
pub mod profile;
pub mod record;
mod steps;
pub mod suite;
pub mod table;
mod timing;

use std::time::Instant;

use tilewright_runtime::device::{Device, DeviceKind};

use crate::auto::StepTimer;
use crate::event::{Event, Listener};
use crate::{Compiler, DeviceSpec, Error, Toolchain};
use profile::DeviceProfile;
use record::{Ceilings, DeviceInfo, Method, Results, Row, Status, Suite};
use suite::{Extent, Suites};

/// The modes, in the order of rows.
pub const MODES: [&str; 3] = ["launch", "graph", "megakernel"];

/// The mode that takes one of them for each case.
pub const AUTO: &str = "auto";

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where external pieces are.
    pub toolchain: Toolchain,
    /// The device.
    pub device: DeviceSpec,
    /// The instruction subset.
    pub target: Option<String>,
    /// The suites.
    pub suites: Vec<Suite>,
    /// Modes, of [`MODES`], or [`AUTO`].
    pub modes: Vec<String>,
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Only the essentials.
    pub quick: bool,
    /// No case is begun after so many seconds.
    pub seconds: Option<u64>,
    /// The seed of inputs and weights.
    pub seed: u32,
    /// The machine that costs are estimated for, and persistent kernels scheduled for.
    pub profile: Option<DeviceProfile>,
    /// Where times come from by which [`AUTO`] chooses, if not from the device.
    pub timer: Option<StepTimer>,
    /// A name that runs in the same place at the same time share, so that they are compared.
    pub session: Option<String>,
    /// Who is told about progress.
    pub listener: Listener,
}

impl Settings {
    /// Nothing to run yet, on a device.
    pub(crate) fn new(toolchain: Toolchain, device: DeviceSpec, target: Option<String>) -> Settings {
        Settings {
            toolchain,
            device,
            target,
            suites: Vec::new(),
            modes: Vec::new(),
            filter: None,
            quick: false,
            seconds: None,
            seed: 1,
            profile: None,
            timer: None,
            session: None,
            listener: Default::default(),
        }
    }

    /// The same on the emulator.
    #[cfg(test)]
    fn for_tests() -> Settings {
        Settings::new(tilewright_runtime::testing::toolchain(), DeviceSpec::Emulator(None), None)
    }
}

/// What the suites share.
struct Context<'a> {
    settings: &'a Settings,
    device: &'a dyn Device,
    timing: timing::Plan,
    ceilings: Ceilings,
    references: exact::References,
}

impl Context<'_> {
    /// A compilation with what all cases share.
    fn compiler(&self, base: Compiler) -> Compiler {
        let settings = self.settings;
        let base = match &settings.profile {
            Some(profile) => base.device_profile(profile),
            None => base,
        };
        let base = match &settings.timer {
            Some(timer) => base.step_timer(timer.clone()),
            None => base,
        };
        base.toolchain(settings.toolchain.clone())
            .device(settings.device.clone())
            .target(settings.target.clone())
    }
}

#[cfg(test)]
impl<'a> Context<'a> {
    /// On a device, with usual times.
    fn for_tests(settings: &'a Settings, device: &'a dyn Device) -> Context<'a> {
        let timing =
            timing::Plan { warmup: 3, samples: 20, least: 10, budget_us: 1e9, rotated_bytes: 1 << 16 };
        Context { settings, device, timing, ceilings: Ceilings::default(), references: Default::default() }
    }
}

/// Runs what the settings ask for; `each` sees every row as it comes.
pub fn run(settings: &Settings, mut each: impl FnMut(&Row)) -> Result<Results, Error> {
    let (date, begin) = (record::now(), Instant::now());
    known(settings.target.as_deref())?;
    let opened = settings.device.open()?;
    let device = opened.device.as_ref();
    let suites = Suites::load()?;
    let extent = match (device.kind(), settings.quick) {
        (DeviceKind::Emulator, _) => Extent::Small,
        (DeviceKind::Cuda(_), true) => Extent::Quick,
        (DeviceKind::Cuda(_), false) => Extent::Full,
    };
    let work = select(settings, &suites, extent)?;
    let timing = timing::Plan::new(device, settings.quick)?;
    let tell = |text: &str| settings.listener.tell(Event::stage(text));
    let (ceilings, mut versions) = match device.clock() {
        Some(_) if work.times() => {
            tell("measuring ceilings");
            ceilings::measure(settings, &timing)?
        }
        _ => (Ceilings::default(), Default::default()),
    };
    let nvrtc = tilewright_runtime::nvrtc::Nvrtc::find(&settings.toolchain)?;
    versions.insert("tilewright".into(), env!("CARGO_PKG_VERSION").into());
    versions.insert("nvrtc".into(), nvrtc.version_text());
    if let Some(clock) = device.clock() {
        versions.insert("driver".into(), clock.facts()?.driver);
    }
    let context = Context { settings, device, timing, ceilings, references: Default::default() };
    let mut rows = Vec::new();
    let mut add = |new: Row| {
        each(&new);
        rows.push(new);
    };
    let mut timed = false;
    let late = || settings.seconds.is_some_and(|s| begin.elapsed().as_secs() >= s);
    for case in &work.kernels {
        for mode in &settings.modes {
            tell(&case.name);
            let row =
                if late() { skipped(kernels::row(case, mode)) } else { kernels::run(&context, case, mode) };
            timed |= row.time.is_some();
            add(row);
        }
        if device.clock().is_some() && !late() {
            kernels::vendor(&context, case).into_iter().for_each(&mut add);
        }
    }
    for case in &work.steps {
        for mode in &settings.modes {
            tell(&case.name);
            let row = if late() { skipped(steps::row(case, mode)) } else { steps::run(&context, case, mode) };
            timed |= row.time.is_some();
            add(row);
        }
    }
    for model in &work.compile {
        tell(model);
        if late() {
            add(skipped(compile::row(model, "cold")));
        } else {
            compile::run(&context, model).into_iter().for_each(&mut add);
        }
    }
    let clocked = device.clock().is_some() && timed;
    Ok(Results {
        format: record::FORMAT.into(),
        version: record::VERSION,
        producer: "tilewright".into(),
        date,
        session: settings.session.clone(),
        versions,
        device: DeviceInfo {
            kind: device.kind().to_string(),
            name: device.name().to_owned(),
            arch: device.arch().map(str::to_owned).or_else(|| settings.target.clone()),
        },
        method: Method {
            clock: if clocked { "events" } else { "none" }.into(),
            warmup: if clocked { context.timing.warmup as u64 } else { 0 },
            samples: if clocked { context.timing.samples as u64 } else { 0 },
            rotated_bytes: if clocked { context.timing.rotated_bytes } else { 0 },
            poisoned: clocked,
            inputs: "normal".into(),
            seed: settings.seed,
        },
        ceilings: context.ceilings,
        rows,
    })
}

/// That a target can be one.
fn known(target: Option<&str>) -> Result<(), Error> {
    match target.filter(|t| !crate::spec::is_target(t)) {
        Some(bad) => Err(Error::Usage(format!("`{bad}` is no target: expected sm_80, sm_90a, ..."))),
        None => Ok(()),
    }
}

/// A row for which no time was left.
fn skipped(mut row: Row) -> Row {
    row.status = Status::NotAvailable;
    row.reason = Some("no time was left (--seconds)".into());
    row
}

/// The cases of a run.
struct Selected {
    kernels: Vec<suite::KernelCase>,
    steps: Vec<suite::StepCase>,
    compile: Vec<String>,
}

impl Selected {
    /// Whether anything is timed on the device.
    fn times(&self) -> bool {
        !(self.kernels.is_empty() && self.steps.is_empty())
    }
}

fn select(settings: &Settings, suites: &Suites, extent: Extent) -> Result<Selected, Error> {
    let has = |suite| settings.suites.contains(&suite);
    let wanted = |name: &str| settings.filter.as_deref().is_none_or(|f| name.contains(f));
    let mut selected = Selected { kernels: Vec::new(), steps: Vec::new(), compile: Vec::new() };
    if has(Suite::Kernels) {
        selected.kernels = suites.kernels(extent)?;
    }
    if has(Suite::Steps) {
        selected.steps = suites.steps(extent);
    }
    if has(Suite::Compile) {
        selected.compile = suites.compile(extent).to_vec();
    }
    let names = |s: &Selected| {
        let kernels = s.kernels.iter().map(|c| c.name.clone());
        let steps = s.steps.iter().map(|c| c.name.clone());
        kernels.chain(steps).chain(s.compile.iter().map(|m| format!("compile {m}"))).collect::<Vec<_>>()
    };
    let all = names(&selected);
    selected.kernels.retain(|c| wanted(&c.name));
    selected.steps.retain(|c| wanted(&c.name));
    selected.compile.retain(|m| wanted(&format!("compile {m}")));
    if names(&selected).is_empty() {
        return Err(Error::Usage(format!(
            "`--filter {}` leaves no case; the cases are: {}",
            settings.filter.as_deref().unwrap_or(""),
            all.join(", ")
        )));
    }
    Ok(selected)
}

/// Whether every row is as it should be: what is not available is no failure.
pub fn passes(results: &Results) -> bool {
    results.rows.iter().all(|r| r.status != Status::Failed)
}
