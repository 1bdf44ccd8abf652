//! Where the extracted term is cut: which subterms are stored and read back.
//!
//! A reduction inside the body of another is either computed there, again for every block that needs it, or stored by a
//! kernel of its own. Computing it in place must be possible: its axes must be in the grid, resident, or streamed by the
//! loop around it, and if it moves with that loop its own axes must fit a tile. Among the possible, the cheaper wins.
//! A product with a packed weight is stored where a plan that was built shows that the weight would be read more than once.
//! What is stored is not the bare reduction but the largest elementwise expression around it that is no larger and that
//! no one else needs in parts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::graph::{Def, Function, ParamKind, ValueData};
use tilewright_ir::{Axis, AxisData, Extent, Reduction, Value};

use super::canon::{Canons, Form};
use super::cost::CACHE;
use super::group::heavy;
use super::{CostModel, Objective};
use crate::algebra::costs::Sizes;
use crate::algebra::dag::child;
use crate::algebra::facts::Depends;
use crate::algebra::ingest::Ingested;
use crate::algebra::{AxisSet, Dag, NodeId, Part, SubAxis, Term};
use crate::pack;

/// The most positions of bound axes along which a streamed reduction is computed in place within another stream: short
/// vectors, not rows.
const PAIR: f64 = 16.0;

/// Bytes of an element, for estimates: weights and activations have 16 bits.
const ELEMENT: f64 = 2.0;

/// The most elements of the product under a sum that is computed in place, for one position of the grid.
const TILE: f64 = 4096.0;

/// The most elements that a block keeps for one of its rows of one subterm.
const ROW: f64 = 32768.0;

/// Bytes of an element of what is computed once: it is rounded no further than it is computed.
const KEPT: f64 = 4.0;

/// The part of a subterm's work that a kernel must do anyway to compute it beside its own.
const SHARED: f64 = 0.9;

/// Why what depends on weights alone is stored.
const ONCE: &str = "it depends on weights alone and is computed once, when they are loaded";

/// Which of the places where a term may be cut are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// By the cost that the caller's objective says.
    Objective,
    /// What is estimated to cost less stored than computed in place.
    Cost(Objective),
    /// The same by time, and besides what streams an axis while its consumer reduces over more than a few of its results:
    /// blocks that hold whole rows of results are few.
    Spread,
    /// What a block can keep for its own rows, where it would be computed again; all else is computed in place.
    Rows,
    /// Only what has to be stored.
    Needed,
    /// Each reduction.
    Every,
}

/// The decision for a term.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Canonical forms of stored subterms, with one node each, in the order of decision.
    pub stored: BTreeMap<Form, NodeId>,
    /// Why each boundary is there, by canonical form.
    pub reasons: BTreeMap<Form, String>,
    /// Stored subterms that the kernel of another one computes beside its own, by canonical form.
    pub hosts: BTreeMap<Form, Form>,
}

/// The analysis shared by the decisions.
pub struct Cutter<'a> {
    dag: &'a Dag,
    axes: &'a PrimaryMap<Axis, AxisData>,
    values: &'a PrimaryMap<Value, ValueData>,
    sizes: &'a Sizes,
    cost: CostModel,
    policy: Policy,
    /// Weights whose products are not computed in place, and why.
    apart: &'a BTreeMap<Value, String>,
    roots: Vec<NodeId>,
    /// The root that computes what a read of an update's result finds.
    written: BTreeMap<Value, NodeId>,
    /// All nodes of the term.
    reached: Vec<NodeId>,
    heavy: Vec<bool>,
    parents: Vec<Vec<NodeId>>,
    canons: Canons,
    /// Whether a node holds a value of one block, which has no meaning outside of its fold.
    blocky: Vec<bool>,
    /// Whether a node is the same in every run, so that it can be computed once, when weights are loaded.
    once: Vec<bool>,
    cuts: Cuts,
    /// What is stored because of its form.
    forced: BTreeSet<Form>,
    /// The first reduction in the kernel of each root.
    owns: BTreeMap<NodeId, NodeId>,
    /// What was looked at in the kernel of a root since something was stored: looking again by another way finds the same.
    visited: HashSet<Place>,
}

/// A node in the kernel of a root: the axes streamed around it, and those that are bound around it.
type Place = (NodeId, Vec<Axis>, AxisSet);

/// Marks nodes that hold a reduction within a block of a fold around them.
fn blocky(dag: &Dag) -> Vec<bool> {
    let mut axes: Vec<BTreeSet<Axis>> = Vec::new();
    for (n, node) in &dag.nodes {
        let mut own: BTreeSet<Axis> =
            dag.children(n).flat_map(|c| axes[c.as_u32() as usize].clone()).collect();
        match &node.term {
            Term::Reduce(_, parts, _) => {
                for p in parts.iter() {
                    match p.part {
                        Part::Inner => {
                            own.insert(p.axis);
                        }
                        Part::Outer => {
                            own.remove(&p.axis);
                        }
                        Part::Whole => {}
                    }
                }
            }
            Term::Fold(a, ..) => {
                own.remove(a);
            }
            _ => {}
        }
        axes.push(own);
    }
    axes.into_iter().map(|s| !s.is_empty()).collect()
}

impl<'a> Cutter<'a> {
    /// Prepares the analysis of a term. Products of the weights in `apart` are stored, for the reason that is given.
    pub fn new(
        dag: &'a Dag,
        function: &'a Function,
        ingested: &'a Ingested,
        sizes: &'a Sizes,
        cost: CostModel,
        policy: Policy,
        apart: &'a BTreeMap<Value, String>,
    ) -> Self {
        let axes = &ingested.axes;
        let mut parents: Vec<Vec<NodeId>> = vec![Vec::new(); dag.nodes.len()];
        let mut seen = BTreeSet::new();
        let mut todo = dag.roots.clone();
        while let Some(n) = todo.pop() {
            if seen.insert(n) {
                for c in dag.children(n) {
                    parents[c.as_u32() as usize].push(n);
                    todo.push(c);
                }
            }
        }
        let heavy = heavy(dag);
        Cutter {
            dag,
            axes,
            values: &function.values,
            sizes,
            cost,
            policy,
            apart,
            roots: dag.roots.clone(),
            written: ingested.roots.iter().map(|r| r.value).zip(dag.roots.iter().copied()).collect(),
            reached: seen.into_iter().collect(),
            heavy,
            parents,
            canons: Canons::new(dag, axes),
            blocky: blocky(dag),
            once: dag.depends(&ingested.graph.analysis).into_iter().map(|d| d == Depends::Weights).collect(),
            cuts: Cuts::default(),
            forced: BTreeSet::new(),
            owns: BTreeMap::new(),
            visited: HashSet::new(),
        }
    }

    /// Decides for all roots: `(root, axes over which it is computed)`.
    pub fn decide(mut self, roots: &[(NodeId, AxisSet)]) -> Cuts {
        self.settle(roots);
        if self.policy == Policy::Spread {
            // What was stored because of what it computed may be cheap now that its parts are stored.
            let forced = std::mem::take(&mut self.forced);
            self.cuts.stored.retain(|key, _| forced.contains(key));
            self.cuts.reasons.retain(|key, _| forced.contains(key));
            self.settle(roots);
        }
        self.cuts
    }

    fn settle(&mut self, roots: &[(NodeId, AxisSet)]) {
        // A decision in one kernel may store what another has planned to compute: repeat until nothing changes.
        loop {
            let before = self.cuts.stored.len();
            let mut todo: Vec<(NodeId, AxisSet)> = roots.to_vec();
            let stored: Vec<NodeId> = self.cuts.stored.values().copied().collect();
            todo.extend(stored.iter().map(|&n| (n, self.dag.nodes[n].free)));
            for (root, domain) in todo {
                self.visited.clear();
                self.visit(root, root, domain, &[], AxisSet::default(), &mut vec![]);
            }
            if self.cuts.stored.len() == before {
                break;
            }
        }
        if self.policy == Policy::Every {
            return;
        }
        self.cuts.hosts.clear();
        let stored: Vec<(Form, NodeId)> = self.cuts.stored.iter().map(|(&k, &n)| (k, n)).collect();
        for (key, n) in stored {
            // A guest is no host.
            let open = |c: &Cuts, k: Form| !c.hosts.contains_key(&k);
            if let Some(host) = self.host(n).filter(|h| open(&self.cuts, self.key(*h)))
                && !self.cuts.hosts.values().any(|h| *h == key)
            {
                let host = self.key(host);
                self.cuts.hosts.insert(key, host);
            }
        }
    }

    /// The stored subterm whose kernel computes nearly all of `n` anyway, at the same positions or more.
    fn host(&self, n: NodeId) -> Option<NodeId> {
        let (work, _) = self.work(n);
        let own = self.computed(n);
        let free = self.dag.nodes[n].free;
        let candidates = self.cuts.stored.values().copied().filter(|&h| self.key(h) != self.key(n));
        candidates
            .filter(|&h| free.is_subset(&self.dag.nodes[h].free))
            .filter(|&h| !self.needs(n, h) && !self.needs(h, n))
            .find(|&h| {
                let theirs = self.computed(h);
                self.work_of(own.iter().copied().filter(|x| theirs.contains(x))).0 >= SHARED * work
            })
    }

    /// Whether a subterm is somewhere within another, or within what that reads of an update.
    fn needs(&self, n: NodeId, part: NodeId) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![n];
        while let Some(x) = todo.pop() {
            if x != n && (x == part || self.is_heavy(x) && self.key(x) == self.key(part)) {
                return true;
            }
            if seen.insert(x) {
                todo.extend(self.dag.children(x));
                if let Term::Read(v, _) = self.dag.nodes[x].term {
                    todo.extend(self.written.get(&v));
                }
            }
        }
        false
    }

    fn key(&self, n: NodeId) -> Form {
        self.canons.form(n)
    }

    fn is_once(&self, n: NodeId) -> bool {
        self.once[n.as_u32() as usize]
    }

    /// Whether reading what depends on weights alone is less than computing it `again` times in each run.
    fn pays_once(&self, n: NodeId, again: f64) -> bool {
        let size = |x: NodeId| self.sizes.product(&self.dag.nodes[x].free);
        let computed = self.computed(n);
        let of = |x: &NodeId| match self.dag.nodes[*x].term {
            Term::Read(v, _) => self.values[v].dtype.bytes() as f64 * size(*x),
            _ => 0.0,
        };
        let bytes: f64 = computed.iter().map(of).sum();
        let (work, _) = self.work_of(computed.iter().copied());
        let kept = KEPT * size(n);
        let traffic = matches!(self.policy, Policy::Cost(Objective::Traffic));
        kept <= bytes || !traffic && kept / self.cost.bandwidth < work * again / self.cost.flops
    }

    fn is_heavy(&self, n: NodeId) -> bool {
        self.heavy[n.as_u32() as usize]
    }

    /// Walks the part of the term that the kernel of `root` computes. `loops` are the axes streamed around `n`, the
    /// outermost first, `bound` those that the reductions around it bind, `path` the elementwise nodes above it since the last one.
    fn visit(
        &mut self,
        root: NodeId,
        n: NodeId,
        domain: AxisSet,
        loops: &[Axis],
        bound: AxisSet,
        path: &mut Vec<NodeId>,
    ) {
        if !self.is_heavy(n) || (n != root && self.cuts.stored.contains_key(&self.key(n))) {
            return;
        }
        if !self.visited.insert((n, loops.to_vec(), bound)) {
            return;
        }
        let dag = self.dag;
        match &dag.nodes[n].term {
            Term::Reduce(_, parts, [body]) if parts.iter().all(|p| p.part == Part::Inner) => {
                self.visit(root, child(*body), domain, loops, bound, &mut vec![]);
            }
            Term::Reduce(..) | Term::Fold(..) => {
                if let Some((reason, forced)) = self.must_store(root, n, domain, loops, bound, path) {
                    let top = self.cone(n, path);
                    // Without fusion a kernel has one reduction, the first that it comes to.
                    let own = *self.owns.entry(root).or_insert(n);
                    let shared = self.policy == Policy::Every && top == root && self.key(own) != self.key(n);
                    let top = if shared { n } else { top };
                    if top != root && !self.blocky[top.as_u32() as usize] {
                        let key = self.key(top);
                        if forced {
                            self.forced.insert(key);
                        }
                        self.cuts.reasons.entry(key).or_insert(reason);
                        self.cuts.stored.entry(key).or_insert(top);
                        self.visited.clear();
                        return;
                    }
                }
                let streamed = self.streamed(n);
                let own: AxisSet = streamed.iter().copied().map(SubAxis::whole).collect();
                let inner: Vec<Axis> = loops.iter().copied().chain(streamed).collect();
                // What a fold tracks runs in step with it and holds nothing that its block value does not hold.
                let fold = matches!(dag.nodes[n].term, Term::Fold(..));
                let bound = bound.union(match &dag.nodes[n].term {
                    Term::Reduce(_, parts, _) => parts.iter().map(|p| SubAxis::whole(p.axis)).collect(),
                    _ => own,
                });
                for c in dag.children(n).take(if fold { 1 } else { usize::MAX }) {
                    self.visit(root, c, domain, &inner, bound, &mut vec![]);
                }
            }
            _ => {
                path.push(n);
                // The largest first: storing it may store this node, and its other parts with it.
                let mut children: Vec<NodeId> = dag.children(n).collect();
                let size = |c: NodeId| self.sizes.product(&dag.nodes[c].free);
                children.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
                for c in children {
                    if n != root && self.cuts.stored.contains_key(&self.key(n)) {
                        break;
                    }
                    self.visit(root, c, domain, loops, bound, path);
                }
                path.pop();
            }
        }
    }

    /// Whether it is a sum of products of which no factor has all axes of the result: terms are never there together.
    fn contracts(&self, n: NodeId) -> bool {
        let Term::Reduce(Reduction::Sum, _, [body]) = &self.dag.nodes[n].term else { return false };
        let Term::Mul(factors) = &self.dag.nodes[child(*body)].term else { return false };
        let free = self.dag.nodes[n].free;
        factors.iter().all(|&f| !free.is_subset(&self.dag.nodes[child(f)].free))
    }

    /// The axes that a reduction streams: those too long to be resident, and those of folds.
    fn streamed(&self, n: NodeId) -> Vec<Axis> {
        match &self.dag.nodes[n].term {
            Term::Fold(a, ..) => vec![*a],
            Term::Reduce(_, parts, _) => parts
                .iter()
                .filter(|p| match p.part {
                    Part::Whole => !self.fits(p.axis),
                    Part::Outer => true,
                    Part::Inner => false,
                })
                .map(|p| p.axis)
                .collect(),
            _ => vec![],
        }
    }

    /// Whether a tile may span the axis.
    fn fits(&self, a: Axis) -> bool {
        matches!(self.axes[a].extent, Extent::Const(n) if n as f64 <= self.cost.resident)
    }

    /// Blocks of an axis that are computed independently, if it is split at all.
    fn blocks(&self, a: SubAxis) -> f64 {
        (self.sizes.of(a) / self.cost.block).ceil()
    }

    /// Thread blocks that compute something over the given axes: enough to fill the machine where there are as many
    /// positions, blocks of some rows beyond.
    fn spread(&self, axes: impl Iterator<Item = SubAxis>) -> f64 {
        let positions = axes.map(|a| self.sizes.of(a)).product::<f64>();
        positions.min((positions / self.cost.block).max(self.cost.processors))
    }

    /// Why the reduction `n` cannot or should not be computed in the kernel of `root`, and whether it is by its form rather
    /// than by an estimate.
    fn must_store(
        &self,
        root: NodeId,
        n: NodeId,
        domain: AxisSet,
        loops: &[Axis],
        bound: AxisSet,
        path: &[NodeId],
    ) -> Option<(String, bool)> {
        if self.policy == Policy::Every && n != root {
            return Some(("no fusion: each reduction is a kernel of its own".into(), true));
        }
        if let Some(why) = self.apart(n).filter(|_| n != root && !self.is_once(n)) {
            return Some((why.clone(), true));
        }
        let free = self.dag.nodes[n].free;
        let around: AxisSet = loops.iter().copied().map(SubAxis::whole).collect();
        let moves = !free.is_disjoint(&around);
        let streamed = self.streamed(n);
        let fold = matches!(self.dag.nodes[n].term, Term::Fold(..));
        if moves && !streamed.is_empty() && fold {
            return Some(("it needs a loop of its own inside the loop of its consumer".into(), true));
        }
        // Of an axis that the consumer streams, one block is needed at a time.
        let along = self.sizes.product(&free.intersection(bound).difference(around));
        let own: f64 = match &self.dag.nodes[n].term {
            Term::Reduce(_, parts, _) => {
                parts.iter().filter(|p| !streamed.contains(&p.axis)).map(|&p| self.sizes.of(p)).product()
            }
            _ => 1.0,
        };
        // Where bytes alone count, a pass may begin anew for each of a few results at a time.
        let nests = matches!(self.policy, Policy::Cost(Objective::Traffic) | Policy::Rows);
        let wide = along > 1.0 && along * own > TILE && !nests;
        // What a packed weight is summed with streams it, however short the sum is; so does a product of matrices that each
        // block computes for its own results.
        let contracts = || domain.is_subset(&free) && self.contracts(n);
        let weighs = wide && !moves && (contracts() || self.weights(n).iter().any(|&v| self.is_large(v)));
        if wide && !weighs {
            let why = format!(
                "its consumer needs {along:.0} results of {own:.0} terms at a time, more than one tile holds"
            );
            return Some((why, true));
        }
        // Over which independent blocks would it be computed again?
        let missing = domain.difference(free);
        let elsewhere: f64 = missing.iter().filter(|p| !self.fits(p.axis)).map(|p| self.blocks(p)).product();
        // How often in each block? For every pass of its consumers, and in every round of a loop around the innermost one
        // that it follows.
        let follows = loops.iter().rposition(|&a| free.contains(SubAxis::whole(a))).unwrap_or(0);
        let rounds: f64 = loops[..follows]
            .iter()
            .map(|&a| SubAxis::whole(a))
            .filter(|&p| !free.contains(p))
            .map(|p| self.blocks(p))
            .product();
        let passes = self.passes(n, free.intersection(around));
        let again = elsewhere * rounds * passes;
        // Axes of the reduction that the consumer binds are resident: more work in each block, not more blocks.
        let split: Vec<SubAxis> = domain.iter().filter(|p| free.contains(*p) || !self.fits(p.axis)).collect();
        let all = self.spread(split.iter().copied().chain(free.difference(domain).iter()));
        let kept = all.min(split.iter().map(|&p| self.sizes.of(p)).product());
        if self.is_once(n) && !self.is_once(root) {
            let pays = self.policy != Policy::Needed && self.pays_once(self.cone(n, path), again);
            return pays.then(|| (ONCE.into(), false));
        }
        let (work, bytes) = self.work(n);
        let (root_work, _) = self.work(root);
        let at_worst: f64 = missing.iter().map(|p| self.blocks(p)).product();
        // What streams an axis of its own within another reduction has blocks of its own.
        let apart = !streamed.is_empty() && !bound.is_empty();
        let part = !missing.is_empty() || !loops.is_empty();
        if self.policy == Policy::Rows && part && (again > 1.0 || apart) && self.of_row(n, domain) {
            let why = format!(
                "a block keeps it for its own rows; computed in place it would be computed {again:.0} times"
            );
            return Some((why, false));
        }
        // Free: next to nothing beside what the kernel does anyway, or the kernel's own work.
        if work * at_worst * rounds <= 0.1 * root_work.max(1.0) || (missing.is_empty() && loops.is_empty()) {
            return None;
        }
        let limit = match self.dag.nodes[n].term {
            _ if nests => f64::INFINITY,
            Term::Fold(..) => 1.0,
            _ if loops.is_empty() && self.policy != Policy::Spread => self.cost.resident,
            _ => PAIR,
        };
        if along > limit && (weighs || !streamed.is_empty()) {
            let why = "it streams an axis of its own, and its consumer reduces over its result";
            return Some((why.into(), true));
        }
        match self.policy {
            Policy::Needed | Policy::Rows => return None,
            Policy::Cost(Objective::Traffic) => {
                return self.more_traffic(n, bytes).map(|why| (why, false));
            }
            Policy::Cost(Objective::Latency) | Policy::Objective | Policy::Spread | Policy::Every => {}
        }
        let own_blocks = self.spread(free.iter());
        // What moves with the consumer's loop, is within one tile and computed once is no reason for few blocks: the loop is.
        let once = moves && again <= 1.0 && streamed.is_empty();
        let speed = |blocks: f64| if once { 1.0 } else { (blocks / self.cost.processors).min(1.0) };
        // Blocks that read the same again read it from the cache.
        let traffic = bytes / self.cost.bandwidth * (1.0 + (again - 1.0) / CACHE);
        let in_place = (work * again / self.cost.flops).max(traffic) / speed(kept);
        let stored = 8.0 * self.sizes.product(&free) / self.cost.bandwidth;
        // Beside another that is stored, computing it costs no launch and no work.
        let apart = match self.host(n) {
            Some(_) => stored,
            None => {
                let own = (work / self.cost.flops).max(bytes / self.cost.bandwidth);
                self.cost.launch + stored + own / speed(own_blocks)
            }
        };
        (in_place > apart).then(|| {
            let why = format!(
                "computing it in place would take an estimated {:.1} us ({again:.0} times over, on {kept:.0} blocks), storing it {:.1} us",
                in_place * 1e6,
                apart * 1e6
            );
            (why, false)
        })
    }

    /// Why the products of a weight that `n` sums up are not computed in place, if they are not.
    fn apart(&self, n: NodeId) -> Option<&'a String> {
        self.weights(n).iter().find_map(|v| self.apart.get(v))
    }

    /// The weights that are read by the body of a reduction, without reductions within it.
    fn weights(&self, n: NodeId) -> BTreeSet<Value> {
        let mut out = BTreeSet::new();
        let Term::Reduce(_, _, [body]) = &self.dag.nodes[n].term else { return out };
        let mut seen = BTreeSet::new();
        let mut todo = vec![child(*body)];
        while let Some(x) = todo.pop() {
            let own = match &self.dag.nodes[x].term {
                Term::Read(v, _) if self.values[*v].def == Def::Param(ParamKind::Weight) => {
                    out.insert(*v);
                    false
                }
                // The blocks of this one.
                Term::Reduce(_, parts, _) => parts.iter().all(|p| p.part == Part::Inner),
                Term::Fold(..) => false,
                _ => true,
            };
            if own && seen.insert(x) {
                todo.extend(self.dag.children(x));
            }
        }
        out
    }

    /// Whether a value has as many bytes as it takes to be packed.
    fn is_large(&self, v: Value) -> bool {
        let data = &self.values[v];
        let extents = data.axes.iter().map(|&a| self.axes[a].extent.as_const());
        extents.product::<Option<u64>>().is_some_and(|n| n * data.dtype.bytes() as u64 >= pack::LEAST)
    }

    /// Whether a block that owns some positions along the axes of unknown extents over which a kernel is computed can keep
    /// `n` for them: it is small for one position, and read at no other and for one result of the function only.
    fn of_row(&self, n: NodeId, domain: AxisSet) -> bool {
        let symbolic = |p: &SubAxis| matches!(self.axes[p.axis].extent, Extent::Sym(_));
        let free = self.dag.nodes[n].free;
        let rows: AxisSet = domain.iter().filter(symbolic).collect();
        let one = self.sizes.product(&free.difference(domain));
        let own =
            !rows.is_empty() && rows.is_subset(&free) && !free.difference(rows).iter().any(|p| symbolic(&p));
        // Under other names it is the same tensor.
        let canon = self.canons.of(n);
        let same = |&m: &NodeId| {
            let other = self.canons.of(m);
            let is_row = |a: &Axis| rows.contains(SubAxis::whole(*a));
            let pairs = canon.free.iter().zip(&other.free);
            other.form != canon.form || pairs.into_iter().all(|(a, b)| a == b || !is_row(a) && !is_row(b))
        };
        let needed = self.roots.iter().filter(|&&root| root == n || self.needs(root, n)).count();
        own && one <= ROW && needed == 1 && self.reached.iter().all(same)
    }

    /// Why storing `n` moves fewer bytes than computing it in each kernel that needs it, where it reads `bytes`. How many
    /// passes of a kernel need it says nothing: what one kernel reads again counts once.
    fn more_traffic(&self, n: NodeId, bytes: f64) -> Option<String> {
        let users = self.users(n) as f64;
        let one = ELEMENT * self.sizes.product(&self.dag.nodes[n].free);
        let (in_place, apart) = (users * bytes, bytes + (1.0 + users) * one);
        (in_place > apart).then(|| {
            format!(
                "computing it in each of the {users:.0} kernels that need it would read an estimated {:.2} MB, storing it moves {:.2} MB",
                in_place / 1e6,
                apart / 1e6
            )
        })
    }

    /// How many kernels, as they are cut so far, compute or read what `n` computes.
    fn users(&self, n: NodeId) -> usize {
        let key = self.key(n);
        let kernels = self.roots.iter().chain(self.cuts.stored.values());
        let needs = |root: NodeId| {
            let mut seen = BTreeSet::new();
            let mut todo = vec![root];
            while let Some(x) = todo.pop() {
                if !self.is_heavy(x) || !seen.insert(x) {
                    continue;
                }
                if self.key(x) == key {
                    return true;
                }
                if x == root || !self.cuts.stored.contains_key(&self.key(x)) {
                    todo.extend(self.dag.children(x));
                }
            }
            false
        };
        kernels.filter(|&&root| needs(root)).count().max(1)
    }

    /// The number of loops, one after the other, that need the subterm at every position of these axes.
    fn passes(&self, n: NodeId, loops: AxisSet) -> f64 {
        let mut most: usize = 1;
        for a in loops.iter().map(|p| p.axis) {
            let mut found = BTreeSet::new();
            let mut seen = BTreeSet::new();
            let mut todo = vec![n];
            while let Some(x) = todo.pop() {
                for &p in &self.parents[x.as_u32() as usize] {
                    let binds = match &self.dag.nodes[p].term {
                        Term::Fold(b, ..) => *b == a,
                        Term::Reduce(_, parts, _) => {
                            parts.iter().any(|q| q.axis == a && q.part != Part::Inner)
                        }
                        _ => false,
                    };
                    if binds {
                        found.insert(self.level(p, a, &mut BTreeMap::new()));
                    } else if seen.insert(p) {
                        todo.push(p);
                    }
                }
            }
            most = most.max(found.len());
        }
        most as f64
    }

    /// How many passes over the axis a subterm takes, one waiting for the other.
    fn level(&self, n: NodeId, a: Axis, memo: &mut BTreeMap<NodeId, usize>) -> usize {
        if let Some(&l) = memo.get(&n) {
            return l;
        }
        let own = match &self.dag.nodes[n].term {
            Term::Fold(b, ..) => *b == a,
            Term::Reduce(_, parts, _) => parts.iter().any(|q| q.axis == a && q.part != Part::Inner),
            _ => false,
        };
        // What a fold tracks runs in step with it.
        let fold = matches!(self.dag.nodes[n].term, Term::Fold(..));
        let children = self.dag.children(n).take(if fold { 1 } else { usize::MAX });
        let below = children.map(|c| self.level(c, a, memo)).max().unwrap_or(0);
        let l = below + usize::from(own);
        memo.insert(n, l);
        l
    }

    /// Operations and bytes read of computing a subterm once, without what is stored.
    fn work(&self, n: NodeId) -> (f64, f64) {
        let (work, bytes) = self.work_of(self.computed(n).into_iter());
        let stored = self.computed(n).into_iter().flat_map(|x| self.dag.children(x)).collect::<BTreeSet<_>>();
        let read: f64 = stored
            .into_iter()
            .filter(|&x| x != n && self.is_stored(x))
            .map(|x| ELEMENT * self.sizes.product(&self.dag.nodes[x].free))
            .sum();
        (work, bytes + read)
    }

    fn is_stored(&self, n: NodeId) -> bool {
        self.is_heavy(n) && self.cuts.stored.contains_key(&self.key(n))
    }

    /// The terms that a kernel of `n` computes or reads: all but those within what is stored.
    fn computed(&self, n: NodeId) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::from([n]);
        let mut todo = vec![n];
        while let Some(x) = todo.pop() {
            if matches!(self.dag.nodes[x].term, Term::Read(..)) {
                continue;
            }
            for c in self.dag.children(x) {
                if !self.is_stored(c) && seen.insert(c) {
                    todo.push(c);
                }
            }
        }
        seen
    }

    /// Operations and bytes of terms.
    fn work_of(&self, terms: impl Iterator<Item = NodeId>) -> (f64, f64) {
        let (mut work, mut bytes) = (0.0, 0.0);
        for x in terms {
            let node = &self.dag.nodes[x];
            match &node.term {
                Term::Read(..) => bytes += ELEMENT * self.sizes.product(&node.free),
                Term::Reduce(_, _, [body]) => {
                    work += 2.0 * self.sizes.product(&self.dag.nodes[child(*body)].free);
                }
                Term::Unary(..) => work += 8.0 * self.sizes.product(&node.free),
                _ => {}
            }
        }
        (work, bytes)
    }

    /// The largest elementwise expression around the reduction that is no larger than it and whose parts no one else needs.
    fn cone(&self, n: NodeId, path: &[NodeId]) -> NodeId {
        let limit = self.sizes.product(&self.dag.nodes[n].free);
        let mixes = |top: NodeId| self.is_once(n) && !self.is_once(top);
        for (at, &top) in path.iter().enumerate() {
            if self.sizes.product(&self.dag.nodes[top].free) > limit
                || self.blocky[top.as_u32() as usize]
                || mixes(top)
            {
                continue;
            }
            let mut inside = BTreeSet::new();
            let mut todo = vec![top];
            while let Some(x) = todo.pop() {
                let elementwise = !matches!(self.dag.nodes[x].term, Term::Reduce(..) | Term::Fold(..));
                if inside.insert(x) && elementwise {
                    todo.extend(self.dag.children(x));
                }
            }
            let below = path[at + 1..].iter().chain([&n]);
            if below.into_iter().all(|x| self.parents[x.as_u32() as usize].iter().all(|p| inside.contains(p)))
            {
                return top;
            }
        }
        n
    }
}
