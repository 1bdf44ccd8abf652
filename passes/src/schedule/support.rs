//! Which positions of an axis a pass is about.
//!
//! What: a pass folds values over an axis. Where a predicate such as `j <= i + past` or `j < length[b]` fails, a value is
//! what leaves the fold as it is: 0 in a sum, -inf in a maximum. From what reductions reduce, this finds bounds outside of
//! which all of them are nothing.
//! Why here: loops end at these bounds, and what is counted of a plan before it has loops must end there too.
//! Pre: the locals of a kernel of a verified plan. Numbers are numbers: 0 times anything is 0, as everywhere in the laws.
//! Post: bounds over what is free of the axis.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use cranelift_entity::PrimaryMap;
use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{LocalData, LocalDef};
use tilewright_ir::{Axis, Binary, Ex, Expr, Local, Reduction, Unary};

use super::contract::factors;

/// Larger than the positions of an axis.
pub(crate) const BEYOND: f64 = 1_073_741_824.0;

/// A bound of an axis: positions from here on, or up to here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bound {
    /// From here on.
    From(Ex),
    /// Up to here, and not here.
    To(Ex),
}

/// Where a value may be anything else than the number that was asked about: within all of the bounds; `None` is nowhere.
pub(crate) type Support = Option<BTreeSet<Bound>>;

/// Within both.
fn both(a: Support, b: Support) -> Support {
    let (mut a, b) = (a?, b?);
    a.extend(b);
    Some(a)
}

/// Within one of them: only what bounds both is known.
fn either(a: Support, b: Support) -> Support {
    match (a, b) {
        (None, x) | (x, None) => x,
        (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
    }
}

/// Everywhere.
fn anywhere() -> Support {
    Some(BTreeSet::new())
}

/// The most terms of a bound: what is longer is not known.
const TERMS: usize = 64;

/// What is known of the locals of a kernel.
pub(crate) struct Supports<'a> {
    locals: &'a PrimaryMap<Local, LocalData>,
    /// Answers about locals that name an expression, each found once however often it is used.
    left: Memo<(Local, Reduction, Axis), Support>,
    support: Memo<(Local, u64, Axis), Support>,
    conditions: Memo<(Local, bool, Axis), Support>,
    finite: Memo<Local, bool>,
    free: Memo<(Local, Axis), bool>,
}

type Memo<K, V> = RefCell<HashMap<K, V>>;

/// The answer to a question, asked once.
fn once<K: Eq + Hash, V: Clone>(memo: &Memo<K, V>, key: K, find: impl FnOnce() -> V) -> V {
    if let Some(known) = memo.borrow().get(&key) {
        return known.clone();
    }
    let found = find();
    memo.borrow_mut().insert(key, found.clone());
    found
}

impl<'a> Supports<'a> {
    pub(crate) fn new(locals: &'a PrimaryMap<Local, LocalData>) -> Self {
        Supports {
            locals,
            left: Memo::default(),
            support: Memo::default(),
            conditions: Memo::default(),
            finite: Memo::default(),
            free: Memo::default(),
        }
    }

    /// Where any of these reductions over `axis` may add something.
    pub(crate) fn of(&self, members: &[Local], axis: Axis) -> Support {
        let mut support = None;
        for &l in members {
            let own = match &self.locals[l].def {
                LocalDef::Reduce { op, body, .. } => self.left(*op, body, axis),
                LocalDef::Running { op, block, .. } => self.left(*op, block, axis),
                // What moves along by a factor is nothing after as before. Anything else may make something of nothing.
                LocalDef::Fold { op: Reduction::Sum, block, action, .. }
                    if factors(action).contains(&ex::local(l)) =>
                {
                    self.left(Reduction::Sum, block, axis)
                }
                LocalDef::Fold { .. } => anywhere(),
                LocalDef::Map(_) | LocalDef::Block { .. } => None,
            };
            support = either(support, own);
        }
        support
    }

    /// Where a term of a reduction may add something.
    fn left(&self, op: Reduction, e: &Ex, axis: Axis) -> Support {
        match (op, &**e) {
            (_, Expr::Local(l)) => match &self.locals[*l].def {
                LocalDef::Map(e) => once(&self.left, (*l, op, axis), || self.left(op, e, axis)),
                _ => self.support(e, op.identity(), axis),
            },
            // At least one term is there, and no term is less.
            (Reduction::Max, Expr::Binary(Binary::Max, a, b))
            | (Reduction::Min, Expr::Binary(Binary::Min, a, b)) => match (&**a, &**b) {
                (Expr::Num(_), _) => self.left(op, b, axis),
                (_, Expr::Num(_)) => self.left(op, a, axis),
                _ => either(self.left(op, a, axis), self.left(op, b, axis)),
            },
            _ => self.support(e, op.identity(), axis),
        }
    }

    /// Where an expression may be anything else than `t`, which is 0 or an infinity.
    fn support(&self, e: &Ex, t: f64, axis: Axis) -> Support {
        let of = |e: &Ex| self.support(e, t, axis);
        let infinite = t.is_infinite();
        match &**e {
            Expr::Num(n) if n.0 == t => None,
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => once(&self.support, (*l, t.to_bits(), axis), || of(e)),
                LocalDef::Block { op, body, .. } | LocalDef::Reduce { op, body, .. }
                    if op.identity() == t =>
                {
                    once(&self.support, (*l, t.to_bits(), axis), || of(body))
                }
                _ => anywhere(),
            },
            Expr::Select(c, a, b) => {
                either(both(self.where_(c, true, axis), of(a)), both(self.where_(c, false, axis), of(b)))
            }
            Expr::Binary(Binary::Mul, a, b) if !infinite => both(of(a), of(b)),
            Expr::Binary(Binary::Div, a, _) if !infinite => of(a),
            Expr::Binary(Binary::Add, a, b) if infinite => match (self.finite(a), self.finite(b)) {
                (true, _) => of(b),
                (_, true) => of(a),
                _ => anywhere(),
            },
            Expr::Binary(Binary::Sub, a, b) if infinite && self.finite(b) => of(a),
            Expr::Binary(Binary::Add | Binary::Sub, a, b) if !infinite => either(of(a), of(b)),
            // The lesser of two is -inf if either is, the greater only if both are.
            Expr::Binary(Binary::Min, a, b) if t == f64::NEG_INFINITY => both(of(a), of(b)),
            Expr::Binary(Binary::Max, a, b) if t == f64::INFINITY => both(of(a), of(b)),
            Expr::Binary(Binary::Max | Binary::Min, a, b) => either(of(a), of(b)),
            Expr::Binary(op, ..) if op.is_predicate() && t == 0.0 => self.where_(e, true, axis),
            Expr::Unary(Unary::Exp | Unary::Exp2, x) if t == 0.0 => self.support(x, f64::NEG_INFINITY, axis),
            Expr::Unary(Unary::Neg, x) => self.support(x, -t, axis),
            Expr::Unary(Unary::Sqrt | Unary::Tanh | Unary::Sin | Unary::Abs | Unary::Floor, x)
                if t == 0.0 =>
            {
                of(x)
            }
            Expr::Cast(d, x) if t == 0.0 || d.is_float() => of(x),
            _ => anywhere(),
        }
    }

    /// Whether an expression is surely no infinity where numbers are: a literal, or what a maximum with one keeps from below.
    fn finite(&self, e: &Ex) -> bool {
        match &**e {
            Expr::Num(n) => n.0.is_finite(),
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => once(&self.finite, *l, || self.finite(e)),
                _ => false,
            },
            Expr::Binary(Binary::Max, a, b) => self.finite(a) || self.finite(b),
            Expr::Binary(Binary::Mul | Binary::Add | Binary::Sub, a, b) => self.finite(a) && self.finite(b),
            Expr::Unary(Unary::Neg, x) => self.finite(x),
            _ => false,
        }
    }

    /// Where a condition may be true, or false.
    fn where_(&self, c: &Ex, truth: bool, axis: Axis) -> Support {
        let of = |c: &Ex| self.where_(c, truth, axis);
        match &**c {
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(c) => once(&self.conditions, (*l, truth, axis), || of(c)),
                _ => anywhere(),
            },
            Expr::Unary(Unary::Not, c) => self.where_(c, !truth, axis),
            Expr::Binary(Binary::And, a, b) if truth => both(of(a), of(b)),
            Expr::Binary(Binary::Or, a, b) if !truth => both(of(a), of(b)),
            Expr::Binary(Binary::And | Binary::Or, a, b) => either(of(a), of(b)),
            Expr::Binary(op, a, b) if op.is_comparison() => {
                let op = if truth { *op } else { negated(*op) };
                let (Some((x, a)), Some((y, b))) =
                    (self.apart(a, axis, &mut { TERMS }), self.apart(b, axis, &mut { TERMS }))
                else {
                    return anywhere();
                };
                bounds(op, x.saturating_sub(y), minus(b, a))
            }
            _ => anywhere(),
        }
    }

    /// An expression as a multiple of the position along the axis and a rest without it, if it has no more than `terms` terms.
    fn apart(&self, e: &Ex, axis: Axis, terms: &mut usize) -> Option<(i32, Ex)> {
        *terms = terms.checked_sub(1)?;
        let nothing = || ex::num(0.0);
        match &**e {
            Expr::Pos(a) if *a == axis => Some((1, nothing())),
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => self.apart(e, axis, terms),
                _ => None,
            },
            Expr::Binary(Binary::Add, a, b) => {
                let ((x, a), (y, b)) = (self.apart(a, axis, terms)?, self.apart(b, axis, terms)?);
                Some((x.checked_add(y)?, plus(a, b)))
            }
            Expr::Binary(Binary::Sub, a, b) => {
                let ((x, a), (y, b)) = (self.apart(a, axis, terms)?, self.apart(b, axis, terms)?);
                Some((x.checked_sub(y)?, minus(a, b)))
            }
            Expr::Unary(Unary::Neg, x) => {
                self.apart(x, axis, terms).map(|(n, rest)| (-n, minus(nothing(), rest)))
            }
            Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
                (Expr::Num(n), x) | (x, Expr::Num(n)) if n.0 == -1.0 => {
                    let x = self.apart(&Ex::new(x.clone()), axis, terms);
                    x.map(|(n, rest)| (-n, minus(nothing(), rest)))
                }
                _ => self.rest(e, axis, terms),
            },
            _ => self.rest(e, axis, terms),
        }
    }

    /// An expression without the position along the axis, spelled out.
    fn rest(&self, e: &Ex, axis: Axis, terms: &mut usize) -> Option<(i32, Ex)> {
        if !self.free(e, axis) {
            return None;
        }
        Some((0, self.spelled(e, terms)?))
    }

    /// An expression with locals spelled out, if it has no more than `terms` terms.
    fn spelled(&self, e: &Ex, terms: &mut usize) -> Option<Ex> {
        *terms = terms.checked_sub(1)?;
        match &**e {
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => self.spelled(e, terms),
                _ => Some(e.clone()),
            },
            other => {
                let mut known = true;
                let out = other.map_children(|c| {
                    self.spelled(c, terms).unwrap_or_else(|| {
                        known = false;
                        c.clone()
                    })
                });
                known.then(|| Ex::new(out))
            }
        }
    }

    /// Whether an expression is free of the axis, and known before a loop.
    fn free(&self, e: &Ex, axis: Axis) -> bool {
        let mut free = !e.free_axes().contains(&axis);
        e.visit(&mut |e| {
            if let Expr::Local(l) = e {
                free &= match &self.locals[*l].def {
                    LocalDef::Map(e) => once(&self.free, (*l, axis), || self.free(e, axis)),
                    _ => false,
                };
            }
        });
        free
    }
}

/// The comparison that holds where this one does not. (Bounds are of integers.)
fn negated(op: Binary) -> Binary {
    match op {
        Binary::Lt => Binary::Ge,
        Binary::Le => Binary::Gt,
        Binary::Gt => Binary::Le,
        Binary::Ge => Binary::Lt,
        Binary::Eq => Binary::Ne,
        _ => Binary::Eq,
    }
}

fn plus(a: Ex, b: Ex) -> Ex {
    match (&*a, &*b) {
        (Expr::Num(n), _) if n.0 == 0.0 => b,
        (_, Expr::Num(n)) if n.0 == 0.0 => a,
        (Expr::Num(x), Expr::Num(y)) => ex::num(x.0 + y.0),
        _ => ex::add(a, b),
    }
}

fn minus(a: Ex, b: Ex) -> Ex {
    match (&*a, &*b) {
        (_, Expr::Num(n)) => plus(a, ex::num(-n.0)),
        (Expr::Num(n), Expr::Binary(Binary::Sub, x, y)) if n.0 == 0.0 => minus(y.clone(), x.clone()),
        _ => ex::sub(a, b),
    }
}

/// Where `factor * position` compares so with `rest`.
fn bounds(op: Binary, factor: i32, rest: Ex) -> Support {
    let next = |e: &Ex| plus(e.clone(), ex::num(1.0));
    let turned = match op {
        Binary::Lt => Binary::Gt,
        Binary::Le => Binary::Ge,
        Binary::Gt => Binary::Lt,
        Binary::Ge => Binary::Le,
        other => other,
    };
    let (op, rest) = match factor {
        1 => (op, rest),
        -1 => (turned, minus(ex::num(0.0), rest)),
        // Of no position, or of all: up to where does not matter.
        0 => {
            let by = |e: Ex| Bound::To(ex::mul(e, ex::num(BEYOND)));
            let zero = ex::num(0.0);
            return Some(BTreeSet::from([match op {
                Binary::Lt => by(rest),
                Binary::Le => by(next(&rest)),
                Binary::Gt => by(minus(zero, rest)),
                Binary::Ge => by(minus(ex::num(1.0), rest)),
                _ => return anywhere(),
            }]));
        }
        _ => return anywhere(),
    };
    Some(match op {
        Binary::Lt => BTreeSet::from([Bound::To(rest)]),
        Binary::Le => BTreeSet::from([Bound::To(next(&rest))]),
        Binary::Gt => BTreeSet::from([Bound::From(next(&rest))]),
        Binary::Ge => BTreeSet::from([Bound::From(rest)]),
        Binary::Eq => BTreeSet::from([Bound::To(next(&rest)), Bound::From(rest)]),
        _ => BTreeSet::new(),
    })
}
