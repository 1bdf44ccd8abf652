//! Contractions: sums of products whose factors fall into two groups of axes.
//!
//! `sum[k] a * b` is a contraction when the factors can be dealt into two hands such that no tile axis outside `k` is held
//! by both. Then each hand is one operand tile, and the sum is a product of matrices with grouped axes.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::plan::{KernelPlan, LocalDef, Plan};
use tilewright_ir::{Axis, Binary, Ex, Expr, Value};

use crate::pack;

/// The factors of a product, flattened.
pub fn factors(e: &Ex) -> Vec<Ex> {
    match &**e {
        Expr::Binary(Binary::Mul, a, b) => {
            let mut out = factors(a);
            out.extend(factors(b));
            out
        }
        _ => vec![e.clone()],
    }
}

/// A contraction: the factors of each operand, and those that hold no summed axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The left operand's factors.
    pub a: Vec<Ex>,
    /// The right operand's factors.
    pub b: Vec<Ex>,
    /// Factors free of the summed axes.
    pub outside: Vec<Ex>,
}

/// Deals factors into two operands. `axes_of` gives the axes along which a factor's tile has more than one position, and
/// `weight` tells which factors are weights as they are.
pub fn split(
    factors: &[Ex],
    summed: &BTreeSet<Axis>,
    axes_of: &dyn Fn(&Ex) -> BTreeSet<Axis>,
    weight: &dyn Fn(&Ex) -> bool,
) -> Option<Split> {
    let sets: Vec<BTreeSet<Axis>> = factors.iter().map(axes_of).collect();
    let mut outside = Vec::new();
    // Factors that share an axis outside the sum belong to the same hand.
    let mut hands: Vec<(BTreeSet<Axis>, Vec<usize>)> = Vec::new();
    for (n, set) in sets.iter().enumerate() {
        if set.is_disjoint(summed) {
            outside.push(factors[n].clone());
            continue;
        }
        let own: BTreeSet<Axis> = set.difference(summed).copied().collect();
        let mut joined = (own, vec![n]);
        let (touching, rest): (Vec<_>, Vec<_>) =
            hands.into_iter().partition(|(axes, _)| !axes.is_disjoint(&joined.0));
        for (axes, members) in touching {
            joined.0.extend(axes);
            joined.1.extend(members);
        }
        hands = rest;
        hands.push(joined);
    }
    // Hands without axes of their own are vectors along the sum. They do not join a weight, which would be rounded again
    // and could not be streamed; of two others, they join the one with more factors.
    let (real, vectors): (Vec<_>, Vec<_>) = hands.into_iter().partition(|(axes, _)| !axes.is_empty());
    let [a, b]: [(BTreeSet<Axis>, Vec<usize>); 2] = real.try_into().ok()?;
    let (mut a, mut b) = (a.1, b.1);
    let span = |members: &[usize]| -> BTreeSet<Axis> {
        members.iter().flat_map(|&m| sets[m].intersection(summed).copied()).collect()
    };
    let alone = |members: &[usize]| matches!(members, [one] if weight(&factors[*one]));
    let (a_alone, b_alone) = (alone(&a), alone(&b));
    for (_, members) in vectors {
        let to_a = if a_alone == b_alone { a.len() > b.len() } else { b_alone };
        if to_a { a.extend(members) } else { b.extend(members) }
    }
    // Each operand must span all summed axes, or the sum would count positions of the other alone.
    if span(&a) != *summed || span(&b) != *summed {
        return None;
    }
    a.sort_unstable();
    b.sort_unstable();
    let pick = |members: Vec<usize>| members.into_iter().map(|m| factors[m].clone()).collect();
    Some(Split { a: pick(a), b: pick(b), outside })
}

/// How often each axis occurs as a plain index `k` dimensions from the end of a read; the smallest `k` per axis.
pub fn nearness<'a>(exprs: impl Iterator<Item = &'a Ex>) -> BTreeMap<Axis, usize> {
    let mut out: BTreeMap<Axis, usize> = BTreeMap::new();
    for e in exprs {
        e.visit(&mut |e| {
            if let Expr::Read(_, index) = e {
                for (k, i) in index.iter().rev().enumerate() {
                    if let Expr::Pos(a) = &**i {
                        let d = out.entry(*a).or_insert(k);
                        *d = (*d).min(k);
                    }
                }
            }
        });
    }
    out
}

/// The weights that the body of a sum contracts, of those that are packed, and the axes that index them; `kept` are the
/// axes of the sum's result.
pub fn packed(plan: &Plan, kernel: &KernelPlan, body: &Ex, kept: &[Axis]) -> BTreeMap<Value, BTreeSet<Axis>> {
    let axes_of = |leaf: &Expr| match leaf {
        Expr::Local(l) => kernel.locals[*l].axes.clone(),
        _ => Vec::new(),
    };
    let mut out: BTreeMap<Value, BTreeSet<Axis>> = BTreeMap::new();
    let mut todo = vec![body.clone()];
    let mut seen = BTreeSet::new();
    while let Some(e) = todo.pop() {
        e.visit(&mut |e| match e {
            Expr::Read(v, index) if plan.is_constant(*v) => {
                let data = &plan.values[*v];
                let dims: Option<Vec<u64>> =
                    data.axes.iter().map(|&a| plan.axes[a].extent.as_const()).collect();
                let summed = |i: &&Ex| matches!(&***i, Expr::Pos(a) if !kept.contains(a));
                let trailing = index.iter().rev().take_while(summed).count();
                let is_packed = |dims: Vec<u64>| {
                    let (rows, columns) = dims.split_at(dims.len() - trailing);
                    pack::is_packed(rows, columns.iter().product(), data.dtype.bytes() as u64)
                };
                if trailing > 0 && dims.is_some_and(is_packed) {
                    out.entry(*v).or_default().extend(index.iter().flat_map(|i| i.free_axes_with(&axes_of)));
                }
            }
            Expr::Local(l) => {
                if let LocalDef::Map(e) = &kernel.locals[*l].def
                    && seen.insert(*l)
                {
                    todo.push(e.clone());
                }
            }
            _ => {}
        });
    }
    out
}
