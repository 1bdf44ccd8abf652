//! Loops that end where a mask ends.
//!
//! What: the bounds of a pass (see [`support`](crate::schedule::support)) as expressions over tiles, that hold for every
//! position of the thread block.
//! Why here: a plan says what is nothing, and means the same for any blocks; only a loop has blocks to leave out. Plans,
//! and the certificates about them, know nothing of this.
//! Pre: a pass of a verified plan.
//! Post: what a block beyond the bounds would add is nothing. A fold over no positions of a block is nothing by its
//! definition, so a block of such positions may be left out. Where all of them are such, one block is visited all the same:
//! a maximum of `max(c, x)` over some positions is `c` at least, over none it is -inf.

use super::*;
use crate::schedule::support::{BEYOND, Bound, Supports};

impl Lower<'_> {
    /// The range of a loop over `axis` for these reductions, as expressions over tiles.
    pub(super) fn range(&mut self, members: &[Local], axis: Axis, env: &Env) -> Result<Range, PassError> {
        let support = Supports::new(&self.locals).of(members, axis);
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
}
