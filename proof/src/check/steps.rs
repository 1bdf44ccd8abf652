//! The steps of a certificate.
//!
//! Why here: each step says that two terms are equal, by a law or by congruence or transitivity, and refers to earlier steps
//! only. What must be true of all laws that an equality follows from is tracked along.
//!
//! Pre: the terms of the nodes. Post: every step follows from those before it, says what none of them says, and is referred to,
//! as every node is; which folds they say to be folds is noted.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet as HashSet;

use super::{Checker, Refusal, instance};
use crate::cert::{Certificate, Step};
use crate::laws::{LAWS, PLAIN, law};
use crate::rename::restrictable;
use crate::term::{Id, Node, Terms};
use crate::together;

impl Checker<'_> {
    /// Checks the steps; the laws with the number of steps of each.
    pub(super) fn steps(&mut self, c: &Certificate, ids: &[Id]) -> Result<BTreeMap<String, usize>, Refusal> {
        let mut laws = BTreeMap::new();
        let mut pairs = HashSet::default();
        let mut derived = Vec::new();
        let mut scope = Scope::default();
        for (at, step) in c.steps.iter().enumerate() {
            let bad = |reason: &str| Refusal::Step { at, reason: reason.to_owned() };
            let (lhs, rhs) = step.sides();
            let (Some(&l), Some(&r)) = (ids.get(lhs as usize), ids.get(rhs as usize)) else {
                return Err(bad("is about nodes that do not exist"));
            };
            if lhs == rhs || !pairs.insert((lhs, rhs)) {
                return Err(bad("says nothing new"));
            }
            if step.uses().iter().any(|&u| u as usize >= at) {
                return Err(bad("refers to what does not come before it"));
            }
            let earlier = |n: &u32| c.steps[*n as usize].sides();
            match step {
                Step::Law { law: name, premises, .. } => {
                    let Some(position) = LAWS.iter().position(|l| l.name == name) else {
                        return Err(Refusal::UnknownLaw { at, law: name.clone() });
                    };
                    if !premises.is_sorted_by(|a, b| a < b) {
                        return Err(bad("has premises out of order"));
                    }
                    let mut equal: Vec<(Id, Id)> = premises
                        .iter()
                        .map(earlier)
                        .map(|(a, b)| (ids[a as usize], ids[b as usize]))
                        .collect();
                    if let ("fold", [premise]) = (name.as_str(), &premises[..]) {
                        let fold = together::premise(&mut self.terms, equal[0], (l, r))
                            .and_then(|fold| match fold {
                                Some(_) if !scope.everywhere[*premise as usize] => {
                                    Err("its premise does not hold for all blocks".into())
                                }
                                _ => Ok(fold),
                            })
                            .map_err(|e| bad(&format!("`{name}`: {e}")))?;
                        if let Some(fold) = fold {
                            derived.push(fold);
                            equal.clear();
                        }
                    }
                    instance(&mut self.terms, &mut self.normals, position, l, r, &equal)
                        .map_err(|e| bad(&format!("`{name}`: {e}")))?;
                    *laws.entry(name.clone()).or_default() += 1;
                }
                Step::Congruence { children, .. } => {
                    let equal: Vec<(Id, Id)> = children
                        .iter()
                        .map(earlier)
                        .map(|(a, b)| (ids[a as usize], ids[b as usize]))
                        .collect();
                    if equal.is_empty() || !congruent(&self.terms, l, r, &equal) {
                        return Err(bad("the two sides do not differ by the given equalities"));
                    }
                    let sorted = children.iter().map(earlier).collect::<Vec<_>>();
                    let commutes = matches!(
                        self.terms.node(l),
                        Node::Add(_) | Node::Mul(_) | Node::Max(_) | Node::Min(_)
                    );
                    if commutes && !sorted.is_sorted() {
                        return Err(bad("its equalities are out of order"));
                    }
                    if let Node::Part(j, a) = *self.terms.node(l) {
                        let Node::Part(_, b) = *self.terms.node(r) else {
                            return Err(bad("a part is no part"));
                        };
                        let uniform = children.iter().all(|&u| scope.uniform[u as usize]);
                        let restricted = [a, b].iter().all(|&x| restrictable(&self.terms, x, j));
                        if !uniform || !restricted {
                            return Err(bad(
                                "equal terms have equal parts only if no law looks at the extent",
                            ));
                        }
                    }
                }
                Step::Chain { steps, .. } => {
                    let mut here = lhs;
                    for (n, s) in steps.iter().enumerate() {
                        if matches!(c.steps[*s as usize], Step::Chain { .. }) {
                            return Err(bad("a chain within a chain"));
                        }
                        let (from, to) = earlier(s);
                        let again = steps[..n].iter().any(|e| earlier(e).0 == to);
                        if from != here || again {
                            return Err(bad("is broken"));
                        }
                        here = to;
                    }
                    if here != rhs || steps.len() < 2 {
                        return Err(bad("does not end where it says"));
                    }
                }
            }
            scope.add(step);
        }
        let sides = c.steps.iter().map(Step::sides);
        let equal = sides.zip(scope.everywhere).filter(|(_, holds)| *holds);
        let equal = equal.map(|((l, r), _)| (ids[l as usize], ids[r as usize]));
        self.folds = together::folds(&mut self.terms, ids, &derived, equal).into_iter().collect();
        Ok(laws)
    }

    /// That every step and every node is referred to.
    pub(super) fn all_used(&self, c: &Certificate) -> Result<(), Refusal> {
        // Whatever is referred to is there: that was checked.
        let mut steps = vec![false; c.steps.len()];
        c.steps.iter().flat_map(Step::uses).for_each(|&n| steps[n as usize] = true);
        if let Some(last) = steps.last_mut() {
            *last = true;
        }
        if let Some(at) = steps.iter().position(|used| !used) {
            return Err(Refusal::Step { at, reason: "nothing refers to it".into() });
        }
        let mut nodes = vec![false; c.nodes.len()];
        let sides = c.steps.iter().flat_map(|s| <[u32; 2]>::from(s.sides()));
        let rows = c.nodes.iter().flat_map(|n| n.args.iter().copied());
        rows.chain(sides).chain([c.source, c.result]).for_each(|n| nodes[n as usize] = true);
        match nodes.iter().position(|used| !used) {
            Some(at) => Err(Refusal::Node { at, reason: "nothing refers to it".into() }),
            None => Ok(()),
        }
    }
}

/// Whether two nodes are the same operation on operands that are equal by the given equalities, each used once.
fn congruent(t: &Terms, l: Id, r: Id, equal: &[(Id, Id)]) -> bool {
    let (a, b) = (t.node(l), t.node(r));
    if !a.same_head(b) {
        return false;
    }
    match a {
        Node::Add(_) | Node::Mul(_) | Node::Max(_) | Node::Min(_) => {
            let (mut left, mut right) = (a.children().to_vec(), b.children().to_vec());
            for (x, y) in equal {
                let (Some(m), Some(n)) =
                    (left.iter().position(|c| c == x), right.iter().position(|c| c == y))
                else {
                    return false;
                };
                left.remove(m);
                right.remove(n);
            }
            left.sort_unstable();
            right.sort_unstable();
            left == right
        }
        _ => {
            let mut given = equal.iter();
            let all =
                a.children().iter().zip(b.children()).all(|(x, y)| x == y || given.next() == Some(&(*x, *y)));
            all && given.next().is_none()
        }
    }
}

/// What is true of each equality because it is true of every law that it follows from.
#[derive(Default)]
struct Scope {
    /// No law looks at the extent of an axis.
    uniform: Vec<bool>,
    /// All laws hold for any consecutive positions of an axis, however they are cut.
    everywhere: Vec<bool>,
}

impl Scope {
    /// Adds the next step, which uses earlier ones.
    fn add(&mut self, step: &Step) {
        let of = match step {
            Step::Law { law: name, .. } => law(name),
            _ => law(PLAIN),
        };
        let all = |known: &[bool]| step.uses().iter().all(|&u| known[u as usize]);
        let uniform = of.is_some_and(|l| l.uniform) && all(&self.uniform);
        let everywhere = of.is_some_and(|l| l.everywhere) && all(&self.everywhere);
        self.uniform.push(uniform);
        self.everywhere.push(everywhere);
    }
}
