//! Which positions of a streamed axis a pass is about.
//!
//! What: a pass folds values over an axis. Where a predicate such as `j <= i + past` or `j < length[b]` fails, a value is
//! what leaves the fold as it is: 0 in a sum, -inf in a maximum. From what reductions reduce, this finds bounds outside of
//! which all of them are nothing, and the loop leaves out the blocks beyond them.
//! Why here: a plan says what is nothing, and means the same for any blocks; only a loop has blocks to leave out. Plans,
//! and the certificates about them, know nothing of this.
//! Pre: a pass of a verified plan. Numbers are numbers: 0 times anything is 0, as everywhere in the laws.
//! Post: bounds that hold for every position of the thread block; what a block beyond them would add is nothing. A fold
//! over no positions of a block is nothing by its definition, so a block of such positions may be left out. Where all of them
//! are such, one block is visited all the same: a maximum of `max(c, x)` over some positions is `c` at least, over
//! none it is -inf.

use super::*;
use tilewright_ir::tile::Range;

/// Larger than the positions of an axis.
const BEYOND: f64 = 1_073_741_824.0;

/// A bound of an axis: positions from here on, or up to here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    From(Ex),
    To(Ex),
}

/// Where a value may be anything else than the number that was asked about: within all of the bounds; `None` is nowhere.
type Support = Option<BTreeSet<Bound>>;

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

impl Lower<'_> {
    /// The range of a loop over `axis` for these reductions, as expressions over tiles.
    pub(super) fn range(&mut self, members: &[Local], axis: Axis, env: &Env) -> Result<Range, PassError> {
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
        let mut range = Range::default();
        for bound in support.into_iter().flatten() {
            let (slot, op, high, e) = match &bound {
                Bound::From(e) => (&mut range.from, Binary::Max, false, e),
                Bound::To(e) => (&mut range.to, Binary::Min, true, e),
            };
            let known = slot.take();
            // Positions along axes that the pass itself binds say nothing here.
            let free = e.free_axes().iter().all(|a| *a != axis && env.contains_key(a));
            let e = if free { self.bound(e, high, env)? } else { None };
            let joined = match (known, e) {
                (Some(a), Some(b)) if a != b => Some(ex::binary(op, a, b)),
                (a, b) => a.or(b),
            };
            match bound {
                Bound::From(_) => range.from = joined,
                Bound::To(_) => range.to = joined,
            }
        }
        Ok(range)
    }

    /// A bound over tiles, as interval arithmetic wants it: what varies within the block other than by positions is computed
    /// and reduced first. `None` if it is no integer.
    fn bound(&mut self, e: &Ex, high: bool, env: &Env) -> Result<Option<Ex>, PassError> {
        let e = self.lower_ex(e, env)?;
        if !matches!(typing::dtype(&self.p, &e, self.real), DType::I32 | DType::I64) {
            return Ok(None);
        }
        Ok(self.linear(&e, high))
    }

    fn linear(&mut self, e: &Ex, high: bool) -> Option<Ex> {
        match &**e {
            Expr::Num(n) if n.0.fract() == 0.0 && n.0.abs() <= BEYOND => Some(e.clone()),
            Expr::Num(_) => None,
            Expr::Pos(_) | Expr::Size(_) => Some(e.clone()),
            Expr::Binary(op @ (Binary::Add | Binary::Max | Binary::Min), a, b) => {
                Some(ex::binary(*op, self.linear(a, high)?, self.linear(b, high)?))
            }
            Expr::Binary(Binary::Sub, a, b) => Some(ex::sub(self.linear(a, high)?, self.linear(b, !high)?)),
            Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
                (_, Expr::Num(n)) | (Expr::Num(n), _) => {
                    let x = if matches!(**b, Expr::Num(_)) { a } else { b };
                    let x = self.linear(x, high == (n.0 >= 0.0))?;
                    Some(ex::mul(x, ex::num(n.0)))
                }
                _ => self.reduced(e, high),
            },
            _ => self.reduced(e, high),
        }
    }

    /// The greatest or the least value within the block, as a tile without axes.
    fn reduced(&mut self, e: &Ex, high: bool) -> Option<Ex> {
        let tile = self.map(e, None);
        if !matches!(self.p.tiles[tile].dtype, DType::I32 | DType::I64) {
            return None;
        }
        let over: BTreeSet<Axis> = self.p.tiles[tile].axes.iter().copied().collect();
        let op = if high { Reduction::Max } else { Reduction::Min };
        Some(ex::tile(if over.is_empty() { tile } else { self.reduce_src(op, &over, tile) }))
    }

    /// Where a term of a reduction may add something.
    fn left(&self, op: Reduction, e: &Ex, axis: Axis) -> Support {
        match (op, &**e) {
            (_, Expr::Local(l)) => match &self.locals[*l].def {
                LocalDef::Map(e) => self.left(op, e, axis),
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
                LocalDef::Map(e) => of(e),
                LocalDef::Block { op, body, .. } | LocalDef::Reduce { op, body, .. }
                    if op.identity() == t =>
                {
                    of(body)
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
                LocalDef::Map(e) => self.finite(e),
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
                LocalDef::Map(c) => of(c),
                _ => anywhere(),
            },
            Expr::Unary(Unary::Not, c) => self.where_(c, !truth, axis),
            Expr::Binary(Binary::And, a, b) if truth => both(of(a), of(b)),
            Expr::Binary(Binary::Or, a, b) if !truth => both(of(a), of(b)),
            Expr::Binary(Binary::And | Binary::Or, a, b) => either(of(a), of(b)),
            Expr::Binary(op, a, b) if op.is_comparison() => {
                let op = if truth { *op } else { negated(*op) };
                let (Some((x, a)), Some((y, b))) = (self.apart(a, axis), self.apart(b, axis)) else {
                    return anywhere();
                };
                bounds(op, x.saturating_sub(y), minus(b, a))
            }
            _ => anywhere(),
        }
    }

    /// An expression as a multiple of the position along the axis and a rest without it.
    fn apart(&self, e: &Ex, axis: Axis) -> Option<(i32, Ex)> {
        let of = |e: &Ex| self.apart(e, axis);
        let nothing = || ex::num(0.0);
        match &**e {
            Expr::Pos(a) if *a == axis => Some((1, nothing())),
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => of(e),
                _ => None,
            },
            Expr::Binary(Binary::Add, a, b) => {
                let ((x, a), (y, b)) = (of(a)?, of(b)?);
                Some((x.checked_add(y)?, plus(a, b)))
            }
            Expr::Binary(Binary::Sub, a, b) => {
                let ((x, a), (y, b)) = (of(a)?, of(b)?);
                Some((x.checked_sub(y)?, minus(a, b)))
            }
            Expr::Unary(Unary::Neg, x) => of(x).map(|(n, rest)| (-n, minus(nothing(), rest))),
            Expr::Binary(Binary::Mul, a, b) => match (&**a, &**b) {
                (Expr::Num(n), x) | (x, Expr::Num(n)) if n.0 == -1.0 => {
                    of(&Ex::new(x.clone())).map(|(n, rest)| (-n, minus(nothing(), rest)))
                }
                _ => self.free(e, axis).then(|| (0, self.spelled(e))),
            },
            _ => self.free(e, axis).then(|| (0, self.spelled(e))),
        }
    }

    /// An expression with locals spelled out.
    fn spelled(&self, e: &Ex) -> Ex {
        match &**e {
            Expr::Local(l) => match &self.locals[*l].def {
                LocalDef::Map(e) => self.spelled(e),
                _ => e.clone(),
            },
            other => Ex::new(other.map_children(|c| self.spelled(c))),
        }
    }

    /// Whether an expression is free of the axis, and known before a loop.
    fn free(&self, e: &Ex, axis: Axis) -> bool {
        let mut free = !e.free_axes().contains(&axis);
        e.visit(&mut |e| {
            if let Expr::Local(l) = e {
                free &= match &self.locals[*l].def {
                    LocalDef::Map(e) => self.free(e, axis),
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
