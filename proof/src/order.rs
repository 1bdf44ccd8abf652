//! Whether an action that chooses may follow what it tracks.
//!
//! Why here: such an action compares and chooses and does nothing else, so that what it makes of numbers depends only on how
//! they are ordered. There are finitely many orders of the numbers of three blocks. They are gone through as far as they
//! matter: a comparison that what is known of an order does not decide splits it into those in which it is less, equal and
//! greater. So the conditions are decided, and not tried:
//!
//! - not moving changes nothing;
//! - moving two blocks to what they are together, and that to what it is with a third, is moving each there at once;
//! - nothing yet, moved, leaves what it is joined with as it is.
//!
//! What is known beforehand: ranges; that positions of different blocks differ, unless they stand for none; that there is a
//! position of the largest; and which maxima are of less than others.
//!
//! Pre: the fold's node. Post: never a wrong answer; too many orders are refused.

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tilewright_ir::{Axis, Binary, Extent, Reduction, Unary};

use crate::normal::Normal;
use crate::term::{Id, Node, Piece, Terms};

/// What a certificate says of a fold whose action is of this kind.
pub const ORDER: &str = "moving in two steps is moving in one, and nothing yet leaves all as it is, for all orders of what is tracked";

/// The same where the derivation says so.
pub const TOGETHER: &str = "blocks that are moved together are what they are together, for all blocks, and nothing yet leaves all as it is";

/// The most orders that are looked at.
const ORDERS: usize = 100_000;

/// Whether a condition holds in an order: what is wrong if not, or what must be known first.
type Held = Result<Result<(), &'static str>, Open>;

/// Nothing, if it holds, and else what is wrong.
fn or(holds: bool, wrong: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(wrong) }
}

/// What is wrong where something comes out of nothing.
const HIDDEN: &str = "what was not there yet shows";

/// Less, equal and greater, as members of a set.
const LESS: u8 = 1;
const SAME: u8 = 2;
const MORE: u8 = 4;
const ANY: u8 = 7;

/// An element: a number of one of the blocks, or one that stands in the terms.
type Element = usize;

/// What must be known to go on: how two elements compare.
struct Open(Element, Element);

/// A number of each block: the term of the block, how blocks are joined, and what moves it.
struct Component {
    block: Id,
    op: Reduction,
    action: Option<(Id, HashMap<Id, Place>)>,
}

/// What a leaf of an action is.
#[derive(Clone, Copy)]
enum Place {
    /// Where it is moved from.
    From(usize),
    /// Where it is moved to.
    To(usize),
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

    /// Elements, and all that is known of their order beforehand.
    fn start(&mut self, blocks: usize) -> Result<Orders, String> {
        let m = self.components.len();
        let mut elements = blocks * m;
        let mut numbers: Vec<Id> = [f64::NEG_INFINITY, f64::INFINITY].map(|x| self.t.num(x)).to_vec();
        for c in &self.components {
            let mut todo: Vec<Id> = c.action.iter().map(|a| a.0).collect();
            let mut seen = HashSet::default();
            while let Some(x) = todo.pop() {
                if !seen.insert(x) || c.action.as_ref().is_some_and(|a| a.1.contains_key(&x)) {
                    continue;
                }
                match self.t.node(x) {
                    Node::Num(_) | Node::Size(_) => numbers.push(x),
                    other => todo.extend(other.children()),
                }
            }
        }
        let places: Vec<Option<Chosen>> =
            self.components.iter().map(|c| chosen(self.t, c.block, self.j)).collect();
        numbers.extend(places.iter().flatten().filter_map(|p| p.none));
        for n in numbers {
            self.constants.entry(n).or_insert_with(|| {
                elements += 1;
                elements - 1
            });
        }
        let mut out = Orders::new(elements);
        let constants: Vec<(Id, Element)> = self.constants.iter().map(|(&id, &e)| (id, e)).collect();
        for &(a, at) in &constants {
            for &(b, to) in &constants {
                out.know(at, to, self.numbers(a, b))?;
            }
        }
        for (k, c) in self.components.iter().enumerate() {
            for block in 0..blocks {
                for &(n, at) in &constants {
                    let mut known = self.against(c.block, n);
                    if let Some(p) = &places[k] {
                        known &= self.position_against(p, n);
                    }
                    out.know(block * m + k, at, known)?;
                }
                for (n, d) in self.components.iter().enumerate() {
                    if n != k && less(self.t, c.block, d.block, self.j) {
                        out.know(block * m + k, block * m + n, LESS | SAME)?;
                    }
                    let (Some(p), Some(q)) = (&places[k], &places[n]) else { continue };
                    for other in (0..blocks).filter(|&o| o != block) {
                        let (a, b) = (block * m + k, other * m + n);
                        match p.none.filter(|_| p.none == q.none) {
                            Some(none) => out.apart.push((a, b, self.constants[&none])),
                            None => out.know(a, b, LESS | MORE)?,
                        }
                    }
                }
            }
        }
        out.settle(Vec::new()).then_some(out).ok_or_else(|| "what it tracks is nothing".into())
    }

    /// How two numbers of terms compare.
    fn numbers(&self, a: Id, b: Id) -> u8 {
        if a == b {
            return SAME;
        }
        match (self.t.literal(a), self.t.literal(b)) {
            (Some(x), Some(y)) if x < y => LESS,
            (Some(x), Some(y)) if x > y => MORE,
            (Some(_), Some(_)) => SAME,
            (Some(x), None) if x < self.least(b) => LESS,
            (None, Some(y)) if y < self.least(a) => MORE,
            (Some(x), None) if x == f64::INFINITY => MORE,
            (None, Some(y)) if y == f64::INFINITY => LESS,
            _ => ANY,
        }
    }

    /// The least that an extent may be.
    fn least(&self, id: Id) -> f64 {
        match self.t.node(id) {
            Node::Size(Extent::Const(n)) => *n as f64,
            Node::Size(Extent::Sym(s)) => self.t.least.get(s).map_or(0.0, |&n| n as f64),
            _ => f64::NEG_INFINITY,
        }
    }

    /// How a term compares with a number, by its range.
    fn against(&self, term: Id, number: Id) -> u8 {
        let known = self.t.facts(term);
        let Some(x) = self.t.literal(number) else { return ANY };
        let mut out = ANY;
        if known.lo > x || (x == f64::NEG_INFINITY && known.above) {
            out &= MORE;
        } else if known.lo >= x {
            out &= MORE | SAME;
        }
        if known.hi < x || (x == f64::INFINITY && known.below) {
            out &= LESS;
        } else if known.hi <= x {
            out &= LESS | SAME;
        }
        out
    }

    /// How a chosen position compares with a number that is none.
    fn position_against(&self, p: &Chosen, number: Id) -> u8 {
        let Some(side) = beside(self.t, number, self.j) else { return ANY };
        match p.none {
            Some(none) if none == number => side | SAME,
            // The one that stands for none may be beyond.
            Some(none) if beside(self.t, none, self.j) != Some(side) => side,
            Some(_) => ANY,
            None => side,
        }
    }

    /// Goes through all orders, for each condition through those that matter to it.
    fn decide(&self, start: Orders, conditions: &[fn(&Self, &Orders) -> Held]) -> Result<(), String> {
        let mut todo: Vec<(usize, Orders)> =
            (0..conditions.len()).rev().map(|n| (n, start.clone())).collect();
        let mut seen = 0;
        while let Some((n, o)) = todo.pop() {
            seen += 1;
            if seen > ORDERS {
                return Err("there are too many orders of what it tracks".into());
            }
            match conditions[n](self, &o) {
                Ok(Ok(())) => {}
                Ok(Err(wrong)) => return Err(wrong.into()),
                Err(Open(a, b)) => {
                    for r in [LESS, SAME, MORE] {
                        if o.of(a, b) & r != 0 {
                            let mut next = o.clone();
                            if next.refine(a, b, r) {
                                todo.push((n, next));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn block(&self, n: usize) -> State {
        let m = self.components.len();
        (n * m..(n + 1) * m).collect()
    }

    /// What becomes of the fold itself.
    fn at(&self, o: &Orders, from: &State, to: &State) -> Result<Element, Open> {
        self.moved(o, self.components.len() - 1, from, to)
    }

    fn join(&self, o: &Orders, x: Element, y: Element) -> Result<Element, Open> {
        self.joined(o, self.components.len() - 1, x, y)
    }

    /// Whether not moving changes nothing.
    fn stays(&self, o: &Orders) -> Held {
        let a = self.block(0);
        let same = o.same(self.at(o, &a, &a)?, a[self.components.len() - 1])?;
        Ok(or(same, "not moving changes what it moves"))
    }

    /// The state of no blocks.
    fn nothing(&self) -> State {
        let none = |c: &Component| if c.op == Reduction::Max { f64::NEG_INFINITY } else { f64::INFINITY };
        self.components.iter().map(|c| self.constant(none(c))).collect()
    }

    /// Whether nothing yet, moved to what some blocks are together, leaves those as they are.
    fn begins(&self, o: &Orders) -> Held {
        let a = self.block(0);
        let own = a[self.components.len() - 1];
        let same = o.same(self.join(o, self.at(o, &self.nothing(), &a)?, own)?, own)?;
        Ok(or(same, HIDDEN))
    }

    /// Whether nothing yet leaves a block as it is, where that stays and where it moves.
    fn joins(&self, o: &Orders) -> Held {
        let (a, b, nothing) = (self.block(0), self.block(1), self.nothing());
        let both = self.together(o, &a, &b)?;
        for to in [&a, &both] {
            let moved = self.at(o, &a, to)?;
            if !o.same(self.join(o, self.at(o, &nothing, to)?, moved)?, moved)? {
                return Ok(Err(HIDDEN));
            }
        }
        Ok(Ok(()))
    }

    /// Whether moving in two steps is moving in one.
    fn steps(&self, o: &Orders) -> Held {
        let (a, b, c) = (self.block(0), self.block(1), self.block(2));
        let both = self.together(o, &a, &b)?;
        let all = self.together(o, &both, &c)?;
        let direct = self.join(o, self.at(o, &a, &all)?, self.at(o, &b, &all)?)?;
        Ok(or(o.same(self.at(o, &both, &all)?, direct)?, "moving in two steps is not moving in one"))
    }

    fn constant(&self, x: f64) -> Element {
        let found = self.constants.iter().find(|&(&id, _)| self.t.literal(id) == Some(x));
        // Both infinities were put there.
        found.map_or(0, |(_, &e)| e)
    }

    fn together(&self, o: &Orders, a: &State, b: &State) -> Result<State, Open> {
        let mut out = State::new();
        for n in 0..self.components.len() {
            let (x, y) = (self.moved(o, n, a, &out)?, self.moved(o, n, b, &out)?);
            out.push(self.joined(o, n, x, y)?);
        }
        Ok(out)
    }

    fn joined(&self, o: &Orders, n: usize, a: Element, b: Element) -> Result<Element, Open> {
        if self.components[n].op == Reduction::Max { o.largest(a, b) } else { o.largest_of(b, a, MORE) }
    }

    /// What component `n` of a state becomes where the state is moved.
    fn moved(&self, o: &Orders, n: usize, from: &State, to: &State) -> Result<Element, Open> {
        match &self.components[n].action {
            None => Ok(from[n]),
            Some((action, places)) => Eval {
                s: self,
                o,
                places,
                moved: from[n],
                from,
                to,
                known: HashMap::default(),
                truths: HashMap::default(),
            }
            .value(*action),
        }
    }
}

/// Evaluates an action in an order.
struct Eval<'a> {
    s: &'a System<'a>,
    o: &'a Orders,
    places: &'a HashMap<Id, Place>,
    moved: Element,
    from: &'a State,
    to: &'a State,
    known: HashMap<Id, Element>,
    truths: HashMap<Id, bool>,
}

impl Eval<'_> {
    fn value(&mut self, id: Id) -> Result<Element, Open> {
        if let Some(&known) = self.known.get(&id) {
            return Ok(known);
        }
        let out = self.evaluated(id)?;
        self.known.insert(id, out);
        Ok(out)
    }

    fn truth(&mut self, id: Id) -> Result<bool, Open> {
        if let Some(&known) = self.truths.get(&id) {
            return Ok(known);
        }
        let out = self.holds(id)?;
        self.truths.insert(id, out);
        Ok(out)
    }

    fn evaluated(&mut self, id: Id) -> Result<Element, Open> {
        if id == self.s.hole {
            return Ok(self.moved);
        }
        match self.places.get(&id) {
            Some(Place::From(n)) => return Ok(self.from[*n]),
            Some(Place::To(n)) => return Ok(self.to[*n]),
            None => {}
        }
        if let Some(&e) = self.s.constants.get(&id) {
            return Ok(e);
        }
        match self.s.t.node(id) {
            Node::Select([p, c, d]) => {
                let side = if self.truth(*p)? { *c } else { *d };
                self.value(side)
            }
            Node::Max(all) => self.extreme(all, LESS),
            Node::Min(all) => self.extreme(all, MORE),
            // `closed` has looked.
            _ => Ok(self.moved),
        }
    }

    fn extreme(&mut self, all: &[Id], gives_way: u8) -> Result<Element, Open> {
        let mut out = self.value(all[0])?;
        for &x in &all[1..] {
            let x = self.value(x)?;
            out = self.o.largest_of(out, x, gives_way)?;
        }
        Ok(out)
    }

    fn holds(&mut self, id: Id) -> Result<bool, Open> {
        Ok(match self.s.t.node(id) {
            Node::Select([p, c, d]) => {
                let side = if self.truth(*p)? { *c } else { *d };
                self.truth(side)?
            }
            Node::Unary(_, x) => !self.truth(*x)?,
            Node::Binary(Binary::And, [a, b]) => self.truth(*a)? && self.truth(*b)?,
            Node::Binary(Binary::Or, [a, b]) => self.truth(*a)? || self.truth(*b)?,
            Node::Binary(f, [a, b]) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.o.asked(a, b, meaning(*f).unwrap_or(ANY))?
            }
            _ => false,
        })
    }
}

/// The orders of its operands in which a comparison holds.
fn meaning(f: Binary) -> Option<u8> {
    Some(match f {
        Binary::Lt => LESS,
        Binary::Le => LESS | SAME,
        Binary::Gt => MORE,
        Binary::Ge => MORE | SAME,
        Binary::Eq => SAME,
        Binary::Ne => LESS | MORE,
        _ => return None,
    })
}

/// What is known of an order of elements: for each two of them in which ways they may compare.
#[derive(Clone)]
struct Orders {
    n: usize,
    known: Vec<u8>,
    /// Two elements that are equal only where both are the third.
    apart: Vec<(Element, Element, Element)>,
}

/// In which ways the outer two of three may compare, by those in which the first and the second two may.
const THROUGH: [[u8; 8]; 8] = {
    let mut out = [[0; 8]; 8];
    let (mut a, mut b) = (0, 0);
    while a < 8 {
        // One way of each; sets of ways are the union.
        let (mut x, mut y) = (LESS, LESS);
        while x <= MORE {
            if a & x != 0 && b & y != 0 {
                out[a as usize][b as usize] |= match (x, y) {
                    (SAME, y) => y,
                    (x, SAME) => x,
                    (LESS, LESS) => LESS,
                    (MORE, MORE) => MORE,
                    _ => ANY,
                };
            }
            (x, y) = if y < MORE { (x, y << 1) } else { (x << 1, LESS) };
        }
        (a, b) = if b < 7 { (a, b + 1) } else { (a + 1, 0) };
    }
    out
};

fn through(a: u8, b: u8) -> u8 {
    THROUGH[usize::from(a & ANY)][usize::from(b & ANY)]
}

fn turned(a: u8) -> u8 {
    (a & SAME) | if a & LESS != 0 { MORE } else { 0 } | if a & MORE != 0 { LESS } else { 0 }
}

impl Orders {
    fn new(n: usize) -> Orders {
        let mut known = vec![ANY; n * n];
        (0..n).for_each(|a| known[a * n + a] = SAME);
        Orders { n, known, apart: Vec::new() }
    }

    fn of(&self, a: Element, b: Element) -> u8 {
        self.known[a * self.n + b]
    }

    /// Before anything follows from it.
    fn know(&mut self, a: Element, b: Element, r: u8) -> Result<(), String> {
        let both = self.of(a, b) & r;
        if both == 0 {
            return Err("what is known of what it tracks contradicts itself".into());
        }
        self.known[a * self.n + b] = both;
        self.known[b * self.n + a] = turned(both);
        Ok(())
    }

    fn refine(&mut self, a: Element, b: Element, r: u8) -> bool {
        self.know(a, b, r).is_ok() && self.settle(vec![(a, b)])
    }

    /// Draws all consequences, of everything or of what has changed; whether there is such an order.
    fn settle(&mut self, changed: Vec<(Element, Element)>) -> bool {
        let mut todo = changed;
        if todo.is_empty() {
            todo = (0..self.n).flat_map(|a| (a + 1..self.n).map(move |b| (a, b))).collect();
        }
        loop {
            while let Some((a, b)) = todo.pop() {
                for c in 0..self.n {
                    for (x, y, z) in [(a, b, c), (b, a, c)] {
                        // x to z through y.
                        let now = self.of(x, z) & through(self.of(x, y), self.of(y, z));
                        if now == 0 {
                            return false;
                        }
                        if now != self.of(x, z) {
                            self.known[x * self.n + z] = now;
                            self.known[z * self.n + x] = turned(now);
                            todo.push((x, z));
                        }
                    }
                }
            }
            for n in 0..self.apart.len() {
                let (a, b, none) = self.apart[n];
                let now = self.of(a, none) & SAME;
                if self.of(a, b) == SAME && self.of(a, none) != SAME {
                    if now == 0 {
                        return false;
                    }
                    self.known[a * self.n + none] = SAME;
                    self.known[none * self.n + a] = SAME;
                    todo.push((a, none));
                }
                if self.of(a, none) & SAME == 0 && self.of(a, b) & SAME != 0 {
                    let left = self.of(a, b) & !SAME;
                    if left == 0 {
                        return false;
                    }
                    self.known[a * self.n + b] = left;
                    self.known[b * self.n + a] = turned(left);
                    todo.push((a, b));
                }
            }
            if todo.is_empty() {
                return true;
            }
        }
    }

    fn asked(&self, a: Element, b: Element, r: u8) -> Result<bool, Open> {
        match self.of(a, b) {
            k if k & !r == 0 => Ok(true),
            k if k & r == 0 => Ok(false),
            _ => Err(Open(a, b)),
        }
    }

    fn same(&self, a: Element, b: Element) -> Result<bool, Open> {
        self.asked(a, b, SAME)
    }

    fn largest(&self, a: Element, b: Element) -> Result<Element, Open> {
        self.largest_of(a, b, LESS)
    }

    /// The second of two if the first is so to it, or equal.
    fn largest_of(&self, a: Element, b: Element, gives_way: u8) -> Result<Element, Open> {
        match self.of(a, b) {
            k if k & !(gives_way | SAME) == 0 => Ok(b),
            k if k & gives_way == 0 => Ok(a),
            _ => Err(Open(a, b)),
        }
    }
}

/// A term that is a position of its block, or a number that is none.
struct Chosen {
    /// That number, if there is one.
    none: Option<Id>,
}

/// On which side of all positions along an axis a number is, if it is no position: how positions compare with it.
pub(crate) fn beside(t: &Terms, n: Id, j: Axis) -> Option<u8> {
    match (t.node(n), t.extent(j)?) {
        (Node::Size(e), extent) => (*e == extent).then_some(LESS),
        (Node::Num(x), _) if x.0 < 0.0 => Some(MORE),
        (Node::Num(x), Extent::Const(extent)) if x.0 >= extent as f64 => Some(LESS),
        (Node::Num(x), Extent::Sym(s)) if t.most.get(&s).is_some_and(|&n| x.0 >= n as f64) => Some(LESS),
        _ => None,
    }
}

/// What is known of a term as a position of its block.
fn chosen(t: &Terms, id: Id, j: Axis) -> Option<Chosen> {
    let mut nones = Vec::new();
    if !position(t, id, j, &mut nones) {
        return None;
    }
    nones.sort_unstable();
    nones.dedup();
    match nones[..] {
        [] => Some(Chosen { none: None }),
        [_] if attained(t, id, j) => Some(Chosen { none: None }),
        [none] => Some(Chosen { none: Some(none) }),
        _ => None,
    }
}

/// Whether a term is a position of its block along an axis, or a number that is none; collects those.
pub(crate) fn position(t: &Terms, id: Id, j: Axis, nones: &mut Vec<Id>) -> bool {
    if beside(t, id, j).is_some() {
        nones.push(id);
        return true;
    }
    match t.node(id) {
        Node::CutPos(a) => *a == j,
        Node::Select([_, c, d]) => position(t, *c, j, nones) && position(t, *d, j, nones),
        Node::Reduce(Reduction::Max | Reduction::Min, pieces, x) => {
            pieces[..] == [Piece::inner(j)] && position(t, *x, j, nones)
        }
        _ => false,
    }
}

/// Whether a term is the first or last position of the block at which something is the block's extreme: there is one.
fn attained(t: &Terms, id: Id, j: Axis) -> bool {
    let Node::Reduce(op, pieces, body) = t.node(id) else { return false };
    let Node::Select([p, c, d]) = *t.node(*body) else { return false };
    let Node::Binary(Binary::Eq, [a, b]) = *t.node(p) else { return false };
    let inner = [Piece::inner(j)];
    let extreme = |x: Id, y: Id| matches!(t.node(y), Node::Reduce(Reduction::Max | Reduction::Min, q, z) if q[..] == inner && *z == x);
    let side = if *op == Reduction::Min { LESS } else { MORE };
    pieces[..] == inner
        && *t.node(c) == Node::CutPos(j)
        && beside(t, d, j) == Some(side)
        && (extreme(a, b) || extreme(b, a))
}

/// Whether the one term is a maximum within a block of what is never more than what the other is a maximum of.
fn less(t: &Terms, a: Id, b: Id, j: Axis) -> bool {
    let inner = [Piece::inner(j)];
    match (t.node(a), t.node(b)) {
        (Node::Reduce(Reduction::Max, p, x), Node::Reduce(Reduction::Max, q, y)) => {
            p[..] == inner && q[..] == inner && never_above(t, *x, *y)
        }
        _ => false,
    }
}

fn never_above(t: &Terms, a: Id, b: Id) -> bool {
    if a == b || t.facts(a).hi <= t.facts(b).lo {
        return true;
    }
    match t.node(a) {
        Node::Select([_, c, d]) => never_above(t, *c, b) && never_above(t, *d, b),
        _ => false,
    }
}

/// Whether an action only compares and chooses.
fn closed(t: &Terms, id: Id, hole: Id, places: &HashMap<Id, Place>, memo: &mut HashMap<Id, bool>) -> bool {
    if id == hole || places.contains_key(&id) {
        return true;
    }
    if let Some(&done) = memo.get(&id) {
        return done;
    }
    let mut all = |c: &[Id]| c.iter().all(|&c| closed(t, c, hole, places, memo));
    let out = match t.node(id) {
        Node::Num(_) | Node::Size(_) => true,
        Node::Select([p, c, d]) => all(&[*c, *d]) && predicate(t, *p, hole, places, memo),
        Node::Max(c) | Node::Min(c) => !c.is_empty() && all(c),
        _ => false,
    };
    memo.insert(id, out);
    out
}

fn predicate(t: &Terms, id: Id, hole: Id, places: &HashMap<Id, Place>, memo: &mut HashMap<Id, bool>) -> bool {
    let mut all = |c: &[Id]| c.iter().all(|&c| predicate(t, c, hole, places, memo));
    match t.node(id) {
        Node::Select(c) => all(c),
        Node::Unary(Unary::Not, x) => all(&[*x]),
        Node::Binary(Binary::And | Binary::Or, c) => all(c),
        Node::Binary(f, c) => meaning(*f).is_some() && c.iter().all(|&c| closed(t, c, hole, places, memo)),
        _ => false,
    }
}
