//! What terms cost, and the cheapest of each class.
//!
//! What: the work of computing a term once for every position of its axes, plus a charge for every pass over an axis that
//! cannot be shared with the one before it: a reduction over `a` whose body holds another over `a` must wait for it. Parts of
//! an axis within a block are resident and cost no pass. What several parts of a term have in common is charged once: the
//! running values of a fold are there for the next.
//! Why here: what is chosen for one class decides what is cheap for another, so that all are found together. The least cost
//! of what is shared is hard to find; what is found is a choice for which no other for a single class is cheaper, given those for
//! its parts.
//!
//! Pre: nodes that may be computed. Post: a node for each class that has one, no risk where there is a choice; a class is not
//! among its own parts.

use std::collections::{BTreeMap, HashMap};

use cranelift_entity::PrimaryMap;
use egg::{Id, Language};
use tilewright_ir::{Axis, AxisData, Extent, Reduction, Sym, SymData, Unary};

use super::facts::Depends;
use super::stable::Legal;
use super::{AxisSet, Graph, Part, SubAxis, Term};

/// Positions of a block for cost estimates; the real block size is a scheduling decision.
const BLOCK: f64 = 64.0;
/// What a symbol is taken to be when its range is wide.
const TYPICAL: u64 = 1024;
/// The charge of reading an element, in operations.
const READ: f64 = 0.25;
/// The share of the work that counts of what is computed once, when weights are loaded.
const ONCE: f64 = 1e-6;
/// The charge of one more pass, in operations per element of the reduction's body.
const PASS: f64 = 256.0;
/// The same along an axis of few positions: a block may hold them all, and goes over what it holds.
const SHORT: f64 = PASS / 2.0;
/// The most positions of such an axis.
const FEW: f64 = 128.0;

/// The value that a symbol is taken to have where nobody says one.
pub fn typical(symbol: &SymData) -> u64 {
    symbol.max.min(TYPICAL.max(symbol.min))
}

/// Representative numbers of positions.
#[derive(Clone, Debug)]
pub struct Sizes {
    counts: PrimaryMap<Axis, f64>,
}

impl Sizes {
    /// Takes constants as they are and symbols at a typical value within their range.
    pub fn new(axes: &PrimaryMap<Axis, AxisData>, symbols: &PrimaryMap<Sym, SymData>) -> Self {
        let mut counts = PrimaryMap::new();
        for data in axes.values() {
            counts.push(match data.extent {
                Extent::Const(n) => n.max(1) as f64,
                Extent::Sym(s) => typical(&symbols[s]).max(1) as f64,
            });
        }
        Sizes { counts }
    }

    /// Positions of a part of an axis.
    pub fn of(&self, p: SubAxis) -> f64 {
        let n = self.counts[p.axis];
        match p.part {
            Part::Whole => n,
            Part::Outer => (n / BLOCK).max(1.0),
            Part::Inner => n.min(BLOCK),
        }
    }

    /// The charge of one more pass along an axis, in operations per element.
    fn pass(&self, axis: Axis) -> f64 {
        if self.counts[axis] <= FEW { SHORT } else { PASS }
    }

    /// Positions of a product of axes.
    pub fn product(&self, set: &AxisSet) -> f64 {
        set.iter().map(|p| self.of(p)).product()
    }
}

/// What a term costs.
#[derive(Clone, Debug, PartialEq)]
struct Cost {
    total: f64,
    depth: BTreeMap<Axis, u32>,
    /// What the classes that it is made of cost by themselves, by class; only where what is shared counts once.
    parts: Vec<(Id, f64)>,
}

/// How often what several parts of a term have in common is charged.
#[derive(Clone, Copy, PartialEq)]
enum Shared {
    /// As often as it is used.
    Each,
    /// Once.
    Once,
}

/// Both lists by class; what is in both counts once.
fn union(a: &[(Id, f64)], b: &[(Id, f64)]) -> Vec<(Id, f64)> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                out.push(**x);
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.0 < y.0 => out.extend(a.next()),
            (_, Some(_)) => out.extend(b.next()),
            (Some(_), None) => out.extend(a.next()),
            (None, None) => return out,
        }
    }
}

fn node_cost(
    g: &Graph,
    sizes: &Sizes,
    id: Id,
    node: &Term,
    costs: &HashMap<Id, (Cost, Term)>,
    shared: Shared,
) -> Option<Cost> {
    let charged: &[Id] = match node {
        Term::Part(..) => return None,
        // The action and what it tracks are computed from the block value's own parts, which must be there.
        Term::Fold(_, _, c) => {
            for tracked in c[2..].chunks(2) {
                costs.get(&g.find(tracked[0]))?;
            }
            &c[..1]
        }
        _ => node.children(),
    };
    let mut depth: BTreeMap<Axis, u32> = BTreeMap::new();
    let mut total = 0.0;
    let mut parts = Vec::new();
    for &c in charged {
        let (cost, _) = costs.get(&g.find(c))?;
        total += cost.total;
        if shared == Shared::Once {
            parts = union(&parts, &cost.parts);
        }
        for (&a, &d) in &cost.depth {
            let e = depth.entry(a).or_default();
            *e = (*e).max(d);
        }
    }
    let free = |c: Id| g[c].data.free;
    let own = match node {
        Term::Num(_) | Term::Pos(_) | Term::CutPos(_) | Term::Size(_) | Term::Hole => 0.0,
        Term::Read(_, index) => {
            let all = index.iter().fold(AxisSet::default(), |s, &i| s.union(free(i)));
            READ * sizes.product(&all)
        }
        Term::Mul(c) | Term::Add(c) | Term::Max(c) | Term::Min(c) => {
            // The cheapest association combines the operands with the fewest positions first.
            let mut sets: Vec<AxisSet> = c.iter().map(|&c| free(c)).collect();
            sets.sort_by(|a, b| sizes.product(a).total_cmp(&sizes.product(b)));
            let mut have = sets[0];
            let mut work = 0.0;
            for s in &sets[1..] {
                have = have.union(*s);
                work += sizes.product(&have);
            }
            work
        }
        Term::Unary(f, [x]) => {
            let weight = match f {
                Unary::Neg | Unary::Abs | Unary::Not | Unary::Floor => 1.0,
                _ => 8.0,
            };
            weight * sizes.product(&free(*x))
        }
        Term::Binary(..) | Term::Select(_) | Term::Cast(..) => sizes.product(&free(id)),
        Term::Reduce(op, axes, [body]) => {
            let work = sizes.product(&free(*body));
            let mut extra = 0.0;
            for a in axes.iter() {
                let d = depth.entry(a.axis).or_default();
                // A block value that waits for a pass is of the next.
                extra += sizes.pass(a.axis) * work * f64::from(*d);
                *d += u32::from(a.part != Part::Inner);
            }
            // A maximum is a little dearer than a sum, which fuses with a product.
            (if *op == Reduction::Sum { 1.0 } else { 1.1 }) * work + extra
        }
        Term::Fold(a, _, c) => {
            let d = depth.entry(*a).or_default();
            *d += 1;
            let again = sizes.pass(*a) * f64::from(*d - 1);
            (3.0 + again) * sizes.product(&free(c[0]))
        }
        Term::Part(..) => return None,
    };
    if shared == Shared::Once {
        // A class is not made of itself.
        if parts.binary_search_by_key(&id, |p| p.0).is_ok() {
            return None;
        }
        total = parts.iter().map(|p| p.1).sum();
    }
    let known = &g[id].data;
    if known.depends == Depends::Weights && !known.mentions.is_subset(&known.free) {
        // Computed once and read ever after; the work still tells one way to compute it from another.
        let read = READ * sizes.product(&known.free);
        let total = read + ONCE * (total + own);
        return Some(Cost { total, depth: BTreeMap::new(), parts: vec![(id, total)] });
    }
    if let Err(at) = parts.binary_search_by_key(&id, |p| p.0) {
        parts.insert(at, (id, own));
    }
    Some(Cost { total: total + own, depth, parts })
}

/// The most rounds in which choices may change where what is shared counts once: there, a better choice for one class can be a
/// worse one for another.
const ROUNDS: usize = 256;

/// The cheapest term of each class.
pub(super) fn cheapest(g: &Graph, legal: &Legal, sizes: &Sizes) -> HashMap<Id, Term> {
    let of = |shared: Shared| settled(g, legal, sizes, shared);
    let costs = of(Shared::Once).or_else(|| of(Shared::Each)).unwrap_or_default();
    costs.into_iter().map(|(id, (_, term))| (id, term)).collect()
}

/// The same with their costs; nothing if choices do not settle.
fn settled(g: &Graph, legal: &Legal, sizes: &Sizes, shared: Shared) -> Option<HashMap<Id, (Cost, Term)>> {
    let mut costs: HashMap<Id, (Cost, Term)> = HashMap::new();
    let mut risk: HashMap<Id, bool> = HashMap::new();
    // When each class changed last, and when it was looked at.
    let (mut now, mut rounds) = (0, 0);
    let mut changes: HashMap<Id, usize> = HashMap::new();
    let mut looked: HashMap<Id, usize> = HashMap::new();
    loop {
        let mut changed = false;
        for (&id, nodes) in &legal.nodes {
            let since = looked.insert(id, now);
            let news = |c: Id| since.is_none_or(|s| changes.get(&g.find(c)).is_some_and(|&at| at > s));
            let again = news(id);
            let stale: Vec<bool> =
                nodes.iter().map(|(n, _)| again || n.children().iter().any(|&c| news(c))).collect();
            for ((node, risky), _) in nodes.iter().zip(stale).filter(|(_, stale)| *stale) {
                if let Some(cost) = node_cost(g, sizes, id, node, &costs, shared) {
                    let better = match costs.get(&id) {
                        None => true,
                        Some(_) if risk.get(&id) != Some(risky) => !risky,
                        Some((old, term)) => {
                            cost.total < old.total * (1.0 - 1e-9)
                                || (cost.total <= old.total && node < term && cost.depth == old.depth)
                                || (node == term && cost != *old)
                        }
                    };
                    if better {
                        costs.insert(id, (cost, node.clone()));
                        risk.insert(id, *risky);
                        changed = true;
                        now += 1;
                        changes.insert(id, now);
                    }
                }
            }
        }
        if !changed {
            return Some(costs);
        }
        rounds += 1;
        if shared == Shared::Once && rounds == ROUNDS {
            return None;
        }
    }
}
