//! From tasks to one queue per SM.
//!
//! What: list scheduling on simulated time. Among the tasks that are ready, the one with the longest way to the end goes
//! to the SM where it can start first; what tasks and waits cost there is given. Then waits that the order
//! of a queue implies are left out, and an SM signals an event once, after the last of its tasks that the event counts.
//! Why here: who runs what when is decided once, so that the kernel decides nothing.
//! Post: the order in which tasks were placed satisfies all dependencies and all queues, so nothing can wait forever.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use cranelift_entity::SecondaryMap;
use petgraph::algo::toposort;
use tilewright_ir::step::Step;

use crate::MegaError;
use crate::costs::{Costs, Place};
use crate::graph::{Event, Task, TaskGraph};

/// An entry of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The task.
    pub task: Task,
    /// Counters, how much of each is one step's worth, and whether that of the step before is meant.
    pub waits: Vec<(u32, u32, bool)>,
    /// Counters that go up when the task is done.
    pub signals: Vec<u32>,
}

/// What is known of a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Tasks.
    pub tasks: usize,
    /// Counters.
    pub counters: usize,
    /// Waits that the kernel executes in a step, and signals.
    pub waits: usize,
    /// Signals.
    pub signals: usize,
    /// Waits that others or the order of queues imply.
    pub implied: usize,
    /// Tasks on the longest chain of dependencies.
    pub phases: usize,
    /// The longest chain, in simulated nanoseconds.
    pub critical_path: u64,
    /// The simulated end, in nanoseconds.
    pub makespan: u64,
    /// Whether these come from measurements of a device.
    pub measured: bool,
    /// The time in which SMs work, of all that they have until the end.
    pub busy: f64,
    /// Events which all SMs both produce and wait for.
    pub global: usize,
    /// Those of them that the data do not demand: they are for memory that is used again.
    pub undemanded: usize,
}

/// Queues and counters.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What each SM does, in order.
    pub queues: Vec<Vec<Item>>,
    /// How many counters there are.
    pub counters: u32,
    /// What is known of it.
    pub report: Report,
}

struct Times {
    cost: Vec<u64>,
    /// The longest way from the start of a task to the end of everything.
    below: Vec<u64>,
    phases: usize,
    critical: u64,
}

/// Puts the tasks into queues, on a machine where they cost this much.
pub fn schedule(step: &Step, graph: &TaskGraph, sms: u32, costs: &Costs) -> Result<Schedule, MegaError> {
    if sms == 0 {
        return Err(MegaError::NoSms);
    }
    let times = times(step, graph, costs)?;
    let (queues, starts) = place(graph, &times, sms, costs);
    let mut out = link(graph, &queues);
    let makespan = queues
        .iter()
        .flatten()
        .map(|t| starts[t.as_u32() as usize].saturating_add(times.cost[t.as_u32() as usize]))
        .max()
        .unwrap_or(0);
    let work: f64 = times.cost.iter().map(|&c| c as f64).sum();
    out.report.measured = costs.measured;
    out.report.phases = times.phases;
    out.report.critical_path = times.critical;
    out.report.makespan = makespan;
    out.report.busy = work / (makespan.max(1) as f64 * f64::from(sms));
    Ok(out)
}

fn times(step: &Step, graph: &TaskGraph, costs: &Costs) -> Result<Times, MegaError> {
    let g = graph.petgraph();
    let order = toposort(&g, None).map_err(|cycle| {
        let n = cycle.node_id().index();
        let launch = graph.tasks.values().nth(n).and_then(|t| step.launches.get(t.launch as usize));
        MegaError::Cyclic(launch.map_or_else(|| "a step".to_owned(), |l| l.kernel.clone()))
    })?;
    let cost: Vec<u64> = graph.tasks.values().map(|t| costs.task(t.bytes)).collect();
    let mut below = vec![0u64; g.node_count()];
    let mut levels = vec![0usize; g.node_count()];
    for &n in order.iter().rev() {
        let task = n.index() < graph.tasks.len();
        let next = g.neighbors(n).map(|m| (below[m.index()], levels[m.index()]));
        let (time, level) = next.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        // An event is as near as it can be; where its tasks go is not known yet.
        let own = if task { cost[n.index()] } else { costs.wait(Place::Same) };
        below[n.index()] = time.saturating_add(own);
        levels[n.index()] = level + usize::from(task);
    }
    let critical = below.iter().take(graph.tasks.len()).copied().max().unwrap_or(0);
    let phases = levels.iter().copied().max().unwrap_or(0);
    Ok(Times { cost, below, phases, critical })
}

/// The progress of an event while tasks are placed.
#[derive(Clone, Default)]
struct Progress {
    open: usize,
    finish: u64,
    /// The SM of all producers so far, if it is one.
    home: Option<u32>,
    several: bool,
}

/// Queues, and when each task starts.
fn place(graph: &TaskGraph, times: &Times, sms: u32, costs: &Costs) -> (Vec<Vec<Task>>, Vec<u64>) {
    let mut events: Vec<Progress> =
        graph.events.values().map(|e| Progress { open: e.producers.len(), ..Progress::default() }).collect();
    let mut consumers: SecondaryMap<Event, Vec<Task>> = SecondaryMap::new();
    let mut feeds: SecondaryMap<Task, Vec<Event>> = SecondaryMap::new();
    let mut open: Vec<usize> = vec![0; graph.tasks.len()];
    for (t, data) in &graph.tasks {
        open[t.as_u32() as usize] = data.waits.len();
        for &e in &data.waits {
            if consumers[e].is_empty() {
                for &p in &graph.events[e].producers {
                    feeds[p].push(e);
                }
            }
            consumers[e].push(t);
        }
    }
    let key = |t: Task| (times.below[t.as_u32() as usize], Reverse(t));
    let mut ready: BinaryHeap<_> =
        graph.tasks.keys().filter(|t| open[t.as_u32() as usize] == 0).map(key).collect();
    let mut queues = vec![Vec::new(); sms as usize];
    let mut free = vec![0u64; sms as usize];
    let mut starts = vec![0u64; graph.tasks.len()];
    while let Some((_, Reverse(t))) = ready.pop() {
        let waits = &graph.tasks[t].waits;
        let at = |sm: u32| {
            let arrive = waits.iter().map(|e| {
                let p = &events[e.as_u32() as usize];
                let place = match (p.several, p.home == Some(sm)) {
                    (true, _) => Place::Far,
                    (false, true) => Place::Same,
                    (false, false) => Place::Near,
                };
                p.finish.saturating_add(costs.wait(place))
            });
            arrive.max().unwrap_or(0).max(free[sm as usize])
        };
        // The first of equals. There is an SM.
        let (start, sm) = (0..sms).map(|sm| (at(sm), sm)).min().unwrap_or((0, 0));
        let end = start.saturating_add(times.cost[t.as_u32() as usize]);
        queues[sm as usize].push(t);
        free[sm as usize] = end;
        starts[t.as_u32() as usize] = start;
        for &e in &feeds[t] {
            let p = &mut events[e.as_u32() as usize];
            p.open -= 1;
            p.finish = p.finish.max(end);
            p.several |= p.home.is_some_and(|h| h != sm);
            p.home = Some(sm);
            if p.open == 0 {
                for &c in &consumers[e] {
                    let n = &mut open[c.as_u32() as usize];
                    *n -= 1;
                    if *n == 0 {
                        ready.push(key(c));
                    }
                }
            }
        }
    }
    (queues, starts)
}

/// Waits and signals of each item.
fn link(graph: &TaskGraph, queues: &[Vec<Task>]) -> Schedule {
    let mut home: SecondaryMap<Task, (u32, u32)> = SecondaryMap::new();
    for (sm, queue) in queues.iter().enumerate() {
        for (n, &t) in queue.iter().enumerate() {
            home[t] = (sm as u32, n as u32);
        }
    }
    // The last producer on each SM.
    let last = |e: Event| {
        let mut by_sm: HashMap<u32, u32> = HashMap::new();
        for &p in &graph.events[e].producers {
            let (sm, at) = home[p];
            let known = by_sm.entry(sm).or_insert(at);
            *known = (*known).max(at);
        }
        let mut all: Vec<(u32, u32)> = by_sm.into_iter().collect();
        all.sort_unstable();
        all
    };
    let mut numbers: HashMap<Event, (u32, u32)> = HashMap::new();
    let mut consumers: HashMap<Event, HashSet<u32>> = HashMap::new();
    let mut signals: Vec<Vec<Vec<u32>>> = queues.iter().map(|q| vec![Vec::new(); q.len()]).collect();
    let mut producers: Vec<usize> = Vec::new();
    let mut items: Vec<Vec<Item>> = Vec::new();
    let mut report = Report { tasks: graph.tasks.len(), implied: graph.implied, ..Report::default() };
    for (sm, queue) in queues.iter().enumerate() {
        let mut known: HashSet<Event> = HashSet::new();
        let mut out = Vec::with_capacity(queue.len());
        for &t in queue {
            let mut waits = Vec::new();
            for &e in &graph.tasks[t].waits {
                let own = graph.events[e].producers.iter().all(|&p| home[p].0 == sm as u32);
                if own || !known.insert(e) {
                    report.implied += 1;
                    continue;
                }
                let (counter, amount) = *numbers.entry(e).or_insert_with(|| {
                    let places = last(e);
                    let counter = producers.len() as u32;
                    for &(sm, at) in &places {
                        signals[sm as usize][at as usize].push(counter);
                    }
                    producers.push(places.len());
                    (counter, places.len() as u32)
                });
                consumers.entry(e).or_default().insert(sm as u32);
                waits.push((counter, amount, false));
            }
            report.waits += waits.len();
            out.push(Item { task: t, waits, signals: Vec::new() });
        }
        items.push(out);
    }
    for (queue, signals) in items.iter_mut().zip(signals) {
        for (item, signals) in queue.iter_mut().zip(signals) {
            report.signals += signals.len();
            item.signals = signals;
        }
    }
    if let Some(advance) = graph.advance {
        // The first of each queue waits for the end of the step before.
        let counter = producers.len() as u32;
        producers.push(1);
        for queue in &mut items {
            if let Some(first) = queue.first_mut() {
                first.waits.insert(0, (counter, 1, true));
                report.waits += 1;
            }
            for item in queue.iter_mut().filter(|i| i.task == advance) {
                item.signals.push(counter);
                report.signals += 1;
            }
        }
    }
    report.counters = producers.len();
    let all = queues.len();
    let global =
        |e: &Event, amount: u32| amount as usize == all && consumers.get(e).is_some_and(|c| c.len() == all);
    let found = || numbers.iter().filter(|(e, (_, amount))| global(e, *amount)).map(|(e, _)| *e);
    report.global = found().count();
    report.undemanded = found().filter(|&e| !graph.events[e].demanded).count();
    Schedule { queues: items, counters: producers.len() as u32, report }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{EventData, TaskData};

    /// So many chains of tasks that each wait for the one before, launch by launch.
    fn chains(count: u32, length: u32) -> TaskGraph {
        let mut graph = TaskGraph::default();
        for launch in 0..length {
            for first in 0..count {
                let waits = match launch.checked_sub(1) {
                    None => vec![],
                    Some(before) => {
                        let producers = vec![Task::from_u32(before * count + first)];
                        vec![graph.events.push(EventData { launch: before, producers, demanded: true })]
                    }
                };
                graph.tasks.push(TaskData { launch, first, count: 1, bytes: 3200, waits });
            }
        }
        graph.kinds = (0..length).collect();
        graph
    }

    #[test]
    fn a_chain_stays_on_one_sm_and_nothing_waits() {
        let graph = chains(12, 9);
        let costs =
            Costs { start: 50.0, bytes_per_ns: 32.0, same: 4.0, near: 90.0, far: 200.0, measured: true };
        for sms in [1, 3, 4, 12] {
            let out = schedule(&Step::default(), &graph, sms, &costs).expect("a schedule");
            let mut home: HashMap<u32, usize> = HashMap::new();
            for (sm, queue) in out.queues.iter().enumerate() {
                assert_eq!(queue.len() as u32, 12 * 9 / sms, "the work is even");
                for item in queue {
                    let chain = graph.tasks[item.task].first;
                    assert_eq!(*home.entry(chain).or_insert(sm), sm, "chain {chain} on {sms} SMs");
                }
            }
            assert_eq!((out.report.waits, out.report.signals), (0, 0), "barriers of a block are enough");
            // The longest chain: nine tasks, and eight waits of the same block; on fewer SMs the work of several.
            assert_eq!((out.report.phases, out.report.critical_path), (9, 9 * 150 + 8 * 4));
            assert!(out.report.makespan >= u64::from(12 / sms) * 9 * 150, "{:?}", out.report);
        }
    }

    #[test]
    fn where_signals_are_dear_work_is_not_spread() {
        // One task, and twelve that wait for it, each shorter than a signal takes.
        let mut graph = TaskGraph::default();
        let task = |launch, first, waits| TaskData { launch, first, count: 1, bytes: 320, waits };
        let source = graph.tasks.push(task(0, 0, vec![]));
        let event = graph.events.push(EventData { launch: 0, producers: vec![source], demanded: true });
        for n in 0..12 {
            graph.tasks.push(task(1, n, vec![event]));
        }
        graph.kinds = vec![0, 1];
        let used = |near: f64| {
            let costs = Costs { start: 10.0, near, far: near, ..Costs::default() };
            let out = schedule(&Step::default(), &graph, 4, &costs).expect("a schedule");
            (out.queues.iter().filter(|q| !q.is_empty()).count(), out.report.waits)
        };
        assert_eq!(used(1e6), (1, 0));
        assert_eq!(used(1.0), (4, 3));
    }
}
