//! Normal forms of functions of one number.
//!
//! Why here: rules about logarithms and exponentials, and about the literals that guard a maximum that is subtracted or that
//! divides, ask what the argument is made of.
//!
//! Pre: the argument is normal. Post: functions of literals are literals; where a guard was dropped, what must be true for that
//! is among the assumptions.

use tilewright_ir::{Reduction, Unary};

use super::Normal;
use super::flat::multiple;
use crate::laws::{HOMOMORPHISMS, LOWEST, TINY};
use crate::term::{Id, Node, Part, Piece, Terms};

impl Normal {
    /// A function of a normal term.
    pub fn unary(&mut self, t: &mut Terms, f: Unary, x: Id) -> Id {
        if let Some(v) = t.literal(x) {
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
                return t.num(v);
            }
        }
        if self.rules.logarithms && f == Unary::Log {
            return self.logarithm(t, x);
        }
        if self.rules.logarithms
            && f == Unary::Exp
            && let Some(product) = self.exponential(t, x)
        {
            return product;
        }
        if self.rules.guard && HOMOMORPHISMS.contains(&f) {
            let bare = self.unguarded(t, x);
            if bare != x {
                return t.add(Node::Unary(f, bare));
            }
        }
        if self.rules.guard_scale
            && f == Unary::Inv
            && let Some(y) = self.without(t, x, TINY)
            && let Some(over) = maximum(t, y)
            && t.facts(y).lo >= 0.0
        {
            self.assumptions.insert(format!("a maximum over {over} that divides is positive"));
            return t.add(Node::Unary(f, y));
        }
        t.add(Node::Unary(f, x))
    }

    /// The logarithm of a product as a sum: what stands in homomorphisms, and those of inverses.
    fn logarithm(&mut self, t: &mut Terms, x: Id) -> Id {
        let factors = if let Node::Mul(c) = t.node(x) { c.clone() } else { vec![x] };
        let (mut terms, mut rest) = (Vec::new(), Vec::new());
        for (n, &f) in factors.iter().enumerate() {
            let others = || factors.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, &o)| t.facts(o));
            match *t.node(f) {
                Node::Unary(u, y)
                    if HOMOMORPHISMS.contains(&u)
                        && (t.facts(y).finite()
                            || t.facts(y).below && others().all(|o| o.finite() && o.lo >= 0.0)) =>
                {
                    let one = if u == Unary::Exp { 1.0 } else { std::f64::consts::LN_2 };
                    let one = t.num(one);
                    terms.push(self.mul(t, vec![one, y]));
                }
                Node::Unary(Unary::Inv, y) if t.facts(y).lo >= 0.0 => {
                    let of = self.unary(t, Unary::Log, y);
                    terms.push(self.negative(t, of));
                }
                _ => rest.push(f),
            }
        }
        if terms.is_empty() {
            return t.add(Node::Unary(Unary::Log, x));
        }
        if !rest.is_empty() {
            let rest = self.mul(t, rest);
            terms.push(self.unary(t, Unary::Log, rest));
        }
        self.add(t, terms)
    }

    /// The exponential of a sum as a product of what it has logarithms of.
    fn exponential(&mut self, t: &mut Terms, sum: Id) -> Option<Id> {
        let Node::Add(terms) = t.node(sum).clone() else { return None };
        let (mut factors, mut rest) = (Vec::new(), Vec::new());
        for x in terms {
            let (c, of) = multiple(t, x);
            match of[..] {
                [one]
                    if c.abs() == 1.0
                        && let Node::Unary(Unary::Log, y) = *t.node(one)
                        && t.facts(y).lo > 0.0 =>
                {
                    factors.push(if c > 0.0 { y } else { self.unary(t, Unary::Inv, y) });
                }
                _ => rest.push(x),
            }
        }
        if factors.is_empty() || rest.iter().any(|&x| !t.facts(x).below) {
            return None;
        }
        let rest = self.add(t, rest);
        factors.push(self.unary(t, Unary::Exp, rest));
        Some(self.mul(t, factors))
    }

    /// A maximum without a literal among its operands.
    fn without(&mut self, t: &mut Terms, x: Id, literal: f64) -> Option<Id> {
        let Node::Max(c) = t.node(x).clone() else { return None };
        let rest: Vec<Id> = c.iter().copied().filter(|&c| t.literal(c) != Some(literal)).collect();
        (rest.len() < c.len() && !rest.is_empty()).then(|| self.extreme(t, rest, Node::Max))
    }

    /// A sum whose subtracted maxima have lost their guards.
    fn unguarded(&mut self, t: &mut Terms, sum: Id) -> Id {
        let Node::Add(terms) = t.node(sum).clone() else { return sum };
        let mut out = Vec::new();
        for (n, &x) in terms.iter().enumerate() {
            let replaced = self.bare(t, x).filter(|&(_, over)| {
                // The guard is for a maximum over an axis along which the rest of the sum runs.
                terms.iter().enumerate().any(|(m, &o)| {
                    m != n
                        && [Part::Whole, Part::Inner]
                            .iter()
                            .any(|&part| t.facts(o).free.contains(&Piece { axis: over, part }))
                })
            });
            match replaced {
                Some((bare, over)) => {
                    self.assumptions.insert(format!(
                        "a maximum over {over} that is subtracted in an exponential is above -inf"
                    ));
                    out.push(bare);
                }
                None => out.push(x),
            }
        }
        self.add(t, out)
    }

    /// `c * max(y, LOWEST)` as `c * y` for negative `c`, and the axis of the maximum `y`.
    fn bare(&mut self, t: &mut Terms, x: Id) -> Option<(Id, tilewright_ir::Axis)> {
        let Node::Mul(c) = t.node(x).clone() else { return None };
        let [a, b] = c[..] else { return None };
        let (scale, guarded) = if t.literal(a).is_some() { (a, b) } else { (b, a) };
        if t.literal(scale)? >= 0.0 {
            return None;
        }
        let y = self.without(t, guarded, LOWEST)?;
        let over = maximum(t, y)?;
        Some((self.mul(t, vec![scale, y]), over))
    }
}

/// The axis over which a term is a maximum, alone or beside others, scaled by a positive literal or not.
fn maximum(t: &Terms, y: Id) -> Option<tilewright_ir::Axis> {
    match t.node(y) {
        Node::Reduce(Reduction::Max, pieces, _) => pieces.first().map(|p| p.axis),
        Node::Max(c) => c.iter().find_map(|&c| maximum(t, c)),
        Node::Mul(c) => match c[..] {
            [a, b] if t.literal(a).is_some_and(|x| x > 0.0) => maximum(t, b),
            [b, a] if t.literal(a).is_some_and(|x| x > 0.0) => maximum(t, b),
            _ => None,
        },
        _ => None,
    }
}
