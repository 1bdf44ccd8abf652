//! How deeply a function nests operations.
//!
//! What: the most operations on a way from a result to an input, definitions counted with what reads them.
//! Why here: terms are walked by recursion, here and in all that takes them further, and a chain of some thousands would end
//! the process instead of the compilation.
//!
//! Pre: a verified function; definitions come before what reads them. Post: an error that names the value, if there are too
//! many.

use std::collections::HashMap;

use tilewright_ir::graph::{Def, Function};
use tilewright_ir::{Expr, Value};

use crate::PassError;

/// The most operations that may be nested in one another: what a thread with 2 MiB of stack is sure to walk.
const DEPTH: usize = 512;

/// That no value nests too many operations. `forward`: updates count as what reads them.
pub(super) fn check(function: &Function, forward: bool) -> Result<(), PassError> {
    let mut depths: HashMap<Value, usize> = HashMap::new();
    for (value, data) in &function.values {
        let (expr, seen) = match &data.def {
            Def::Equation(expr) => (expr, true),
            Def::Update { value: expr, .. } => (expr, forward),
            _ => continue,
        };
        let mut deepest = 0;
        let mut todo = vec![(expr, 0)];
        while let Some((e, level)) = todo.pop() {
            // What is defined is there in place of the read.
            let there = match &**e {
                Expr::Read(v, _) => depths.get(v).copied().unwrap_or(1),
                _ => 1,
            };
            deepest = deepest.max(level + there);
            todo.extend(e.children().into_iter().map(|c| (c, level + 1)));
        }
        if deepest > DEPTH {
            return Err(PassError::Limit(format!(
                "`{}` of function `{}` nests more than {DEPTH} operations in one another; make a value on the way the result \
                 of one function and an input of the next",
                data.name, function.name
            )));
        }
        if seen {
            depths.insert(value, deepest);
        }
    }
    Ok(())
}
