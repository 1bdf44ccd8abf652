//! Folds whose action chooses: what they track are extremes, and folds themselves.
//!
//! `E = R[j.o] a(q; t, y)`, R max or min, is a fold if `a` is made of comparisons, choices, maxima and minima of what is tracked.
//! The second largest moves so: a block that has the largest of all has its second largest to offer, any other its largest.
//!
//! That the action may be used step by step need not be tried: the equation holds for blocks of any size, and `q` is `E` of a
//! block, so of two blocks the first may be all that was seen so far. What it does not say, since blocks have positions, is
//! what becomes of nothing yet: moved to what any blocks are together, it must leave those as they are.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::eval::{Domain, F64, Sort};
use tilewright_ir::{Axis, Binary, Reduction, Unary};

use super::construct::literal;
use super::folds::Tracks;
use super::{Search, positions};
use crate::algebra::{SubAxis, Term};

/// How often an action is tried.
const TRIALS: usize = 300;

/// The ways in which the body is a choice of the block value among what is tracked: what it is, the action, and what it tracks.
pub(super) fn ordered(
    s: &mut Search,
    op: Reduction,
    body: Id,
    j: Axis,
    q: Id,
    hole: Id,
) -> Vec<(Term, Id, Tracks)> {
    if op == Reduction::Sum {
        return Vec::new();
    }
    let choices: Vec<Term> =
        s.graph[body].nodes.iter().filter(|n| matches!(n, Term::Select(_))).cloned().collect();
    let mut out = Vec::new();
    for node in choices {
        let mut writer = Writer { j, q, hole, tracks: Tracks::new(), done: HashMap::new() };
        let Some((shown, action)) = writer.node(s, &node) else { continue };
        let mut tracks = Tracks::new();
        mentioned(s, action, &writer.tracks, &mut BTreeSet::new(), &mut tracks);
        if tracks.is_empty() || s.graph.find(shown) == s.graph.find(action) {
            continue;
        }
        if known(s, op, j, q, action, &tracks) || starts(s, op, j, q, action, &tracks) {
            out.push((s.graph.id_to_node(shown).clone(), action, tracks));
        }
    }
    out
}

/// What an action mentions of what may be tracked.
fn mentioned(s: &Search, id: Id, all: &Tracks, seen: &mut BTreeSet<Id>, out: &mut Tracks) {
    let class = s.graph.find(id);
    if let Some((&t, &y)) = all.iter().find(|&(&t, &y)| t == class || y == class) {
        out.insert(t, y);
    } else if seen.insert(id) {
        s.graph.id_to_node(id).children().iter().for_each(|&c| mentioned(s, c, all, seen, out));
    }
}

/// Whether the graph has such a fold.
fn known(s: &Search, op: Reduction, j: Axis, q: Id, action: Id, tracks: &Tracks) -> bool {
    let mut children = vec![q, action];
    children.extend(tracks.iter().flat_map(|(&t, &y)| [t, y]));
    s.graph.lookup(Term::Fold(j, op, children.into())).is_some()
}

/// Writes a class as a term over the block value and what is tracked.
struct Writer {
    j: Axis,
    q: Id,
    hole: Id,
    tracks: Tracks,
    /// Classes that were looked at; nothing for those that have no such term, and for those that are being looked at.
    done: HashMap<Id, Option<(Id, Id)>>,
}

impl Writer {
    /// The term, and the same with a hole for the block value.
    fn of(&mut self, s: &mut Search, id: Id) -> Option<(Id, Id)> {
        let class = s.graph.find(id);
        if class == s.graph.find(self.q) {
            return Some((self.q, self.hole));
        }
        if literal(&s.graph, class).is_some()
            || s.graph[class].nodes.iter().any(|n| matches!(n, Term::Size(_)))
        {
            return Some((id, id));
        }
        if let Some((t, y)) = tracked(s, class, self.j) {
            self.tracks.insert(t, y);
            return Some((class, class));
        }
        if let Some(&done) = self.done.get(&class) {
            return done;
        }
        self.done.insert(class, None);
        let nodes = s.graph[class].nodes.to_vec();
        let found = nodes.iter().filter(|n| chooses(n)).find_map(|node| self.node(s, node));
        self.done.insert(class, found);
        found
    }

    fn node(&mut self, s: &mut Search, node: &Term) -> Option<(Id, Id)> {
        let children: Option<Vec<(Id, Id)>> = node.children().iter().map(|&c| self.of(s, c)).collect();
        let children = children?;
        let mut with = |pick: fn(&(Id, Id)) -> Id| {
            let mut children = children.iter().map(pick);
            let node = node.clone().map_children(|c| children.next().unwrap_or(c));
            s.graph.add_uncanonical(node)
        };
        Some((with(|c| c.0), with(|c| c.1)))
    }
}

/// Whether all that a node does is compare and choose.
fn chooses(node: &Term) -> bool {
    match node {
        Term::Select(_) | Term::Max(_) | Term::Min(_) | Term::Unary(Unary::Not, _) => true,
        Term::Binary(f, _) => f.is_predicate(),
        _ => false,
    }
}

/// The pair of a block value and what it is of all blocks, if the class is either and the latter runs along.
fn tracked(s: &Search, id: Id, j: Axis) -> Option<(Id, Id)> {
    let id = s.graph.find(id);
    if s.graph[id].data.free.contains(SubAxis::inner(j)) {
        return None;
    }
    if !s.graph[id].data.free.contains(SubAxis::outer(j)) {
        let t = s.graph.find(*s.parts.get(&(j, id))?);
        return runs(s, t, id, j).is_some().then_some((t, id));
    }
    s.graph[id].nodes.iter().find_map(|n| match n {
        Term::Part(a, [y]) if *a == j => {
            let y = s.graph.find(*y);
            runs(s, id, y, j).map(|_| (id, y))
        }
        _ => None,
    })
}

/// How blocks are joined of what is tracked, if the graph shows that it runs along.
fn runs(s: &Search, t: Id, y: Id, j: Axis) -> Option<Reduction> {
    s.graph[y].nodes.iter().find_map(|n| match n {
        Term::Reduce(op @ (Reduction::Max | Reduction::Min), axes, [x])
            if axes[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t =>
        {
            Some(*op)
        }
        Term::Fold(a, op @ (Reduction::Max | Reduction::Min), c) if *a == j && s.graph.find(c[0]) == t => {
            Some(*op)
        }
        _ => None,
    })
}

/// A part of an action; operands are the numbers of parts before it.
enum Part {
    Number(f64),
    /// What is moved.
    Moved,
    /// What is tracked, where it is moved from.
    From(usize),
    /// The same where it is moved to.
    To(usize),
    Choice([usize; 3]),
    Compare(Binary, [usize; 2]),
    Not(usize),
    Max(Vec<usize>),
    Min(Vec<usize>),
}

/// An action, each part once and the whole of it last.
struct Action {
    parts: Vec<Part>,
    /// The part of each class that was looked at; nothing for those that have none, and for those that are being looked at.
    of: HashMap<Id, Option<usize>>,
    /// Numbers that stand in it.
    literals: BTreeSet<u64>,
}

/// What an extent is taken to be.
const EXTENT: f64 = 1e6;

impl Action {
    /// Reads a class as a term over the moved value and what is tracked, which `of` has from the start.
    fn read(&mut self, s: &Search, id: Id) -> Option<usize> {
        let id = s.graph.find(id);
        if let Some(&done) = self.of.get(&id) {
            return done;
        }
        self.of.insert(id, None);
        let found = s.graph[id].nodes.iter().find_map(|node| {
            let mut all = || node.children().iter().map(|&c| self.read(s, c)).collect::<Option<Vec<usize>>>();
            let part = match node {
                Term::Hole => Part::Moved,
                Term::Num(x) => {
                    self.literals.insert(x.0.to_bits());
                    Part::Number(x.0)
                }
                Term::Size(_) => Part::Number(EXTENT),
                _ if !chooses(node) => return None,
                Term::Select(_) => Part::Choice(all()?.try_into().ok()?),
                Term::Binary(f, _) => Part::Compare(*f, all()?.try_into().ok()?),
                Term::Unary(..) => Part::Not(all()?.pop()?),
                Term::Max(_) => Part::Max(all()?),
                _ => Part::Min(all()?),
            };
            self.parts.push(part);
            Some(self.parts.len() - 1)
        });
        self.of.insert(id, found);
        found
    }

    fn value(&self, moved: f64, from: &[f64], to: &[f64]) -> f64 {
        let mut known: Vec<f64> = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let of = |&n: &usize| known[n];
            known.push(match part {
                Part::Number(x) => *x,
                Part::Moved => moved,
                Part::From(n) => from[*n],
                Part::To(n) => to[*n],
                Part::Choice([p, c, d]) => of(if of(p) != 0.0 { c } else { d }),
                Part::Not(x) => F64.unary(Unary::Not, Sort::Bool, of(x)),
                Part::Max(c) => c.iter().map(of).fold(f64::NEG_INFINITY, f64::max),
                Part::Min(c) => c.iter().map(of).fold(f64::INFINITY, f64::min),
                Part::Compare(f, [a, b]) => F64.binary(*f, Sort::Bool, of(a), of(b)),
            });
        }
        known.last().copied().unwrap_or(moved)
    }
}

/// Whether nothing yet, moved to what any blocks are together, leaves those as they are: states are tried, of few numbers so
/// that many are equal.
fn starts(s: &Search, op: Reduction, j: Axis, q: Id, action: Id, tracks: &Tracks) -> bool {
    let mut read = Action { parts: Vec::new(), of: HashMap::new(), literals: BTreeSet::new() };
    let mut nothing = Vec::new();
    for (n, (&t, &y)) in tracks.iter().enumerate() {
        let (t, y) = (s.graph.find(t), s.graph.find(y));
        let Some(op) = runs(s, t, y, j) else { return false };
        nothing.push(op.identity());
        for (class, part) in [(t, Part::From(n)), (y, Part::To(n))] {
            read.parts.push(part);
            read.of.insert(class, Some(read.parts.len() - 1));
        }
    }
    if read.read(s, action).is_none() {
        return false;
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let kinds: Vec<Vec<f64>> = tracks.keys().chain([&q]).map(|&t| numbers(s, t, j, &read.literals)).collect();
    (0..TRIALS).all(|_| {
        let mut all: Vec<f64> = kinds.iter().map(|of| random.pick(of)).collect();
        let own = all.pop().unwrap_or_default();
        let moved = read.value(op.identity(), &nothing, &all);
        own == if op == Reduction::Max { own.max(moved) } else { own.min(moved) }
    })
}

/// Numbers that a block value may be.
fn numbers(s: &Search, t: Id, j: Axis, literals: &BTreeSet<u64>) -> Vec<f64> {
    if let Some(nones) = positions::nones(s, t, j) {
        return nones.iter().map(|x| x.unwrap_or(EXTENT)).chain([0.0, 3.0, 6.0]).collect();
    }
    let known = &s.graph[t].data;
    let near = literals.iter().map(|&n| f64::from_bits(n)).flat_map(|n| [n - 1.0, n, n + 1.0]);
    let fits = |x: &f64| {
        (known.lo..=known.hi).contains(x)
            && (*x > f64::NEG_INFINITY || !known.above)
            && (*x < f64::INFINITY || !known.below)
    };
    near.chain([f64::NEG_INFINITY, known.lo, known.hi, 0.0, 1.0, 2.0, 3.0]).filter(fits).collect()
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn pick(&mut self, of: &[f64]) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        of.get((self.0 >> 33) as usize % of.len().max(1)).copied().unwrap_or(0.0)
    }
}
