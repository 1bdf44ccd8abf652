//! What is known of the order of a fold's numbers beforehand.
//!
//! Why here: ranges; that positions of different blocks differ, unless they stand for none; that there is a position of the
//! largest; and which maxima are of less than others. The fewer orders remain, the more can be gone through.
//!
//! Pre: all components. Post: an element for each number of each block, and for each that stands in an action.

use rustc_hash::FxHashSet as HashSet;
use tilewright_ir::{Axis, Extent, Reduction};

use super::System;
use super::orders::{ANY, Element, LESS, MORE, Orders, SAME};
use super::positions::{Chosen, beside, chosen};
use crate::term::{Id, Node, Piece, Terms};

impl System<'_> {
    /// Elements, and all that is known of their order beforehand.
    pub(super) fn start(&mut self, blocks: usize) -> Result<Orders, String> {
        let m = self.components.len();
        let mut elements = blocks * m;
        let mut numbers: Vec<Id> = [f64::NEG_INFINITY, f64::INFINITY].map(|x| self.t.num(x)).to_vec();
        for c in &self.components {
            let mut todo: Vec<Id> = c.action.iter().map(|a| a.0).collect();
            let mut seen = HashSet::default();
            while let Some(x) = todo.pop() {
                if !seen.insert(x) || c.action.as_ref().is_some_and(|a| a.1.contains_key(&x)) {
                    continue;
                }
                match self.t.node(x) {
                    Node::Num(_) | Node::Size(_) => numbers.push(x),
                    other => todo.extend(other.children()),
                }
            }
        }
        let places: Vec<Option<Chosen>> =
            self.components.iter().map(|c| chosen(self.t, c.block, self.j)).collect();
        numbers.extend(places.iter().flatten().filter_map(|p| p.none));
        for n in numbers {
            self.constants.entry(n).or_insert_with(|| {
                elements += 1;
                elements - 1
            });
        }
        let mut out = Orders::new(elements);
        let constants: Vec<(Id, Element)> = self.constants.iter().map(|(&id, &e)| (id, e)).collect();
        for &(a, at) in &constants {
            for &(b, to) in &constants {
                out.know(at, to, self.numbers(a, b))?;
            }
        }
        for (k, c) in self.components.iter().enumerate() {
            for block in 0..blocks {
                for &(n, at) in &constants {
                    let mut known = self.against(c.block, n);
                    if let Some(p) = &places[k] {
                        known &= self.position_against(p, n);
                    }
                    out.know(block * m + k, at, known)?;
                }
                for (n, d) in self.components.iter().enumerate() {
                    if n != k && less(self.t, c.block, d.block, self.j) {
                        out.know(block * m + k, block * m + n, LESS | SAME)?;
                    }
                    let (Some(p), Some(q)) = (&places[k], &places[n]) else { continue };
                    for other in (0..blocks).filter(|&o| o != block) {
                        let (a, b) = (block * m + k, other * m + n);
                        match p.none.filter(|_| p.none == q.none) {
                            Some(none) => out.apart.push((a, b, self.constants[&none])),
                            None => out.know(a, b, LESS | MORE)?,
                        }
                    }
                }
            }
        }
        out.settle(Vec::new()).then_some(out).ok_or_else(|| "what it tracks is nothing".into())
    }

    /// How two numbers of terms compare.
    fn numbers(&self, a: Id, b: Id) -> u8 {
        if a == b {
            return SAME;
        }
        match (self.t.literal(a), self.t.literal(b)) {
            (Some(x), Some(y)) if x < y => LESS,
            (Some(x), Some(y)) if x > y => MORE,
            (Some(_), Some(_)) => SAME,
            (Some(x), None) if x < self.least(b) => LESS,
            (None, Some(y)) if y < self.least(a) => MORE,
            (Some(x), None) if x == f64::INFINITY => MORE,
            (None, Some(y)) if y == f64::INFINITY => LESS,
            _ => ANY,
        }
    }

    /// The least that an extent may be.
    fn least(&self, id: Id) -> f64 {
        match self.t.node(id) {
            Node::Size(Extent::Const(n)) => *n as f64,
            Node::Size(Extent::Sym(s)) => self.t.least.get(s).map_or(0.0, |&n| n as f64),
            _ => f64::NEG_INFINITY,
        }
    }

    /// How a term compares with a number, by its range.
    fn against(&self, term: Id, number: Id) -> u8 {
        let known = self.t.facts(term);
        let Some(x) = self.t.literal(number) else { return ANY };
        let mut out = ANY;
        if known.lo > x || (x == f64::NEG_INFINITY && known.above) {
            out &= MORE;
        } else if known.lo >= x {
            out &= MORE | SAME;
        }
        if known.hi < x || (x == f64::INFINITY && known.below) {
            out &= LESS;
        } else if known.hi <= x {
            out &= LESS | SAME;
        }
        out
    }

    /// How a chosen position compares with a number that is none.
    fn position_against(&self, p: &Chosen, number: Id) -> u8 {
        let Some(side) = beside(self.t, number, self.j) else { return ANY };
        match p.none {
            Some(none) if none == number => side | SAME,
            // The one that stands for none may be beyond.
            Some(none) if beside(self.t, none, self.j) != Some(side) => side,
            Some(_) => ANY,
            None => side,
        }
    }
}

/// Whether the one term is a maximum within a block of what is never more than what the other is a maximum of.
fn less(t: &Terms, a: Id, b: Id, j: Axis) -> bool {
    let inner = [Piece::inner(j)];
    match (t.node(a), t.node(b)) {
        (Node::Reduce(Reduction::Max, p, x), Node::Reduce(Reduction::Max, q, y)) => {
            p[..] == inner && q[..] == inner && never_above(t, *x, *y)
        }
        _ => false,
    }
}

fn never_above(t: &Terms, a: Id, b: Id) -> bool {
    if a == b || t.facts(a).hi <= t.facts(b).lo {
        return true;
    }
    match t.node(a) {
        Node::Select([_, c, d]) => never_above(t, *c, b) && never_above(t, *d, b),
        _ => false,
    }
}
