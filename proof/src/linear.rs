//! Folds of sums that move with one another.
//!
//! Why here: `sum[j] exp(x - m) * (x - m)` cannot be moved to another `m` by itself: what it becomes is a multiple of it and a
//! multiple of `sum[j] exp(x - m)`, which moves too. So what moves is a vector: the fold's own value `v` and the sums `l` that
//! it tracks beside maxima. It may be accumulated if moving it is linear, if not moving changes nothing, and if moving twice,
//! each sum by its own action, is moving once: what was joined at one reference is then what would have been joined at any other.
//! That is decided over fresh elements.
//!
//! Pre: the fold's node. Post: the sums that it tracks are folds that may move, or are sums of their blocks; nothing in the action
//! is of all blocks but maxima.

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Axis, Reduction};

use crate::fold::{Tracked, check_node, closed, element, tracked};
use crate::laws::{LINEAR as RULES, PLAN};
use crate::normal::Normal;
use crate::rename::replace;
use crate::term::{Id, Node, Terms};

/// What a certificate says of a fold whose action is of this kind.
pub const LINEAR: &str = "a(v, l) is linear, a(v, l; a, a) = v and a(a(v, l; a, b), l'; b, c) = a(v, l; a, c), l' being l moved from \
                          a to b, over fresh elements";

/// The most sums that are tracked: each may be a fold over those before it, which are looked at again.
const SUMS: usize = 8;

/// A sum that is tracked: its block value, and its own action if it has one.
struct Sum {
    block: Id,
    action: Option<Id>,
}

/// What is tracked.
struct System {
    hole: Id,
    /// Block values of maxima, and these of all blocks.
    maxima: Vec<(Id, Id)>,
    sums: Vec<Sum>,
}

/// Values of what an action is over.
#[derive(Clone)]
struct State {
    v: Id,
    sums: Vec<Id>,
}

/// Whether a fold tracks sums beside extremes, or sums that are folds.
pub(crate) fn applies(t: &Terms, kinds: &[Option<Tracked>], pairs: &[[Id; 2]]) -> bool {
    let sums = kinds.contains(&Some(Tracked::Sums));
    let folds = pairs.iter().any(|&[_, y]| matches!(t.node(y), Node::Fold(..)));
    sums && (folds || kinds.iter().any(|k| *k != Some(Tracked::Sums)))
}

/// That the action of such a fold may move what blocks contribute.
pub(crate) fn check(t: &mut Terms, node: &Node) -> Result<(), String> {
    let Node::Fold(j, Reduction::Sum, c) = node else { return Err("it is no fold of a sum".into()) };
    let (pairs, []) = c.get(2..).unwrap_or_default().as_chunks::<2>() else {
        return Err("a fold tracks half a pair".into());
    };
    let s = System::of(t, *j, pairs)?;
    let fresh = |t: &mut Terms, n: usize| -> Vec<Id> { (0..n).map(|_| element(t)).collect() };
    let [a, b, c3] = [(); 3].map(|()| fresh(t, s.maxima.len()));
    let [one, other] = [(); 2].map(|()| State { v: element(t), sums: fresh(t, s.sums.len()) });
    let moved = s.moved(t, c[1], &one, &a, &b);
    let over: Vec<Id> = a.iter().chain(&b).chain(&one.sums).chain([&one.v]).copied().collect();
    if !closed(t, moved, &over, &mut HashMap::default()) {
        return Err("its action depends on more than maxima and the block values of sums".into());
    }
    let mut normal = Normal::new(RULES);
    let mut same = |t: &mut Terms, x: Id, y: Id| normal.of(t, x) == normal.of(t, y);
    // What each of the vector becomes, as a function of it.
    let own = s.sums.iter().enumerate().filter_map(|(n, sum)| Some((Some(n), sum.action?)));
    for (at, action) in own.chain([(None, c[1])]) {
        let of = |state: &State| match at {
            Some(n) => State { v: state.sums[n], ..state.clone() },
            None => state.clone(),
        };
        let plus = |t: &mut Terms, x: Id, y: Id| t.add(Node::Add(vec![x, y]));
        let sums = one.sums.iter().zip(&other.sums).map(|(&x, &y)| plus(t, x, y)).collect();
        let both = State { v: plus(t, one.v, other.v), sums };
        let parts = [&one, &other].map(|x| s.moved(t, action, &of(x), &a, &b));
        let (together, apart) = (s.moved(t, action, &of(&both), &a, &b), plus(t, parts[0], parts[1]));
        if !same(t, together, apart) {
            return Err("its action is not linear".into());
        }
    }
    let still = s.moved(t, c[1], &one, &a, &a);
    if !same(t, still, one.v) {
        return Err("not moving changes something".into());
    }
    let sums = s.sums.iter().zip(&one.sums).map(|(sum, &l)| match sum.action {
        Some(action) => s.moved(t, action, &State { v: l, ..one.clone() }, &a, &b),
        None => l,
    });
    let near = State { v: moved, sums: sums.collect() };
    let (twice, once) = (s.moved(t, c[1], &near, &b, &c3), s.moved(t, c[1], &one, &a, &c3));
    if !same(t, twice, once) {
        return Err("moving twice is not moving once".into());
    }
    Ok(())
}

impl System {
    fn of(t: &mut Terms, j: Axis, pairs: &[[Id; 2]]) -> Result<System, String> {
        let mut s = System { hole: t.add(Node::Hole), maxima: Vec::new(), sums: Vec::new() };
        let mut folds = Vec::new();
        let mut normal = Normal::new(PLAN);
        for &[block, y] in pairs {
            match tracked(t, &mut normal, j, [block, y]) {
                Some(Tracked::Maxima) => s.maxima.push((block, y)),
                Some(Tracked::Sums) => {
                    let node = t.node(y).clone();
                    let action = if let Node::Fold(_, _, c) = &node { Some(c[1]) } else { None };
                    s.sums.push(Sum { block, action });
                    folds.extend(action.map(|_| node));
                }
                _ => return Err("it tracks what is neither a maximum nor a sum of its blocks".into()),
            }
        }
        if s.sums.len() > SUMS {
            return Err("it tracks too many sums".into());
        }
        if s.maxima.is_empty() {
            return Err("it tracks sums that move, and nothing that they follow".into());
        }
        for node in folds {
            let Node::Fold(_, _, c) = &node else { continue };
            let known = |pair: &[Id; 2]| pairs.contains(pair);
            if !c[2..].as_chunks::<2>().0.iter().all(known) {
                return Err("a sum that it tracks follows what it does not".into());
            }
            check_node(t, &node)?;
        }
        Ok(s)
    }

    /// What an action makes of a state that moves from one reference to another.
    fn moved(&self, t: &mut Terms, action: Id, state: &State, from: &[Id], to: &[Id]) -> Id {
        let mut by = HashMap::from_iter([(self.hole, state.v)]);
        for (n, &(block, whole)) in self.maxima.iter().enumerate() {
            by.extend([(block, from[n]), (whole, to[n])]);
        }
        by.extend(self.sums.iter().zip(&state.sums).map(|(sum, &l)| (sum.block, l)));
        replace(t, action, &by)
    }
}
