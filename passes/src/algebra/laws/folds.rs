//! Introducing one-pass folds.
//!
//! `E = R[j.o] a(q; t, y)` with `q = part[j] E` is a fold over `j` with block value `q`, when the action `a` may follow the
//! maxima that it tracks from block to block: not moving changes nothing, and moving twice is moving once.
//!
//! A sum may be scaled, `a(q) = h * q`, when `h` is a cocycle: `h(a,a) = 1` and `h(a,b) h(b,c) = h(a,c)`. No function is
//! named: the laws are checked by computing both sides in normal form over fresh elements. Anything may be kept or dropped,
//! `a(q) = where(t == y, q, d)`: of maxima `t <= y <= z` the outer two are equal if and only if each is equal to the
//! middle one. A maximum or minimum may drop to any fixed `d`, a sum to 0.
//!
//! A sum may also be added to, `a(q) = q + g(t, y)`, when what it tracks are sums themselves and moving in two steps is moving
//! in one. Means move so, and squares of distances from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cranelift_entity::EntityRef;
use egg::{Id, Language};
use tilewright_ir::{Axis, Binary, Reduction, Unary, Value};

use super::blocks::mentions_reduction;
use super::construct::{add, literal, mul, num, reduce, unary};
use super::{HOMOMORPHISMS, Law, Search};
use crate::algebra::{Facts, Graph, SubAxis, Term};

/// Fold introduction.
pub(crate) const FOLD: Law = Law {
    name: "fold",
    statement: "E = R[j.o] a(q; t, y), q = part[j] E  =>  E = fold R[j](q, a) tracking (t, y)",
    conditions: "y = max[j.o] t for each tracked pair; R is sum and a(v) = h * v with h(a,a) = 1 and \
                 h(a,b) h(b,c) = h(a,c), or a(v) = where(t == y, v, d) with R max or min, or d 0; or else y = sum[j.o] t, \
                 R is sum and a(v) = v + g with g(a,a) = 0 and g(a,a+b) + g(b,a+b) + g(a+b,c) = g(a,c) + g(b,c)",
    apply: fold,
};

/// Pairs of a block value and the maximum that it is a block value of.
type Tracks = BTreeMap<Id, Id>;

fn fold(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    let [SubAxis { axis: j, part: crate::algebra::Part::Outer }] = axes[..] else { return };
    let hole = s.graph.add_uncanonical(Term::Hole);
    let mut found = added(s, *op, *body, j, hole);
    if let Some(&part) = s.parts.get(&(j, s.graph.find(id))) {
        let q = s.graph.find(part);
        found.extend(scaled(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
        found.extend(kept(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
    }
    for (part, moved, action, tracks) in found {
        // The premise is part of the term: derivations say why the block value is one.
        let mut children = vec![part, action];
        for (&t, &y) in &tracks {
            children.extend([t, y]);
        }
        let rhs = s.graph.add_uncanonical(Term::Fold(j, *op, children.into()));
        // Equal to this form of the reduction, which other laws have shown equal to E.
        let moved = s.graph.add_uncanonical(moved);
        let whole = reduce(&mut s.graph, *op, axes.to_vec(), moved);
        s.subject = whole;
        s.equate(whole, rhs, "fold");
    }
}

/// The ways in which the body is the block value scaled by a cocycle: what it is, the action, and what it tracks.
fn scaled(s: &mut Search, op: Reduction, body: Id, j: Axis, q: Id, hole: Id) -> Vec<(Term, Id, Tracks)> {
    let mut out = Vec::new();
    if op != Reduction::Sum {
        return out;
    }
    let products = s.products(body);
    for factors in products {
        let Some(at) = factors.iter().position(|&f| s.graph.find(f) == q) else { continue };
        let mut rest = factors.clone();
        rest.remove(at);
        let mut tracks = Tracks::new();
        let mut memo = BTreeSet::new();
        let chosen: Option<Vec<Id>> =
            rest.iter().map(|&f| rescale(s, f, j, &mut tracks, &mut memo).then_some(f)).collect();
        if chosen.is_none() || tracks.is_empty() || !is_cocycle(s, &rest, &tracks) {
            continue;
        }
        rest.push(hole);
        let action = mul(&mut s.graph, rest);
        out.push((Term::Mul(factors.into()), action, tracks));
    }
    out
}

/// The ways in which the body is the block value where no tracked maximum has moved, and something fixed elsewhere.
fn kept(s: &mut Search, op: Reduction, body: Id, j: Axis, q: Id, hole: Id) -> Vec<(Term, Id, Tracks)> {
    let choices: Vec<[Id; 3]> = s.graph[body]
        .nodes
        .iter()
        .filter_map(|n| if let Term::Select(c) = n { Some(*c) } else { None })
        .collect();
    let mut out = Vec::new();
    for [p, v, d] in choices {
        let fixed = |n: &Term| match n {
            Term::Num(x) => op != Reduction::Sum || x.0 == 0.0,
            Term::Size(_) => op != Reduction::Sum,
            _ => false,
        };
        if s.graph.find(v) != q || !s.graph[d].nodes.iter().any(fixed) {
            continue;
        }
        let mut tracks = Tracks::new();
        let Term::Binary(Binary::Eq, sides) = s.graph[p].data.smallest else { continue };
        for (t, y) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            if let Some(owner) = maximum_of_blocks(s, t, j).filter(|&o| o == s.graph.find(y)) {
                tracks.insert(s.graph.find(t), owner);
            }
        }
        if !tracks.is_empty() {
            let action = s.graph.add_uncanonical(Term::Select([p, hole, d]));
            out.push((Term::Select([p, v, d]), action, tracks));
        }
    }
    out
}

/// The ways in which the body is a block value and a term over sums within the block and over all blocks: the block value,
/// what it all is, the action, and what it tracks.
fn added(s: &mut Search, op: Reduction, body: Id, j: Axis, hole: Id) -> Vec<(Id, Term, Id, Tracks)> {
    let mut out = Vec::new();
    if op != Reduction::Sum {
        return out;
    }
    for terms in s.sums(body) {
        if terms.iter().any(|&t| literal(&s.graph, t) == Some(0.0)) {
            // Without it it is a sum as well.
            continue;
        }
        let mut tracks = Tracks::new();
        let (moves, own): (Vec<Id>, Vec<Id>) = terms.iter().partition(|&&t| {
            let mut mine = tracks.clone();
            // What does not know of other blocks is the block's own.
            let moves = over_sums(s, t, j, &mut mine, &mut BTreeSet::new())
                && mine.values().any(|&y| mentions(s, t, y));
            if moves {
                tracks = mine;
            }
            moves
        });
        // What follows from other tracked values is not tracked: there is one way then to write the action over them.
        for t in tracks.keys().copied().collect::<Vec<_>>() {
            let mut fewer = tracks.clone();
            fewer.remove(&t);
            let names: HashMap<Id, u64> = fewer.iter().flat_map(|(&t, &y)| [(t, 1), (y, 1)]).collect();
            if moves.iter().all(|&m| value(s, m, &names, &mut Vec::new()).is_some()) {
                tracks = fewer;
            }
        }
        if moves.is_empty() || own.is_empty() || tracks.is_empty() || !adds_up(s, &moves, &tracks) {
            continue;
        }
        let q = add(&mut s.graph, own);
        let mut action = moves.clone();
        action.push(hole);
        let action = s.graph.add_uncanonical(Term::Add(action.into()));
        out.push((q, Term::Add(terms.clone().into()), action, tracks));
    }
    out
}

/// Whether the smallest term of a class holds another class.
fn mentions(s: &Search, id: Id, what: Id) -> bool {
    s.graph.find(id) == s.graph.find(what)
        || s.graph[id].data.smallest.children().iter().any(|&c| mentions(s, c, what))
}

/// Whether the class is a term over sums within a block and the same over all blocks; collects them. A sum within a block
/// that occurs alone is tracked as well.
fn over_sums(s: &mut Search, id: Id, j: Axis, tracks: &mut Tracks, open: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    let nodes = s.graph[id].nodes.to_vec();
    if literal(&s.graph, id).is_some() {
        return true;
    }
    for node in &nodes {
        match node {
            Term::Reduce(Reduction::Sum, axes, [t]) if axes[..] == [SubAxis::outer(j)] => {
                tracks.insert(s.graph.find(*t), id);
                return true;
            }
            Term::Reduce(Reduction::Sum, axes, [x])
                if axes[..] == [SubAxis::inner(j)]
                    && !mentions_reduction(&s.graph, *x, j, &mut HashMap::new()) =>
            {
                let all = reduce(&mut s.graph, Reduction::Sum, vec![SubAxis::outer(j)], id);
                let all = s.graph.find(all);
                tracks.insert(id, all);
                return true;
            }
            _ => {}
        }
    }
    if !open.insert(id) {
        return false;
    }
    let found = nodes.iter().any(|node| {
        let pointwise = matches!(node, Term::Add(_) | Term::Mul(_) | Term::Unary(Unary::Inv, _));
        let smaller = node.children().iter().all(|&c| s.graph[c].data.size < s.graph[id].data.size);
        let mut mine = tracks.clone();
        let closed =
            pointwise && smaller && node.children().iter().all(|&c| over_sums(s, c, j, &mut mine, open));
        if closed {
            *tracks = mine;
        }
        closed
    });
    open.remove(&id);
    found
}

/// The maximum over blocks of which the class is the value of one block.
fn maximum_of_blocks(s: &Search, t: Id, j: Axis) -> Option<Id> {
    let t = s.graph.find(t);
    let is_max_of = |y: Id| {
        s.graph[y].nodes.iter().any(|n| {
            matches!(n, Term::Reduce(Reduction::Max, a, [x]) if a[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t)
        })
    };
    s.graph[t].nodes.iter().find_map(|n| match n {
        Term::Part(a, [y]) if *a == j && is_max_of(*y) => Some(s.graph.find(*y)),
        _ => None,
    })
}

/// Whether the class depends on the block only through block values of maxima; collects them.
fn rescale(s: &Search, id: Id, j: Axis, tracks: &mut BTreeMap<Id, Id>, memo: &mut BTreeSet<Id>) -> bool {
    let id = s.graph.find(id);
    if memo.contains(&id) {
        return true;
    }
    if !s.graph[id].data.free.contains(SubAxis::outer(j)) {
        memo.insert(id);
        return true;
    }
    if s.graph[id].data.free.contains(SubAxis::inner(j)) {
        return false;
    }
    let owner = maximum_of_blocks(s, id, j);
    if let Some(y) = owner {
        tracks.insert(id, y);
        memo.insert(id);
        return true;
    }
    let nodes: Vec<Term> = s.graph[id].nodes.to_vec();
    for node in nodes {
        let pointwise =
            matches!(node, Term::Add(_) | Term::Mul(_) | Term::Unary(..) | Term::Max(_) | Term::Min(_));
        let smaller = node.children().iter().all(|&c| s.graph[c].data.size < s.graph[id].data.size);
        if pointwise && smaller && node.children().iter().all(|&c| rescale(s, c, j, tracks, memo)) {
            memo.insert(id);
            return true;
        }
    }
    false
}

/// Whether moving blocks to what they are together, and that on to any other reference, is moving each there at once, and
/// moving nothing adds nothing: `g(a, a+b) + g(b, a+b) + g(a+b, y) = g(a, y) + g(b, y)` and `g(a, a) = 0`, for what is tracked
/// adds up. The two sides are rational functions, and are compared at random points of a finite field.
fn adds_up(s: &Search, moves: &[Id], tracks: &Tracks) -> bool {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut fresh = || -> Vec<u64> {
        tracks
            .iter()
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1 + (seed >> 3) % (field::MODULUS - 1)
            })
            .collect()
    };
    (0..2).all(|_| {
        let (a, b, y) = (fresh(), fresh(), fresh());
        let both: Vec<u64> = a.iter().zip(&b).map(|(&a, &b)| field::add(a, b)).collect();
        let g = |from: &[u64], to: &[u64]| -> Option<u64> {
            let mut names = HashMap::new();
            for (n, (&block, &whole)) in tracks.iter().enumerate() {
                names.extend([(block, from[n]), (whole, to[n])]);
            }
            moves.iter().try_fold(0, |sum, &m| Some(field::add(sum, value(s, m, &names, &mut Vec::new())?)))
        };
        let sides = || {
            let near = field::add(g(&a, &both)?, g(&b, &both)?);
            Some((field::add(near, g(&both, &y)?), field::add(g(&a, &y)?, g(&b, &y)?)))
        };
        g(&a, &a) == Some(0) && sides().is_some_and(|(stepwise, direct)| stepwise == direct)
    })
}

/// The value of a class over named ones, if it has a term over nothing else.
fn value(s: &Search, id: Id, names: &HashMap<Id, u64>, open: &mut Vec<Id>) -> Option<u64> {
    let id = s.graph.find(id);
    if let Some(&known) = names.get(&id) {
        return Some(known);
    }
    if open.contains(&id) {
        return None;
    }
    open.push(id);
    let found = s.graph[id].nodes.iter().find_map(|node| {
        let mut of = |c: &[Id]| -> Option<Vec<u64>> { c.iter().map(|&c| value(s, c, names, open)).collect() };
        match node {
            Term::Num(x) => field::literal(x.0),
            Term::Add(c) => Some(of(c)?.into_iter().fold(0, field::add)),
            Term::Mul(c) => Some(of(c)?.into_iter().fold(1, field::mul)),
            Term::Unary(Unary::Inv, c) => Some(field::inverse(of(c)?[0])),
            _ => None,
        }
    });
    open.pop();
    found
}

/// Numbers modulo a prime.
mod field {
    /// 2^61 - 1.
    pub(super) const MODULUS: u64 = (1 << 61) - 1;

    pub(super) fn add(a: u64, b: u64) -> u64 {
        (a + b) % MODULUS
    }

    pub(super) fn mul(a: u64, b: u64) -> u64 {
        (u128::from(a) * u128::from(b) % u128::from(MODULUS)) as u64
    }

    pub(super) fn inverse(a: u64) -> u64 {
        let (mut base, mut out, mut exponent) = (a, 1, MODULUS - 2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                out = mul(out, base);
            }
            base = mul(base, base);
            exponent >>= 1;
        }
        out
    }

    /// A whole number; of others an action has no need.
    pub(super) fn literal(x: f64) -> Option<u64> {
        let whole = x.fract() == 0.0 && x.abs() < 9e15;
        whole.then(|| if x < 0.0 { MODULUS - x.abs() as u64 } else { x as u64 })
    }
}

/// Checks the cocycle laws over fresh elements `a`, `b`, `c` for each tracked pair.
fn is_cocycle(s: &Search, factors: &[Id], tracks: &BTreeMap<Id, Id>) -> bool {
    let mut g = Graph::new(Facts::default());
    // Fresh elements are finite and otherwise arbitrary; quotients by them are defined because the law that brought
    // the quotient here demanded it.
    let mut fresh = |set: usize| -> HashMap<Id, Id> {
        tracks
            .keys()
            .enumerate()
            .map(|(n, &t)| (t, g.add(Term::Read(Value::new(set * tracks.len() + n), Box::new([])))))
            .collect()
    };
    let (a, b, c) = (fresh(0), fresh(1), fresh(2));
    let mut h = |t: &HashMap<Id, Id>, y: &HashMap<Id, Id>| -> Option<Vec<Id>> {
        let mut names = HashMap::new();
        for (&block, &whole) in tracks {
            names.insert(block, t[&block]);
            names.insert(whole, y[&block]);
        }
        factors.iter().map(|&f| instantiate(s, &mut g, f, &names, &mut Vec::new())).collect()
    };
    let (Some(aa), Some(ab), Some(bc), Some(ac)) = (h(&a, &a), h(&a, &b), h(&b, &c), h(&a, &c)) else {
        return false;
    };
    let one = normal(&mut g, aa);
    let chained = normal(&mut g, ab.into_iter().chain(bc).collect());
    let direct = normal(&mut g, ac);
    let unit = num(&mut g, 1.0);
    g.find(one) == g.find(unit) && g.find(chained) == g.find(direct)
}

/// The term of a class over the fresh elements, if it has one over nothing else.
fn instantiate(s: &Search, g: &mut Graph, id: Id, names: &HashMap<Id, Id>, open: &mut Vec<Id>) -> Option<Id> {
    let id = s.graph.find(id);
    if let Some(&known) = names.get(&id) {
        return Some(known);
    }
    if open.contains(&id) {
        return None;
    }
    open.push(id);
    let nodes = s.graph[id].nodes.clone();
    let found = nodes.iter().find_map(|node| {
        if let Term::Num(n) = node {
            return Some(num(g, n.0));
        }
        if !matches!(node, Term::Mul(_) | Term::Add(_) | Term::Unary(..)) {
            return None;
        }
        let children: Option<Vec<Id>> =
            node.children().iter().map(|&c| instantiate(s, g, c, names, open)).collect();
        let children = children?;
        Some(match node {
            Term::Mul(_) => mul(g, children),
            Term::Unary(u, _) => unary(g, *u, children[0]),
            _ => add(g, children),
        })
    });
    open.pop();
    found
}

/// A product in normal form: arguments of each homomorphism added up, `x * inv x` cancelled.
fn normal(g: &mut Graph, factors: Vec<Id>) -> Id {
    let product = mul(g, factors);
    let factors = match &g[product].data.smallest {
        Term::Mul(c) => c.to_vec(),
        _ => vec![product],
    };
    let mut arguments: BTreeMap<Unary, Vec<Id>> = BTreeMap::new();
    let mut plain: Vec<Id> = Vec::new();
    let mut inverses: Vec<Id> = Vec::new();
    for f in factors {
        match &g[f].data.smallest {
            Term::Unary(u, [x]) if HOMOMORPHISMS.contains(u) => arguments.entry(*u).or_default().push(*x),
            Term::Unary(Unary::Inv, [x]) => inverses.push(g.find(*x)),
            _ => plain.push(f),
        }
    }
    let mut rest = Vec::new();
    for x in inverses {
        match plain.iter().position(|&p| g.find(p) == x) {
            Some(n) => {
                plain.swap_remove(n);
            }
            None => rest.push(unary(g, Unary::Inv, x)),
        }
    }
    rest.extend(plain);
    for (f, xs) in arguments {
        let sum = add(g, xs);
        rest.push(unary(g, f, sum));
    }
    mul(g, rest)
}
