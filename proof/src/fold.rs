//! When a reduction of moved blocks may be computed in one pass.
//!
//! `R[j.o] a(q; t, y)` can be accumulated while what `y` stands for still moves, if moving twice is moving once, and not
//! moving changes nothing. These kinds of action are known, and which one it is is read off the action:
//!
//! - **scale** `v * h`, joined by sums: `h(a,a) = 1` and `h(a,b) * h(b,c) = h(a,c)`;
//! - **keep** `where(t == y, v, 0)`, joined by sums: of `t <= y <= z`, or `t >= y >= z`, the outer two are equal if and only if
//!   `t == y` and `y == z`, so keeping twice is keeping once, and equal ones are kept;
//! - **add** `v + g`, joined by sums, where sums are tracked: `g(a,a) = 0`, and moving two blocks to what they are together
//!   and on is moving each there at once;
//! - several sums at once, each moved to a multiple of itself and of others: see [`linear`];
//! - **choose**, joined by maxima or minima: see [`order`].
//!
//! Those of sums are decided over fresh elements, which are positive finite numbers and otherwise arbitrary: the laws that brought
//! a quotient or a difference there demanded as much.

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Axis, Binary, Reduction, Value};

use crate::fraction::Fraction;
use crate::laws::COCYCLE;
use crate::linear::{self, LINEAR};
use crate::normal::Normal;
use crate::order::{self, ORDER};
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
pub const KEEP: &str = "t == z is t == y and y == z, for maxima t <= y <= z or minima t >= y >= z";

/// The same for what is added to.
pub const ADD: &str = "g(a,a) = 0 and g(a,a+b) + g(b,a+b) + g(a+b,c) = g(a,c) + g(b,c), over fresh elements";

/// What runs along with a fold: maxima, minima or sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// A maximum of the blocks.
    Maxima,
    /// A minimum of the blocks.
    Minima,
    /// A sum of the blocks.
    Sums,
}

/// That a term over [`Node::Hole`] and pairs of fresh elements moves what blocks joined by a sum contribute; the law that
/// says so.
pub fn check(
    t: &mut Terms,
    action: Id,
    pairs: &[(Id, Id)],
    tracked: Tracked,
) -> Result<&'static str, String> {
    if pairs.is_empty() {
        return Err("tracks nothing".into());
    }
    let hole = t.add(Node::Hole);
    match t.node(action).clone() {
        Node::Add(_) if tracked == Tracked::Sums => {
            let (moved, rest): (Vec<Id>, Vec<Id>) = addends(t, action).into_iter().partition(|&x| x == hole);
            if moved.len() != 1 {
                return Err("its action does not add to what it moves".into());
            }
            adds_up(t, &rest, pairs)?;
            Ok(ADD)
        }
        _ if tracked == Tracked::Sums => Err("it tracks sums and adds nothing".into()),
        Node::Select([p, v, d]) if v == hole => {
            keeps(t, p, d, pairs)?;
            Ok(KEEP)
        }
        _ if tracked == Tracked::Minima => {
            Err("it tracks minima and does more than keep what it moves".into())
        }
        Node::Mul(_) => {
            let (moved, rest): (Vec<Id>, Vec<Id>) = factors(t, action).into_iter().partition(|&x| x == hole);
            if moved.len() != 1 {
                return Err("its action does not scale what it moves".into());
            }
            let h = if let [one] = rest[..] { one } else { t.add(Node::Mul(rest)) };
            scales(t, h, pairs)?;
            Ok(SCALE)
        }
        _ => Err("its action neither scales nor keeps nor adds to what it moves".into()),
    }
}

/// That a predicate asks exactly whether tracked values have not moved.
fn keeps(t: &Terms, p: Id, d: Id, pairs: &[(Id, Id)]) -> Result<(), String> {
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
        _ => Err("a sum keeps something else than 0 in place of what moved".into()),
    }
}

/// That `h`, a term over pairs of fresh elements, is a cocycle.
fn scales(t: &mut Terms, h: Id, pairs: &[(Id, Id)]) -> Result<(), String> {
    let elements: Vec<Id> = pairs.iter().flat_map(|&(a, b)| [a, b]).collect();
    if !closed(t, h, &elements, &mut HashMap::default()) {
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

/// The terms of a sum of sums.
fn addends(t: &Terms, id: Id) -> Vec<Id> {
    match t.node(id) {
        Node::Add(c) => c.iter().flat_map(|&c| addends(t, c)).collect(),
        _ => vec![id],
    }
}

/// The factors of a product of products.
fn factors(t: &Terms, id: Id) -> Vec<Id> {
    match t.node(id) {
        Node::Mul(c) => c.iter().flat_map(|&c| factors(t, c)).collect(),
        _ => vec![id],
    }
}

/// That terms over pairs of fresh elements, together, are a change of reference that adds up, what is tracked being sums.
fn adds_up(t: &Terms, terms: &[Id], pairs: &[(Id, Id)]) -> Result<(), String> {
    // Variables: of a block, of another, and of the reference that both are moved to.
    let of = |set: usize| -> Vec<Fraction> {
        (0..pairs.len()).map(|n| Fraction::variable(set * pairs.len() + n)).collect()
    };
    let (a, b, c) = (of(0), of(1), of(2));
    let both: Vec<Fraction> = a.iter().zip(&b).map(|(a, b)| a.add(b)).collect::<Option<_>>().ok_or(WIDE)?;
    let g = |from: &[Fraction], to: &[Fraction]| -> Result<Fraction, String> {
        let by: HashMap<Id, Fraction> = pairs
            .iter()
            .enumerate()
            .flat_map(|(n, &(x, y))| [(x, from[n].clone()), (y, to[n].clone())])
            .collect();
        let mut sum = Fraction::zero();
        for &x in terms {
            sum = sum.add(&Fraction::of(t, x, &by)?).ok_or(WIDE)?;
        }
        Ok(sum)
    };
    if !g(&a, &a)?.is_zero() {
        return Err("not moving adds something".into());
    }
    let stepwise =
        g(&a, &both)?.add(&g(&b, &both)?).and_then(|near| near.add(&g(&both, &c).ok()?)).ok_or(WIDE)?;
    let direct = g(&a, &c)?.add(&g(&b, &c)?).ok_or(WIDE)?;
    match stepwise.equals(&direct) {
        Some(true) => Ok(()),
        Some(false) => Err("moving in two steps is not moving in one".into()),
        None => Err(WIDE.into()),
    }
}

const WIDE: &str = "what it adds is too large a fraction";

/// Whether a term holds nothing but the given ones and literals.
pub(crate) fn closed(t: &Terms, id: Id, over: &[Id], memo: &mut HashMap<Id, bool>) -> bool {
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

/// How blocks are joined of what is tracked: the block's value, and what it is of all blocks.
pub(crate) fn tracked(t: &mut Terms, normal: &mut Normal, j: Axis, [block, all]: [Id; 2]) -> Option<Tracked> {
    if let Node::Fold(axis, op, c) = t.node(all) {
        return (*axis == j && c[0] == block && *op == Reduction::Sum).then_some(Tracked::Sums);
    }
    let whole = normal.of(t, all);
    let kinds = [
        (Reduction::Max, Tracked::Maxima),
        (Reduction::Min, Tracked::Minima),
        (Reduction::Sum, Tracked::Sums),
    ];
    let found = kinds.into_iter().find(|&(op, _)| {
        let running = t.add(Node::Reduce(op, vec![Piece::outer(j)], block));
        normal.of(t, running) == whole
    });
    found.map(|(_, kind)| kind)
}

/// That a fold node is one: its pairs are what runs along and its blocks, and its action may move. The law that says so.
pub fn check_node(t: &mut Terms, node: &Node) -> Result<&'static str, String> {
    let Node::Fold(j, op, c) = node else { return Err("it is no fold".into()) };
    let (paired, []) = c.get(2..).unwrap_or_default().as_chunks::<2>() else {
        return Err("a fold tracks half a pair".into());
    };
    if paired.is_empty() {
        return Err("tracks nothing".into());
    }
    if *op != Reduction::Sum {
        return order::check(t, node).map(|()| ORDER);
    }
    let mut normal = Normal::new(crate::laws::PLAN);
    let kinds: Vec<Option<Tracked>> = paired.iter().map(|&p| tracked(t, &mut normal, *j, p)).collect();
    if linear::applies(t, &kinds, paired) {
        return linear::check(t, node).map(|()| LINEAR);
    }
    let mut by = HashMap::default();
    let mut pairs = Vec::new();
    let mut all = None;
    for (&pair, kind) in paired.iter().zip(kinds) {
        let kind = kind.ok_or("a fold tracks what is neither extreme nor sum of its blocks")?;
        if *all.get_or_insert(kind) != kind {
            return Err("a fold tracks several of maxima, minima and sums".into());
        }
        let fresh = (element(t), element(t));
        by.insert(pair[0], fresh.0);
        by.insert(pair[1], fresh.1);
        pairs.push(fresh);
    }
    let action = replace(t, c[1], &by);
    check(t, action, &pairs, all.unwrap_or(Tracked::Maxima))
}
