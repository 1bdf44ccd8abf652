//! The terms of one kernel as expressions and locals.
//!
//! Why here: a node is converted once for each kernel that needs it; what the kernel finds stored is read.
//!
//! Pre: uses were counted. Post: locals need earlier ones only.

use std::collections::HashMap;

use cranelift_entity::{EntityRef, PrimaryMap};
use tilewright_ir::expr::build as ex;
use tilewright_ir::plan::{LocalData, LocalDef};
use tilewright_ir::{Axis, Binary, Ex, Expr, Local, Reduction};

use super::{Builder, Stored};
use crate::PassError;
use crate::algebra::dag::child;
use crate::algebra::{NodeId, Part, SubAxis, Term};

/// Stands for the value that an action moves until its fold has a number.
pub(super) const HOLE: u32 = u32::MAX - 1;

pub(super) struct Kernel<'a> {
    pub(super) b: &'a Builder<'a>,
    pub(super) roots: Vec<NodeId>,
    pub(super) locals: PrimaryMap<Local, LocalData>,
    pub(super) memo: HashMap<NodeId, Ex>,
    pub(super) uses: HashMap<NodeId, u32>,
}

impl Kernel<'_> {
    pub(super) fn stored(&self, n: NodeId) -> Option<&Stored> {
        if self.roots.contains(&n) || !self.b.heavy[n.index()] {
            return None;
        }
        self.b.stored.get(&self.b.canons.form(n)).filter(|s| !self.roots.contains(&s.node))
    }

    /// Counts how often each node is used within the kernel.
    pub(super) fn count(&mut self, n: NodeId) {
        let uses = self.uses.entry(n).or_default();
        *uses += 1;
        if *uses == 1 && self.stored(n).is_none() {
            for c in self.b.dag.children(n).collect::<Vec<_>>() {
                self.count(c);
            }
        }
    }

    pub(super) fn define(&mut self, n: NodeId, def: LocalDef) -> Ex {
        let parts = self.b.dag.nodes[n].parts;
        // An axis that only its block number mentions is not free: the local is one number per block.
        let axes: Vec<Axis> = parts.iter().filter(|p| p.part != Part::Outer).map(|p| p.axis).collect();
        // Within a block and along the whole axis the same is read at the same positions.
        let data = LocalData { axes, def };
        match self.locals.iter().find(|(_, l)| **l == data) {
            Some((same, _)) => ex::local(same),
            None => ex::local(self.locals.push(data)),
        }
    }

    /// The node as a local, whatever it is.
    pub(super) fn local(&mut self, n: NodeId) -> Result<Local, PassError> {
        let e = self.convert(n)?;
        if let Expr::Local(l) = &*e {
            return Ok(*l);
        }
        let e = self.define(n, LocalDef::Map(e));
        self.memo.insert(n, e.clone());
        match &*e {
            Expr::Local(l) => Ok(*l),
            _ => Err(PassError::Bug("a local is not a local".into())),
        }
    }

    pub(super) fn convert(&mut self, n: NodeId) -> Result<Ex, PassError> {
        if let Some(e) = self.memo.get(&n) {
            return Ok(e.clone());
        }
        let e = self.convert_new(n)?;
        self.memo.insert(n, e.clone());
        Ok(e)
    }

    fn convert_new(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let node = &self.b.dag.nodes[n];
        if let Some(s) = self.stored(n) {
            let here = self.b.canons.of(n);
            let index = s.order.iter().map(|&k| ex::pos(here.free[k])).collect();
            return Ok(ex::read(s.value, index));
        }
        let term = &node.term;
        let e = match term {
            Term::Num(x) => return Ok(ex::num(x.0)),
            Term::Pos(a) | Term::CutPos(a) => return Ok(ex::pos(*a)),
            Term::Size(s) => return Ok(ex::size(*s)),
            Term::Read(v, index) => {
                let index = index.iter().map(|&i| self.convert(child(i))).collect::<Result<Vec<_>, _>>()?;
                return Ok(ex::read(*v, index));
            }
            Term::Add(_) => self.sum(n)?,
            Term::Mul(_) => self.fold_operands(n, Binary::Mul)?,
            Term::Max(_) => self.fold_operands(n, Binary::Max)?,
            Term::Min(_) => self.fold_operands(n, Binary::Min)?,
            Term::Unary(f, [x]) => ex::unary(*f, self.convert(child(*x))?),
            Term::Binary(f, [a, b]) => ex::binary(*f, self.convert(child(*a))?, self.convert(child(*b))?),
            Term::Select([c, a, b]) => {
                ex::select(self.convert(child(*c))?, self.convert(child(*a))?, self.convert(child(*b))?)
            }
            Term::Cast(d, [x]) => ex::cast(*d, self.convert(child(*x))?),
            Term::Reduce(op, parts, [body]) => return self.reduce(n, *op, parts, child(*body)),
            Term::Hole => return Ok(ex::local(Local::from_u32(HOLE))),
            Term::Fold(..) => return self.fold(n),
            Term::Part(..) => return Err(PassError::Bug("a block marker was extracted".into())),
        };
        // Used more than once: named, so that it is computed once.
        if self.uses.get(&n).is_some_and(|&u| u > 1) {
            return Ok(self.define(n, LocalDef::Map(e)));
        }
        Ok(e)
    }

    fn reduce(&mut self, n: NodeId, op: Reduction, parts: &[SubAxis], body: NodeId) -> Result<Ex, PassError> {
        let body_ex = self.convert(body)?;
        let of =
            |part: Part| -> Vec<Axis> { parts.iter().filter(|p| p.part == part).map(|p| p.axis).collect() };
        let (whole, outer, inner) = (of(Part::Whole), of(Part::Outer), of(Part::Inner));
        match (&whole[..], &outer[..], &inner[..]) {
            (axes, [], []) => Ok(self.define(n, LocalDef::Reduce { op, axes: axes.to_vec(), body: body_ex })),
            ([], [axis], []) => Ok(self.define(n, LocalDef::Running { op, axis: *axis, block: body_ex })),
            (axes, [], [axis]) => {
                let body = if axes.is_empty() {
                    body_ex
                } else {
                    let free: Vec<Axis> = self.b.dag.nodes[body]
                        .parts
                        .iter()
                        .filter(|p| p.part != Part::Outer && !axes.contains(&p.axis))
                        .map(|p| p.axis)
                        .collect();
                    let def = LocalDef::Reduce { op, axes: axes.to_vec(), body: body_ex };
                    ex::local(self.locals.push(LocalData { axes: free, def }))
                };
                Ok(self.define(n, LocalDef::Block { op, axis: *axis, body }))
            }
            _ => Err(PassError::Limit(
                "one reduction over blocks of several axes at once; split it into nested reductions".into(),
            )),
        }
    }
}
