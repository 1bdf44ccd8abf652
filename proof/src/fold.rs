//! When a sum of rescaled blocks may be computed in one pass.
//!
//! `sum[j.o](h(t, y) * q)` with `y = max[j.o] t` can be accumulated while `y` still moves, if moving the reference point
//! twice is moving it once, and not moving it changes nothing: `h(a,a) = 1` and `h(a,b) * h(b,c) = h(a,c)`. Both are
//! decided here over fresh elements, which are positive finite numbers and otherwise arbitrary: the laws that brought a
//! quotient or a difference there demanded as much.

use std::collections::HashMap;

use tilewright_ir::{Reduction, Value};

use crate::laws::COCYCLE;
use crate::normal::Normal;
use crate::rename::replace;
use crate::term::{Id, Node, Piece, Terms};

/// Fresh elements are written as exponentials of tensors that no graph has: positive and finite, as the facts see them.
const FRESH: u32 = u32::MAX / 2;

/// A fresh element.
pub fn element(t: &mut Terms) -> Id {
    let n = t.len() as u32;
    let read = t.add(Node::Read(Value::from_u32(FRESH + n), Vec::new()));
    // A tensor that is its own: only its range matters, and no rule looks inside of a maximum of one with a literal.
    let tiny = t.num(crate::laws::TINY);
    t.add(Node::Max(vec![read, tiny]))
}

/// That `h`, a term over pairs of fresh elements, is a cocycle.
pub fn check(t: &mut Terms, h: Id, pairs: &[(Id, Id)]) -> Result<(), String> {
    if pairs.is_empty() {
        return Err("tracks nothing".into());
    }
    let elements: Vec<Id> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
    if !closed(t, h, &elements, &mut HashMap::new()) {
        return Err("its rescale depends on more than what it tracks".into());
    }
    let third: Vec<Id> = pairs.iter().map(|_| element(t)).collect();
    let at = |t: &mut Terms, first: &dyn Fn(usize) -> Id, second: &dyn Fn(usize) -> Id| {
        let by = pairs.iter().enumerate().flat_map(|(n, &(a, b))| [(a, first(n)), (b, second(n))]).collect();
        replace(t, h, &by)
    };
    let (a, b, c) = (|n: usize| pairs[n].0, |n: usize| pairs[n].1, |n: usize| third[n]);
    let (aa, bc, ac) = (at(t, &a, &a), at(t, &b, &c), at(t, &a, &c));
    let mut normal = Normal::new(COCYCLE);
    let (one, aa) = (t.num(1.0), normal.of(t, aa));
    if aa != one {
        return Err("its rescale from a reference point to itself is not 1".into());
    }
    let chained = t.add(Node::Mul(vec![h, bc]));
    if normal.of(t, chained) != normal.of(t, ac) {
        return Err("rescaling twice is not rescaling once".into());
    }
    Ok(())
}

/// Whether a term holds nothing but the given ones and literals.
fn closed(t: &Terms, id: Id, over: &[Id], memo: &mut HashMap<Id, bool>) -> bool {
    if over.contains(&id) {
        return true;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let node = t.node(id);
    let out = match node {
        Node::Num(_) => true,
        Node::Add(_) | Node::Mul(_) | Node::Unary(..) => {
            node.children().iter().all(|&c| closed(t, c, over, memo))
        }
        _ => false,
    };
    memo.insert(id, out);
    out
}

/// That a fold node is one: its pairs are maxima and their blocks, and its rescale is a cocycle in them.
pub fn check_node(t: &mut Terms, node: &Node) -> Result<(), String> {
    let Node::Fold(j, c) = node else { return Ok(()) };
    let (tracked, []) = c.get(2..).unwrap_or_default().as_chunks::<2>() else {
        return Err("a fold tracks half a pair".into());
    };
    let mut by = HashMap::new();
    let mut pairs = Vec::new();
    let mut normal = Normal::new(crate::laws::PLAN);
    for &[block, whole] in tracked {
        let running = t.add(Node::Reduce(Reduction::Max, vec![Piece::outer(*j)], block));
        if normal.of(t, running) != normal.of(t, whole) {
            return Err("a fold tracks what is no maximum of its blocks".into());
        }
        let pair = (element(t), element(t));
        by.insert(block, pair.0);
        by.insert(whole, pair.1);
        pairs.push(pair);
    }
    let h = replace(t, c[1], &by);
    check(t, h, &pairs)
}
