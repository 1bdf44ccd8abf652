//! Which elements of a state an update writes.
//!
//! What: an update puts a value at an index for each position of its domain. Where each dimension of the index is a position
//! of the domain, plus what does not move with it, no two positions go to one place, and the position that goes to a given
//! place is known: [`written`] finds it. [`keeps_off`] says whether a kernel reads of the state only what the update leaves
//! as it was.
//! Why here: a plan may compute such an element again instead of reading it back, and read the rest of the state beside the
//! kernel that writes; the verifier of plans, the search and the lowering must agree on what the rest is.
//! Pre: a verified function. Post: `None` or `false` where nothing is known.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;

use crate::expr::build as ex;
use crate::graph::{Def, ValueData};
use crate::plan::{KernelPlan, LocalDef, Plan};
use crate::{Axis, AxisData, Binary, Ex, Expr, Extent, Unary, Value};

/// The position along one axis of the domain that goes to an index: what the index has in a dimension, without an offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The axis of the domain.
    pub axis: Axis,
    /// The dimension of the state.
    pub dim: usize,
    /// What is added to the position; it varies along axes without an offset only.
    pub offset: Option<Ex>,
}

/// What an update writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// One for each axis of the domain, those without an offset first.
    pub sources: Vec<Source>,
    /// What must hold, over the domain; elsewhere the index is outside of the state, and nothing is written.
    pub only: Vec<Ex>,
}

/// What an update writes, if each element is written by one position that follows from the index.
pub fn written(
    axes: &PrimaryMap<Axis, AxisData>,
    values: &PrimaryMap<Value, ValueData>,
    update: Value,
) -> Option<Written> {
    let data = values.get(update)?;
    let Def::Update { domain, index, .. } = &data.def else { return None };
    let mut out = Written::default();
    for (dim, (at, &of)) in index.iter().zip(&data.axes).enumerate() {
        let mut at = at;
        while let Expr::Select(c, inside, outside) = &**at {
            let beyond = match (&**outside, axes[of].extent) {
                (Expr::Num(n), Extent::Const(size)) => n.0 >= size as f64,
                (Expr::Size(Extent::Const(n)), Extent::Const(size)) => *n >= size,
                _ => false,
            };
            if !beyond {
                return None;
            }
            out.only.push(c.clone());
            at = inside;
        }
        let moves = |e: &Ex| match &**e {
            Expr::Pos(a) if domain.contains(a) => Some(*a),
            _ => None,
        };
        let (axis, offset) = match &**at {
            Expr::Binary(Binary::Add, a, b) => match (moves(a), moves(b)) {
                (Some(axis), None) => (axis, Some(b.clone())),
                (None, Some(axis)) => (axis, Some(a.clone())),
                _ => return None,
            },
            _ => (moves(at)?, None),
        };
        out.sources.push(Source { axis, dim, offset });
    }
    let of = |s: &Source| s.axis;
    let all: BTreeSet<Axis> = out.sources.iter().map(of).collect();
    let plain: BTreeSet<Axis> = out.sources.iter().filter(|s| s.offset.is_none()).map(of).collect();
    let offsets = || out.sources.iter().filter_map(|s| s.offset.as_ref());
    // A dimension for each axis, an axis for each dimension, and offsets over what is known without them.
    let known = all.len() == out.sources.len()
        && domain.iter().all(|a| all.contains(a))
        && offsets().all(|o| o.free_axes().iter().all(|a| plain.contains(a)));
    out.sources.sort_by_key(|s| s.offset.is_some());
    known.then_some(out)
}

impl Written {
    /// The conditions under which the update writes the element at an index.
    fn conditions(&self, axes: &PrimaryMap<Axis, AxisData>, index: &[Ex]) -> Option<Vec<Ex>> {
        let mut at: BTreeMap<Axis, Ex> = BTreeMap::new();
        let mut out = Vec::new();
        for s in &self.sources {
            let mut position = index.get(s.dim)?.clone();
            if let Some(offset) = &s.offset {
                position = ex::sub(position, substitute(offset, &at));
            }
            out.push(ex::binary(Binary::Ge, position.clone(), ex::num(0.0)));
            out.push(ex::binary(Binary::Lt, position.clone(), ex::size(axes[s.axis].extent)));
            at.insert(s.axis, position);
        }
        out.extend(self.only.iter().map(|c| substitute(c, &at)));
        Some(out)
    }
}

/// The expression at other positions; it binds none of its own.
fn substitute(e: &Ex, at: &BTreeMap<Axis, Ex>) -> Ex {
    match &**e {
        Expr::Pos(a) => at.get(a).unwrap_or(e).clone(),
        other => std::sync::Arc::new(other.map_children(|c| substitute(c, at))),
    }
}

/// A sum of multiples, and a number: `sum + number >= 0` is what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AtLeast {
    /// What the multiples are of, with how many.
    pub terms: BTreeMap<Ex, i64>,
    /// The number.
    pub number: i64,
}

impl AtLeast {
    fn add(&mut self, other: AtLeast, times: i64) -> Option<()> {
        for (e, n) in other.terms {
            let own = self.terms.entry(e).or_default();
            *own = own.checked_add(n.checked_mul(times)?)?;
        }
        self.terms.retain(|_, n| *n != 0);
        self.number = self.number.checked_add(other.number.checked_mul(times)?)?;
        Some(())
    }
}

/// A kernel, whose locals may name an expression.
#[derive(Clone, Copy)]
pub struct Within<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The kernel.
    pub kernel: &'a KernelPlan,
}

impl Within<'_> {
    /// The expression behind a name.
    fn behind(&self, e: &Ex) -> Ex {
        let mut e = e.clone();
        while let Expr::Local(l) = &*e {
            let Some(LocalDef::Map(own)) = self.kernel.locals.get(*l).map(|l| &l.def) else { break };
            e = own.clone();
        }
        e
    }

    fn is_integer(&self, v: Value) -> bool {
        self.plan.values.get(v).is_some_and(|d| d.dtype.is_int())
    }
}

/// An expression over integers as a sum of multiples.
fn linear(e: &Ex, k: Within<'_>) -> Option<AtLeast> {
    let e = &k.behind(e);
    let mut out = AtLeast::default();
    match &**e {
        Expr::Num(n) if n.0.fract() == 0.0 && n.0.abs() < 9e15 => out.number = n.0 as i64,
        Expr::Size(Extent::Const(n)) => out.number = i64::try_from(*n).ok()?,
        Expr::Binary(Binary::Add, a, b) => {
            out.add(linear(a, k)?, 1)?;
            out.add(linear(b, k)?, 1)?;
        }
        Expr::Binary(Binary::Sub, a, b) => {
            out.add(linear(a, k)?, 1)?;
            out.add(linear(b, k)?, -1)?;
        }
        Expr::Unary(Unary::Neg, a) => out.add(linear(a, k)?, -1)?,
        Expr::Binary(Binary::Mul, a, b) => {
            let (a, b) = (linear(a, k)?, linear(b, k)?);
            match (a.terms.is_empty(), b.terms.is_empty()) {
                (true, _) => out.add(b, a.number)?,
                (_, true) => out.add(a, b.number)?,
                _ => return None,
            }
        }
        Expr::Read(v, _) if !k.is_integer(*v) => return None,
        Expr::Pos(_) | Expr::Size(_) | Expr::Read(..) => {
            out.terms.insert(e.clone(), 1);
        }
        _ => return None,
    }
    Some(out)
}

/// What a condition says, all of which must hold; nothing if it says anything else.
pub fn conditions(c: &Ex, k: Within<'_>) -> Option<BTreeSet<AtLeast>> {
    let c = &k.behind(c);
    let Expr::Binary(op, a, b) = &**c else { return None };
    if *op == Binary::And {
        let mut all = conditions(a, k)?;
        all.extend(conditions(b, k)?);
        return Some(all);
    }
    let (more, less, strict) = match op {
        Binary::Ge => (a, b, 0),
        Binary::Gt => (a, b, -1),
        Binary::Le => (b, a, 0),
        Binary::Lt => (b, a, -1),
        _ => return None,
    };
    let mut out = linear(more, k)?;
    out.add(linear(less, k)?, -1)?;
    out.number = out.number.checked_add(strict)?;
    Some(BTreeSet::from([out]))
}

/// Whether a kernel reads of the state that an update takes over only what the update leaves as it was: each read is what a
/// choice gives where a condition fails, and the condition holds for all that is written.
pub fn keeps_off(plan: &Plan, kernel: &KernelPlan, update: Value) -> bool {
    let Some(Def::Update { of, .. }) = plan.values.get(update).map(|d| &d.def) else { return false };
    let Some(written) = written(&plan.axes, &plan.values, update) else { return false };
    let k = Within { plan, kernel };
    let (mut reads, mut kept) = (0, 0);
    for e in kernel.exprs() {
        e.visit(&mut |e| match e {
            Expr::Read(v, _) if v == of => reads += 1,
            Expr::Select(c, _, other) => {
                let Expr::Read(v, index) = &**other else { return };
                let said = conditions(c, k);
                let all = (v == of).then(|| written.conditions(&plan.axes, index)).flatten();
                if let (Some(said), Some(all)) = (said, all) {
                    let all: BTreeSet<AtLeast> =
                        all.iter().filter_map(|c| conditions(c, k)).flatten().collect();
                    kept += usize::from(said.is_subset(&all));
                }
            }
            _ => {}
        });
    }
    reads == kept
}
