//! What an update writes, read as it was computed.
//!
//! What: an element of a state after an update is what the update writes there, if it writes there, and what the state held
//! before otherwise. Read so, it waits for no kernel that stores it.
//! Why here: the search must see through the update as it sees through equations; which update writes an element, and where,
//! is known as long as there are indices.
//!
//! Pre: each element is written by at most one position, which follows from the index ([`written`]), and the index is within
//! the state. Where that is not known the state is read back. Post: a choice whose condition holds exactly where the update
//! writes; what is computed where it holds reads nothing outside of the domain.

use tilewright_ir::graph::Def;
use tilewright_ir::written::written;
use tilewright_ir::{Binary, Value};

use super::{Builder, Env, construct};
use crate::PassError;
use crate::algebra::Term;
use egg::Id;

impl Builder<'_> {
    /// An element of a state after an update, by what the update writes.
    pub(super) fn forwarded(&mut self, update: Value, index: &[Id]) -> Result<Option<Id>, PassError> {
        let data = &self.function.values[update];
        let Def::Update { of, value, .. } = &data.def else { return Ok(None) };
        let Some(w) = written(&self.function.axes, &self.function.values, update) else { return Ok(None) };
        if self.inside(&data.axes, index).is_some() {
            return Ok(None);
        }
        let mut env = Env::new();
        for s in &w.sources {
            let mut at = index[s.dim];
            if let Some(offset) = &s.offset {
                let offset = self.expr(offset, &env)?;
                let minus = construct::neg(&mut self.graph, offset);
                at = construct::add(&mut self.graph, vec![at, minus]);
            }
            env.push((s.axis, at));
        }
        let (axes, at): (Vec<_>, Vec<_>) = env.iter().copied().unzip();
        let mut test = self.inside(&axes, &at);
        for only in &w.only {
            let only = self.expr(only, &env)?;
            test = Some(match test {
                None => only,
                Some(before) => self.graph.add(Term::Binary(Binary::And, [before, only])),
            });
        }
        // Where the condition holds these positions exist.
        let known = self.exist.len();
        self.exist.extend(env.iter().map(|&(axis, id)| (id, self.axes[axis].extent)));
        let new = self.expr(value, &env);
        self.exist.truncate(known);
        let (new, old) = (new?, self.value(*of, index)?);
        self.forwards = true;
        Ok(Some(match test {
            None => new,
            Some(test) => self.graph.add(Term::Select([test, new, old])),
        }))
    }
}
