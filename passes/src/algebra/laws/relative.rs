//! What of the terms of a sum is relative to its own maximum, and what is added to that.
//!
//! Of `x - m + b`, `m` the maximum of `x` along an axis and `b` another number for all positions, `x - m` is what it is wherever
//! all of `x` may lie. So `x - m` and `b` may be summed apart; `x` and `b - m` may not, whose sums may have all their digits
//! in common.

use std::collections::HashMap;

use egg::Id;
use tilewright_ir::{Axis, Reduction};

use super::Search;
use super::blocks::mentions_reduction;
use super::construct::multiple;
use crate::algebra::stable::signed;
use crate::algebra::{AxisSet, SubAxis, Term};

/// A term as a literal times factors.
type Multiple = (f64, Vec<Id>);

/// The terms that are relative to maxima over whole axes, with these, and the others, which are the same at all positions and
/// of which one holds a reduction along the given one of the axes; none if a term is relative to nothing.
pub(super) fn parted(s: &Search, terms: &[Id], axes: &[SubAxis], axis: Axis) -> Option<(Vec<Id>, Vec<Id>)> {
    let bound = AxisSet::of(axes);
    let along = |t: &Id| !s.graph[*t].data.free.is_disjoint(&bound);
    let (mut near, fixed): (Vec<Id>, Vec<Id>) = terms.iter().copied().partition(along);
    let mut left: Vec<Multiple> = near.iter().map(|&t| multiple(&s.graph, t)).collect();
    let mut far = Vec::new();
    for t in fixed {
        match relative_to(s, t, axes, &left) {
            Some(rest) => {
                near.push(t);
                left = rest;
            }
            None => far.push(t),
        }
    }
    let alone = |(_, factors): &Multiple| matches!(factors[..], [one] if signed(&s.graph, one));
    let reduces = |&t: &Id| mentions_reduction(&s.graph, t, axis, &mut HashMap::new());
    let parted = !near.is_empty() && left.iter().all(alone) && far.iter().any(reduces);
    parted.then_some((near, far))
}

/// What is left of terms without those of which a term is the maximum over axes with the other sign.
fn relative_to(s: &Search, t: Id, axes: &[SubAxis], terms: &[Multiple]) -> Option<Vec<Multiple>> {
    let (scale, factors) = multiple(&s.graph, t);
    let [y] = factors[..] else { return None };
    let (mut todo, mut seen) = (vec![y], Vec::new());
    while let Some(x) = todo.pop() {
        let x = s.graph.find(x);
        if seen.contains(&x) {
            continue;
        }
        seen.push(x);
        if !s.graph[x].data.free.is_disjoint(&AxisSet::of(axes)) {
            let mut sums = s.sums(x);
            sums.push(vec![x]);
            if let Some(rest) = sums.iter().find_map(|of| without(s, terms, of, -scale)) {
                return Some(rest);
            }
        }
        for node in &s.graph[x].nodes {
            match node {
                Term::Reduce(Reduction::Max, over, [of]) if over[..] == *axes => todo.push(*of),
                Term::Max(of) => todo.extend(of),
                _ => {}
            }
        }
    }
    None
}

/// Terms without a multiple of others, if these are among them.
fn without(s: &Search, terms: &[Multiple], of: &[Id], scale: f64) -> Option<Vec<Multiple>> {
    let mut rest = terms.to_vec();
    for &x in of {
        let (c, factors) = multiple(&s.graph, x);
        rest.remove(rest.iter().position(|t| *t == (c * scale, factors.clone()))?);
    }
    Some(rest)
}
