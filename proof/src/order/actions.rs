//! Actions that only compare and choose among what they track.
//!
//! Why here: what may stand in an action is just what can be evaluated where nothing but an order is known.
//!
//! Pre: an action that is closed. Post: one of the elements, or the two whose order must be known first.

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Binary, Unary};

use super::orders::{ANY, Element, LESS, MORE, Open, Orders, SAME};
use super::{State, System};
use crate::term::{Id, Node, Terms};

/// What a leaf of an action is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// Where it is moved from.
    From(usize),
    /// Where it is moved to.
    To(usize),
}

/// Whether an action only compares and chooses.
pub(super) fn closed(
    t: &Terms,
    id: Id,
    hole: Id,
    places: &HashMap<Id, Place>,
    memo: &mut HashMap<Id, bool>,
) -> bool {
    if id == hole || places.contains_key(&id) {
        return true;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let mut all = |c: &[Id]| c.iter().all(|&c| closed(t, c, hole, places, memo));
    let out = match t.node(id) {
        Node::Num(_) | Node::Size(_) => true,
        Node::Select([p, c, d]) => all(&[*c, *d]) && predicate(t, *p, hole, places, memo),
        Node::Max(c) | Node::Min(c) => !c.is_empty() && all(c),
        _ => false,
    };
    memo.insert(id, out);
    out
}

fn predicate(t: &Terms, id: Id, hole: Id, places: &HashMap<Id, Place>, memo: &mut HashMap<Id, bool>) -> bool {
    let mut all = |c: &[Id]| c.iter().all(|&c| predicate(t, c, hole, places, memo));
    match t.node(id) {
        Node::Select(c) => all(c),
        Node::Unary(Unary::Not, x) => all(&[*x]),
        Node::Binary(Binary::And | Binary::Or, c) => all(c),
        Node::Binary(f, c) => meaning(*f).is_some() && c.iter().all(|&c| closed(t, c, hole, places, memo)),
        _ => false,
    }
}

/// Evaluates an action in an order.
pub(super) struct Eval<'a> {
    pub(super) s: &'a System<'a>,
    pub(super) o: &'a Orders,
    pub(super) places: &'a HashMap<Id, Place>,
    pub(super) moved: Element,
    pub(super) from: &'a State,
    pub(super) to: &'a State,
    pub(super) known: HashMap<Id, Element>,
    pub(super) truths: HashMap<Id, bool>,
}

impl Eval<'_> {
    pub(super) fn value(&mut self, id: Id) -> Result<Element, Open> {
        if let Some(&known) = self.known.get(&id) {
            return Ok(known);
        }
        let out = self.evaluated(id)?;
        self.known.insert(id, out);
        Ok(out)
    }

    fn truth(&mut self, id: Id) -> Result<bool, Open> {
        if let Some(&known) = self.truths.get(&id) {
            return Ok(known);
        }
        let out = self.holds(id)?;
        self.truths.insert(id, out);
        Ok(out)
    }

    fn evaluated(&mut self, id: Id) -> Result<Element, Open> {
        if id == self.s.hole {
            return Ok(self.moved);
        }
        match self.places.get(&id) {
            Some(Place::From(n)) => return Ok(self.from[*n]),
            Some(Place::To(n)) => return Ok(self.to[*n]),
            None => {}
        }
        if let Some(&e) = self.s.constants.get(&id) {
            return Ok(e);
        }
        match self.s.t.node(id) {
            Node::Select([p, c, d]) => {
                let side = if self.truth(*p)? { *c } else { *d };
                self.value(side)
            }
            Node::Max(all) => self.extreme(all, LESS),
            Node::Min(all) => self.extreme(all, MORE),
            // `closed` has looked.
            _ => Ok(self.moved),
        }
    }

    fn extreme(&mut self, all: &[Id], gives_way: u8) -> Result<Element, Open> {
        let mut out = self.value(all[0])?;
        for &x in &all[1..] {
            let x = self.value(x)?;
            out = self.o.largest_of(out, x, gives_way)?;
        }
        Ok(out)
    }

    fn holds(&mut self, id: Id) -> Result<bool, Open> {
        Ok(match self.s.t.node(id) {
            Node::Select([p, c, d]) => {
                let side = if self.truth(*p)? { *c } else { *d };
                self.truth(side)?
            }
            Node::Unary(_, x) => !self.truth(*x)?,
            Node::Binary(Binary::And, [a, b]) => self.truth(*a)? && self.truth(*b)?,
            Node::Binary(Binary::Or, [a, b]) => self.truth(*a)? || self.truth(*b)?,
            Node::Binary(f, [a, b]) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.o.asked(a, b, meaning(*f).unwrap_or(ANY))?
            }
            _ => false,
        })
    }
}

/// The orders of its operands in which a comparison holds.
fn meaning(f: Binary) -> Option<u8> {
    Some(match f {
        Binary::Lt => LESS,
        Binary::Le => LESS | SAME,
        Binary::Gt => MORE,
        Binary::Ge => MORE | SAME,
        Binary::Eq => SAME,
        Binary::Ne => LESS | MORE,
        _ => return None,
    })
}
