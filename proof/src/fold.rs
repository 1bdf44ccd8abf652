//! When a reduction of moved blocks may be computed in one pass.
//!
//! `R[j.o] a(q; t, y)` can be accumulated while what `y` stands for still moves, if moving twice is moving once, and not
//! moving changes nothing. Three kinds of action are known, and which one it is is read off the action:
//!
//! - **scale** `v * h`, joined by sums: `h(a,a) = 1` and `h(a,b) * h(b,c) = h(a,c)`;
//! - **keep** `where(t == y, v, d)`, joined by maxima or minima, or by sums if `d` is 0: of `t <= y <= z` the outer two are
//!   equal if and only if `t == y` and `y == z`, so keeping twice is keeping once, and equal ones are kept.
//!
//! They are decided over fresh elements, which are positive finite numbers and otherwise arbitrary: the laws that brought
//! a quotient or a difference there demanded as much.

use std::collections::HashMap;

use tilewright_ir::{Binary, Reduction, Value};

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

/// What a certificate says of a fold whose action is of one kind.
pub const SCALE: &str = "h(a,a) = 1 and h(a,b) * h(b,c) = h(a,c), over fresh elements";
/// The same for the other kind.
pub const KEEP: &str = "t == z is t == y and y == z, for maxima t <= y <= z";

/// That a term over [`Node::Hole`] and pairs of fresh elements moves what blocks joined by `op` contribute; the law that
/// says so.
pub fn check(t: &mut Terms, op: Reduction, action: Id, pairs: &[(Id, Id)]) -> Result<&'static str, String> {
    if pairs.is_empty() {
        return Err("tracks nothing".into());
    }
    let hole = t.add(Node::Hole);
    match t.node(action).clone() {
        Node::Select([p, v, d]) if v == hole => {
            keeps(t, op, p, d, pairs)?;
            Ok(KEEP)
        }
        Node::Mul(factors) if factors.iter().filter(|&&f| f == hole).count() == 1 => {
            let rest: Vec<Id> = factors.into_iter().filter(|&f| f != hole).collect();
            let h = if let [one] = rest[..] { one } else { t.add(Node::Mul(rest)) };
            if op != Reduction::Sum {
                return Err("what is scaled is not joined by a sum".into());
            }
            scales(t, h, pairs)?;
            Ok(SCALE)
        }
        _ => Err("its action neither scales nor keeps what it moves".into()),
    }
}

/// That a predicate asks exactly whether tracked values have not moved.
fn keeps(t: &Terms, op: Reduction, p: Id, d: Id, pairs: &[(Id, Id)]) -> Result<(), String> {
    let mut todo = vec![p];
    let mut asked = Vec::new();
    while let Some(p) = todo.pop() {
        match t.node(p) {
            Node::Binary(Binary::And, both) => todo.extend(both),
            Node::Binary(Binary::Eq, [a, b]) => {
                let pair = pairs.iter().position(|&(x, y)| (x, y) == (*a, *b) || (x, y) == (*b, *a));
                asked.push(pair.ok_or("it compares what it does not track")?);
            }
            _ => return Err("what it keeps depends on more than whether tracked values have moved".into()),
        }
    }
    if (0..pairs.len()).any(|n| !asked.contains(&n)) {
        return Err("it tracks what it does not ask for".into());
    }
    match t.literal(d) {
        Some(0.0) => Ok(()),
        _ if op == Reduction::Sum => Err("a sum keeps something else than 0 in place of what moved".into()),
        None if !matches!(t.node(d), Node::Size(_)) => {
            Err("what it puts in place of what moved is neither a literal nor an extent".into())
        }
        _ => Ok(()),
    }
}

/// That `h`, a term over pairs of fresh elements, is a cocycle.
fn scales(t: &mut Terms, h: Id, pairs: &[(Id, Id)]) -> Result<(), String> {
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

/// That a fold node is one: its pairs are maxima and their blocks, and its action may move. The law that says so.
pub fn check_node(t: &mut Terms, node: &Node) -> Result<&'static str, String> {
    let Node::Fold(j, op, c) = node else { return Err("it is no fold".into()) };
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
    let action = replace(t, c[1], &by);
    check(t, *op, action, &pairs)
}
