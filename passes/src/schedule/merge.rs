//! Summed axes that always stand together are one axis.
//!
//! What: a sum over heads and the positions of each, which only ever index tensors side by side and in one order, is a sum
//! over one axis of as many positions. Tensors are read through views whose dimensions are one as well; their bytes lie the
//! same way.
//! Why here: a loop within a loop begins anew in each iteration of the outer one, and what is streamed with it; blocks of
//! short axes are short, or padded. One long axis is cut where it suits. Names of axes are a matter of equations, so plans
//! and certificates keep them.
//! Pre: a verified kernel plan. Post: a plan for the lowering of this kernel alone, with the same values and locals by
//! number; `None` if nothing merges.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::{Axis, AxisData, Ex, Expr, Extent, Value};

/// The kernel with as few summed axes as its accesses allow, and the plan with its views.
pub fn merge(plan: &Plan, kernel: &KernelPlan) -> Option<(Plan, KernelPlan)> {
    let mut found: Option<(Plan, KernelPlan)> = None;
    loop {
        let (p, k) = found.as_ref().map_or((plan, kernel), |(p, k)| (p, k));
        let Some(next) =
            pairs(k).into_iter().find_map(|pair| Pair::of(p, k, pair)).map(|pair| pair.apply(p, k))
        else {
            return found;
        };
        found = Some(next);
    }
}

/// Neighbours in some access that one reduction binds.
fn pairs(kernel: &KernelPlan) -> BTreeSet<(Axis, Axis)> {
    let mut out = BTreeSet::new();
    for data in kernel.locals.values() {
        let LocalDef::Reduce { axes, .. } = &data.def else { continue };
        for e in kernel.exprs() {
            e.visit(&mut |e| {
                let Expr::Read(_, index) = e else { return };
                for two in index.windows(2) {
                    if let (Expr::Pos(a), Expr::Pos(b)) = (&*two[0], &*two[1])
                        && a != b
                        && axes.contains(a)
                        && axes.contains(b)
                    {
                        out.insert((*a, *b));
                    }
                }
            });
        }
    }
    out
}

/// Two axes that can be one.
struct Pair {
    outer: Axis,
    inner: Axis,
    /// The positions of both.
    extent: u64,
    /// Which dimension of each tensor the outer one indexes.
    dims: BTreeMap<Value, usize>,
}

impl Pair {
    /// The pair, if every access and every reduction has both or none of them, and nothing else mentions them.
    fn of(plan: &Plan, kernel: &KernelPlan, (outer, inner): (Axis, Axis)) -> Option<Pair> {
        let size = |a: Axis| plan.axes[a].extent.as_const();
        let extent = size(outer)?.checked_mul(size(inner)?)?;
        let either = |a: &Axis| *a == outer || *a == inner;
        if kernel.grid.iter().any(either) || kernel.runs.is_some_and(|r| either(&r.axis)) {
            return None;
        }
        for data in kernel.locals.values() {
            for axes in [data.def.bound(), &data.axes] {
                if axes.contains(&outer) != axes.contains(&inner) {
                    return None;
                }
            }
        }
        let mut dims: BTreeMap<Value, Option<usize>> = BTreeMap::new();
        let (mut together, mut mentioned) = (0, 0);
        for e in kernel.exprs() {
            e.visit(&mut |e| match e {
                Expr::Pos(a) if either(a) => mentioned += 1,
                Expr::Reduce(_, axes, _) if axes.iter().any(either) => mentioned += 1,
                Expr::Read(v, index) => {
                    let at = place(index, outer, inner);
                    together += 2 * usize::from(at.is_some());
                    // One view serves all accesses of a tensor.
                    if *dims.entry(*v).or_insert(at) != at {
                        mentioned += 1;
                    }
                }
                _ => {}
            });
        }
        let dims: BTreeMap<Value, usize> = dims.into_iter().filter_map(|(v, at)| Some((v, at?))).collect();
        let whole = |(&v, &at): (&Value, &usize)| {
            let own = |d: usize| plan.axes[plan.values[v].axes[d]].extent.as_const();
            own(at) == size(outer) && own(at + 1) == size(inner)
        };
        let written = |v: &Value| kernel.stores.iter().any(|s| plan.storage(s.value) == plan.storage(*v));
        let fine = together == mentioned && dims.iter().all(whole) && !dims.keys().any(written);
        fine.then_some(Pair { outer, inner, extent, dims })
    }

    fn apply(&self, plan: &Plan, kernel: &KernelPlan) -> (Plan, KernelPlan) {
        let (mut plan, mut kernel) = (plan.clone(), kernel.clone());
        let name = format!("{}_{}", plan.axes[self.outer].name, plan.axes[self.inner].name);
        let one = plan.axes.push(AxisData { name, extent: Extent::Const(self.extent) });
        for (&v, &at) in &self.dims {
            plan.values[v].axes.splice(at..at + 2, [one]);
        }
        let axes = |all: &mut Vec<Axis>| {
            if let Some(at) = all.iter().position(|&a| a == self.inner) {
                all[at] = one;
                all.retain(|&a| a != self.outer);
            }
        };
        for data in kernel.locals.values_mut() {
            axes(&mut data.axes);
            if let LocalDef::Reduce { axes: bound, .. } = &mut data.def {
                axes(bound);
            }
            data.def.exprs_mut().for_each(|e| *e = self.expr(e, one));
        }
        for store in &mut kernel.stores {
            store.expr = self.expr(&store.expr, one);
        }
        (plan, kernel)
    }

    fn expr(&self, e: &Ex, one: Axis) -> Ex {
        let below = e.map_children(|c| self.expr(c, one));
        Ex::new(match below {
            Expr::Read(v, mut index) if self.dims.contains_key(&v) => {
                let at = self.dims[&v];
                index.splice(at..at + 2, [Ex::new(Expr::Pos(one))]);
                Expr::Read(v, index)
            }
            other => other,
        })
    }
}

/// Where in an access the inner axis follows the outer one.
fn place(index: &[Ex], outer: Axis, inner: Axis) -> Option<usize> {
    let is = |e: &Ex, axis: Axis| matches!(&**e, Expr::Pos(a) if *a == axis);
    index.windows(2).position(|two| is(&two[0], outer) && is(&two[1], inner))
}
