//! Whether an action that chooses may follow what it tracks.
//!
//! Why here: such an action compares and chooses and does nothing else (`actions`), so that what it makes of numbers depends only
//! on how they are ordered. There are finitely many orders of the numbers of three blocks. They are gone through as far as they
//! matter: a comparison that what is known of an order (`known`) does not decide splits it into those in which it is less, equal
//! and greater. So the conditions are decided, and not tried (`conditions`).
//!
//! Pre: the fold's node. Post: never a wrong answer; too many orders are refused.

mod actions;
mod conditions;
mod known;
mod orders;
mod positions;

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::{Axis, Reduction};

use actions::{Place, closed};
use orders::Element;
pub(crate) use positions::{beside, position};

use crate::normal::Normal;
use crate::term::{Id, Node, Piece, Terms};

/// What a certificate says of a fold whose action is of this kind.
pub const ORDER: &str = "moving in two steps is moving in one, and nothing yet leaves all as it is, for all orders of what is tracked";

/// The same where the derivation says so.
pub const TOGETHER: &str = "blocks that are moved together are what they are together, for all blocks, and nothing yet leaves all as it is";

/// A number of each block: the term of the block, how blocks are joined, and what moves it.
struct Component {
    block: Id,
    op: Reduction,
    action: Option<(Id, HashMap<Id, Place>)>,
}

type State = Vec<Element>;

/// The components of a fold, each after those that it tracks, and the fold last.
struct System<'a> {
    t: &'a mut Terms,
    j: Axis,
    hole: Id,
    components: Vec<Component>,
    /// Elements that stand in terms.
    constants: HashMap<Id, Element>,
}

/// That the action of a fold node that joins maxima or minima may follow what the fold tracks.
pub fn check(t: &mut Terms, node: &Node) -> Result<(), String> {
    let Node::Fold(j, op, c) = node else { return Err("it is no fold".into()) };
    if *op == Reduction::Sum {
        return Err("what chooses is not joined by a sum".into());
    }
    let hole = t.add(Node::Hole);
    let mut s = System { t, j: *j, hole, components: Vec::new(), constants: HashMap::default() };
    s.add(c[0], *op, Some((c[1], &c[2..])), 0)?;
    let start = s.start(3)?;
    s.decide(start, &[System::stays, System::joins, System::steps])
}

/// That the action of a fold node only chooses among what the fold tracks, and that nothing yet leaves what it is joined with as
/// it is. What a derivation does not say: it is about blocks that have positions.
pub fn starts(t: &mut Terms, node: &Node) -> Result<(), String> {
    let Node::Fold(j, op, c) = node else { return Err("it is no fold".into()) };
    let hole = t.add(Node::Hole);
    let mut s = System { t, j: *j, hole, components: Vec::new(), constants: HashMap::default() };
    let mut places = HashMap::default();
    for (n, pair) in c[2..].chunks(2).enumerate() {
        let [t, y] = *pair else { return Err("a fold tracks half a pair".into()) };
        let op = s.runs(t, y)?.0;
        s.components.push(Component { block: t, op, action: None });
        places.extend([(t, Place::From(n)), (y, Place::To(n))]);
    }
    if !closed(s.t, c[1], hole, &places, &mut HashMap::default()) {
        return Err("its action does more than compare and choose among what it tracks".into());
    }
    s.components.push(Component { block: c[0], op: *op, action: Some((c[1], places)) });
    let start = s.start(1)?;
    s.decide(start, &[System::begins])
}

impl System<'_> {
    /// Adds a component after what it tracks; its number.
    fn add(
        &mut self,
        block: Id,
        op: Reduction,
        moves: Option<(Id, &[Id])>,
        depth: usize,
    ) -> Result<usize, String> {
        if depth > 64 {
            return Err("it tracks what tracks too much".into());
        }
        let action = match moves {
            None => None,
            Some((action, tracked)) => {
                let mut places = HashMap::default();
                for pair in tracked.chunks(2) {
                    let [t, y] = *pair else { return Err("a fold tracks half a pair".into()) };
                    let at = self.tracked(t, y, depth + 1)?;
                    places.insert(t, Place::From(at));
                    places.insert(y, Place::To(at));
                }
                if !closed(self.t, action, self.hole, &places, &mut HashMap::default()) {
                    return Err("its action does more than compare and choose among what it tracks".into());
                }
                Some((action, places))
            }
        };
        self.components.push(Component { block, op, action });
        Ok(self.components.len() - 1)
    }

    /// How blocks are joined of what is tracked, and the operands of the fold that it is, if it is one.
    fn runs(&mut self, block: Id, y: Id) -> Result<(Reduction, Option<Vec<Id>>), String> {
        Ok(match self.t.node(y).clone() {
            Node::Fold(a, op, c) if a == self.j && c[0] == block => {
                if op == Reduction::Sum {
                    return Err("what chooses tracks a sum".into());
                }
                (op, Some(c))
            }
            _ => {
                let mut normal = Normal::new(crate::laws::PLAN);
                let whole = normal.of(self.t, y);
                let mut runs = |op: Reduction| {
                    let running = self.t.add(Node::Reduce(op, vec![Piece::outer(self.j)], block));
                    normal.of(self.t, running) == whole
                };
                let op = [Reduction::Max, Reduction::Min].into_iter().find(|&op| runs(op));
                (op.ok_or("a fold tracks what is no extreme of its blocks")?, None)
            }
        })
    }

    /// The component of a pair of a block value and what it is of all blocks.
    fn tracked(&mut self, block: Id, y: Id, depth: usize) -> Result<usize, String> {
        let (op, moves) = self.runs(block, y)?;
        let same = |c: &Component| {
            c.block == block && c.op == op && c.action.as_ref().map(|a| a.0) == moves.as_ref().map(|c| c[1])
        };
        match self.components.iter().position(same) {
            Some(at) => Ok(at),
            None => self.add(block, op, moves.as_ref().map(|c| (c[1], &c[2..])), depth),
        }
    }
}
