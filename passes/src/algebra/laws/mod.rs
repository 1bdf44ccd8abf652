//! The law table.
//!
//! A law is an equation between terms with its conditions. It is legal by construction: whoever applies it cannot
//! produce an unequal term, whatever the rest of the graph holds. No law names a function where a property will do
//! (`f(a+b) = f(a) f(b)` is a property), and no left side has both a reduction and its own maximum.

mod additive;
pub mod blocks;
pub mod choices;
pub mod construct;
pub mod folds;
mod linear;
pub mod logs;
pub mod maxima;
pub mod means;
mod ordered;
mod positions;
mod relative;
pub mod shift;
pub mod sums;
mod trial;
pub mod weights;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use egg::Id;
use tilewright_ir::{Axis, Extent, Unary};

use super::{AxisSet, Graph, Term};

/// A law.
pub struct Law {
    /// Its name in derivations.
    pub name: &'static str,
    /// The equation.
    pub statement: &'static str,
    /// When it holds.
    pub conditions: &'static str,
    /// Applies the law to every node of a class.
    pub(crate) apply: fn(&mut Search, Id, &Term),
}

/// All laws, in the order in which they are tried.
pub const LAWS: &[Law] = &[
    sums::ASSOC,
    sums::FACT,
    sums::SWAP,
    sums::DIST,
    logs::LOG,
    maxima::MAX_SCALE,
    maxima::MAX_BINARY,
    choices::FACT,
    choices::CASES,
    blocks::SPLIT,
    blocks::PART,
    shift::GUARD_SHIFT,
    shift::GUARD_SCALE,
    shift::SHIFT,
    shift::SCALE,
    shift::COMPARE,
    shift::PLACE,
    means::SHIFT,
    means::CENTRE,
    sums::LIN,
    weights::COLLECT,
    folds::FOLD,
];

/// Functions with `f(a + b) = f(a) * f(b)`.
pub const HOMOMORPHISMS: [Unary; 2] = [Unary::Exp, Unary::Exp2];

/// The lowest finite number that every real dtype of the compiler represents as finite.
pub const LOWEST: f64 = -3.402_823_466_385_288_6e38;
/// The smallest positive normal f32.
pub const TINY: f64 = 1.175_494_350_822_287_5e-38;

/// The state of a search: the e-graph, and what laws remember between iterations.
pub struct Search {
    /// The e-graph.
    pub graph: Graph,
    /// Axes worth cutting into blocks.
    pub cascades: Vec<Axis>,
    /// The extents of all axes.
    pub(crate) extents: BTreeMap<Axis, Extent>,
    /// Those along which something is a maximum or a minimum: what follows it from block to block are block values.
    pub(crate) extremes: Vec<Axis>,
    /// Axes so short that a block holds them whole: a reduction over them costs no pass.
    pub(crate) resident: AxisSet,
    /// `part[j] e` for the terms that have one: the term that says so, whose class is what it is.
    pub(crate) parts: HashMap<(Axis, Id), Id>,
    /// Assumptions that laws made, readable.
    pub assumptions: BTreeSet<String>,
    /// Laws that may not be used.
    pub disabled: Vec<String>,
    /// The term that the law at work was matched on.
    pub(crate) subject: Id,
    /// How many pairs of classes each law found equal.
    pub(crate) unions: BTreeMap<&'static str, usize>,
}

impl Search {
    /// Records that the two terms are equal by the named law. The class of the matched term stands for that term.
    pub(crate) fn equate(&mut self, a: Id, b: Id, law: &'static str) {
        debug_assert!(self.enabled(law), "`{law}` may not be used");
        let a = if self.graph.find(a) == self.graph.find(self.subject) { self.subject } else { a };
        if self.graph.find(a) != self.graph.find(b) {
            self.graph.union_trusted(a, b, law);
            *self.unions.entry(law).or_default() += 1;
        }
    }

    /// The matched term is `node` with its child number `n` written as `inner`: derivations then show how that child came to
    /// be so.
    pub(crate) fn matched(&mut self, node: &Term, n: usize, inner: Term) {
        self.matched_all(node, &[(n, inner)]);
    }

    /// The same for several children.
    pub(crate) fn matched_all(&mut self, node: &Term, written: &[(usize, Term)]) {
        let mut outer = node.clone();
        for (n, term) in written {
            egg::Language::children_mut(&mut outer)[*n] = self.graph.add_uncanonical(term.clone());
        }
        self.subject = self.graph.add_uncanonical(outer);
    }

    /// How many pairs of classes were found equal.
    pub(crate) fn found(&self) -> usize {
        self.unions.values().sum()
    }

    /// The operands of each product that a class is known to be.
    pub(crate) fn products(&self, class: Id) -> Vec<Vec<Id>> {
        let operands = |n: &Term| if let Term::Mul(c) = n { Some(c.to_vec()) } else { None };
        self.graph[class].nodes.iter().filter_map(operands).collect()
    }

    /// The operands of each sum that a class is known to be.
    pub(crate) fn sums(&self, class: Id) -> Vec<Vec<Id>> {
        let operands = |n: &Term| if let Term::Add(c) = n { Some(c.to_vec()) } else { None };
        self.graph[class].nodes.iter().filter_map(operands).collect()
    }

    /// Whether the law may be used.
    pub fn enabled(&self, law: &str) -> bool {
        !self.disabled.iter().any(|d| d == law)
    }
}
