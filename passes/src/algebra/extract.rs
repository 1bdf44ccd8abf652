//! Choosing one term per class.
//!
//! What is cheapest ([`super::costs`]) is taken from the roots on, and what folds track in the form in which it runs along.
//!
//! Only nodes that [`super::stable`] allows are taken, and of those in a class one that is no risk, whatever it costs.
//!
//! Post: acyclic, no `part` markers, free axes of every chosen term within those of its class.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::Axis;

use super::costs::{Sizes, cheapest};
use super::dag::{as_child, child};
use super::ingest::Ingested;
use super::stable::{Legal, acting, cancels, risky};
use super::{Dag, Graph, NodeId, SubAxis, Term};
use crate::PassError;

/// The chosen nodes that are a risk or where digits cancel: the source asks for them. Rescales of folds do not count: they are made from maxima
/// that are guarded.
pub fn risks(ingested: &Ingested, dag: &Dag) -> Vec<NodeId> {
    let g = &ingested.graph;
    let mut seen = BTreeSet::new();
    let mut todo = dag.roots.clone();
    let mut found = Vec::new();
    while let Some(n) = todo.pop() {
        if !seen.insert(n) {
            continue;
        }
        let term = &dag.nodes[n].term;
        let of_classes = term.clone().map_children(|c| dag.nodes[child(c)].class);
        if risky(g, g.find(dag.nodes[n].class), &of_classes) || cancels(g, &of_classes) {
            found.push(n);
        }
        match term {
            Term::Fold(_, _, c) => {
                let rest = c.iter().enumerate().filter(|(at, _)| *at != 1);
                todo.extend(rest.map(|(_, &c)| child(c)));
            }
            _ => todo.extend(dag.children(n)),
        }
    }
    found
}

/// Chooses terms for the roots. See the module.
pub fn extract(ingested: &Ingested, sizes: &Sizes) -> Result<Dag, PassError> {
    let g = &ingested.graph;
    let legal = Legal::of(ingested);
    let mut choice = cheapest(g, &legal, sizes);
    // What a chosen fold tracks is available as a running value: take it in that form.
    let (mut seen, mut tracked) = (Vec::new(), BTreeSet::new());
    let mut todo: Vec<Id> = ingested.roots.iter().map(|r| g.find(r.class)).collect();
    while let Some(id) = todo.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let Some(term) = choice.get(&id).cloned() else { continue };
        if let Term::Fold(j, _, c) = &term {
            for pair in c[2..].chunks(2) {
                let (t, y) = (g.find(pair[0]), g.find(pair[1]));
                // Where several folds track it in different ways, the first of them decides, and the others have their own.
                if tracked.insert(y) && !choice.get(&y).is_some_and(|n| runs(g, n, *j, t)) {
                    choice.insert(y, running(g, y, *j, t)?.clone());
                    seen.retain(|&id| id != y);
                }
            }
        }
        todo.extend(term.children().iter().map(|&c| g.find(c)));
    }
    let chosen = Chosen { legal: &legal, g, choice };
    let mut dag = Dag::default();
    let mut made = Made::default();
    for root in &ingested.roots {
        let n = chosen.build(g.find(root.class), &mut dag, &mut made)?;
        dag.roots.push(n);
    }
    Ok(dag)
}

/// Whether a term is what runs along with a fold over `j` that tracks the block value `t`: its extreme or sum over blocks, or a
/// fold of the same block values.
fn runs(g: &Graph, term: &Term, j: Axis, t: Id) -> bool {
    match term {
        Term::Reduce(_, a, [x]) => a[..] == [SubAxis::outer(j)] && g.find(*x) == t,
        Term::Fold(a, _, c) => *a == j && g.find(c[0]) == t,
        _ => false,
    }
}

/// The term of a class that runs along, a reduction before a fold.
fn running(g: &Graph, y: Id, j: Axis, t: Id) -> Result<&Term, PassError> {
    let all = g[y].nodes.iter().filter(|n| runs(g, n, j, t));
    let found = all.min_by_key(|n| matches!(n, Term::Fold(..)));
    found.ok_or_else(|| PassError::Bug("a fold tracks what does not run".into()))
}

/// Nodes of the extracted term that were made.
#[derive(Default)]
struct Made {
    /// By class; nothing for those that are being made.
    of: HashMap<Id, Option<NodeId>>,
    /// What folds track in another form than is chosen for its class, by that and by the axis and the block value.
    running: HashMap<(Id, Axis, Id), NodeId>,
    /// Parts of actions, which may differ from what is chosen for their classes: folds share them.
    moved: HashMap<Term, NodeId>,
}

/// A term of the class over the tracked classes, the moved value and literals alone.
fn over(
    legal: &Legal,
    g: &Graph,
    id: Id,
    tracked: &HashMap<Id, NodeId>,
    dag: &mut Dag,
    made: &mut Made,
    known: &mut HashMap<Id, Option<NodeId>>,
) -> Option<NodeId> {
    if let Some(&n) = tracked.get(&id) {
        return Some(n);
    }
    if let Some(&done) = known.get(&id) {
        return done;
    }
    known.insert(id, None);
    let found = legal.of_class(id).find_map(|node| {
        if !acting(node) {
            return None;
        }
        let children: Option<Vec<NodeId>> =
            node.children().iter().map(|&c| over(legal, g, g.find(c), tracked, dag, made, known)).collect();
        let mut children = children?.into_iter();
        let term = node.clone().map_children(|c| children.next().map_or(c, as_child));
        Some(*made.moved.entry(term).or_insert_with_key(|t| dag.push(t.clone(), id, g[id].data.kind)))
    });
    known.insert(id, found);
    found
}

/// What is chosen of an e-graph, and how it is read.
struct Chosen<'a> {
    legal: &'a Legal,
    g: &'a Graph,
    choice: HashMap<Id, Term>,
}

impl Chosen<'_> {
    fn build(&self, id: Id, dag: &mut Dag, made: &mut Made) -> Result<NodeId, PassError> {
        match made.of.get(&id) {
            Some(Some(n)) => return Ok(*n),
            Some(None) => return Err(PassError::Bug("the extracted term is cyclic".into())),
            None => {}
        }
        made.of.insert(id, None);
        let n = self.node(id, self.of(id)?, dag, made)?;
        made.of.insert(id, Some(n));
        Ok(n)
    }

    fn of(&self, id: Id) -> Result<&Term, PassError> {
        self.choice.get(&id).ok_or_else(|| PassError::Bug(format!("no term was chosen for class {id}")))
    }

    /// What a fold over `j` tracks of a class, of all blocks.
    fn tracked(&self, y: Id, j: Axis, t: Id, dag: &mut Dag, made: &mut Made) -> Result<NodeId, PassError> {
        if runs(self.g, self.of(y)?, j, t) {
            return self.build(y, dag, made);
        }
        if let Some(&n) = made.running.get(&(y, j, t)) {
            return Ok(n);
        }
        let n = self.node(y, running(self.g, y, j, t)?, dag, made)?;
        made.running.insert((y, j, t), n);
        Ok(n)
    }

    /// A node for a term of a class.
    fn node(&self, id: Id, term: &Term, dag: &mut Dag, made: &mut Made) -> Result<NodeId, PassError> {
        let g = self.g;
        if let Term::Fold(j, op, c) = term {
            // The action must be a term over what the fold tracks, to be evaluated at other pairs of values; the children
            // come out as nodes below.
            let mut pairs = Vec::new();
            let mut names = HashMap::new();
            for pair in c[2..].chunks(2) {
                let (t, y) = (g.find(pair[0]), g.find(pair[1]));
                for (class, n) in [(t, self.build(t, dag, made)?), (y, self.tracked(y, *j, t, dag, made)?)] {
                    names.insert(class, n);
                    pairs.push(as_child(n));
                }
            }
            let h = over(self.legal, g, g.find(c[1]), &names, dag, made, &mut HashMap::new())
                .ok_or_else(|| PassError::Bug("an action has no term over what it tracks".into()))?;
            let q = self.build(g.find(c[0]), dag, made)?;
            let children = [as_child(q), as_child(h)].into_iter().chain(pairs).collect();
            return Ok(dag.push(Term::Fold(*j, *op, children), id, g[id].data.kind));
        }
        let mut failed = None;
        let term = term.clone().map_children(|c| match self.build(g.find(c), dag, made) {
            Ok(n) => as_child(n),
            Err(e) => {
                failed.get_or_insert(e);
                c
            }
        });
        if let Some(e) = failed {
            return Err(e);
        }
        let n = dag.push(term, id, g[id].data.kind);
        // A class may hold a term that mentions an axis on which its value does not depend; a parent that binds no such
        // axis would leave it dangling.
        let known = super::dag::whole(g[id].data.free);
        if !dag.nodes[n].free.is_subset(&known) {
            return Err(PassError::Bug(format!("the term chosen for class {id} has dangling axes")));
        }
        Ok(n)
    }
}
