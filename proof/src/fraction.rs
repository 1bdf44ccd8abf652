//! Fractions of polynomials with whole coefficients: what sums, products and inverses of variables are.
//!
//! Why here: that the action of a fold over sums composes is an identity of rational functions, and is decided exactly: two
//! fractions are equal if and only if cross-multiplying gives one polynomial. Everything is small, so nothing is reduced.
//!
//! Post: `None` where a coefficient or the number of terms outgrows what is looked at; never a wrong answer.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::Unary;

use crate::term::{Id, Node, Terms};

/// Most terms of a polynomial that is looked at.
const TERMS: usize = 20_000;

/// The exponent of each variable that occurs, to its coefficient; no coefficient is 0.
type Polynomial = BTreeMap<BTreeMap<usize, u32>, i128>;

/// A fraction; its denominator is not 0.
#[derive(Clone, Debug)]
pub(crate) struct Fraction {
    over: Polynomial,
    under: Polynomial,
}

fn constant(x: i128) -> Polynomial {
    if x == 0 { Polynomial::new() } else { Polynomial::from([(BTreeMap::new(), x)]) }
}

fn plus(a: &Polynomial, b: &Polynomial) -> Option<Polynomial> {
    let mut out = a.clone();
    for (powers, x) in b {
        let sum = out.get(powers).copied().unwrap_or(0).checked_add(*x)?;
        match sum {
            0 => out.remove(powers),
            _ => out.insert(powers.clone(), sum),
        };
    }
    (out.len() <= TERMS).then_some(out)
}

fn times(a: &Polynomial, b: &Polynomial) -> Option<Polynomial> {
    let mut out = Polynomial::new();
    for (p, x) in a {
        for (q, y) in b {
            let mut powers = p.clone();
            for (&variable, &power) in q {
                *powers.entry(variable).or_default() += power;
            }
            let sum = out.get(&powers).copied().unwrap_or(0).checked_add(x.checked_mul(*y)?)?;
            match sum {
                0 => out.remove(&powers),
                _ => out.insert(powers, sum),
            };
            if out.len() > TERMS {
                return None;
            }
        }
    }
    Some(out)
}

impl Fraction {
    pub(crate) fn zero() -> Fraction {
        Fraction { over: constant(0), under: constant(1) }
    }

    pub(crate) fn variable(n: usize) -> Fraction {
        Fraction { over: Polynomial::from([(BTreeMap::from([(n, 1)]), 1)]), under: constant(1) }
    }

    pub(crate) fn add(&self, other: &Fraction) -> Option<Fraction> {
        if self.under == other.under {
            return Some(Fraction { over: plus(&self.over, &other.over)?, under: self.under.clone() });
        }
        let over = plus(&times(&self.over, &other.under)?, &times(&other.over, &self.under)?)?;
        Some(Fraction { over, under: times(&self.under, &other.under)? })
    }

    fn mul(&self, other: &Fraction) -> Option<Fraction> {
        Some(Fraction { over: times(&self.over, &other.over)?, under: times(&self.under, &other.under)? })
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.over.is_empty()
    }

    pub(crate) fn equals(&self, other: &Fraction) -> Option<bool> {
        Some(times(&self.over, &other.under)? == times(&other.over, &self.under)?)
    }

    /// The term with its leaves replaced. Literals are whole numbers.
    pub(crate) fn of(t: &Terms, id: Id, by: &HashMap<Id, Fraction>) -> Result<Fraction, String> {
        const WIDE: &str = "what it adds is too large a fraction";
        if let Some(known) = by.get(&id) {
            return Ok(known.clone());
        }
        let join = |c: &[Id], start: i128, f: fn(&Fraction, &Fraction) -> Option<Fraction>| {
            let start = Fraction { over: constant(start), under: constant(1) };
            c.iter()
                .try_fold(start, |sum, &c| f(&sum, &Fraction::of(t, c, by)?).ok_or_else(|| WIDE.to_owned()))
        };
        match t.node(id) {
            Node::Num(x) if x.0.fract() == 0.0 && x.0.abs() < 9e15 => {
                Ok(Fraction { over: constant(x.0 as i128), under: constant(1) })
            }
            Node::Add(c) => join(c, 0, Fraction::add),
            Node::Mul(c) => join(c, 1, Fraction::mul),
            Node::Unary(Unary::Inv, x) => {
                let x = Fraction::of(t, *x, by)?;
                if x.is_zero() {
                    return Err("what it adds divides by 0".into());
                }
                Ok(Fraction { over: x.under, under: x.over })
            }
            _ => Err("what it adds depends on more than what it tracks".into()),
        }
    }
}
