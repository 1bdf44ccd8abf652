//! Normal forms of operations whose operands have no order: sums, products, maxima and minima.
//!
//! Why here: they are flattened alike, and a product of sums is a sum of products. What has its own laws among factors (inverses,
//! homomorphisms) is gathered where all factors are at hand.
//!
//! Pre: operands are normal. Post: operands of operands stand beside them and all are sorted; a literal stands alone.

use std::collections::BTreeMap;

use tilewright_ir::Unary;

use super::Normal;
use crate::laws::HOMOMORPHISMS;
use crate::term::{Id, Node, Terms};

/// The most operands that a sum, a product, a maximum or a minimum is flattened to. Beyond it, what is equal may have
/// different forms, and is then not accepted.
const OPERANDS: usize = 4096;

/// Operands, with those that are the same operation replaced by theirs.
fn flat(t: &Terms, operands: Vec<Id>, pick: fn(&Node) -> Option<&Vec<Id>>) -> Vec<Id> {
    let mut out = Vec::new();
    let mut left = operands.len();
    for x in operands {
        left -= 1;
        match pick(t.node(x)) {
            Some(c) if out.len() + left + c.len() <= OPERANDS => out.extend(c.iter().copied()),
            _ => out.push(x),
        }
    }
    out
}

/// A term of a sum as a literal and the factors that it is a multiple of.
pub(super) fn multiple(t: &Terms, x: Id) -> (f64, Vec<Id>) {
    let factors = if let Node::Mul(c) = t.node(x) { c.clone() } else { vec![x] };
    let literal = |&f: &Id| t.literal(f).filter(|v| v.is_finite());
    let c = factors.iter().filter_map(literal).product();
    let mut rest: Vec<Id> = factors.into_iter().filter(|f| literal(f).is_none()).collect();
    rest.sort_unstable();
    (c, rest)
}

/// The terms that a product of sums has when it is multiplied out.
fn spread(t: &Terms, factors: &[Id]) -> usize {
    let terms = |&f: &Id| if let Node::Add(c) = t.node(f) { c.len() } else { 1 };
    factors.iter().map(terms).fold(1, usize::saturating_mul)
}

impl Normal {
    /// A product of normal terms.
    pub fn mul(&mut self, t: &mut Terms, factors: Vec<Id>) -> Id {
        let mut all = flat(t, factors, |n| if let Node::Mul(c) = n { Some(c) } else { None });
        let mut literal = 1.0;
        all.retain(|&f| match t.literal(f) {
            Some(x) if x.is_finite() => {
                literal *= x;
                false
            }
            _ => true,
        });
        if literal == 0.0 && all.iter().all(|&f| t.facts(f).finite()) {
            return t.num(0.0);
        }
        if self.rules.quotients {
            self.cancel(t, &mut all);
        }
        if self.rules.homomorphisms {
            all = self.gather(t, all);
            // A folded exponential may be a literal.
            all.retain(|&f| match t.literal(f) {
                Some(x) if x.is_finite() => {
                    literal *= x;
                    false
                }
                _ => true,
            });
        }
        if self.rules.distribute
            && literal != 1.0
            && let [one] = all[..]
            && let Node::Add(terms) = t.node(one).clone()
        {
            let c = t.num(literal);
            let scaled = terms.into_iter().map(|x| self.mul(t, vec![c, x])).collect();
            return self.add(t, scaled);
        }
        if self.rules.expand
            && let Some(at) = all.iter().position(|&f| matches!(t.node(f), Node::Add(_)))
            && let Node::Add(terms) = t.node(all[at]).clone()
            && spread(t, &all) <= OPERANDS
        {
            let c = t.num(literal);
            let mut rest = all.clone();
            rest.remove(at);
            rest.push(c);
            // An infinity times what is positive and what is negative is not an infinity times their sum.
            if rest.iter().all(|&f| t.facts(f).finite()) {
                let spread = terms
                    .into_iter()
                    .map(|x| self.mul(t, rest.iter().copied().chain([x]).collect()))
                    .collect();
                return self.add(t, spread);
            }
        }
        if literal != 1.0 || all.is_empty() {
            all.push(t.num(literal));
        }
        all.sort_unstable();
        match all[..] {
            [one] => one,
            _ => t.add(Node::Mul(all)),
        }
    }

    /// A sum of normal terms.
    pub fn add(&mut self, t: &mut Terms, terms: Vec<Id>) -> Id {
        let all = flat(t, terms, |n| if let Node::Add(c) = n { Some(c) } else { None });
        let mut literal = 0.0;
        let mut rest: Vec<Id> = Vec::new();
        for x in all {
            if let Some(v) = t.literal(x).filter(|v| v.is_finite()) {
                literal += v;
                continue;
            }
            let opposite = if t.facts(x).finite() { Some(self.negative(t, x)) } else { None };
            match rest.iter().position(|&r| Some(r) == opposite) {
                Some(n) => {
                    rest.swap_remove(n);
                }
                None => self.add_like(t, &mut rest, x),
            }
        }
        if literal != 0.0 || rest.is_empty() {
            rest.push(t.num(literal));
        }
        rest.sort_unstable();
        match rest[..] {
            [one] => one,
            _ => t.add(Node::Add(rest)),
        }
    }

    /// Adds a term to those of a sum: to one that is a multiple of the same, if there is one.
    fn add_like(&mut self, t: &mut Terms, terms: &mut Vec<Id>, x: Id) {
        let (c, of) = multiple(t, x);
        let like = |&y: &Id| {
            let (d, other) = multiple(t, y);
            (other == of).then_some(c + d)
        };
        let found = terms.iter().enumerate().find_map(|(n, y)| Some((n, like(y)?)));
        match found.filter(|(_, c)| t.facts(x).finite() && c.is_finite() && *c != 0.0) {
            Some((n, c)) => {
                let c = t.num(c);
                terms[n] = self.mul(t, of.into_iter().chain([c]).collect());
            }
            None => terms.push(x),
        }
    }

    pub(super) fn negative(&mut self, t: &mut Terms, x: Id) -> Id {
        let minus = t.num(-1.0);
        self.mul(t, vec![minus, x])
    }

    pub(super) fn extreme(&mut self, t: &mut Terms, operands: Vec<Id>, make: fn(Vec<Id>) -> Node) -> Id {
        let mut all = match make(Vec::new()) {
            Node::Max(_) => flat(t, operands, |n| if let Node::Max(c) = n { Some(c) } else { None }),
            _ => flat(t, operands, |n| if let Node::Min(c) = n { Some(c) } else { None }),
        };
        all.sort_unstable();
        all.dedup();
        match all[..] {
            [one] => one,
            _ => t.add(make(all)),
        }
    }

    /// `x * inv x` is 1 for positive finite `x`.
    fn cancel(&mut self, t: &mut Terms, all: &mut Vec<Id>) {
        let mut at = 0;
        while at < all.len() {
            let Node::Unary(Unary::Inv, x) = *t.node(all[at]) else {
                at += 1;
                continue;
            };
            let factors = match t.node(x) {
                Node::Mul(c) => c.clone(),
                _ => vec![x],
            };
            let mut rest = all.clone();
            let all_there = factors.iter().all(|&f| {
                t.facts(f).positive() && rest.iter().position(|&r| r == f).map(|n| rest.remove(n)).is_some()
            });
            if !all_there {
                at += 1;
                continue;
            }
            let inverse = all[at];
            if let Some(n) = rest.iter().position(|&r| r == inverse) {
                rest.remove(n);
            }
            *all = rest;
            at = 0;
        }
    }

    /// `f(a) * f(b)` as `f(a + b)`.
    fn gather(&mut self, t: &mut Terms, all: Vec<Id>) -> Vec<Id> {
        let mut arguments: BTreeMap<Unary, Vec<Id>> = BTreeMap::new();
        let mut rest = Vec::new();
        for f in all {
            match *t.node(f) {
                Node::Unary(u, x) if HOMOMORPHISMS.contains(&u) => arguments.entry(u).or_default().push(x),
                _ => rest.push(f),
            }
        }
        for (f, xs) in arguments {
            let sum = self.add(t, xs);
            rest.push(self.unary(t, f, sum));
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use tilewright_ir::{Axis, EntityRef, Extent, Reduction, Value};

    use super::*;
    use crate::laws::PLAN;
    use crate::term::Piece;

    #[test]
    fn like_terms_are_added_up_where_they_are_finite() {
        let mut t = Terms::default();
        let j = Axis::new(0);
        t.declare(j, Extent::Const(0));
        let pos = t.add(Node::Pos(j));
        let (x, y) = (t.add(Node::Read(Value::new(0), vec![])), t.add(Node::Read(Value::new(1), vec![pos])));
        // The largest of nothing is -inf.
        let m = t.add(Node::Reduce(Reduction::Max, vec![Piece::whole(j)], y));
        let mut n = Normal::new(PLAN);
        let mut sum = |terms: &[(f64, Id)]| {
            let scaled = terms.iter().map(|&(c, x)| {
                let c = t.num(c);
                t.add(Node::Mul(vec![c, x]))
            });
            let all = scaled.collect();
            let id = t.add(Node::Add(all));
            n.of(&mut t, id)
        };
        assert_eq!(sum(&[(1.0, x), (1.0, x)]), sum(&[(2.0, x)]));
        assert_eq!(sum(&[(0.25, x), (3.0, m), (0.5, x)]), sum(&[(3.0, m), (0.75, x)]));
        assert_ne!(sum(&[(1.0, x), (1.0, x)]), sum(&[(3.0, x)]));
        assert_eq!(sum(&[(2.0, x), (-2.0, x)]), sum(&[(0.0, x)]));
        assert_ne!(sum(&[(1.0, m), (1.0, m)]), sum(&[(2.0, m)]));
        assert_ne!(sum(&[(1.0, m), (-1.0, m)]), sum(&[(0.0, x)]));
    }
}
