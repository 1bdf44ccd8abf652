//! Whether two terms are equal by a law.
//!
//! Why here: the checker and whoever writes certificates ask the same, so that what is written is accepted.
//!
//! Pre: premises were proved before; a normaliser per law of the table. Post: what the law assumed is noted in its
//! normaliser.

use crate::laws::{LAWS, PLAIN};
use crate::normal::Normal;
use crate::term::{Id, Terms};

/// Whether two terms are equal by a law modulo premises, and by no earlier law of the table, and not without one of the
/// premises.
pub(crate) fn instance(
    t: &mut Terms,
    normals: &mut [Normal],
    position: usize,
    l: Id,
    r: Id,
    premises: &[(Id, Id)],
) -> Result<(), String> {
    if !equal(t, normals, position, l, r, premises) {
        return Err("the two sides have different normal forms".into());
    }
    if let Some(n) = (0..position).find(|&n| equal(t, normals, n, l, r, premises)) {
        let what = if LAWS[n].name == PLAIN { "no law is needed" } else { LAWS[n].name };
        return Err(format!("follows from less: {what}"));
    }
    for n in 0..premises.len() {
        let mut fewer = premises.to_vec();
        fewer.remove(n);
        if equal(t, normals, position, l, r, &fewer) {
            return Err("a premise is not needed".into());
        }
    }
    Ok(())
}

/// Whether two terms have one normal form under the rules of a law.
pub(crate) fn equal(
    t: &mut Terms,
    normals: &mut [Normal],
    position: usize,
    l: Id,
    r: Id,
    premises: &[(Id, Id)],
) -> bool {
    if premises.is_empty() {
        let n = &mut normals[position];
        if n.apart(t, l, r) {
            return false;
        }
        return n.of(t, l) == n.of(t, r);
    }
    let mut n = Normal::modulo(LAWS[position].rules, premises);
    let same = n.of(t, l) == n.of(t, r);
    normals[position].assumptions.append(&mut n.assumptions);
    same
}
