//! The graph of tasks: what of a step must wait for what.
//!
//! What: a task is a run of blocks of one launch. Whenever a launch touches bytes that an earlier one touched, and one of
//! them writes, its tasks wait for those tasks of the earlier launch whose regions meet theirs: reads after writes,
//! writes after reads, writes after writes, in states and in reused memory alike. Tasks that wait for the same tasks of
//! a launch share an event.
//! Why here: launches say what order is enough; a persistent kernel needs what order is necessary.
//! Post: acyclic; waits that follow from others are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cranelift_entity::{PrimaryMap, entity_impl};
use petgraph::graph::{DiGraph, NodeIndex};
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use crate::MegaError;
use crate::access::Accesses;
use crate::cut::{Work, cut, run};
use crate::record::ADVANCE;
use crate::region::{Box_, Place, empty, meet, places, volume};

/// A task of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task(u32);
entity_impl!(Task, "task");

/// Something that tasks wait for: that some tasks of one launch are done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event(u32);
entity_impl!(Event, "event");

/// The most tasks of a step.
pub(crate) const MOST_TASKS: u64 = 1 << 18;

/// How a step is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// SMs that tasks are for.
    pub sms: u32,
    /// Tasks of one launch per SM, at most.
    pub tasks_per_sm: u32,
    /// Whether the kernel goes on to the next step by itself.
    pub repeat: bool,
}

/// A run of blocks of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskData {
    /// The launch, by its index in the step.
    pub launch: u32,
    /// The first block.
    pub first: u32,
    /// How many blocks.
    pub count: u32,
    /// Bytes that it touches, as an estimate of its work.
    pub bytes: u64,
    /// What it waits for.
    pub waits: Vec<Event>,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventData {
    /// The launch of the producers.
    pub launch: u32,
    /// The tasks that must be done, in order.
    pub producers: Vec<Task>,
    /// Whether everyone who waits for it touches, in one and the same buffer, what each of the producers touches. Otherwise
    /// some of it is for memory that is used again.
    pub demanded: bool,
}

/// Tasks and events.
#[derive(Clone, Debug, Default)]
pub struct TaskGraph {
    /// Tasks, in the order of launches and blocks.
    pub tasks: PrimaryMap<Task, TaskData>,
    /// Events.
    pub events: PrimaryMap<Event, EventData>,
    /// The program of each launch, as an index into the programs.
    pub kinds: Vec<u32>,
    /// Waits that were left out because others imply them.
    pub implied: usize,
    /// The task that hands over to the next step, if there is one.
    pub advance: Option<Task>,
}

/// Tasks that touched a buffer, as long as others may have to wait for them.
struct Live {
    launch: u32,
    buffer: u32,
    place: Place,
    written: bool,
    boxes: Vec<(Task, Box_)>,
}

/// The program of each launch.
pub(crate) fn kinds(step: &Step, programs: &[TileProgram]) -> Result<Vec<u32>, MegaError> {
    let names: HashMap<&str, u32> =
        programs.iter().enumerate().map(|(n, p)| (p.name.as_str(), n as u32)).collect();
    step.launches
        .iter()
        .map(|l| {
            let found = names.get(l.kernel.as_str()).copied();
            found.ok_or_else(|| MegaError::MissingProgram(l.kernel.clone()))
        })
        .collect()
}

impl TaskGraph {
    /// Cuts a step into tasks and finds their dependencies.
    pub fn build(step: &Step, programs: &[TileProgram], options: Options) -> Result<TaskGraph, MegaError> {
        let kinds = kinds(step, programs)?;
        let places = places(step);
        let mut graph = TaskGraph { kinds, ..TaskGraph::default() };
        let mut known: HashMap<(u32, Vec<Task>), Event> = HashMap::new();
        let mut live: Vec<Live> = Vec::new();
        for (l, launch) in step.launches.iter().enumerate() {
            let program = &programs[graph.kinds[l] as usize];
            let accesses = Accesses::new(step, launch, program)?;
            let blocks = accesses.blocks();
            let bytes = |count: u64| accesses.bytes(&accesses.boxes(0, count), count);
            let work = Work { blocks, bytes: (bytes(1), bytes(blocks.clamp(1, 2))) };
            let runs = cut(work, options.sms, options.tasks_per_sm);
            let tasks = (graph.tasks.len() as u64).saturating_add(runs);
            if tasks > MOST_TASKS || blocks > u64::from(u32::MAX / 2) {
                return Err(MegaError::TooManyTasks { tasks: tasks.max(blocks), limit: MOST_TASKS });
            }
            // The regions of this launch, by argument.
            let mut regions: Vec<Vec<(Task, Box_)>> = vec![Vec::new(); launch.args.len()];
            for n in 0..runs {
                let (first, count) = run(blocks, runs, n);
                let boxes = accesses.boxes(first, count);
                let bytes = accesses.bytes(&boxes, count);
                // Counted above.
                let data = TaskData {
                    launch: l as u32,
                    first: first as u32,
                    count: count as u32,
                    bytes,
                    waits: vec![],
                };
                let task = graph.tasks.push(data);
                for (n, b) in boxes.into_iter().enumerate() {
                    regions[n].extend(b.filter(|b| !empty(b)).map(|b| (task, b)));
                }
            }
            // Those whose regions meet in one buffer, and all.
            let mut needs: BTreeMap<Task, BTreeMap<u32, [BTreeSet<Task>; 2]>> = BTreeMap::new();
            for (n, (&buffer, &written)) in launch.args.iter().zip(&launch.writes).enumerate() {
                let place = places[buffer.as_u32() as usize];
                for old in live.iter().filter(|o| (o.written || written) && o.place.meets(place)) {
                    for (task, b) in &regions[n] {
                        let same = old.buffer == buffer.as_u32();
                        let producers = old.boxes.iter().filter(|(_, other)| !same || meet(b, other));
                        let [data, all] = needs.entry(*task).or_default().entry(old.launch).or_default();
                        for (t, _) in producers {
                            all.insert(*t);
                            if same {
                                data.insert(*t);
                            }
                        }
                    }
                }
            }
            for (task, by_launch) in needs {
                for (from, [data, all]) in by_launch.into_iter().filter(|(_, p)| !p[1].is_empty()) {
                    let demanded = data == all;
                    let producers: Vec<Task> = all.into_iter().collect();
                    let event = *known.entry((from, producers.clone())).or_insert_with(|| {
                        graph.events.push(EventData { launch: from, producers, demanded: true })
                    });
                    graph.events[event].demanded &= demanded;
                    graph.tasks[task].waits.push(event);
                }
            }
            for (n, (&buffer, &written)) in launch.args.iter().zip(&launch.writes).enumerate() {
                let place = places[buffer.as_u32() as usize];
                if written && whole(&regions[n], &crate::region::dims(step, buffer)) {
                    // Whoever meets what is forgotten here meets a task of this launch, which waits for it.
                    live.retain(|o| !place.covers(o.place));
                }
            }
            for (n, boxes) in regions.into_iter().enumerate() {
                let buffer = launch.args[n];
                if !crate::region::constant(&step.buffers[buffer].kind) {
                    live.push(Live {
                        launch: l as u32,
                        buffer: buffer.as_u32(),
                        place: places[buffer.as_u32() as usize],
                        written: launch.writes[n],
                        boxes,
                    });
                }
            }
        }
        graph.reduce(step.launches.len());
        if options.repeat {
            graph.close(step.launches.len());
        }
        Ok(graph)
    }

    /// Adds a task that waits for all that nothing waits for, and so for everything.
    fn close(&mut self, launches: usize) {
        let used: BTreeSet<Event> = self.tasks.values().flat_map(|t| t.waits.iter().copied()).collect();
        let waited: HashSet<Task> =
            used.iter().flat_map(|&e| self.events[e].producers.iter().copied()).collect();
        let mut last: BTreeMap<u32, Vec<Task>> = BTreeMap::new();
        for (t, data) in self.tasks.iter().filter(|(t, _)| !waited.contains(t)) {
            last.entry(data.launch).or_default().push(t);
        }
        let waits = last
            .into_iter()
            .map(|(launch, producers)| self.events.push(EventData { launch, producers, demanded: true }))
            .collect();
        self.kinds.push(ADVANCE);
        let data = TaskData { launch: launches as u32, first: 0, count: 1, bytes: 0, waits };
        self.advance = Some(self.tasks.push(data));
    }

    /// Leaves out waits that others imply: a task that waits for something which was done after a whole launch need not
    /// wait for that launch.
    fn reduce(&mut self, launches: usize) {
        let words = launches.div_ceil(64);
        let mut sizes = vec![0usize; launches];
        for t in self.tasks.values() {
            sizes[t.launch as usize] += 1;
        }
        // Launches that are done as a whole before a task starts. Tasks come in the order of launches.
        let mut before: Vec<Vec<u64>> = Vec::with_capacity(self.tasks.len());
        let mut after: HashMap<Event, Vec<u64>> = HashMap::new();
        let tasks: Vec<Task> = self.tasks.keys().collect();
        for t in tasks {
            let waits = self.tasks[t].waits.clone();
            for &e in &waits {
                after.entry(e).or_insert_with(|| {
                    let data = &self.events[e];
                    let mut all = vec![0u64; words];
                    for p in &data.producers {
                        all.iter_mut().zip(&before[p.as_u32() as usize]).for_each(|(a, b)| *a |= b);
                    }
                    if data.producers.len() == sizes[data.launch as usize] {
                        all[data.launch as usize / 64] |= 1 << (data.launch % 64);
                    }
                    all
                });
            }
            let implied = |e: &Event| {
                let l = self.events[*e].launch;
                waits.iter().any(|o| o != e && after[o][l as usize / 64] >> (l % 64) & 1 != 0)
            };
            let kept: Vec<Event> = waits.iter().copied().filter(|e| !implied(e)).collect();
            let mut mine = vec![0u64; words];
            for e in &waits {
                mine.iter_mut().zip(&after[e]).for_each(|(a, b)| *a |= b);
            }
            before.push(mine);
            self.implied += waits.len() - kept.len();
            self.tasks[t].waits = kept;
        }
    }

    /// Tasks and events as nodes, tasks first; edges go from producers to events and from events to who waits.
    pub(crate) fn petgraph(&self) -> DiGraph<(), ()> {
        let mut g = DiGraph::with_capacity(self.tasks.len() + self.events.len(), 0);
        for _ in 0..self.tasks.len() + self.events.len() {
            g.add_node(());
        }
        let task = |t: Task| NodeIndex::new(t.as_u32() as usize);
        let event = |e: Event| NodeIndex::new(self.tasks.len() + e.as_u32() as usize);
        let mut used = vec![false; self.events.len()];
        for (t, data) in &self.tasks {
            for &e in &data.waits {
                used[e.as_u32() as usize] = true;
                g.add_edge(event(e), task(t), ());
            }
        }
        for (e, data) in self.events.iter().filter(|(e, _)| used[e.as_u32() as usize]) {
            for &t in &data.producers {
                g.add_edge(task(t), event(e), ());
            }
        }
        g
    }
}

/// Whether boxes of tasks fill a buffer: apart from each other, and as large together.
fn whole(boxes: &[(Task, Box_)], dims: &[u64]) -> bool {
    let all = dims.iter().fold(1u64, |n, &d| n.saturating_mul(d));
    let sum = boxes.iter().fold(0u64, |n, (_, b)| n.saturating_add(volume(b)));
    let apart =
        || boxes.iter().enumerate().all(|(n, (_, a))| boxes[n + 1..].iter().all(|(_, b)| !meet(a, b)));
    sum == all && apart()
}
