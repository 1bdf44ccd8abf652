//! Normal forms of reductions.
//!
//! Why here: rules that move something out of a reduction or into it ask along which pieces of axes it varies.
//!
//! Pre: the body is normal. Post: pieces are sorted, each once; a reduction along none is its body.

use tilewright_ir::{Extent, Reduction};

use super::Normal;
use crate::cases;
use crate::rename::uncut;
use crate::term::{Id, Node, Part, Piece, Terms};

/// Whether a term is a product of finite literals and extents.
fn is_number(t: &Terms, id: Id) -> bool {
    match t.node(id) {
        Node::Num(n) => n.0.is_finite(),
        Node::Size(_) => true,
        Node::Mul(c) => {
            c.iter().all(|&c| matches!(t.node(c), Node::Num(_) | Node::Size(_)) && is_number(t, c))
        }
        _ => false,
    }
}

/// Whether there are positions to reduce over: a block has some.
fn is_inhabited(t: &Terms, pieces: &[Piece]) -> bool {
    pieces.iter().all(|p| p.part == Part::Inner || t.inhabited(p.axis))
}

impl Normal {
    /// A reduction of a normal body.
    pub fn reduce(&mut self, t: &mut Terms, op: Reduction, mut pieces: Vec<Piece>, body: Id) -> Id {
        pieces.sort_unstable();
        pieces.dedup();
        if pieces.is_empty() {
            return body;
        }
        if op == Reduction::Sum
            && self.rules.extent
            && is_number(t, body)
            && (t.literal(body) != Some(1.0) || pieces.iter().any(|p| p.part == Part::Whole))
        {
            return self.times(t, body, &pieces);
        }
        if op == Reduction::Sum
            && self.rules.count
            && t.literal(body) != Some(1.0)
            && !matches!(t.node(body), Node::Add(_))
            && self.leaves(t, body, &pieces)
        {
            let one = t.num(1.0);
            let count = t.add(Node::Reduce(op, pieces, one));
            return self.mul(t, vec![body, count]);
        }
        if op == Reduction::Sum
            && self.rules.linear
            && let Node::Add(terms) = t.node(body).clone()
        {
            let sums = terms.into_iter().map(|x| self.reduce(t, op, pieces.clone(), x)).collect();
            return self.add(t, sums);
        }
        if self.rules.cases
            && let [Piece { axis, part: Part::Inner }] = pieces[..]
        {
            if let Node::Select([p, c, d]) = *t.node(body)
                && cases::about(t, p, axis)
            {
                let (c, d) = (self.reduce(t, op, pieces.clone(), c), self.reduce(t, op, pieces, d));
                let id = t.add(Node::Select([p, c, d]));
                return self.cases.of(t, id);
            }
            if !t.facts(body).depends(&pieces) && (op != Reduction::Sum || t.literal(body) == Some(0.0)) {
                return body;
            }
        }
        let node = t.node(body).clone();
        if op == Reduction::Sum
            && self.rules.swap
            && let Node::Mul(c) = &node
        {
            for (n, &f) in c.iter().enumerate() {
                let Node::Reduce(Reduction::Sum, more, x) = t.node(f).clone() else { continue };
                let mut rest = c.clone();
                rest.remove(n);
                let captured = rest.iter().any(|&r| t.facts(r).depends(&more));
                let apart =
                    more.iter().all(|p| p.part == Part::Whole && !pieces.iter().any(|q| q.axis == p.axis));
                // What is infinite times a sum is not a sum of what is infinite.
                let finite = rest.iter().all(|&r| self.is_finite(t, r));
                if apart && finite && !captured {
                    rest.push(x);
                    let product = self.mul(t, rest);
                    pieces.extend(more);
                    return self.reduce(t, op, pieces, product);
                }
            }
        }
        match (&node, op) {
            (Node::Mul(c), Reduction::Sum) if self.rules.factor => {
                let (mut outside, inside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&f| self.leaves(t, f, &pieces));
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.mul(t, inside);
                    let sum = self.reduce(t, op, pieces, inner);
                    outside.push(sum);
                    return self.mul(t, outside);
                }
            }
            (Node::Mul(c), Reduction::Max | Reduction::Min) if self.rules.scale_max => {
                let (mut outside, inside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&f| !t.facts(f).depends(&pieces) && t.facts(f).positive());
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.mul(t, inside);
                    let max = self.reduce(t, op, pieces, inner);
                    outside.push(max);
                    return self.mul(t, outside);
                }
            }
            (Node::Select([p, c, d]), _) if self.rules.choose => {
                let (p, c, d) = (*p, *c, *d);
                let some = is_inhabited(t, &pieces);
                let fixed = [p, d].iter().all(|&x| !t.facts(x).depends(&pieces));
                if some && fixed && (op != Reduction::Sum || t.literal(d) == Some(0.0)) {
                    let inner = self.reduce(t, op, pieces, c);
                    return t.add(Node::Select([p, inner, d]));
                }
            }
            (Node::Max(c), Reduction::Max) if self.rules.binary_max => {
                let some = is_inhabited(t, &pieces);
                let lowest = |t: &Terms, x: Id| t.literal(x) == Some(f64::NEG_INFINITY);
                let (inside, mut outside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&x| t.facts(x).depends(&pieces) || !(some || lowest(t, x)));
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.extreme(t, inside, Node::Max);
                    let max = self.reduce(t, op, pieces, inner);
                    outside.push(max);
                    return self.extreme(t, outside, Node::Max);
                }
            }
            (Node::Reduce(inner, more, x), _) if *inner == op => {
                if self.rules.split
                    && let [Piece { axis, part: Part::Outer }] = pieces[..]
                    && more.contains(&Piece::inner(axis))
                    && let Some(whole) = uncut(t, *x, axis)
                {
                    let joined =
                        more.iter().map(|&p| if p == Piece::inner(axis) { Piece::whole(axis) } else { p });
                    let whole = self.of(t, whole);
                    return self.reduce(t, op, joined.collect(), whole);
                }
                // A reduction of a reduction over other axes is one over all of them.
                let apart = |p: &Piece| p.part == Part::Whole && !pieces.iter().any(|q| q.axis == p.axis);
                if self.rules.merge && more.iter().all(apart) {
                    pieces.extend(more);
                    return self.reduce(t, op, pieces, *x);
                }
            }
            _ => {}
        }
        t.add(Node::Reduce(op, pieces, body))
    }

    fn is_finite(&self, t: &Terms, x: Id) -> bool {
        t.facts(x).finite() || self.finite.contains(&x)
    }

    /// Whether a factor may leave a sum. A sum of nothing is 0, and an infinity times it is not.
    fn leaves(&self, t: &Terms, factor: Id, pieces: &[Piece]) -> bool {
        !t.facts(factor).depends(pieces) && (is_inhabited(t, pieces) || self.is_finite(t, factor))
    }

    /// As many times a number as there are positions.
    fn times(&mut self, t: &mut Terms, number: Id, pieces: &[Piece]) -> Id {
        let (whole, rest): (Vec<Piece>, Vec<Piece>) =
            pieces.iter().partition(|p| p.part == Part::Whole && t.extent(p.axis).is_some());
        let mut factors = vec![number];
        for extent in whole.iter().filter_map(|p| t.extent(p.axis)).collect::<Vec<_>>() {
            factors.push(match extent {
                Extent::Const(n) => t.num(n as f64),
                symbolic => t.add(Node::Size(symbolic)),
            });
        }
        if !rest.is_empty() {
            let one = t.num(1.0);
            factors.push(t.add(Node::Reduce(Reduction::Sum, rest, one)));
        }
        self.mul(t, factors)
    }
}
