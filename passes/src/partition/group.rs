//! Grouping the factors of summed products.
//!
//! An n-ary product under a sum mixes what was computed before (factors that hold reductions) with plain reads. Factors
//! that hold reductions and span the same axes are one quantity: they are gathered so that it can be cut off and stored.

use std::collections::{BTreeSet, HashMap};

use egg::{Id, Language};
use tilewright_ir::{Reduction, Unary};

use crate::algebra::costs::Sizes;
use crate::algebra::dag::{NO_CLASS, as_child, child};
use crate::algebra::{AxisSet, Dag, Graph, NodeId, Term};

/// Whether a subterm holds a reduction over more than a block. Indexed like the nodes.
pub fn heavy(dag: &Dag) -> Vec<bool> {
    let mut out = Vec::new();
    for (n, node) in &dag.nodes {
        let own = matches!(node.term, Term::Reduce(..) | Term::Fold(..));
        out.push(own || dag.children(n).any(|c| out[c.as_u32() as usize]));
    }
    out
}

/// Gathers operands. Returns the new term, of reachable nodes only; the old one is not changed.
pub fn group(dag: &Dag, graph: &Graph, sizes: &Sizes) -> Dag {
    let mut reachable = BTreeSet::new();
    let mut todo = dag.roots.clone();
    while let Some(n) = todo.pop() {
        if reachable.insert(n) {
            todo.extend(dag.children(n));
        }
    }
    let mut g = Grouper {
        dag,
        graph,
        sizes,
        heavy: heavy(dag),
        reachable,
        out: Dag::default(),
        memo: HashMap::new(),
    };
    let roots: Vec<NodeId> = dag.roots.iter().map(|&r| g.build(r)).collect();
    g.out.roots = roots;
    g.out
}

struct Grouper<'a> {
    dag: &'a Dag,
    graph: &'a Graph,
    sizes: &'a Sizes,
    heavy: Vec<bool>,
    reachable: BTreeSet<NodeId>,
    out: Dag,
    memo: HashMap<NodeId, NodeId>,
}

impl Grouper<'_> {
    fn is_heavy(&self, n: NodeId) -> bool {
        self.heavy[n.as_u32() as usize]
    }

    fn build(&mut self, n: NodeId) -> NodeId {
        if let Some(&done) = self.memo.get(&n) {
            return done;
        }
        let node = &self.dag.nodes[n];
        let term = match &node.term {
            Term::Add(_) | Term::Mul(_) => self.share(n),
            Term::Reduce(Reduction::Sum, axes, [body])
                if matches!(self.dag.nodes[child(*body)].term, Term::Mul(_)) =>
            {
                let body = self.gather(child(*body));
                Term::Reduce(Reduction::Sum, axes.clone(), [as_child(body)])
            }
            other => {
                let children: Vec<NodeId> = self.dag.children(n).map(|c| self.build(c)).collect();
                let mut children = children.into_iter();
                other.clone().map_children(|c| children.next().map_or(c, as_child))
            }
        };
        let built = self.out.push(term, node.class, node.kind);
        self.memo.insert(n, built);
        built
    }

    /// An n-ary operation, with operands that are another operation of the term replaced by that one: `a + b + c` beside
    /// `a + b` becomes `(a + b) + c`, so that what is stored once is also used.
    fn share(&mut self, n: NodeId) -> Term {
        let dag = self.dag;
        let own: Vec<Id> = dag.nodes[n].term.children().to_vec();
        let sum = matches!(dag.nodes[n].term, Term::Add(_));
        let without = |all: &[Id], some: &[Id]| -> Option<Vec<Id>> {
            let mut rest = all.to_vec();
            for s in some {
                let at = rest.iter().position(|r| r == s)?;
                rest.remove(at);
            }
            (!rest.is_empty()).then_some(rest)
        };
        let inner = self
            .reachable
            .iter()
            .copied()
            .filter(|&m| m != n && self.is_heavy(m))
            .filter(|&m| match &dag.nodes[m].term {
                Term::Add(_) => sum,
                Term::Mul(_) => !sum,
                _ => false,
            })
            .filter_map(|m| Some((m, without(&own, dag.nodes[m].term.children())?)))
            .min_by_key(|(m, rest)| (rest.len(), *m));
        let mut children: Vec<Id> = match inner {
            Some((m, rest)) => {
                let mut all: Vec<Id> = rest.into_iter().map(|c| as_child(self.build(child(c)))).collect();
                all.push(as_child(self.build(m)));
                all
            }
            None => own.into_iter().map(|c| as_child(self.build(child(c)))).collect(),
        };
        children.sort_unstable();
        if sum { Term::Add(children.into()) } else { Term::Mul(children.into()) }
    }

    /// The body of a sum, with factors that hold reductions and span the same axes gathered.
    fn gather(&mut self, body: NodeId) -> NodeId {
        let dag = self.dag;
        let node = &dag.nodes[body];
        let factors: Vec<NodeId> = dag.children(body).collect();
        let (mut work, plain): (Vec<NodeId>, Vec<NodeId>) = factors.iter().partition(|&&f| self.is_heavy(f));
        // Widest first, so that a factor over fewer axes joins the first that spans them.
        let size = |f: NodeId| self.sizes.product(&dag.nodes[f].free);
        work.sort_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
        let mut groups: Vec<(AxisSet, Vec<NodeId>)> = Vec::new();
        for f in work {
            let free = dag.nodes[f].free;
            match groups.iter_mut().find(|(g, _)| free.is_subset(g)) {
                Some((_, members)) => members.push(f),
                None => groups.push((free, vec![f])),
            }
        }
        // Inverses alone are no quantity: their product overflows where the quotients that they belong to do not.
        let inverse = |m: &NodeId| matches!(dag.nodes[*m].term, Term::Unary(Unary::Inv, _));
        let (apart, mut groups): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|(_, members)| members.iter().all(inverse));
        for (free, members) in apart {
            groups.extend(members.into_iter().map(|m| (free, vec![m])));
        }
        if groups.iter().all(|(_, m)| m.len() == 1) || (groups.len() == 1 && plain.is_empty()) {
            return self.build(body);
        }
        let mut all: Vec<Id> = plain.into_iter().map(|f| as_child(self.build(f))).collect();
        for (_, members) in groups {
            let mut classes: Vec<Id> = members.iter().map(|&m| dag.nodes[m].class).collect();
            classes.sort_unstable();
            let class = match members.len() {
                1 => None,
                _ => {
                    Some(self.graph.lookup(Term::Mul(classes.into())).unwrap_or(Id::from(NO_CLASS as usize)))
                }
            };
            let kind = dag.nodes[members[0]].kind;
            let mut ids: Vec<Id> = members.into_iter().map(|m| as_child(self.build(m))).collect();
            ids.sort_unstable();
            all.push(match class {
                None => ids[0],
                Some(class) => as_child(self.out.push(Term::Mul(ids.into()), class, kind)),
            });
        }
        all.sort_unstable();
        self.out.push(Term::Mul(all.into()), node.class, node.kind)
    }
}
