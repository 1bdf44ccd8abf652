//! Places for tiles.
//!
//! What: where operands of a contraction lie in rows that can be read in vectors, it takes them so ([`vectors`]).
//! Contractions prescribe distributions, loads propose coalesced ones, and both spread along maps, reductions
//! and loops ([`assign`]); where an operation then finds an operand elsewhere, a conversion is inserted ([`convert`]).
//! Why here: one pass for all programs; emission afterwards only reads places.
//! Pre: a program whose tiles are all unassigned and which has no conversions.
//! Post: every tile has a place; every operand is where its operation reads it: registers that are compatible with the
//! operation's distribution, or shared memory for the operands of contractions.

mod assign;
pub(crate) mod banks;
mod blocked;
mod check;
mod convert;
pub(crate) mod dot;
mod placed;
pub(crate) mod shared;
mod vectors;

use tilewright_ir::tile::{Op, Place, TileProgram};

use crate::CodegenError;

/// Assigns a place to every tile and inserts the conversions that follow. A program whose tiles all have places is
/// returned as it is.
pub fn assign_layouts(program: &TileProgram) -> Result<TileProgram, CodegenError> {
    check::check(program)?;
    let unassigned = program.tiles.values().filter(|t| t.place == Place::Unassigned).count();
    if unassigned == 0 {
        placed::check(program)?;
        return Ok(program.clone());
    }
    let malformed =
        |what: &str| CodegenError::Malformed { program: program.name.clone(), what: what.to_owned() };
    if unassigned < program.tiles.len() {
        return Err(malformed("some tiles have places and some have not: give all or none"));
    }
    let mut converts = false;
    visit(&program.body, &mut |op| converts |= matches!(op, Op::Convert { .. }));
    if converts {
        return Err(malformed("conversions are inserted here and must not be there before"));
    }
    let program = &vectors::choose(program);
    let out = convert::rewrite(program, &assign::assign(program))?;
    placed::check(&out)?;
    Ok(out)
}

/// Calls `f` on every operation in program order, loops before their bodies.
pub(crate) fn visit<'a>(body: &'a [Op], f: &mut impl FnMut(&'a Op)) {
    for op in body {
        f(op);
        if let Op::Loop { body, .. } = op {
            visit(body, f);
        }
    }
}
