//! Terms of the search as terms of the checker.
//!
//! Why here: the e-graph's numbers name terms exactly as long as they are not made canonical; both ways are remembered.
//!
//! Post: the very term that a number names, or the number of a term where all of its operands have one.

use egg::{Id, Language};
use tilewright_proof::term::{self, Node, Part as Piecewise, Piece};

use super::Writer;
use crate::algebra::{Part, SubAxis, Term};

impl Writer<'_> {
    /// The very term that a number of the e-graph names.
    pub(super) fn term(&mut self, id: Id) -> term::Id {
        if let Some(&done) = self.terms.get(&id) {
            return done;
        }
        let node = self.graph.id_to_node(id).clone();
        let children: Vec<term::Id> = node.children().iter().map(|&c| self.term(c)).collect();
        let t = self.builder.node(converted(&node, &children));
        self.terms.insert(id, t);
        self.exact.entry(t).or_insert(id);
        t
    }

    /// A node over terms, known to the e-graph as well.
    pub(super) fn over(&mut self, node: &Term, children: &[term::Id]) -> term::Id {
        let t = self.builder.node(converted(node, children));
        if !self.exact.contains_key(&t) {
            let ids: Option<Vec<Id>> = children.iter().map(|c| self.exact.get(c).copied()).collect();
            if let Some(ids) = ids {
                let mut ids = ids.into_iter();
                let id = self.graph.add_uncanonical(node.clone().map_children(|c| ids.next().unwrap_or(c)));
                self.exact.insert(t, id);
                self.terms.insert(id, t);
            }
        }
        t
    }
}

fn piece(a: SubAxis) -> Piece {
    let part = match a.part {
        Part::Whole => Piecewise::Whole,
        Part::Outer => Piecewise::Outer,
        Part::Inner => Piecewise::Inner,
    };
    Piece { axis: a.axis, part }
}

/// The checker's node for one of the search.
pub(super) fn converted(node: &Term, c: &[term::Id]) -> Node {
    let all = c.to_vec();
    match node {
        Term::Num(n) => Node::Num(*n),
        Term::Pos(a) => Node::Pos(*a),
        Term::CutPos(a) => Node::CutPos(*a),
        Term::Size(e) => Node::Size(*e),
        Term::Read(v, _) => Node::Read(*v, all),
        Term::Add(_) => Node::Add(all),
        Term::Mul(_) => Node::Mul(all),
        Term::Max(_) => Node::Max(all),
        Term::Min(_) => Node::Min(all),
        Term::Unary(f, _) => Node::Unary(*f, c[0]),
        Term::Binary(f, _) => Node::Binary(*f, [c[0], c[1]]),
        Term::Select(_) => Node::Select([c[0], c[1], c[2]]),
        Term::Cast(d, _) => Node::Cast(*d, c[0]),
        Term::Reduce(op, pieces, _) => {
            let mut pieces: Vec<Piece> = pieces.iter().map(|&p| piece(p)).collect();
            pieces.sort_unstable();
            Node::Reduce(*op, pieces, c[0])
        }
        Term::Part(a, _) => Node::Part(*a, c[0]),
        Term::Hole => Node::Hole,
        Term::Fold(a, op, _) => Node::Fold(*a, *op, all),
    }
}
