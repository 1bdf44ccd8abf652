//! What: a museum of planted bugs: clean kernels, all their mechanical mutants and some bugs planted by hand.
//! Why here: the checks are worth what they catch and what they let pass; both are counted here.
//! Pre: PTX in `museum/`, made from the CUDA sources beside it; labels in `museum/labels/`.
//! Post: every clean kernel has no finding and right results in every schedule; every bug has a finding of a kind
//! that its label allows; every equivalent mutant is as clean as its origin.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "museum/between.rs"]
mod between;
mod common;
#[path = "museum/host.rs"]
mod host;
#[path = "museum/labels.rs"]
mod labels;
#[path = "museum/mutate.rs"]
mod mutate;
#[path = "museum/patterns.rs"]
mod patterns;
#[path = "museum/within.rs"]
mod within;

use common::Rng;
use host::{Case, run};
use labels::{CROWD, Label, Labels};
use mutate::{Mutant, mutants};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tilewright_emulator::{Program, Sanitize};

/// A clean kernel.
struct Specimen {
    name: &'static str,
    source: &'static str,
    ptx: &'static str,
    labels: &'static str,
    case: fn(&mut Rng) -> Case,
}

macro_rules! specimens {
    ($($home:ident :: $name:ident),* $(,)?) => { [$(Specimen {
        name: stringify!($name),
        source: include_str!(concat!("museum/", stringify!($name), ".cu")),
        ptx: include_str!(concat!("museum/", stringify!($name), ".ptx")),
        labels: include_str!(concat!("museum/labels/", stringify!($name), ".txt")),
        case: $home::$name,
    }),*] };
}

fn specimens() -> Vec<Specimen> {
    let all = specimens![
        within::matmul,
        within::cp_pipe,
        within::cp_mbar,
        within::bulk_ring,
        within::bulk_store,
        within::named_bars,
        within::warp_tree,
        within::elected,
        within::block_reduce,
        within::histogram,
        within::transpose,
        within::stencil,
        within::roles,
        within::gemm_mma,
        within::bulk_reduce,
        within::settle,
        between::split_k,
        between::chain,
        between::chain_fence,
        between::grid_sync,
        between::lookback,
        between::mailbox,
        between::queue,
        between::spin_lock,
        between::constants,
        between::coresident,
        between::cluster_sum,
        between::cluster_push,
        between::cluster_bulk,
        between::pdl,
        patterns::ticket_lock,
        patterns::relay,
        patterns::handover,
        patterns::semaphore,
        patterns::packed_scan,
        patterns::warp_flag,
        patterns::pingpong,
        patterns::recycled,
        patterns::compact,
        patterns::groups,
        patterns::zero_fill,
        patterns::two_passes,
        patterns::both_see,
        patterns::cluster_hist,
        patterns::persistent,
    ];
    let only = std::env::var("MUSEUM_ONLY").unwrap_or_default();
    all.into_iter().filter(|s| only.is_empty() || only.split(',').any(|o| o == s.name)).collect()
}

/// Adversarial seeds that clean kernels and equivalent mutants run.
const SEEDS: u64 = 16;
/// Seeds that a bug gets before it counts as missed; nearly all show in the fast schedule.
const HUNT: u64 = 512;

/// The fast schedule and that many seeds, or as many as the environment asks for.
fn schedules(seeds: u64) -> impl Iterator<Item = Option<u64>> {
    let more = std::env::var("MUSEUM_SEEDS").ok().and_then(|s| s.parse().ok());
    std::iter::once(None).chain((0..more.unwrap_or(seeds)).map(Some))
}

/// Runs `f` for every item on all cores; the results are in the order of the items.
fn spread<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![]);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|s| {
        for _ in 0..cores {
            s.spawn(|| {
                while let Some((i, item)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|i| Some((i, items.get(i)?)))
                {
                    let r = f(item);
                    done.lock().unwrap().push((i, r));
                }
            });
        }
    });
    let mut all = done.into_inner().unwrap();
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, r)| r).collect()
}

/// A seed for the inputs of a test, printed so that a run can be repeated with `SEED=n`.
fn fresh() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |d| d.as_nanos() as u64)
    });
    println!("SEED={seed}");
    seed
}

#[test]
fn clean_kernels_are_clean() {
    let mut rng = Rng::new(fresh());
    let work: Vec<(Specimen, Case)> =
        specimens().into_iter().map(|s| ((s.case)(&mut rng), s)).map(|(c, s)| (s, c)).collect();
    let wrong = spread(&work, |(s, case)| {
        let program = match Program::parse(s.ptx) {
            Ok(p) => p,
            Err(e) => return format!("{}: {e}\n", s.name),
        };
        let mut text = String::new();
        for seed in schedules(SEEDS) {
            let o = run(&program, case, seed);
            if !o.clean() {
                let _ = writeln!(text, "{}, schedule {seed:?}: {}", s.name, o.words());
                break;
            }
        }
        text
    });
    let wrong = wrong.concat();
    println!("{} clean kernels", work.len());
    assert!(wrong.is_empty(), "clean kernels with findings:\n{wrong}");
}

/// What became of a mutant.
enum Fate {
    /// By a finding of that kind, in those words.
    Caught(String, String),
    Equivalent,
    Known,
    Wrong(String),
}

fn judge(program: &Program, case: &Case, label: &Label, reason: &str) -> Fate {
    let mut seen = String::new();
    let seeds = if matches!(label, Label::Caught(_)) { HUNT } else { SEEDS };
    for seed in schedules(seeds) {
        let o = run(program, case, seed);
        if let Some(poor) = o.poor {
            return Fate::Wrong(poor);
        }
        match label {
            Label::Caught(kinds) => {
                if let Some((k, words)) = kinds.iter().find_map(|k| Some((k, o.kinds.get(&k[..])?))) {
                    return Fate::Caught(k.clone(), words.clone());
                }
            }
            Label::Equivalent if !o.clean() => {
                return Fate::Wrong(format!("schedule {seed:?} of an equivalent ({reason}): {}", o.words()));
            }
            Label::Equivalent | Label::Missed => {}
        }
        if matches!(label, Label::Missed) && o.kinds.keys().all(|k| *k == "result") {
            continue;
        }
        if !o.clean() && seen.is_empty() {
            seen = format!("schedule {seed:?}: {}", o.words());
        }
    }
    match label {
        Label::Caught(kinds) => Fate::Wrong(format!("wanted {}; saw {seen}", kinds.join(" or "))),
        Label::Equivalent => Fate::Equivalent,
        Label::Missed if seen.is_empty() => Fate::Known,
        Label::Missed => Fate::Wrong(format!("listed as missed, but: {seen}")),
    }
}

#[test]
fn mutants_are_caught() {
    let mut rng = Rng::new(fresh());
    let all = specimens();
    let cases: Vec<Case> = all.iter().map(|s| (s.case)(&mut rng)).collect();
    let labels: Vec<Labels> = all.iter().map(|s| Labels::parse(s.name, s.labels)).collect();
    let mut work: Vec<(&str, Case, Mutant, Label, String)> = vec![];
    let mut unlabelled = String::new();
    let mut listed = String::new();
    for (i, s) in all.iter().enumerate() {
        if let Some(l) = labels[i].crowd() {
            let m = Mutant { op: CROWD, place: "launch".into(), ptx: s.ptx.into(), ..Mutant::default() };
            work.push((s.name, cases[i].crowded(), m, l.label.clone(), l.reason.clone()));
        }
        for m in mutants(s.ptx, s.source) {
            match labels[i].of(&m) {
                Some(l) => work.push((s.name, cases[i].clone(), m, l.label.clone(), l.reason.clone())),
                None => {
                    let _ = writeln!(
                        unlabelled,
                        "{} {} {}#{} line {}: {}",
                        s.name, m.op, m.place, m.index, m.line, m.before
                    );
                }
            }
        }
    }
    let fates = spread(&work, |(_, case, m, label, reason)| match Program::parse(&m.ptx) {
        Ok(p) => judge(&p, case, label, reason),
        Err(e) => Fate::Wrong(format!("does not parse: {e}")),
    });
    let show = std::env::var_os("MUSEUM_SHOW").is_some();
    let mut by_op: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut of_kind: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let (mut caught, mut equivalent, mut known, mut wrong) = (0, 0, 0, String::new());
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for ((name, _, m, label, reason), fate) in work.iter().zip(&fates) {
        if let Label::Caught(kinds) = label {
            of_kind.entry(kinds[0].clone()).or_default()[1] += 1;
        }
        let [found, of] = by_op.entry(m.op).or_default();
        *found += usize::from(matches!(fate, Fate::Caught(..)));
        *of += usize::from(!matches!(fate, Fate::Equivalent));
        match fate {
            Fate::Caught(k, words) => {
                if show {
                    println!("{name}, {} at {}#{}: {words}", m.op, m.place, m.index);
                }
                caught += 1;
                of_kind.entry(k.clone()).or_default()[0] += 1;
            }
            Fate::Equivalent => {
                equivalent += 1;
                *reasons.entry(format!("{name}, {} at {}: {reason}", m.op, m.place)).or_default() += 1;
            }
            Fate::Known => {
                known += 1;
                let _ = writeln!(listed, "{name}, {} at {}: {reason}", m.op, m.place);
            }
            Fate::Wrong(w) => {
                let _ = writeln!(
                    wrong,
                    "{name}, {} at {}#{}, line {}: `{}` -> `{}` ({reason})\n    {w}",
                    m.op, m.place, m.index, m.line, m.before, m.after
                );
            }
        }
    }
    for (r, n) in &reasons {
        println!("equivalent ({n}): {r}");
    }
    print!("{listed}");
    println!(
        "mutants: {caught} of {} caught, {equivalent} equivalent, {known} missed with a reason",
        work.len() - equivalent
    );
    for (k, [n, first]) in &of_kind {
        println!("  {k}: {n} found, {first} labelled so in the first place");
    }
    for (op, [found, of]) in &by_op {
        println!("  {op}: {found} / {of}");
    }
    let unused: Vec<String> = labels.iter().flat_map(Labels::unused).collect();
    assert!(unlabelled.is_empty(), "mutants without a label:\n{unlabelled}");
    assert!(unused.is_empty(), "labels without a mutant: {unused:#?}");
    assert!(wrong.is_empty(), "labels and runs disagree:\n{wrong}");
}

macro_rules! planted {
    ($($kernel:ident . $bug:ident),* $(,)?) => { [$((
        stringify!($kernel),
        stringify!($bug),
        include_str!(concat!("museum/planted/", stringify!($kernel), ".", stringify!($bug), ".ptx")),
    )),*] };
}

#[test]
fn planted_bugs_are_caught() {
    let bugs = planted![
        block_reduce.one_barrier,
        bulk_ring.every_lane_arrives,
        bulk_ring.expect_late,
        bulk_ring.given_back_early,
        bulk_ring.no_empty_wait,
        bulk_ring.phase_by_iteration,
        bulk_ring.wrong_parity,
        bulk_store.fence_after_barrier,
        bulk_store.wait_by_other_thread,
        chain_fence.fence_after_flag,
        chain_fence.fence_of_other_threads,
        cluster_push.only_block_barrier,
        cluster_push.arrives_at_home,
        cluster_sum.leaves_early,
        constants.ldg_after_flag,
        cp_pipe.reused_early,
        grid_sync.no_fence,
        grid_sync.target_too_low,
        histogram.plain_increment,
        histogram.unsigned_countdown,
        named_bars.arrive_early,
        named_bars.wrong_buffer,
        pdl.reads_before_wait,
        queue.one_barrier,
        roles.arrives_before_write,
        split_k.forgotten_acquire,
        split_k.forgotten_release,
        stencil.no_right,
        stencil.unsigned_underflow,
        transpose.wrong_guard,
    ];
    let labels = labels::planted(include_str!("museum/labels/planted.txt"));
    assert_eq!(bugs.len(), labels.len(), "each bug has one label");
    let mut rng = Rng::new(fresh());
    let cases: BTreeMap<_, _> = specimens().into_iter().map(|s| (s.name, (s.case)(&mut rng))).collect();
    let work: Vec<_> = bugs.iter().filter(|(kernel, ..)| cases.contains_key(kernel)).collect();
    let fates = spread(&work, |(kernel, bug, ptx)| {
        let of = labels.iter().find(|(k, b, ..)| k == kernel && b == bug);
        let (_, _, label, reason) = of.unwrap_or_else(|| panic!("{kernel}.{bug} has no label"));
        match Program::parse(ptx) {
            Ok(p) => judge(&p, &cases[kernel], label, reason),
            Err(e) => Fate::Wrong(format!("does not parse: {e}")),
        }
    });
    let mut wrong = String::new();
    let (mut caught, mut clean) = (0, 0);
    for ((kernel, bug, _), fate) in work.iter().zip(&fates) {
        match fate {
            Fate::Caught(..) => caught += 1,
            Fate::Equivalent | Fate::Known => {
                println!("{kernel}.{bug}: nothing to find");
                clean += 1;
            }
            Fate::Wrong(w) => {
                let _ = writeln!(wrong, "{kernel}.{bug}: {w}");
            }
        }
    }
    println!("planted by hand: {caught} of {} caught, {clean} clean after all", work.len() - clean);
    assert!(wrong.is_empty(), "labels and runs disagree:\n{wrong}");
}

#[test]
fn without_checks_the_museum_shows_little() {
    // What the tests above find comes from the checks: a machine without them lets the same bugs pass.
    let mut rng = Rng::new(fresh());
    let mut seen = [0; 2];
    for s in specimens() {
        let (case, labels) = ((s.case)(&mut rng), Labels::parse(s.name, s.labels));
        for m in mutants(s.ptx, s.source) {
            let race = Label::Caught(vec!["race".into()]);
            if labels.of(&m).is_none_or(|l| l.label != race) {
                continue;
            }
            let program = Program::parse(&m.ptx).unwrap();
            let blind = host::run_with(&program, &case, None, Sanitize::default());
            let kinds =
                blind.kinds.keys().any(|k| !matches!(*k, "result" | "bounds" | "deadlock" | "endless"));
            assert!(!kinds, "{}, {} at {}: {}", s.name, m.op, m.place, blind.words());
            seen[usize::from(blind.clean())] += 1;
        }
    }
    println!("of the races, {} show without checks and {} do not", seen[0], seen[1]);
    assert!(seen[1] > seen[0]);
}
