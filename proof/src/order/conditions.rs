//! The conditions on an action, and going through the orders in which they must hold.
//!
//! Why here: each is a sentence about the numbers of up to three blocks:
//!
//! - not moving changes nothing;
//! - moving two blocks to what they are together, and that to what it is with a third, is moving each there at once;
//! - nothing yet, moved, leaves what it is joined with as it is.
//!
//! Pre: what is known beforehand, of as many blocks as they are about. Post: each holds in every order, or it is said which
//! does not, or there are too many orders.

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::Reduction;

use super::actions::Eval;
use super::orders::{Element, LESS, MORE, Open, Orders, SAME};
use super::{Component, State, System};

/// The most orders that are looked at.
const ORDERS: usize = 100_000;

/// Whether a condition holds in an order: what is wrong if not, or what must be known first.
type Held = Result<Result<(), &'static str>, Open>;

/// Nothing, if it holds, and else what is wrong.
fn or(holds: bool, wrong: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(wrong) }
}

/// What is wrong where something comes out of nothing.
const HIDDEN: &str = "what was not there yet shows";

impl System<'_> {
    /// Goes through all orders, for each condition through those that matter to it.
    pub(super) fn decide(
        &self,
        start: Orders,
        conditions: &[fn(&Self, &Orders) -> Held],
    ) -> Result<(), String> {
        let mut todo: Vec<(usize, Orders)> =
            (0..conditions.len()).rev().map(|n| (n, start.clone())).collect();
        let mut seen = 0;
        while let Some((n, o)) = todo.pop() {
            seen += 1;
            if seen > ORDERS {
                return Err("there are too many orders of what it tracks".into());
            }
            match conditions[n](self, &o) {
                Ok(Ok(())) => {}
                Ok(Err(wrong)) => return Err(wrong.into()),
                Err(Open(a, b)) => {
                    for r in [LESS, SAME, MORE] {
                        if o.of(a, b) & r != 0 {
                            let mut next = o.clone();
                            if next.refine(a, b, r) {
                                todo.push((n, next));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn block(&self, n: usize) -> State {
        let m = self.components.len();
        (n * m..(n + 1) * m).collect()
    }

    /// What becomes of the fold itself.
    fn at(&self, o: &Orders, from: &State, to: &State) -> Result<Element, Open> {
        self.moved(o, self.components.len() - 1, from, to)
    }

    fn join(&self, o: &Orders, x: Element, y: Element) -> Result<Element, Open> {
        self.joined(o, self.components.len() - 1, x, y)
    }

    /// Whether not moving changes nothing.
    pub(super) fn stays(&self, o: &Orders) -> Held {
        let a = self.block(0);
        let same = o.same(self.at(o, &a, &a)?, a[self.components.len() - 1])?;
        Ok(or(same, "not moving changes what it moves"))
    }

    /// The state of no blocks.
    fn nothing(&self) -> State {
        let none = |c: &Component| if c.op == Reduction::Max { f64::NEG_INFINITY } else { f64::INFINITY };
        self.components.iter().map(|c| self.constant(none(c))).collect()
    }

    /// Whether nothing yet, moved to what some blocks are together, leaves those as they are.
    pub(super) fn begins(&self, o: &Orders) -> Held {
        let a = self.block(0);
        let own = a[self.components.len() - 1];
        let same = o.same(self.join(o, self.at(o, &self.nothing(), &a)?, own)?, own)?;
        Ok(or(same, HIDDEN))
    }

    /// Whether nothing yet leaves a block as it is, where that stays and where it moves.
    pub(super) fn joins(&self, o: &Orders) -> Held {
        let (a, b, nothing) = (self.block(0), self.block(1), self.nothing());
        let both = self.together(o, &a, &b)?;
        for to in [&a, &both] {
            let moved = self.at(o, &a, to)?;
            if !o.same(self.join(o, self.at(o, &nothing, to)?, moved)?, moved)? {
                return Ok(Err(HIDDEN));
            }
        }
        Ok(Ok(()))
    }

    /// Whether moving in two steps is moving in one.
    pub(super) fn steps(&self, o: &Orders) -> Held {
        let (a, b, c) = (self.block(0), self.block(1), self.block(2));
        let both = self.together(o, &a, &b)?;
        let all = self.together(o, &both, &c)?;
        let direct = self.join(o, self.at(o, &a, &all)?, self.at(o, &b, &all)?)?;
        Ok(or(o.same(self.at(o, &both, &all)?, direct)?, "moving in two steps is not moving in one"))
    }

    fn constant(&self, x: f64) -> Element {
        let found = self.constants.iter().find(|&(&id, _)| self.t.literal(id) == Some(x));
        // Both infinities were put there.
        found.map_or(0, |(_, &e)| e)
    }

    fn together(&self, o: &Orders, a: &State, b: &State) -> Result<State, Open> {
        let mut out = State::new();
        for n in 0..self.components.len() {
            let (x, y) = (self.moved(o, n, a, &out)?, self.moved(o, n, b, &out)?);
            out.push(self.joined(o, n, x, y)?);
        }
        Ok(out)
    }

    fn joined(&self, o: &Orders, n: usize, a: Element, b: Element) -> Result<Element, Open> {
        if self.components[n].op == Reduction::Max { o.largest(a, b) } else { o.largest_of(b, a, MORE) }
    }

    /// What component `n` of a state becomes where the state is moved.
    fn moved(&self, o: &Orders, n: usize, from: &State, to: &State) -> Result<Element, Open> {
        match &self.components[n].action {
            None => Ok(from[n]),
            Some((action, places)) => Eval {
                s: self,
                o,
                places,
                moved: from[n],
                from,
                to,
                known: HashMap::default(),
                truths: HashMap::default(),
            }
            .value(*action),
        }
    }
}
