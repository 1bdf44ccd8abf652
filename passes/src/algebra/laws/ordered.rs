//! Folds whose action chooses: what they track are extremes, and folds themselves.
//!
//! `E = R[j.o] a(q; t, y)`, R max or min, is a fold if `a` is made of comparisons, choices, maxima and minima of what is tracked,
//! and moving two blocks to what they are together, and that on to more, is moving each there at once. The second largest
//! moves so: a block that has the largest of all has its second largest to offer, any other its largest.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Id, Language};
use tilewright_ir::{Axis, Binary, Reduction, Unary};

use super::construct::literal;
use super::folds::Tracks;
use super::{Search, positions};
use crate::algebra::{SubAxis, Term};

/// How often an action is tried.
const TRIALS: usize = 3000;

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
        let mut writer = Writer { j, q, hole, tracks: Tracks::new(), open: BTreeSet::new(), steps: STEPS };
        let Some((shown, action)) = writer.node(s, &node) else { continue };
        let tracks = writer.tracks;
        if tracks.is_empty() || s.graph.find(shown) == s.graph.find(action) {
            continue;
        }
        if known(s, op, j, q, action, &tracks) || legal(s, op, j, q, action, &tracks) {
            out.push((s.graph.id_to_node(shown).clone(), action, tracks));
        }
    }
    out
}

/// Whether the graph has such a fold.
fn known(s: &Search, op: Reduction, j: Axis, q: Id, action: Id, tracks: &Tracks) -> bool {
    let mut children = vec![q, action];
    children.extend(tracks.iter().flat_map(|(&t, &y)| [t, y]));
    s.graph.lookup(Term::Fold(j, op, children.into())).is_some()
}

/// How many classes are looked at to write one action: those of classes that choose among many are left out.
const STEPS: usize = 2000;

/// Writes a class as a term over the block value and what is tracked.
struct Writer {
    j: Axis,
    q: Id,
    hole: Id,
    tracks: Tracks,
    open: BTreeSet<Id>,
    /// What is left of [`STEPS`].
    steps: usize,
}

impl Writer {
    /// The term, and the same with a hole for the block value.
    fn of(&mut self, s: &mut Search, id: Id) -> Option<(Id, Id)> {
        let class = s.graph.find(id);
        self.steps = self.steps.checked_sub(1)?;
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
        if !self.open.insert(class) {
            return None;
        }
        let nodes = s.graph[class].nodes.to_vec();
        let found = nodes.iter().filter(|n| chooses(n)).find_map(|node| {
            let before = self.tracks.clone();
            let out = self.node(s, node);
            if out.is_none() {
                self.tracks = before;
            }
            out
        });
        self.open.remove(&class);
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

/// How what is tracked runs along: the operation that joins blocks, and what moves them.
fn runs(s: &Search, t: Id, y: Id, j: Axis) -> Option<(Reduction, Option<(Id, Tracks)>)> {
    let mut folds = None;
    for n in &s.graph[y].nodes {
        match n {
            Term::Reduce(op @ (Reduction::Max | Reduction::Min), axes, [x])
                if axes[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t =>
            {
                return Some((*op, None));
            }
            Term::Fold(a, op @ (Reduction::Max | Reduction::Min), c)
                if *a == j && s.graph.find(c[0]) == t =>
            {
                let pairs = c[2..].chunks(2).map(|p| (s.graph.find(p[0]), s.graph.find(p[1]))).collect();
                folds.get_or_insert((*op, Some((c[1], pairs))));
            }
            _ => {}
        }
    }
    folds
}

/// A term over places in a state.
enum Action {
    Number(f64),
    /// What is moved.
    Moved,
    /// A component of where it is moved from.
    From(usize),
    /// A component of where it is moved to.
    To(usize),
    Choice(Box<[Action; 3]>),
    Compare(Binary, Box<[Action; 2]>),
    Not(Box<Action>),
    Max(Vec<Action>),
    Min(Vec<Action>),
}

type State = Vec<f64>;

impl Action {
    fn value(&self, moved: f64, from: &State, to: &State) -> f64 {
        let of = |a: &Action| a.value(moved, from, to);
        let truth = |p: bool| f64::from(u8::from(p));
        match self {
            Action::Number(x) => *x,
            Action::Moved => moved,
            Action::From(n) => from[*n],
            Action::To(n) => to[*n],
            Action::Choice(c) => of(if of(&c[0]) != 0.0 { &c[1] } else { &c[2] }),
            Action::Not(x) => truth(of(x) == 0.0),
            Action::Max(c) => c.iter().map(of).fold(f64::NEG_INFINITY, f64::max),
            Action::Min(c) => c.iter().map(of).fold(f64::INFINITY, f64::min),
            Action::Compare(f, c) => {
                let (a, b) = (of(&c[0]), of(&c[1]));
                truth(match f {
                    Binary::Eq => a == b,
                    Binary::Ne => a != b,
                    Binary::Lt => a < b,
                    Binary::Le => a <= b,
                    Binary::Gt => a > b,
                    Binary::Ge => a >= b,
                    Binary::And => a != 0.0 && b != 0.0,
                    _ => a != 0.0 || b != 0.0,
                })
            }
        }
    }
}

/// One number of a state: the block value, how blocks are joined, and what moves it, if anything does.
struct Component {
    block: Id,
    op: Reduction,
    action: Option<Action>,
}

/// What runs along with a fold, each after what it tracks itself, and the fold last.
struct System {
    j: Axis,
    components: Vec<Component>,
    /// Numbers that stand in actions.
    literals: BTreeSet<u64>,
}

/// What an extent is taken to be.
const EXTENT: f64 = 1e6;

impl System {
    /// Adds what is tracked; its place.
    fn add(&mut self, s: &Search, t: Id, y: Id, depth: usize) -> Option<usize> {
        if let Some(at) = self.components.iter().position(|c| c.block == t) {
            return Some(at);
        }
        let (op, moves) = runs(s, t, y, self.j)?;
        let action = match moves {
            None => None,
            // What it tracks itself was tracked before it was.
            Some(_) if depth == 0 => return None,
            Some((action, tracks)) => Some(self.action(s, action, &tracks, depth - 1)?),
        };
        self.components.push(Component { block: t, op, action });
        Some(self.components.len() - 1)
    }

    fn action(&mut self, s: &Search, action: Id, tracks: &Tracks, depth: usize) -> Option<Action> {
        let mut places = BTreeMap::new();
        for (&t, &y) in tracks {
            let (t, y) = (s.graph.find(t), s.graph.find(y));
            let at = self.add(s, t, y, depth)?;
            places.insert(t, (at, false));
            places.insert(y, (at, true));
        }
        self.read(s, action, &places, &mut BTreeSet::new())
    }

    /// A class as a term over what is tracked.
    fn read(
        &mut self,
        s: &Search,
        id: Id,
        places: &BTreeMap<Id, (usize, bool)>,
        open: &mut BTreeSet<Id>,
    ) -> Option<Action> {
        let id = s.graph.find(id);
        match places.get(&id) {
            Some(&(at, false)) => return Some(Action::From(at)),
            Some(&(at, true)) => return Some(Action::To(at)),
            None => {}
        }
        if !open.insert(id) {
            return None;
        }
        let found = s.graph[id].nodes.iter().find_map(|node| {
            let mut all = || -> Option<Vec<Action>> {
                node.children().iter().map(|&c| self.read(s, c, places, open)).collect()
            };
            match node {
                Term::Hole => Some(Action::Moved),
                Term::Num(x) => {
                    self.literals.insert(x.0.to_bits());
                    Some(Action::Number(x.0))
                }
                Term::Size(_) => Some(Action::Number(EXTENT)),
                _ if !chooses(node) => None,
                Term::Select(_) => Some(Action::Choice(Box::new(all()?.try_into().ok()?))),
                Term::Binary(f, _) => Some(Action::Compare(*f, Box::new(all()?.try_into().ok()?))),
                Term::Unary(..) => Some(Action::Not(Box::new(all()?.pop()?))),
                Term::Max(_) => Some(Action::Max(all()?)),
                _ => Some(Action::Min(all()?)),
            }
        });
        open.remove(&id);
        found
    }

    /// What component `n` of a state becomes where the state is moved.
    fn moved(&self, n: usize, from: &State, to: &State) -> f64 {
        match &self.components[n].action {
            None => from[n],
            Some(a) => a.value(from[n], from, to),
        }
    }

    fn joined(&self, n: usize, a: f64, b: f64) -> f64 {
        if self.components[n].op == Reduction::Max { a.max(b) } else { a.min(b) }
    }

    /// Two states together. Each component follows those before it.
    fn together(&self, a: &State, b: &State) -> State {
        let mut out = State::new();
        for n in 0..self.components.len() {
            out.push(f64::NAN);
            out[n] = self.joined(n, self.moved(n, a, &out), self.moved(n, b, &out));
        }
        out
    }
}

/// Whether the action may follow what it tracks: states are tried, of few numbers so that many are equal. Positions of
/// different blocks are taken to differ.
fn legal(s: &Search, op: Reduction, j: Axis, q: Id, action: Id, tracks: &Tracks) -> bool {
    let mut system = System { j, components: Vec::new(), literals: BTreeSet::new() };
    let Some(action) = system.action(s, action, tracks, 64) else { return false };
    system.components.push(Component { block: q, op, action: Some(action) });
    let last = system.components.len() - 1;
    let nothing: State = system.components.iter().map(|c| c.op.identity()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let choices: Vec<Option<BTreeSet<u64>>> = system
        .components
        .iter()
        .map(|c| {
            positions::nones(s, c.block, j).map(|n| n.iter().map(|x| x.unwrap_or(EXTENT).to_bits()).collect())
        })
        .collect();
    // What is never more than another component of its block.
    let places = 0..system.components.len();
    let pairs = places.clone().flat_map(|n| places.clone().map(move |m| (n, m)));
    let below: Vec<(usize, usize)> = pairs
        .filter(|&(n, m)| n != m && never_above(s, system.components[n].block, system.components[m].block, j))
        .collect();
    (0..TRIALS).all(|_| {
        let mut state = |block: usize| -> State {
            let of = |(c, none): (&Component, &Option<BTreeSet<u64>>)| match none {
                Some(none) => {
                    let all = none.iter().map(|&n| f64::from_bits(n));
                    let own = [0, 3, 6].map(|n| (n + block) as f64);
                    random.pick(&all.chain(own).collect::<Vec<_>>())
                }
                None => {
                    let known = &s.graph[c.block].data;
                    let near = system
                        .literals
                        .iter()
                        .map(|&n| f64::from_bits(n))
                        .flat_map(|n| [n - 1.0, n, n + 1.0]);
                    let some = near.chain([f64::NEG_INFINITY, known.lo, known.hi, 0.0, 1.0, 2.0, 3.0]);
                    let fits = |x: &f64| {
                        (known.lo..=known.hi).contains(x)
                            && (*x > f64::NEG_INFINITY || !known.above)
                            && (*x < f64::INFINITY || !known.below)
                    };
                    random.pick(&some.filter(fits).collect::<Vec<_>>())
                }
            };
            let mut out: State = system.components.iter().zip(&choices).map(of).collect();
            for _ in 0..out.len() {
                below.iter().for_each(|&(n, m)| out[n] = out[n].min(out[m]));
            }
            out
        };
        let (a, b, c) = (state(0), state(1), state(2));
        let ab = system.together(&a, &b);
        let (all, rest) = (system.together(&ab, &c), system.together(&a, &c));
        let at = |from: &State, to: &State| system.moved(last, from, to);
        let both = system.joined(last, at(&a, &all), at(&b, &all));
        let first = |to: &State| system.joined(last, at(&nothing, to), at(&a, to)) == at(&a, to);
        at(&a, &a) == a[last] && at(&ab, &all) == both && first(&a) && first(&rest)
    })
}

/// Whether the one class is a maximum within a block of what is never more than what the other is a maximum of.
fn never_above(s: &Search, a: Id, b: Id, j: Axis) -> bool {
    let bodies = |id: Id| -> Vec<Id> {
        let body = |n: &Term| match n {
            Term::Reduce(Reduction::Max, axes, [x]) if axes[..] == [SubAxis::inner(j)] => Some(*x),
            _ => None,
        };
        s.graph[id].nodes.iter().filter_map(body).collect()
    };
    bodies(a).iter().any(|&x| bodies(b).iter().any(|&y| pointwise(s, x, y, 64)))
}

fn pointwise(s: &Search, a: Id, b: Id, depth: usize) -> bool {
    let (a, b) = (s.graph.find(a), s.graph.find(b));
    if a == b || s.graph[a].data.hi <= s.graph[b].data.lo {
        return true;
    }
    let fewer = |c: Id, of: Id| depth > 0 && s.graph[c].data.size < s.graph[of].data.size;
    s.graph[a].nodes.iter().any(|n| {
        matches!(n, Term::Select([_, c, d]) if [*c, *d].iter().all(|&c| fewer(c, a) && pointwise(s, c, b, depth - 1)))
    })
}

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn pick(&mut self, of: &[f64]) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        of.get((self.0 >> 33) as usize % of.len().max(1)).copied().unwrap_or(0.0)
    }
}
