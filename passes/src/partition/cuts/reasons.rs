//! Why a reduction is stored, if it is.
//!
//! Why here: computing it in place must be possible: its axes must be in the grid, resident, or streamed by the loop around it,
//! and if it moves with that loop its own axes must fit a tile. Among the possible, the cheaper wins.
//!
//! Pre: the kernel's root, and the loops and bound axes around the reduction. Post: a reason in words, as it is shown, and
//! whether it is one of form or of an estimate.

use std::collections::BTreeSet;

use tilewright_ir::graph::{Def, ParamKind};
use tilewright_ir::{Axis, Extent, Reduction, Value};

use super::work::ELEMENT;
use super::{Cutter, Objective, Policy};
use crate::algebra::dag::child;
use crate::algebra::{AxisSet, NodeId, Part, SubAxis, Term};
use crate::pack;
use crate::partition::cost::CACHE;

/// The most positions of bound axes along which a streamed reduction is computed in place within another stream: short
/// vectors, not rows.
const PAIR: f64 = 16.0;

/// The most elements of the product under a sum that is computed in place, for one position of the grid.
const TILE: f64 = 4096.0;

/// The most elements that a block keeps for one of its rows of one subterm.
const ROW: f64 = 32768.0;

/// Bytes of an element of what is computed once: it is rounded no further than it is computed.
const KEPT: f64 = 4.0;

/// Why what depends on weights alone is stored.
const ONCE: &str = "it depends on weights alone and is computed once, when they are loaded";

impl<'a> Cutter<'a> {
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

    /// Whether it is a sum of products of which no factor has all axes of the result: terms are never there together.
    fn contracts(&self, n: NodeId) -> bool {
        let Term::Reduce(Reduction::Sum, _, [body]) = &self.dag.nodes[n].term else { return false };
        let Term::Mul(factors) = &self.dag.nodes[child(*body)].term else { return false };
        let free = self.dag.nodes[n].free;
        factors.iter().all(|&f| !free.is_subset(&self.dag.nodes[child(f)].free))
    }

    /// Why the reduction `n` cannot or should not be computed in the kernel of `root`, and whether it is by its form rather
    /// than by an estimate.
    pub(super) fn must_store(
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
}
