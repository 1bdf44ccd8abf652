//! What: the dotted modifiers of an opcode.
//! Why here: each decoder takes the modifiers that it knows; what is left over is an error, so that an
//! unknown modifier is never ignored.
//! Pre: the opcode text.
//! Post: after decoding, `leftover` is `None`.

use crate::inst::{Order, Scope};
use crate::types::Ty;
use std::cell::Cell;

/// The parts of an opcode after its name.
pub(crate) struct Mods<'a> {
    pub(crate) name: &'a str,
    parts: Vec<(&'a str, Cell<bool>)>,
}

impl<'a> Mods<'a> {
    pub(crate) fn new(op: &'a str) -> Mods<'a> {
        let mut it = op.split('.');
        let name = it.next().unwrap_or("");
        Mods { name, parts: it.map(|p| (p, Cell::new(false))).collect() }
    }
    /// Takes a modifier by name.
    pub(crate) fn has(&self, m: &str) -> bool {
        let mut found = false;
        for (p, used) in &self.parts {
            if *p == m && !used.get() {
                used.set(true);
                found = true;
                break;
            }
        }
        found
    }
    /// Takes the first of several modifiers that is there; the answer is its index.
    pub(crate) fn one_of(&self, names: &[&str]) -> Option<usize> {
        for (p, used) in &self.parts {
            if !used.get()
                && let Some(i) = names.iter().position(|n| n == p)
            {
                used.set(true);
                return Some(i);
            }
        }
        None
    }
    /// Takes all modifiers that satisfy `f`.
    pub(crate) fn take_if(&self, f: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let mut out = vec![];
        for (p, used) in &self.parts {
            if !used.get() && f(p) {
                used.set(true);
                out.push(*p);
            }
        }
        out
    }
    /// Takes all types, in order.
    pub(crate) fn types(&self) -> Vec<Ty> {
        self.take_if(|p| Ty::parse(p).is_some()).into_iter().filter_map(Ty::parse).collect()
    }
    /// Takes the memory scope, if any.
    pub(crate) fn scope(&self) -> Option<Scope> {
        let i = self.one_of(&["cta", "cluster", "gpu", "sys"])?;
        Some([Scope::Cta, Scope::Cluster, Scope::Gpu, Scope::Sys][i])
    }
    /// Takes the memory order, if any.
    pub(crate) fn order(&self) -> Option<Order> {
        let i = self.one_of(&["relaxed", "acquire", "release", "acq_rel"])?;
        Some([Order::Relaxed, Order::Acquire, Order::Release, Order::AcqRel][i])
    }
    /// The first modifier that nobody took.
    pub(crate) fn leftover(&self) -> Option<&'a str> {
        self.parts.iter().find(|(_, used)| !used.get()).map(|(p, _)| *p)
    }
}
