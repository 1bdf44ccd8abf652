//! Choosing one term per class.
//!
//! The cost of a term is the work of computing it once for every position of its axes, plus a charge for every pass over
//! an axis that cannot be shared with the one before it: a reduction over `a` whose body holds another over `a` must wait
//! for it. Parts of an axis within a block are resident and cost no pass.
//!
//! Only nodes that [`super::stable`] allows are taken, and of those in a class one that is no risk, whatever it costs.
//!
//! Post: acyclic, no `part` markers, free axes of every chosen term within those of its class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cranelift_entity::PrimaryMap;
use egg::{Id, Language};
use tilewright_ir::{Axis, AxisData, Extent, Reduction, Sym, SymData, Unary};

use super::dag::{as_child, child};
use super::facts::Depends;
use super::ingest::Ingested;
use super::stable::{Legal, acting, cancels, risky};
use super::{AxisSet, Dag, Graph, NodeId, Part, SubAxis, Term};
use crate::PassError;

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

    /// Positions of a product of axes.
    pub fn product(&self, set: &AxisSet) -> f64 {
        set.iter().map(|p| self.of(p)).product()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Cost {
    total: f64,
    depth: BTreeMap<Axis, u32>,
}

fn node_cost(
    g: &Graph,
    sizes: &Sizes,
    id: Id,
    node: &Term,
    costs: &HashMap<Id, (Cost, Term)>,
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
    for &c in charged {
        let (cost, _) = costs.get(&g.find(c))?;
        total += cost.total;
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
                extra += PASS * work * f64::from(*d);
                *d += u32::from(a.part != Part::Inner);
            }
            // A maximum is a little dearer than a sum, which fuses with a product.
            (if *op == Reduction::Sum { 1.0 } else { 1.1 }) * work + extra
        }
        Term::Fold(a, _, c) => {
            let d = depth.entry(*a).or_default();
            *d += 1;
            let again = PASS * f64::from(*d - 1);
            (3.0 + again) * sizes.product(&free(c[0]))
        }
        Term::Part(..) => return None,
    };
    let known = &g[id].data;
    if known.depends == Depends::Weights && !known.mentions.is_subset(&known.free) {
        // Computed once and read ever after; the work still tells one way to compute it from another.
        let read = READ * sizes.product(&known.free);
        return Some(Cost { total: read + ONCE * (total + own), depth: BTreeMap::new() });
    }
    Some(Cost { total: total + own, depth })
}

/// The chosen nodes that are a risk or where digits cancel: the source asks for them. Rescales of folds do not count: they are made from maxima
/// that are guarded.
pub fn risks(ingested: &Ingested, dag: &Dag) -> Vec<NodeId> {
    let g = &ingested.graph;
    let mut seen = BTreeSet::new();
    let mut todo = dag.roots.clone();
    let mut found = Vec::new();
    while let Some(n) = todo.pop() {
        if !seen.insert(n) {
            continue;
        }
        let term = &dag.nodes[n].term;
        let of_classes = term.clone().map_children(|c| dag.nodes[child(c)].class);
        if risky(g, g.find(dag.nodes[n].class), &of_classes) || cancels(g, &of_classes) {
            found.push(n);
        }
        match term {
            Term::Fold(_, _, c) => {
                let rest = c.iter().enumerate().filter(|(at, _)| *at != 1);
                todo.extend(rest.map(|(_, &c)| child(c)));
            }
            _ => todo.extend(dag.children(n)),
        }
    }
    found
}

/// Chooses terms for the roots. See the module.
pub fn extract(ingested: &Ingested, sizes: &Sizes) -> Result<Dag, PassError> {
    let g = &ingested.graph;
    let legal = Legal::of(ingested);
    let mut costs: HashMap<Id, (Cost, Term)> = HashMap::new();
    let mut risk: HashMap<Id, bool> = HashMap::new();
    loop {
        let mut changed = false;
        for (&id, nodes) in &legal.nodes {
            for (node, risky) in nodes {
                if let Some(cost) = node_cost(g, sizes, id, node, &costs) {
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
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    let mut choice: HashMap<Id, Term> = costs.into_iter().map(|(id, (_, t))| (id, t)).collect();
    // What a chosen fold tracks is available as a running value: take it in that form.
    let mut seen = Vec::new();
    let mut todo: Vec<Id> = ingested.roots.iter().map(|r| g.find(r.class)).collect();
    while let Some(id) = todo.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let Some(term) = choice.get(&id).cloned() else { continue };
        if let Term::Fold(j, _, c) = &term {
            for pair in c[2..].chunks(2) {
                let (t, y) = (g.find(pair[0]), g.find(pair[1]));
                let running = |n: &&Term| match n {
                    Term::Reduce(_, a, [x]) => a[..] == [SubAxis::outer(*j)] && g.find(*x) == t,
                    _ => false,
                };
                // A fold of the same block values runs as well.
                let follows = |n: &&Term| matches!(n, Term::Fold(a, _, c) if a == j && g.find(c[0]) == t);
                if choice.get(&y).is_some_and(|n| follows(&n)) {
                    continue;
                }
                let found = g[y].nodes.iter().find(running).or_else(|| g[y].nodes.iter().find(follows));
                let found = found.ok_or_else(|| PassError::Bug("a fold tracks what does not run".into()))?;
                choice.insert(y, found.clone());
            }
        }
        todo.extend(term.children().iter().map(|&c| g.find(c)));
    }
    let mut dag = Dag::default();
    let mut made = Made::default();
    for root in &ingested.roots {
        let n = build(&legal, g, &choice, g.find(root.class), &mut dag, &mut made)?;
        dag.roots.push(n);
    }
    Ok(dag)
}

/// Nodes of the extracted term that were made.
#[derive(Default)]
struct Made {
    /// By class; nothing for those that are being made.
    of: HashMap<Id, Option<NodeId>>,
    /// Parts of actions, which may differ from what is chosen for their classes: folds share them.
    moved: HashMap<Term, NodeId>,
}

/// A term of the class over the tracked classes, the moved value and literals alone.
fn over(
    legal: &Legal,
    g: &Graph,
    id: Id,
    tracked: &[Id],
    dag: &mut Dag,
    made: &mut Made,
    known: &mut HashMap<Id, Option<NodeId>>,
) -> Option<NodeId> {
    if tracked.contains(&id) {
        return made.of.get(&id).copied().flatten();
    }
    if let Some(&done) = known.get(&id) {
        return done;
    }
    known.insert(id, None);
    let found = legal.of_class(id).find_map(|node| {
        if !acting(node) {
            return None;
        }
        let children: Option<Vec<NodeId>> =
            node.children().iter().map(|&c| over(legal, g, g.find(c), tracked, dag, made, known)).collect();
        let mut children = children?.into_iter();
        let term = node.clone().map_children(|c| children.next().map_or(c, as_child));
        Some(*made.moved.entry(term).or_insert_with_key(|t| dag.push(t.clone(), id, g[id].data.kind)))
    });
    known.insert(id, found);
    found
}

fn build(
    legal: &Legal,
    g: &Graph,
    choice: &HashMap<Id, Term>,
    id: Id,
    dag: &mut Dag,
    made: &mut Made,
) -> Result<NodeId, PassError> {
    match made.of.get(&id) {
        Some(Some(n)) => return Ok(*n),
        Some(None) => return Err(PassError::Bug("the extracted term is cyclic".into())),
        None => {}
    }
    made.of.insert(id, None);
    let Some(term) = choice.get(&id) else {
        return Err(PassError::Bug(format!("no term was chosen for class {id}")));
    };
    let mut failed = None;
    let mut term = term.clone();
    if let Term::Fold(_, _, c) = &mut term {
        // The action must be a term over what the fold tracks, to be evaluated at other pairs of values; the children
        // come out as nodes below.
        let tracked: Vec<Id> = c[2..].iter().map(|&t| g.find(t)).collect();
        for &t in &tracked {
            build(legal, g, choice, t, dag, made)?;
        }
        let h = over(legal, g, g.find(c[1]), &tracked, dag, made, &mut HashMap::new())
            .ok_or_else(|| PassError::Bug("an action has no term over what it tracks".into()))?;
        let q = build(legal, g, choice, g.find(c[0]), dag, made)?;
        let mut children = vec![as_child(q), as_child(h)];
        for &t in &tracked {
            children.push(as_child(build(legal, g, choice, t, dag, made)?));
        }
        let Term::Fold(a, op, _) = term else { return Err(PassError::Bug("a fold is no fold".into())) };
        let n = dag.push(Term::Fold(a, op, children.into()), id, g[id].data.kind);
        made.of.insert(id, Some(n));
        return Ok(n);
    }
    let term = term.map_children(|c| match build(legal, g, choice, g.find(c), dag, made) {
        Ok(n) => as_child(n),
        Err(e) => {
            failed.get_or_insert(e);
            c
        }
    });
    if let Some(e) = failed {
        return Err(e);
    }
    let n = dag.push(term, id, g[id].data.kind);
    // A class may hold a term that mentions an axis on which its value does not depend; a parent that binds no such axis
    // would leave it dangling.
    let known = super::dag::whole(g[id].data.free);
    if !dag.nodes[n].free.is_subset(&known) {
        return Err(PassError::Bug(format!("the term chosen for class {id} has dangling axes")));
    }
    made.of.insert(id, Some(n));
    Ok(n)
}
