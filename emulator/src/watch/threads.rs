//! What: what each thread of a block knows, and how it learns: barriers, fences, strong accesses.
//! Why here: happens-before is built from program order, barriers, and release patterns that acquire patterns
//! observe with mutual scopes (PTX memory consistency model, causality order); nothing else adds an edge.
//! Pre: one call per synchronisation, in the order in which the machine performs them.
//! Post: a thread's clock covers exactly what happens before its next access.

use super::clock::Clock;
use crate::inst::Scope;

/// Knowledge of special kinds: what a proxy fence of shared memory followed, the same of global memory, initialised
/// mbarriers that a fence released, and what was executed before (by control alone, without its effects on memory).
pub(crate) const KINDS: usize = 4;
/// The last of them.
pub(crate) const EXECUTED: usize = 3;

/// Knowledge: of accesses, and of those that are known in a special way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) clock: Clock,
    pub(crate) fenced: [Clock; KINDS],
}

impl Known {
    pub(crate) fn join(&mut self, o: &Known) {
        self.clock.join(&o.clock);
        for (a, b) in self.fenced.iter_mut().zip(&o.fenced) {
            a.join(b);
        }
    }
    pub(crate) fn same(&self, o: &Known) -> bool {
        self.clock.same(&o.clock) && self.fenced.iter().zip(&o.fenced).all(|(a, b)| a.same(b))
    }
}

/// A release that a strong write carries.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) known: Known,
    pub(crate) scope: Scope,
    pub(crate) block: u32,
    pub(crate) cluster: u32,
}

/// A thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Thread {
    pub(crate) known: Known,
    /// Everything up to this stamp happens before all that the thread does.
    pub(crate) base: u32,
    /// The last fence, if one was executed: its scope, its stamp and what the thread knew.
    pub(crate) fence: Option<Box<(Scope, u32, Known)>>,
    /// Releases that relaxed reads observed, by the scope that a fence needs to acquire them.
    pub(crate) observed: Option<Box<[Known; 4]>>,
}

impl Thread {
    /// A fence turns what relaxed reads observed into knowledge, and what is known into a release to come.
    pub(crate) fn fence(&mut self, scope: Scope, stamp: u32) {
        if let Some(o) = &mut self.observed {
            for need in [Scope::Cta, Scope::Cluster, Scope::Gpu, Scope::Sys] {
                if need <= scope {
                    let k = std::mem::take(&mut o[need as usize]);
                    self.known.join(&k);
                }
            }
        }
        // A narrower fence does not take back what a wider one before it released.
        match &mut self.fence {
            Some(f) if f.0 > scope => {}
            _ => self.fence = Some(Box::new((scope, stamp, self.known.clone()))),
        }
    }
}

/// The scope that two threads need to hear each other.
pub(crate) fn need(a: (u32, u32), b: (u32, u32)) -> Scope {
    match (a.0 == b.0, a.1 == b.1) {
        (true, _) => Scope::Cta,
        (_, true) => Scope::Cluster,
        _ => Scope::Gpu,
    }
}
