//! Schedules and code that are wrong on purpose. Which mutants are harmful is decided beforehand, by a closure that shares
//! nothing with the checker: it lists the elements that tasks touch one by one, and takes the order of records as a
//! relation. Every harmful mutant must be caught; the table says by what.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crate::common::run_tables;
use tilewright::ir::artifact::{KernelBinary, Persistent};
use tilewright::ir::step::{BufferKind, Step};
use tilewright::ir::tile::{Op, Role, TileProgram};
use tilewright::ir::{Axis, Binary, Ex, Expr, Extent};
use tilewright::megakernel::check::loads;
use tilewright::megakernel::{NO_KIND, Record, Violation, WORDS, check};
use tilewright::persistent::scheduled;
use tilewright::runtime::testing::nvrtc;
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Module, Phase};

fn module(device: &str) -> Module {
    nvrtc();
    Compiler::model(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen2_bias"))
        .device(device.parse::<DeviceSpec>().expect("a device"))
        .phases(&[Phase::Decode])
        .mode(Mode::Megakernel)
        .compile()
        .expect("a golden compiles")
}

// Queues as they are mutated.

type Queues = Vec<Vec<Record>>;

fn unpack(tables: &Persistent) -> Queues {
    let record = |n: u32| &tables.records[n as usize * WORDS..][..WORDS];
    let queue = |&(start, count): &(u32, u32)| {
        (start..start + count).map(|n| Record::read(record(n)).expect("a record")).collect()
    };
    tables.queues.iter().map(queue).collect()
}

fn pack(queues: &Queues, like: &Persistent) -> Option<Persistent> {
    let mut out = Persistent { records: vec![], queues: vec![], ..like.clone() };
    for queue in queues {
        out.queues.push(((out.records.len() / WORDS) as u32, queue.len() as u32));
        for r in queue {
            out.records.extend(r.words()?);
        }
    }
    Some(out)
}

/// Every way to spoil these queues that is tried, by class.
fn mutants(queues: &Queues, counters: u32) -> Vec<(&'static str, Queues)> {
    let mut out = Vec::new();
    let mut add = |class, change: &dyn Fn(&mut Queues)| {
        let mut q = queues.clone();
        change(&mut q);
        out.push((class, q));
    };
    let other = |c: u32| (c + 1) % counters.max(1);
    for (b, queue) in queues.iter().enumerate() {
        for (n, r) in queue.iter().enumerate() {
            for w in 0..r.waits.len() {
                add("drop a wait", &|q| {
                    q[b][n].waits.remove(w);
                });
                add("lower a threshold", &|q| q[b][n].waits[w].1 -= 1);
                add("raise a threshold", &|q| q[b][n].waits[w].1 += 1);
                add("wait for the step before", &|q| q[b][n].waits[w].2 = true);
                add("wait for another counter", &|q| q[b][n].waits[w].0 = other(q[b][n].waits[w].0));
                if n + 1 < queue.len() {
                    add("wait too late", &|q| {
                        let wait = q[b][n].waits.remove(w);
                        q[b][n + 1].waits.push(wait);
                    });
                }
            }
            for s in 0..r.signals.len() {
                add("skip a signal", &|q| {
                    q[b][n].signals.remove(s);
                });
                add("signal twice", &|q| q[b][n].signals.push(r.signals[s]));
                add("signal another counter", &|q| q[b][n].signals[s] = other(r.signals[s]));
                if n > 0 {
                    add("signal too early", &|q| {
                        let signal = q[b][n].signals.remove(s);
                        q[b][n - 1].signals.push(signal);
                    });
                }
            }
            if n + 1 < queue.len() {
                add("reorder a queue", &|q| q[b].swap(n, n + 1));
            }
            if r.kind != NO_KIND {
                add("leave out a task", &|q| q[b][n].kind = NO_KIND);
                add("do a task twice", &|q| {
                    q[b].insert(n, Record { waits: vec![], signals: vec![], ..r.clone() })
                });
                add("a block too far", &|q| q[b][n].first += 1);
                if b > 0 {
                    add("move a task to another SM", &|q| {
                        let task = q[b].remove(n);
                        let at = n.min(q[0].len());
                        q[0].insert(at, task);
                    });
                }
            }
        }
    }
    out
}

// The closure.

/// An index at given positions; nothing where it is not known.
fn value(e: &Ex, at: &dyn Fn(Axis) -> i64) -> Option<i64> {
    match &**e {
        Expr::Num(n) => Some(n.0 as i64),
        Expr::Pos(a) => Some(at(*a)),
        Expr::Size(Extent::Const(n)) => Some(*n as i64),
        Expr::Binary(op, a, b) => {
            let (a, b) = (value(a, at)?, value(b, at)?);
            match op {
                Binary::Add => Some(a + b),
                Binary::Sub => Some(a - b),
                Binary::Mul => Some(a * b),
                Binary::FloorDiv => a.checked_div_euclid(b),
                Binary::Mod => a.checked_rem_euclid(b),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Pairs of bytes that a block of a launch reads and writes, of memory that is written at all.
type Touched = (HashSet<(u32, u64)>, HashSet<(u32, u64)>);

fn touched(step: &Step, launch: usize, program: &TileProgram, first: u32, count: u32) -> Touched {
    let size = |e: Extent| match e {
        Extent::Const(n) => n as i64,
        Extent::Sym(s) => step.symbols[s].max as i64,
    };
    let mut out = Touched::default();
    let mut sites = Vec::new();
    let mut open: Vec<&Op> = program.body.iter().collect();
    while let Some(op) = open.pop() {
        match op {
            Op::Load { param, index, .. } => sites.push((*param, index, false)),
            Op::Store { param, index, .. } => sites.push((*param, index, true)),
            Op::Loop { body, .. } => open.extend(body),
            _ => {}
        }
    }
    for block in first..first + count {
        let mut rest = i64::from(block);
        let mut grid = BTreeMap::new();
        for (axis, data) in program.grid().collect::<Vec<_>>().into_iter().rev() {
            let blocks = (size(data.extent) as u64).div_ceil(u64::from(data.block)) as i64;
            grid.insert(axis, rest % blocks * i64::from(data.block));
            rest /= blocks;
        }
        for &(param, index, written) in &sites {
            let buffer = step.launches[launch].args[param.as_u32() as usize];
            let data = &step.buffers[buffer];
            let (space, base) = match data.kind {
                BufferKind::Weight(_) | BufferKind::Table(_) | BufferKind::Input => continue,
                BufferKind::Arena(at) => (u32::MAX, at),
                _ => (buffer.as_u32(), 0),
            };
            // As the program sees it, which may have merged dimensions: the same elements in the same order.
            let dims: Vec<i64> = program.params[param].dims.iter().map(|&d| size(d)).collect();
            let mut axes: Vec<Axis> = index.iter().flat_map(|e| e.free_axes()).collect();
            axes.sort_unstable();
            axes.dedup();
            let spans: Vec<(i64, i64)> = axes
                .iter()
                .map(|&a| {
                    let axis = &program.axes[a];
                    let end = size(axis.extent);
                    match axis.role {
                        Role::Grid => (grid[&a], end.min(grid[&a] + i64::from(axis.block))),
                        _ => (0, end),
                    }
                })
                .collect();
            let mut positions: Vec<i64> = spans.iter().map(|s| s.0).collect();
            'all: loop {
                let at = |a: Axis| axes.iter().position(|&x| x == a).map_or(0, |n| positions[n]);
                let mut offsets = vec![0i64];
                for (e, &d) in index.iter().zip(&dims) {
                    let choices: Vec<i64> = match value(e, &at) {
                        Some(v) if (0..d).contains(&v) => vec![v],
                        Some(_) => vec![],
                        None => (0..d).collect(),
                    };
                    offsets = offsets.iter().flat_map(|o| choices.iter().map(move |c| o * d + c)).collect();
                }
                let bytes = data.dtype.bytes() as u64;
                for o in offsets {
                    for pair in 0..bytes.div_ceil(2) {
                        let place = (space, base + o as u64 * bytes + 2 * pair);
                        if written {
                            out.1.insert(place)
                        } else {
                            out.0.insert(place)
                        };
                    }
                }
                for n in (0..positions.len()).rev() {
                    positions[n] += 1;
                    if positions[n] < spans[n].1 {
                        continue 'all;
                    }
                    positions[n] = spans[n].0;
                }
                break;
            }
        }
    }
    out
}

struct Closure<'a> {
    step: &'a Step,
    programs: &'a [TileProgram],
    blocks: Vec<u32>,
    known: BTreeMap<(u32, u32, u32), Touched>,
}

impl Closure<'_> {
    /// Why queues are harmful, if they are.
    fn harm(&mut self, queues: &Queues) -> Option<String> {
        // Every block of every launch once.
        let mut done: Vec<Vec<u32>> = self.blocks.iter().map(|&n| vec![0; n as usize]).collect();
        for r in queues.iter().flatten().filter(|r| r.kind != NO_KIND) {
            for b in r.first..r.first + r.count {
                match done[r.launch as usize].get_mut(b as usize) {
                    Some(n) => *n += 1,
                    None => return Some("a block that is none".into()),
                }
            }
        }
        if done.iter().flatten().any(|&n| n != 1) {
            return Some("blocks are not done once".into());
        }
        let all: Vec<(usize, &Record)> =
            queues.iter().enumerate().flat_map(|(b, q)| q.iter().map(move |r| (b, r))).collect();
        let total = |c: u32| all.iter().flat_map(|(_, r)| &r.signals).filter(|&&s| s == c).count() as u32;
        // Records that go on, one after the other.
        let mut next: Vec<usize> = vec![0; queues.len()];
        let mut now: BTreeMap<u32, u32> = BTreeMap::new();
        loop {
            let ready = (0..queues.len()).find(|&b| {
                queues[b].get(next[b]).is_some_and(|r| {
                    r.waits.iter().all(|&(c, n, lag)| lag || now.get(&c).copied().unwrap_or(0) >= n)
                })
            });
            let Some(b) = ready else { break };
            for &c in &queues[b][next[b]].signals {
                *now.entry(c).or_default() += 1;
            }
            next[b] += 1;
        }
        if (0..queues.len()).any(|b| next[b] < queues[b].len()) {
            return Some("it hangs".into());
        }
        // Who is before whom.
        let n = all.len();
        let mut before = vec![vec![false; n]; n];
        for i in 0..n {
            for j in 0..n {
                let queue = all[i].0 == all[j].0 && i < j;
                let event = all[j]
                    .1
                    .waits
                    .iter()
                    .any(|&(c, amount, lag)| !lag && amount == total(c) && all[i].1.signals.contains(&c));
                before[i][j] = queue || event;
            }
        }
        for k in 0..n {
            for i in 0..n {
                if before[i][k] {
                    let row = before[k].clone();
                    before[i].iter_mut().zip(row).for_each(|(a, b)| *a |= b);
                }
            }
        }
        for (i, (_, a)) in all.iter().enumerate() {
            for (j, (_, b)) in all.iter().enumerate() {
                if a.kind == NO_KIND || b.kind == NO_KIND || a.launch >= b.launch || before[i][j] {
                    continue;
                }
                for r in [a, b] {
                    let key = (r.launch, r.first, r.count);
                    if !self.known.contains_key(&key) {
                        let program = &self.programs[r.kind as usize];
                        let found = touched(self.step, r.launch as usize, program, r.first, r.count);
                        self.known.insert(key, found);
                    }
                }
                let (x, y) =
                    (&self.known[&(a.launch, a.first, a.count)], &self.known[&(b.launch, b.first, b.count)]);
                if !x.1.is_disjoint(&y.0) || !x.0.is_disjoint(&y.1) || !x.1.is_disjoint(&y.1) {
                    return Some(format!("launches {} and {} have no order", a.launch, b.launch));
                }
            }
        }
        None
    }
}

#[derive(Default)]
struct Row {
    all: usize,
    harmful: usize,
    checker: usize,
    ran: usize,
    emulator: usize,
    refused: usize,
}

#[test]
fn every_harmful_schedule_is_caught() {
    let module = module("emulator:tiny3,sanitize=all");
    let phase = module.phase("decode").expect("a phase");
    let c = &phase.planned.compiled;
    let plan = scheduled(&module, "decode").expect("a schedule");
    let good = &plan.tables;
    let queues = unpack(good);
    let sizes = |l: usize| {
        let grid = c.step.launches[l].grid.iter();
        grid.map(|g| g.extent.as_const().expect("a constant grid").div_ceil(u64::from(g.block)) as u32)
            .product()
    };
    let blocks = (0..c.step.launches.len()).map(sizes).collect();
    let mut closure = Closure { step: &c.step, programs: &c.programs, blocks, known: BTreeMap::new() };
    assert_eq!(closure.harm(&queues), None, "the schedule itself is harmless");
    assert!(check(&c.step, &c.programs, &plan.bodies, good).expect("a step").is_ok());
    let expected = run_tables(&module, good, &phase.kernels[0]).expect("it runs");

    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let (mut missed, mut unordered) = (Vec::new(), 0);
    for (n, (class, mutant)) in mutants(&queues, good.counters).into_iter().enumerate() {
        let Some(tables) = pack(&mutant, good) else { continue };
        if tables == *good {
            continue;
        }
        // The verdict comes before any run.
        let harm = closure.harm(&mutant);
        let verdict = check(&c.step, &c.programs, &plan.bodies, &tables).expect("a step");
        let row = rows.entry(class).or_default();
        row.all += 1;
        match &harm {
            Some(why) => {
                row.harmful += 1;
                row.checker += usize::from(verdict.is_err());
                if let Err(found) = &verdict {
                    let text = found.to_string();
                    if let Violation::Unordered { earlier, later, .. } = found {
                        // The two tasks by their kernels, and the edge.
                        let named =
                            [&earlier.kernel, &later.kernel].iter().all(|k| text.contains(k.as_str()));
                        assert!(
                            named && text.contains("does not wait for") && text.contains("missing: "),
                            "{text}"
                        );
                        assert!(earlier.kernel != later.kernel || earlier.blocks != later.blocks, "{text}");
                        unordered += 1;
                    }
                }
                if verdict.is_ok() {
                    missed.push(format!("mutant {n} ({class}): {why}"));
                }
                // Some of each class are run as well.
                if row.ran < 2 {
                    row.ran += 1;
                    row.emulator += usize::from(
                        run_tables(&module, &tables, &phase.kernels[0]).as_ref() != Ok(&expected),
                    );
                }
            }
            None => row.refused += usize::from(verdict.is_err()),
        }
    }
    println!(
        "{:<28}{:>5}{:>9}{:>9}{:>6}{:>10}{:>9}",
        "", "all", "harmful", "checker", "run", "emulator", "refused"
    );
    let mut sum = Row::default();
    for (class, r) in &rows {
        let Row { all, harmful, checker, ran, emulator, refused } = r;
        println!("{class:<28}{all:>5}{harmful:>9}{checker:>9}{ran:>6}{emulator:>10}{refused:>9}");
        sum.all += all;
        sum.harmful += harmful;
        sum.ran += ran;
        sum.emulator += emulator;
        sum.refused += refused;
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    println!("{unordered} of {} are two tasks and the edge between them that is missing", sum.harmful);
    assert!(unordered >= 20);
    assert!(sum.all >= 60 && sum.harmful >= 60 && sum.all > sum.harmful, "{} of {}", sum.harmful, sum.all);
    // One step in one order does not show everything.
    assert!(2 * sum.emulator > sum.ran, "{} of {} show on the emulator", sum.emulator, sum.ran);
    assert_eq!(sum.refused, 0, "harmless schedules are accepted");
}

/// Code mutants: the class, the text, and whether it is harmful.
fn code_mutants(step: &Step, programs: &[TileProgram], ptx: &str) -> Vec<(String, String, bool)> {
    let mut out = Vec::new();
    let entry = ptx.find(".visible .entry tw_persistent").expect("the entry");
    let (bodies, main) = ptx.split_at(entry);
    let mut all = |class: &str, from: &str, to: &str, harmful: bool| {
        assert!(main.contains(from), "{class}: `{from}` is not there");
        out.push((class.to_owned(), format!("{bodies}{}", main.replace(from, to)), harmful));
    };
    all("no fence after a wait", "fence.acq_rel.gpu;", "", true);
    all("a fence for one block", "fence.acq_rel.gpu;", "fence.acq_rel.cta;", true);
    all("a stronger fence", "fence.acq_rel.gpu;", "fence.sc.gpu;", false);
    all("a fence for the system", "fence.acq_rel.gpu;", "fence.acq_rel.sys;", false);
    all("a relaxed signal", "red.release.gpu", "red.relaxed.gpu", true);
    all("a signal for one block", "red.release.gpu", "red.release.cta", true);
    all("a signal for the system", "red.release.gpu", "red.release.sys", false);
    all("polls for one block", "ld.relaxed.gpu.global", "ld.relaxed.cta.global", true);
    all("polls that are ordered", "ld.relaxed.gpu.global", "ld.acquire.gpu.global", false);
    all("polls that are plain", "ld.relaxed.gpu.global", "ld.global", true);
    // Whoever meets there learns whether to leave: without it each thread only knows of itself.
    let at = main.find("bar.red.or.pred").expect("who meets after a wait");
    let meeting = &main[at..at + main[at..].find(';').expect("its end") + 1];
    let operands: Vec<&str> = meeting["bar.red.or.pred".len()..meeting.len() - 1].split(',').collect();
    let alone = format!("mov.pred {},{};", operands[0], operands[operands.len() - 1]);
    all("nobody meets after a wait", meeting, &alone, true);

    // The barrier before a signal is the last one; without it other threads may still be at work.
    let last = main.rfind("bar.sync").expect("a barrier");
    let end = last + main[last..].find(';').expect("its end") + 1;
    out.push((
        "nobody meets before a signal".into(),
        format!("{bodies}{}{}", &main[..last], &main[end..]),
        true,
    ));
    // The step that is waited for: one more than there were before.
    let line = main
        .lines()
        .skip_while(|l| !l.contains("ld.global.nc.u32"))
        .find(|l| l.contains("add.s32") && l.trim_end().ends_with(", 1;"));
    let line = line.expect("the number of the step");
    out.push((
        "the step before".into(),
        format!("{bodies}{}", main.replacen(line, &line.replace(", 1;", ", 0;"), 1)),
        true,
    ));
    out.push((
        "the step after".into(),
        format!("{bodies}{}", main.replacen(line, &line.replace(", 1;", ", 2;"), 1)),
        true,
    ));

    // Loads of each function past the coherent caches; harmful where something writes what it loads.
    for (kind, program) in programs.iter().enumerate() {
        let head = format!(".func tw_task{kind}(");
        let Some(start) = bodies.find(&head) else { continue };
        let end = start + bodies[start..].find("\n}").expect("its end");
        let text = bodies[start..end]
            .replace("ld.global.", "ld.global.nc.")
            .replace("ld.global.nc.nc.", "ld.global.nc.");
        if text == bodies[start..end] {
            continue;
        }
        let bytes = |b: tilewright::ir::Buffer| {
            let data = &step.buffers[b];
            let dims = data.dims.iter().map(|d| d.as_const().unwrap_or(64)).product::<u64>();
            match data.kind {
                BufferKind::Arena(at) => (u32::MAX, at, at + dims * data.dtype.bytes() as u64),
                _ => (b.as_u32(), 0, 1),
            }
        };
        let written = step.launches.iter().filter(|l| l.kernel == program.name).any(|l| {
            l.args.iter().zip(&l.writes).filter(|(_, w)| !**w).any(|(&read, _)| {
                let (space, from, to) = bytes(read);
                step.launches.iter().any(|w| {
                    w.args.iter().zip(&w.writes).filter(|(_, w)| **w).any(|(&b, _)| {
                        let other = bytes(b);
                        other.0 == space && other.1 < to && from < other.2
                    })
                })
            })
        });
        let class = format!("stale loads in {}", program.name);
        out.push((class, format!("{}{text}{}{main}", &bodies[..start], &bodies[end..]), written));
    }
    out
}

#[test]
fn every_harmful_change_of_the_code_is_caught() {
    let module = module("emulator:tiny3,sanitize=all");
    let phase = module.phase("decode").expect("a phase");
    let c = &phase.planned.compiled;
    let tables = scheduled(&module, "decode").expect("a schedule").tables;
    let kernel = &phase.kernels[0];
    let expected = run_tables(&module, &tables, kernel).expect("it runs");
    assert!(loads(&c.step, &c.programs, None, &kernel.ptx).is_ok());
    println!("{:<40}{:>8}{:>9}{:>10}", "", "harmful", "checker", "emulator");
    let mut wrong = Vec::new();
    let mut harmful = 0;
    for (class, ptx, harm) in code_mutants(&c.step, &c.programs, &kernel.ptx) {
        assert_ne!(ptx, kernel.ptx, "{class} changes something");
        let checker = loads(&c.step, &c.programs, None, &ptx).is_err();
        let emulator =
            run_tables(&module, &tables, &KernelBinary { ptx, ..kernel.clone() }).as_ref() != Ok(&expected);
        println!("{class:<40}{harm:>8}{checker:>9}{emulator:>10}");
        harmful += usize::from(harm);
        if harm != (checker || emulator) {
            wrong.push(class);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(harmful >= 10);
}
