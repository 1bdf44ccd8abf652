//! Sums and products as operations with two operands.
//!
//! Why here: operands of n-ary operations are associated with the fewest positions first, so that narrow factors are combined
//! before they meet wide ones; of real sums the source says how.
//!
//! Post: an expression in which each operand stands once; what is subtracted is not multiplied by -1 first.

use egg::Language;
use tilewright_ir::expr::{Num, build as ex};
use tilewright_ir::{Binary, Ex, Unary};

use super::kernel::Kernel;
use crate::PassError;
use crate::algebra::dag::child;
use crate::algebra::facts::Kind;
use crate::algebra::{NodeId, Term};
use crate::partition::association::Brackets;

impl Kernel<'_> {
    /// Operands in the order in which they are combined.
    fn operands(&self, n: NodeId) -> Vec<NodeId> {
        let dag = self.b.dag;
        let mut ops: Vec<NodeId> = dag.nodes[n].term.children().iter().map(|&c| child(c)).collect();
        ops.sort_by(|&a, &b| {
            let size = |x: NodeId| self.b.sizes.product(&dag.nodes[x].free);
            size(a).total_cmp(&size(b)).then(a.cmp(&b))
        });
        // Several inverses: each is multiplied with what it scales before the next one comes, or their product overflows
        // where the quotients do not.
        let is_inverse = |n: &NodeId| matches!(dag.nodes[*n].term, Term::Unary(Unary::Inv, _));
        if matches!(dag.nodes[n].term, Term::Mul(_)) && ops.iter().filter(|n| is_inverse(n)).count() > 1 {
            let (inverses, mut plain): (Vec<NodeId>, Vec<NodeId>) = ops.into_iter().partition(is_inverse);
            plain.reverse();
            let mut inverses = inverses.into_iter();
            ops = Vec::new();
            for p in plain {
                ops.push(p);
                ops.extend(inverses.next());
            }
            ops.extend(inverses);
        }
        ops
    }

    pub(super) fn fold_operands(&mut self, n: NodeId, f: Binary) -> Result<Ex, PassError> {
        let ops = self.operands(n);
        let mut out: Option<Ex> = None;
        for op in ops {
            let e = self.convert(op)?;
            out = Some(match out {
                None => e,
                Some(x) => ex::binary(f, x, e),
            });
        }
        out.ok_or_else(|| PassError::Bug("an operation without operands".into()))
    }

    /// A sum: terms with a factor of -1 are subtracted, one by one: `a - (b + c)` would be another term, and round where
    /// `a - b` does not. Of reals the source says what is added up first.
    pub(super) fn sum(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let operands = self.operands(n);
        let brackets = match self.b.dag.nodes[n].kind {
            Kind::Real => self.b.sums.brackets(self.b.dag, &operands),
            _ => operands.into_iter().map(Brackets::One).collect(),
        };
        let mut minus = Vec::new();
        if let Some(all) = self.added(brackets, &mut minus)? {
            return Ok(all);
        }
        let mut minus = minus.into_iter();
        let first = minus.next().ok_or_else(|| PassError::Bug("a sum without terms".into()))?;
        Ok(minus.fold(ex::unary(Unary::Neg, first), ex::sub))
    }

    /// What these add up to, if some of them is added; if all are subtracted, they are left to be.
    fn added(&mut self, brackets: Vec<Brackets>, left: &mut Vec<Ex>) -> Result<Option<Ex>, PassError> {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for b in brackets {
            match b {
                Brackets::All(inner) => plus.extend(self.added(inner, &mut minus)?),
                Brackets::One(op) => match self.negated(op)? {
                    Some(e) => minus.push(e),
                    None => plus.push(self.convert(op)?),
                },
            }
        }
        match plus.into_iter().reduce(ex::add) {
            Some(first) => Ok(Some(minus.into_iter().fold(first, ex::sub))),
            None => {
                left.extend(minus);
                Ok(None)
            }
        }
    }

    /// `x` if the node is `-1 * x` and nobody else needs the product.
    fn negated(&mut self, n: NodeId) -> Result<Option<Ex>, PassError> {
        if self.stored(n).is_some() {
            return Ok(None);
        }
        let Term::Mul(factors) = &self.b.dag.nodes[n].term else { return Ok(None) };
        let minus = Term::Num(Num(-1.0));
        let Some(at) = factors.iter().position(|&f| self.b.dag.nodes[child(f)].term == minus) else {
            return Ok(None);
        };
        let mut rest: Vec<NodeId> = self.operands(n);
        let dropped = child(factors[at]);
        rest.retain(|&r| r != dropped);
        let mut out: Option<Ex> = None;
        for r in rest {
            let e = self.convert(r)?;
            out = Some(match out {
                None => e,
                Some(x) => ex::mul(x, e),
            });
        }
        Ok(out)
    }
}
