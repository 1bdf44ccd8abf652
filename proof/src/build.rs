//! Writing certificates.
//!
//! Why here: whoever has a proof in another form writes it down through this, and learns at once which law a step is an
//! instance of. Nothing here is believed: what comes out is checked like any certificate.

use std::collections::{BTreeMap, BTreeSet};

use crate::cert::{Certificate, NodeRow, Step, StoredRow, row};
use crate::check::{Context, equal, instance};
use crate::laws::LAWS;
use crate::normal::Normal;
use crate::source::declare;
use crate::term::{Id, Node, Terms};
use rustc_hash::FxHashMap as HashMap;

/// A proof that is being written: steps over terms.
pub struct Builder {
    /// The terms.
    pub terms: Terms,
    normals: Vec<Normal>,
    steps: Vec<Step>,
    known: HashMap<(Id, Id), u32>,
}

/// An equality that was proved, or none for a term and itself.
pub type Proof = Option<u32>;

impl Builder {
    /// For the terms of a plan.
    pub fn new(context: Context<'_>) -> Builder {
        let mut terms = Terms::default();
        declare(&mut terms, &context.plan.axes, &context.plan.values, context.symbols);
        Builder {
            terms,
            normals: LAWS.iter().map(|l| Normal::new(l.rules)).collect(),
            steps: Vec::new(),
            known: HashMap::default(),
        }
    }

    /// A node; operands of sums, products and extremes are sorted.
    pub fn node(&mut self, mut node: Node) -> Id {
        if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut node {
            c.sort_unstable();
        }
        if let Node::Max(c) | Node::Min(c) = &mut node {
            c.dedup();
        }
        self.terms.add(node)
    }

    fn push(&mut self, step: Step) -> u32 {
        let n = self.steps.len() as u32;
        self.known.insert(step.sides(), n);
        self.steps.push(step);
        n
    }

    /// Both sides of an equality.
    pub fn sides(&self, proof: u32) -> (Id, Id) {
        self.steps[proof as usize].sides()
    }

    /// An equality that was proved before.
    pub fn known(&self, l: Id, r: Id) -> Option<Proof> {
        if l == r { Some(None) } else { self.known.get(&(l, r)).map(|&n| Some(n)) }
    }

    /// Whether the sides are equal by some law modulo premises; its place in the table. The law that `hint` names, and
    /// plain normal forms, are tried first.
    pub fn finds(&mut self, hint: &str, l: Id, r: Id, premises: &[(Id, Id)]) -> Option<usize> {
        (0..LAWS.len()).find(|&n| {
            (n == 0 || LAWS[n].name == hint || premises.is_empty())
                && equal(&mut self.terms, &mut self.normals, n, l, r, premises)
        })
    }

    /// A step by a law, modulo proofs; unneeded ones are dropped. None if no law of the table says so.
    pub fn law(&mut self, hint: &str, l: Id, r: Id, proofs: &[u32]) -> Option<Proof> {
        if let Some(known) = self.known(l, r) {
            return Some(known);
        }
        let mut proofs = proofs.to_vec();
        proofs.sort_unstable();
        proofs.dedup();
        let all = |b: &Builder, p: &[u32]| -> Vec<(Id, Id)> { p.iter().map(|&n| b.sides(n)).collect() };
        let pairs = all(self, &proofs);
        (0..LAWS.len()).find(|&n| {
            (n == 0 || LAWS[n].name == hint || pairs.is_empty())
                && equal(&mut self.terms, &mut self.normals, n, l, r, &pairs)
        })?;
        let mut at = 0;
        while at < proofs.len() {
            let mut fewer = proofs.clone();
            fewer.remove(at);
            let pairs = all(self, &fewer);
            if (0..LAWS.len()).any(|n| {
                (n == 0 || LAWS[n].name == hint) && equal(&mut self.terms, &mut self.normals, n, l, r, &pairs)
            }) {
                proofs = fewer;
            } else {
                at += 1;
            }
        }
        let pairs = all(self, &proofs);
        let position =
            (0..LAWS.len()).find(|&n| equal(&mut self.terms, &mut self.normals, n, l, r, &pairs))?;
        self.instance(position, l, r, &pairs, proofs)
    }

    /// A step by a law of which it is an instance modulo equalities; `premises` are what it refers to.
    fn instance(
        &mut self,
        position: usize,
        l: Id,
        r: Id,
        equal: &[(Id, Id)],
        premises: Vec<u32>,
    ) -> Option<Proof> {
        instance(&mut self.terms, &mut self.normals, position, l, r, equal).ok()?;
        let law = LAWS[position].name.to_owned();
        Some(Some(self.push(Step::Law { law, lhs: l, rhs: r, premises })))
    }

    /// A step that makes `r` a fold of `l`, or the other way round, which is what its block value is a part of by the proof.
    pub fn fold(&mut self, l: Id, r: Id, whole: u32) -> Option<Proof> {
        if let Some(known) = self.known(l, r) {
            return Some(known);
        }
        let position = LAWS.iter().position(|law| law.name == "fold")?;
        // Its premise says that it is a fold, and not that the two are equal.
        self.instance(position, l, r, &[], vec![whole])
    }

    /// A step by congruence: `l` and `r` are one operation, on operands that are equal by the proofs in order of `l`'s.
    pub fn congruence(&mut self, l: Id, r: Id, children: &[Proof]) -> Proof {
        if let Some(known) = self.known(l, r) {
            return known;
        }
        let children: Vec<u32> = children.iter().copied().flatten().collect();
        Some(self.push(Step::Congruence { lhs: l, rhs: r, children }))
    }

    /// One equality after the other, without detours.
    pub fn chain(&mut self, parts: &[Proof]) -> Proof {
        let mut flat: Vec<u32> = Vec::new();
        for p in parts.iter().copied().flatten() {
            match &self.steps[p as usize] {
                Step::Chain { steps, .. } => flat.extend(steps),
                _ => flat.push(p),
            }
        }
        // Where a chain comes back to a term, what lies between is left out.
        let mut short: Vec<u32> = Vec::new();
        for p in flat {
            let to = self.sides(p).1;
            match short.iter().position(|&s| self.sides(s).0 == to) {
                Some(n) => short.truncate(n),
                None => short.push(p),
            }
        }
        let (first, last) = (*short.first()?, *short.last()?);
        if short.len() == 1 {
            return Some(first);
        }
        let (l, r) = (self.sides(first).0, self.sides(last).1);
        if let Some(known) = self.known(l, r) {
            return known;
        }
        Some(self.push(Step::Chain { lhs: l, rhs: r, steps: short }))
    }

    /// The certificate of an equality, with what it needs and nothing else; what follows is filled in by
    /// [`crate::check::Checker::seal`].
    pub fn finish(&self, source: Id, result: Id, proof: Proof, stored: Vec<StoredRow>) -> Certificate {
        let mut steps: BTreeSet<u32> = proof.into_iter().collect();
        for n in (0..self.steps.len() as u32).rev() {
            if steps.contains(&n) {
                steps.extend(self.steps[n as usize].uses().iter().copied());
            }
        }
        let mut ids: BTreeSet<Id> = BTreeSet::from([source, result]);
        for &n in &steps {
            let (l, r) = self.sides(n);
            ids.extend([l, r]);
        }
        for id in (0..self.terms.len() as Id).rev() {
            if ids.contains(&id) {
                ids.extend(self.terms.node(id).children().iter().copied());
            }
        }
        let (rows, nodes) = self.table(&ids);
        let numbers: BTreeMap<u32, u32> = steps.iter().enumerate().map(|(n, &s)| (s, n as u32)).collect();
        let list = |l: &[u32]| -> Vec<u32> { l.iter().map(|s| numbers[s]).collect() };
        let steps = steps
            .iter()
            .map(|&s| match self.steps[s as usize].clone() {
                Step::Law { law, lhs, rhs, premises } => {
                    Step::Law { law, lhs: rows[&lhs], rhs: rows[&rhs], premises: list(&premises) }
                }
                Step::Congruence { lhs, rhs, mut children } => {
                    if commutes(self.terms.node(lhs)) {
                        children.sort_by_key(|&n| {
                            let (l, r) = self.sides(n);
                            (rows[&l], rows[&r])
                        });
                    }
                    Step::Congruence { lhs: rows[&lhs], rhs: rows[&rhs], children: list(&children) }
                }
                Step::Chain { lhs, rhs, steps } => {
                    Step::Chain { lhs: rows[&lhs], rhs: rows[&rhs], steps: list(&steps) }
                }
            })
            .collect();
        Certificate {
            nodes,
            source: rows[&source],
            result: rows[&result],
            steps,
            stored,
            ..Certificate::default()
        }
    }

    /// Nodes as rows in the order of certificates: by depth, then by spelling.
    fn table(&self, ids: &BTreeSet<Id>) -> (BTreeMap<Id, u32>, Vec<NodeRow>) {
        let mut depths: BTreeMap<Id, u32> = BTreeMap::new();
        let mut levels: BTreeMap<u32, Vec<Id>> = BTreeMap::new();
        for &id in ids {
            let depth = self.terms.node(id).children().iter().map(|c| depths[c] + 1).max().unwrap_or(0);
            depths.insert(id, depth);
            levels.entry(depth).or_default().push(id);
        }
        let (mut rows, mut nodes) = (BTreeMap::new(), Vec::new());
        for level in levels.into_values() {
            let mut spelled: Vec<(NodeRow, Id)> = level
                .into_iter()
                .map(|id| {
                    let mut node = self.terms.node(id).clone().map(|c| rows[&c]);
                    if let Node::Add(c) | Node::Mul(c) | Node::Max(c) | Node::Min(c) = &mut node {
                        c.sort_unstable();
                    }
                    (row(&node), id)
                })
                .collect();
            spelled.sort();
            for (row, id) in spelled {
                rows.insert(id, nodes.len() as u32);
                nodes.push(row);
            }
        }
        (rows, nodes)
    }
}

fn commutes(node: &Node) -> bool {
    matches!(node, Node::Add(_) | Node::Mul(_) | Node::Max(_) | Node::Min(_))
}
