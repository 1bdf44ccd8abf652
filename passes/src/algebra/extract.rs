//! Choosing one term per class.
//!
//! What is cheapest ([`super::costs`]) is taken from the roots on, and what folds track in the form in which it runs along.
//!
//! Only nodes that [`super::stable`] allows are taken, and of those in a class one that is no risk, whatever it costs.
//!
//! Post: acyclic, no `part` markers, free axes of every chosen term within those of its class.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};

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
    let mut seen = Vec::new();
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
                let running = |n: &&Term| match n {
                    Term::Reduce(_, a, [x]) => a[..] == [SubAxis::outer(*j)] && g.find(*x) == t,
                    _ => false,
                };
                // A fold of the same block values runs as well.
                let follows = |n: &&Term| matches!(n, Term::Fold(a, _, c) if a == j && g.find(c[0]) == t);
                if choice.get(&y).is_some_and(|n| follows(&n)) {
                    continue;
                }
                let found = g[y].nodes.iter().find(running).or_else(|| g[y].nodes.iter().find(follows));
                let found = found.ok_or_else(|| PassError::Bug("a fold tracks what does not run".into()))?;
                choice.insert(y, found.clone());
            }
        }
        todo.extend(term.children().iter().map(|&c| g.find(c)));
    }
    let mut dag = Dag::default();
    let mut made = Made::default();
    for root in &ingested.roots {
        let n = build(&legal, g, &choice, g.find(root.class), &mut dag, &mut made)?;
        dag.roots.push(n);
    }
    Ok(dag)
}

/// Nodes of the extracted term that were made.
#[derive(Default)]
struct Made {
    /// By class; nothing for those that are being made.
    of: HashMap<Id, Option<NodeId>>,
    /// Parts of actions, which may differ from what is chosen for their classes: folds share them.
    moved: HashMap<Term, NodeId>,
}

/// A term of the class over the tracked classes, the moved value and literals alone.
fn over(
    legal: &Legal,
    g: &Graph,
    id: Id,
    tracked: &[Id],
    dag: &mut Dag,
    made: &mut Made,
    known: &mut HashMap<Id, Option<NodeId>>,
) -> Option<NodeId> {
    if tracked.contains(&id) {
        return made.of.get(&id).copied().flatten();
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

fn build(
    legal: &Legal,
    g: &Graph,
    choice: &HashMap<Id, Term>,
    id: Id,
    dag: &mut Dag,
    made: &mut Made,
) -> Result<NodeId, PassError> {
    match made.of.get(&id) {
        Some(Some(n)) => return Ok(*n),
        Some(None) => return Err(PassError::Bug("the extracted term is cyclic".into())),
        None => {}
    }
    made.of.insert(id, None);
    let Some(term) = choice.get(&id) else {
        return Err(PassError::Bug(format!("no term was chosen for class {id}")));
    };
    let mut failed = None;
    let mut term = term.clone();
    if let Term::Fold(_, _, c) = &mut term {
        // The action must be a term over what the fold tracks, to be evaluated at other pairs of values; the children
        // come out as nodes below.
        let tracked: Vec<Id> = c[2..].iter().map(|&t| g.find(t)).collect();
        for &t in &tracked {
            build(legal, g, choice, t, dag, made)?;
        }
        let h = over(legal, g, g.find(c[1]), &tracked, dag, made, &mut HashMap::new())
            .ok_or_else(|| PassError::Bug("an action has no term over what it tracks".into()))?;
        let q = build(legal, g, choice, g.find(c[0]), dag, made)?;
        let mut children = vec![as_child(q), as_child(h)];
        for &t in &tracked {
            children.push(as_child(build(legal, g, choice, t, dag, made)?));
        }
        let Term::Fold(a, op, _) = term else { return Err(PassError::Bug("a fold is no fold".into())) };
        let n = dag.push(Term::Fold(a, op, children.into()), id, g[id].data.kind);
        made.of.insert(id, Some(n));
        return Ok(n);
    }
    let term = term.map_children(|c| match build(legal, g, choice, g.find(c), dag, made) {
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
    // A class may hold a term that mentions an axis on which its value does not depend; a parent that binds no such axis
    // would leave it dangling.
    let known = super::dag::whole(g[id].data.free);
    if !dag.nodes[n].free.is_subset(&known) {
        return Err(PassError::Bug(format!("the term chosen for class {id} has dangling axes")));
    }
    made.of.insert(id, Some(n));
    Ok(n)
}
