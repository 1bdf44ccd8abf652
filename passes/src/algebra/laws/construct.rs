//! Constructors that keep terms in normal form: n-ary operations flat and sorted, literals folded, opposite terms
//! cancelled, like terms added up. Every law builds its right side through these.
//!
//! The ids that come back name the very terms that were built, not their classes: derivations show what a law wrote.

use egg::Id;
use tilewright_ir::expr::Num;
use tilewright_ir::{Reduction, Unary};

use crate::algebra::{Graph, SubAxis, Term};

/// The literal of a class, if it has one.
pub(crate) fn literal(g: &Graph, id: Id) -> Option<f64> {
    g[id].nodes.iter().find_map(|n| match n {
        Term::Num(x) => Some(x.0),
        _ => None,
    })
}

/// A literal.
pub(crate) fn num(g: &mut Graph, x: f64) -> Id {
    g.add_uncanonical(Term::Num(Num(x)))
}

/// The most operands of an operation that others are merged into: sums of sums of one another would grow without end.
const OPERANDS: usize = 64;

fn flat(g: &Graph, ids: Vec<Id>, pick: fn(&Term) -> Option<&[Id]>) -> Vec<Id> {
    let mut out = Vec::new();
    let mut todo = ids;
    todo.reverse();
    while let Some(id) = todo.pop() {
        match pick(&g[id].data.smallest) {
            Some(children) if out.len() + todo.len() + children.len() <= OPERANDS => {
                todo.extend(children.iter().rev());
            }
            _ => out.push(id),
        }
    }
    out
}

fn product_of(t: &Term) -> Option<&[Id]> {
    if let Term::Mul(c) = t { Some(c) } else { None }
}
fn sum_of(t: &Term) -> Option<&[Id]> {
    if let Term::Add(c) = t { Some(c) } else { None }
}
fn max_of(t: &Term) -> Option<&[Id]> {
    if let Term::Max(c) = t { Some(c) } else { None }
}
fn min_of(t: &Term) -> Option<&[Id]> {
    if let Term::Min(c) = t { Some(c) } else { None }
}

fn finish(g: &mut Graph, make: fn(Box<[Id]>) -> Term, mut ids: Vec<Id>) -> Id {
    ids.sort_by_key(|&id| g.find(id));
    if let [one] = ids[..] { one } else { g.add_uncanonical(make(ids.into())) }
}

/// A product; finite literals are multiplied out, 1 is dropped, and 0 times what is finite is 0.
pub(crate) fn mul(g: &mut Graph, ids: Vec<Id>) -> Id {
    let mut rest = Vec::new();
    let mut c = 1.0;
    for id in flat(g, ids, product_of) {
        match literal(g, id) {
            Some(x) if x.is_finite() => c *= x,
            _ => rest.push(id),
        }
    }
    if c == 0.0 && rest.iter().all(|&id| g[id].data.finite()) {
        rest.clear();
    }
    if c != 1.0 || rest.is_empty() {
        rest.push(num(g, c));
    }
    finish(g, Term::Mul, rest)
}

/// `-x`.
pub(crate) fn neg(g: &mut Graph, x: Id) -> Id {
    let minus = num(g, -1.0);
    mul(g, vec![minus, x])
}

/// A term of a sum as a literal and what it is a multiple of: factors, by class.
pub(crate) fn multiple(g: &Graph, id: Id) -> (f64, Vec<Id>) {
    let mut c = 1.0;
    let mut rest = Vec::new();
    for f in product_of(&g[id].data.smallest).unwrap_or(&[id]) {
        match literal(g, *f) {
            Some(x) if x.is_finite() => c *= x,
            _ => rest.push(g.find(*f)),
        }
    }
    rest.sort_unstable();
    (c, rest)
}

/// A sum; finite literals and finite like terms are added up, 0 and pairs of opposite finite terms are dropped.
pub(crate) fn add(g: &mut Graph, ids: Vec<Id>) -> Id {
    let mut rest: Vec<Id> = Vec::new();
    let mut c = 0.0;
    for id in flat(g, ids, sum_of) {
        match literal(g, id) {
            Some(x) if x.is_finite() => c += x,
            _ => {
                let opposite = neg(g, id);
                let finite = g[id].data.finite();
                match rest.iter().position(|&r| finite && g.find(r) == g.find(opposite)) {
                    Some(n) => {
                        rest.swap_remove(n);
                    }
                    None => add_like(g, &mut rest, id),
                }
            }
        }
    }
    if c != 0.0 || rest.is_empty() {
        rest.push(num(g, c));
    }
    finish(g, Term::Add, rest)
}

/// Adds a term to those of a sum: to one that is a multiple of the same, if there is one.
fn add_like(g: &mut Graph, terms: &mut Vec<Id>, id: Id) {
    let (c, of) = multiple(g, id);
    let like = |&t: &Id| {
        let (d, other) = multiple(g, t);
        (other == of).then_some(c + d)
    };
    let found = terms.iter().enumerate().find_map(|(n, t)| Some((n, like(t)?)));
    match found.filter(|(_, c)| g[id].data.finite() && c.is_finite() && *c != 0.0) {
        Some((n, c)) => {
            let c = num(g, c);
            terms[n] = mul(g, of.into_iter().chain([c]).collect());
        }
        None => terms.push(id),
    }
}

/// The largest.
pub(crate) fn max(g: &mut Graph, ids: Vec<Id>) -> Id {
    let mut ids = flat(g, ids, max_of);
    ids.sort_by_key(|&id| g.find(id));
    ids.dedup_by_key(|id| g.find(*id));
    finish(g, Term::Max, ids)
}

/// The smallest.
pub(crate) fn min(g: &mut Graph, ids: Vec<Id>) -> Id {
    let mut ids = flat(g, ids, min_of);
    ids.sort_by_key(|&id| g.find(id));
    ids.dedup_by_key(|id| g.find(*id));
    finish(g, Term::Min, ids)
}

/// A function of one argument, folded on literals.
pub(crate) fn unary(g: &mut Graph, f: Unary, x: Id) -> Id {
    if let Some(v) = literal(g, x) {
        let folded = match f {
            Unary::Inv if v != 0.0 => Some(1.0 / v),
            Unary::Sqrt if v >= 0.0 => Some(v.sqrt()),
            Unary::Rsqrt if v > 0.0 => Some(1.0 / v.sqrt()),
            Unary::Exp => Some(v.exp()),
            Unary::Exp2 => Some(v.exp2()),
            Unary::Log if v > 0.0 => Some(v.ln()),
            Unary::Abs => Some(v.abs()),
            _ => None,
        };
        if let Some(v) = folded.filter(|v| v.is_finite()) {
            return num(g, v);
        }
    }
    g.add_uncanonical(Term::Unary(f, [x]))
}

/// A reduction; over no axes it is the body.
pub(crate) fn reduce(g: &mut Graph, op: Reduction, mut axes: Vec<SubAxis>, body: Id) -> Id {
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() { body } else { g.add_uncanonical(Term::Reduce(op, axes.into(), [body])) }
}
