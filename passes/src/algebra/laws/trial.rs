//! Values of classes over fresh elements of a finite field, in which exponentials keep their law.
//!
//! Why here: whether an action composes is an equation between functions of what is tracked, which is tried at random elements.
//! An equation that does not hold is found out but for one case in 2^60.

use std::collections::{BTreeMap, HashMap};

use egg::Id;
use tilewright_ir::eval::{Domain, Field, FieldValue, Sort};
use tilewright_ir::{Binary, Unary};

use super::Search;
use crate::algebra::Term;

const FIELD: Field = Field { key: 0x51ab };

/// Fresh elements, others for each trial. What they stand for is positive and of one size, so that nothing overflows.
pub(super) fn elements(trial: u64) -> impl FnMut() -> FieldValue {
    let mut seed = trial << 32;
    move || {
        seed += 1;
        FIELD.random(1.0 + (seed % 7) as f64 / 8.0, seed)
    }
}

pub(super) fn plus(a: FieldValue, b: FieldValue) -> FieldValue {
    FIELD.binary(Binary::Add, Sort::F64, a, b)
}

pub(super) fn times(a: FieldValue, b: FieldValue) -> FieldValue {
    FIELD.binary(Binary::Mul, Sort::F64, a, b)
}

pub(super) fn is_zero(x: FieldValue) -> bool {
    x.same(&FIELD.num(0.0))
}

pub(super) fn is_one(x: FieldValue) -> bool {
    x.same(&FIELD.num(1.0))
}

/// An element for each tracked pair.
pub(super) fn for_each(tracks: &BTreeMap<Id, Id>, fresh: &mut impl FnMut() -> FieldValue) -> Vec<FieldValue> {
    tracks.iter().map(|_| fresh()).collect()
}

/// What block values and those of all blocks so far are, where the tracked move from the one to the other.
pub(super) fn moving(
    s: &Search,
    tracks: &BTreeMap<Id, Id>,
    from: &[FieldValue],
    to: &[FieldValue],
) -> HashMap<Id, FieldValue> {
    let pairs = tracks.iter().zip(from.iter().zip(to));
    let of = |id: Id| s.graph.find(id);
    pairs.flat_map(|((&block, &whole), (&from, &to))| [(of(block), from), (of(whole), to)]).collect()
}

/// The value of a class over named ones, if it has a term over nothing else.
pub(super) fn value(s: &Search, id: Id, names: &HashMap<Id, FieldValue>) -> Option<FieldValue> {
    of(s, id, names, &mut Vec::new())
}

fn of(s: &Search, id: Id, names: &HashMap<Id, FieldValue>, open: &mut Vec<Id>) -> Option<FieldValue> {
    let id = s.graph.find(id);
    if let Some(&known) = names.get(&id) {
        return Some(known);
    }
    if open.contains(&id) {
        return None;
    }
    open.push(id);
    let found = s.graph[id].nodes.iter().find_map(|node| {
        let mut all = |c: &[Id]| -> Option<Vec<FieldValue>> {
            c.iter().map(|&c| of(s, c, names, open)).collect::<Option<_>>()
        };
        let joined = |all: Vec<FieldValue>, by: Binary| {
            all.into_iter().reduce(|a, b| FIELD.binary(by, Sort::F64, a, b))
        };
        match node {
            Term::Num(x) if x.0.is_finite() => Some(FIELD.num(x.0)),
            Term::Add(c) => joined(all(c)?, Binary::Add),
            Term::Mul(c) => joined(all(c)?, Binary::Mul),
            // The elements are positive: what goes by signs or by size would be decided by that.
            Term::Unary(f, c) if !matches!(f, Unary::Abs | Unary::Floor | Unary::Not) => {
                Some(FIELD.unary(*f, Sort::F64, all(c)?[0]))
            }
            _ => None,
        }
    });
    open.pop();
    found
}
