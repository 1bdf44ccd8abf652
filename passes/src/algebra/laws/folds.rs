//! Introducing one-pass folds.
//!
//! `E = R[j.o] a(q; t, y)` with `q = part[j] E` is a fold over `j` with block value `q`, when the action `a` may follow the
//! maxima that it tracks from block to block: not moving changes nothing, and moving twice is moving once.
//!
//! A sum may be scaled, `a(q) = h * q`, when `h` is a cocycle: `h(a,a) = 1` and `h(a,b) h(b,c) = h(a,c)`. No function is
//! named: the laws are checked by computing both sides in normal form over fresh elements. Anything may be kept or dropped,
//! `a(q) = where(t == y, q, d)`: of maxima `t <= y <= z`, as of minima, the outer two are equal if and only if each is equal
//! to the middle one. A maximum or minimum may drop to a fixed `d` that is no better than what is kept, a sum to 0: where nothing was
//! kept yet, `d` takes its place too.
//!
//! Several sums may move together, `a(q) = h * (q + g * l)`, each to a multiple of itself and of the block values `l` of others.
//!
//! A sum may also be added to, `a(q) = q + g(t, y)`, when what it tracks are sums themselves and moving in two steps is moving
//! in one. Means move so, and squares of distances from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cranelift_entity::EntityRef;
use egg::{Id, Language};
use tilewright_ir::{Axis, Binary, Reduction, Unary, Value};

use super::additive::added;
use super::construct::{add, literal, mul, num, reduce, unary};
use super::linear::linear;
use super::ordered::ordered;
use super::{HOMOMORPHISMS, Law, Search, positions};
use crate::algebra::{Facts, Graph, SubAxis, Term};

/// Fold introduction.
pub(crate) const FOLD: Law = Law {
    name: "fold",
    statement: "E = R[j.o] a(q; t, y), q = part[j] E  =>  E = fold R[j](q, a) tracking (t, y)",
    conditions: "y = max[j.o] t for each tracked pair; R is sum and a(v) = h * v with h(a,a) = 1 and \
                 h(a,b) h(b,c) = h(a,c), or a(v) = where(t == y, v, d) with R max and d never more than v, or R min and d \
                 never less, or d 0, where y may be min[j.o] t; or else y = sum[j.o] t, R is sum and a(v) = v + g with g(a,a) = 0 and g(a,a+b) + \
                 g(b,a+b) + g(a+b,c) = g(a,c) + g(b,c); or else y = R[j.o] t or a fold of t, R is max or min, a(v) \
                 compares and chooses among t, y, v and numbers, and nothing yet leaves all as it is; or else y = max[j.o] t, R \
                 is sum, a(v) = h * (v + g * l) for block values l of sums that run along, and moving all of these twice is \
                 moving them once",
    apply: fold,
};

/// Pairs of a block value and the maximum or minimum that it is a block value of.
pub(super) type Tracks = BTreeMap<Id, Id>;

fn fold(s: &mut Search, id: Id, node: &Term) {
    let Term::Reduce(op, axes, [body]) = node else { return };
    let [SubAxis { axis: j, part: crate::algebra::Part::Outer }] = axes[..] else { return };
    let hole = s.graph.add_uncanonical(Term::Hole);
    let mut found = added(s, *op, *body, j, hole);
    if let Some(&part) = s.parts.get(&(j, s.graph.find(id))) {
        let q = s.graph.find(part);
        found.extend(scaled(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
        found.extend(linear(s, *op, *body, j, q, hole).into_iter().map(|(m, a, t)| (part, m, a, t)));
        let mut chosen = kept(s, *op, *body, j, q, hole);
        if chosen.is_empty() {
            chosen = ordered(s, *op, *body, j, q, hole);
        }
        found.extend(chosen.into_iter().map(|(m, a, t)| (part, m, a, t)));
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
        let number = |n: &Term| matches!(n, Term::Num(_) | Term::Size(_));
        // Where nothing was kept yet it is put in place of that too, and must not show.
        let idle = match op {
            Reduction::Sum => literal(&s.graph, d) == Some(0.0),
            Reduction::Max => s.graph[d].data.hi <= s.graph[q].data.lo,
            Reduction::Min => positions::at_most(s, q, d, j),
        };
        if s.graph.find(v) != q || !s.graph[d].nodes.iter().any(number) || !idle {
            continue;
        }
        let mut tracks = Tracks::new();
        let Term::Binary(Binary::Eq, sides) = s.graph[p].data.smallest else { continue };
        for (t, y) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            let owner =
                [Reduction::Max, Reduction::Min].into_iter().find_map(|op| extreme_of_blocks(s, t, j, op));
            if let Some(owner) = owner.filter(|&o| o == s.graph.find(y)) {
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

/// The maximum or minimum over blocks of which the class is the value of one block.
pub(super) fn extreme_of_blocks(s: &Search, t: Id, j: Axis, op: Reduction) -> Option<Id> {
    let t = s.graph.find(t);
    let is_over_blocks = |y: Id| {
        s.graph[y].nodes.iter().any(|n| {
            matches!(n, Term::Reduce(o, a, [x]) if *o == op && a[..] == [SubAxis::outer(j)] && s.graph.find(*x) == t)
        })
    };
    s.graph[t].nodes.iter().find_map(|n| match n {
        Term::Part(a, [y]) if *a == j && is_over_blocks(*y) => Some(s.graph.find(*y)),
        _ => None,
    })
}

/// Whether the class depends on the block only through block values of maxima; collects them.
pub(super) fn rescale(s: &Search, id: Id, j: Axis, tracks: &mut Tracks, memo: &mut BTreeSet<Id>) -> bool {
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
    let owner = extreme_of_blocks(s, id, j, Reduction::Max);
    if let Some(y) = owner {
        tracks.insert(id, y);
        memo.insert(id);
        return true;
    }
    let mut nodes: Vec<Term> = s.graph[id].nodes.to_vec();
    // A multiple of a difference tracks what is subtracted, and not multiples of it, which are rounded.
    nodes.sort_by_key(|n| !matches!(n, Term::Mul(_)));
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
            Term::Mul(_) => distributed(g, children),
            Term::Unary(u, _) => unary(g, *u, children[0]),
            _ => add(g, children),
        })
    });
    open.pop();
    found
}

/// A product; a literal times a sum is a sum.
fn distributed(g: &mut Graph, factors: Vec<Id>) -> Id {
    let (literals, rest): (Vec<Id>, Vec<Id>) = factors.iter().partition(|&&f| literal(g, f).is_some());
    match rest[..] {
        [sum] if let Term::Add(terms) = g[sum].data.smallest.clone() => {
            let scaled =
                terms.iter().map(|&t| mul(g, literals.iter().copied().chain([t]).collect())).collect();
            add(g, scaled)
        }
        _ => mul(g, factors),
    }
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
