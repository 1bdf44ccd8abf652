//! Normal forms. Two terms with one normal form are equal.
//!
//! Why here: the checker decides whether a step is an instance of its law by bringing both sides to a normal form in
//! which that law (and no other) is used in one direction. The plain normal form holds what is not a law: sums, products,
//! maxima and minima are flat and sorted, finite literals are folded, opposite finite terms cancel, finite like terms are added up.
//!
//! Pre: premises were proved before. Post: the result equals the term wherever the premises and the recorded assumptions
//! hold. Each rule looks at its conditions in the facts of the very term that it is applied to.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tilewright_ir::{Binary, Extent, Reduction, Unary};

use crate::cases::{self, Cases};
use crate::laws::{HOMOMORPHISMS, LOWEST, Rules, TINY};
use crate::rename::{fill, restrict, uncut};
use crate::term::{Id, Node, Part, Piece, Terms};

/// The most operands that a sum, a product, a maximum or a minimum is flattened to. Beyond it, what is equal may have
/// different forms, and is then not accepted.
const OPERANDS: usize = 4096;

/// Operands, with those that are the same operation replaced by theirs.
fn flat(t: &Terms, operands: Vec<Id>, pick: fn(&Node) -> Option<&Vec<Id>>) -> Vec<Id> {
    let mut out = Vec::new();
    let mut left = operands.len();
    for x in operands {
        left -= 1;
        match pick(t.node(x)) {
            Some(c) if out.len() + left + c.len() <= OPERANDS => out.extend(c.iter().copied()),
            _ => out.push(x),
        }
    }
    out
}

/// A term of a sum as a literal and the factors that it is a multiple of.
fn multiple(t: &Terms, x: Id) -> (f64, Vec<Id>) {
    let factors = if let Node::Mul(c) = t.node(x) { c.clone() } else { vec![x] };
    let literal = |&f: &Id| t.literal(f).filter(|v| v.is_finite());
    let c = factors.iter().filter_map(literal).product();
    let mut rest: Vec<Id> = factors.into_iter().filter(|f| literal(f).is_none()).collect();
    rest.sort_unstable();
    (c, rest)
}

/// Whether a term is a product of finite literals and extents.
fn is_number(t: &Terms, id: Id) -> bool {
    match t.node(id) {
        Node::Num(n) => n.0.is_finite(),
        Node::Size(_) => true,
        Node::Mul(c) => {
            c.iter().all(|&c| matches!(t.node(c), Node::Num(_) | Node::Size(_)) && is_number(t, c))
        }
        _ => false,
    }
}

/// The terms that a product of sums has when it is multiplied out.
fn spread(t: &Terms, factors: &[Id]) -> usize {
    let terms = |&f: &Id| if let Node::Add(c) = t.node(f) { c.len() } else { 1 };
    factors.iter().map(terms).fold(1, usize::saturating_mul)
}

/// A normaliser with a set of rules.
#[derive(Clone, Default)]
pub struct Normal {
    rules: Rules,
    memo: HashMap<Id, Id>,
    /// Normal forms of what is finite, which may not show it any more: squares that were multiplied out.
    finite: HashSet<Id>,
    cases: Cases,
    /// What may be replaced, in this direction, because an earlier equality says so.
    premises: HashMap<Id, Id>,
    /// What was assumed on the way.
    pub assumptions: BTreeSet<String>,
}

impl Normal {
    /// A normaliser that uses these rules.
    pub fn new(rules: Rules) -> Normal {
        Normal { rules, ..Normal::default() }
    }

    /// The same, modulo equalities.
    pub fn modulo(rules: Rules, premises: &[(Id, Id)]) -> Normal {
        Normal { rules, premises: premises.iter().copied().collect(), ..Normal::default() }
    }

    /// The normal form of a term.
    pub fn of(&mut self, t: &mut Terms, id: Id) -> Id {
        if let Some(&done) = self.memo.get(&id) {
            return done;
        }
        if let Some(other) = self.premises.remove(&id) {
            let out = self.of(t, other);
            self.premises.insert(id, other);
            self.memo.insert(id, out);
            return out;
        }
        let node = t.node(id).clone().map(|c| self.of(t, c));
        let out = self.node(t, node);
        if t.facts(id).finite() && !t.facts(out).finite() {
            self.finite.insert(out);
        }
        self.memo.insert(id, out);
        self.memo.insert(out, out);
        out
    }

    /// Whether two terms have different forms for sure, because the operations at their roots differ and no rule touches them.
    pub(crate) fn apart(&self, t: &Terms, a: Id, b: Id) -> bool {
        let fold = |id: Id| matches!(t.node(id), Node::Fold(..)) && !self.rules.fold;
        // Of reductions over blocks that are no sums, these rules may leave something else.
        let r = &self.rules;
        let moves = r.scale_max || r.binary_max || r.choose || r.split || r.merge;
        let extreme = |id: Id| match t.node(id) {
            Node::Reduce(Reduction::Max | Reduction::Min, pieces, _) => {
                !moves && !pieces.is_empty() && pieces.iter().all(|p| p.part == Part::Outer)
            }
            _ => false,
        };
        self.premises.is_empty() && (fold(a) && extreme(b) || extreme(a) && fold(b))
    }

    fn node(&mut self, t: &mut Terms, node: Node) -> Id {
        match node {
            Node::Add(c) => self.add(t, c),
            Node::Mul(c) => self.mul(t, c),
            Node::Max(c) => self.extreme(t, c, Node::Max),
            Node::Min(c) => self.extreme(t, c, Node::Min),
            Node::Unary(f, x) => self.unary(t, f, x),
            Node::Reduce(op, pieces, body) => self.reduce(t, op, pieces, body),
            Node::Select([p, c, d]) if self.rules.between || self.rules.placed => {
                let found = if self.rules.between {
                    shifted(t, p, c, d, extreme)
                } else {
                    shifted(t, p, c, d, placed)
                };
                t.add(Node::Select(found.unwrap_or([p, c, d])))
            }
            Node::Select(_) | Node::Binary(..) if self.rules.cases => {
                let id = t.add(node);
                self.cases.of(t, id)
            }
            Node::Part(j, x) if self.rules.part => match restrict(t, x, j) {
                Some(restricted) => self.of(t, restricted),
                None => t.add(Node::Part(j, x)),
            },
            Node::Fold(j, op, c) if self.rules.fold => {
                let moved = fill(t, c[1], c[0]);
                let moved = self.of(t, moved);
                self.reduce(t, op, vec![Piece::outer(j)], moved)
            }
            other => t.add(other),
        }
    }

    /// A product of normal terms.
    pub fn mul(&mut self, t: &mut Terms, factors: Vec<Id>) -> Id {
        let mut all = flat(t, factors, |n| if let Node::Mul(c) = n { Some(c) } else { None });
        let mut literal = 1.0;
        all.retain(|&f| match t.literal(f) {
            Some(x) if x.is_finite() => {
                literal *= x;
                false
            }
            _ => true,
        });
        if literal == 0.0 && all.iter().all(|&f| t.facts(f).finite()) {
            return t.num(0.0);
        }
        if self.rules.quotients {
            self.cancel(t, &mut all);
        }
        if self.rules.homomorphisms {
            all = self.gather(t, all);
            // A folded exponential may be a literal.
            all.retain(|&f| match t.literal(f) {
                Some(x) if x.is_finite() => {
                    literal *= x;
                    false
                }
                _ => true,
            });
        }
        if self.rules.distribute
            && literal != 1.0
            && let [one] = all[..]
            && let Node::Add(terms) = t.node(one).clone()
        {
            let c = t.num(literal);
            let scaled = terms.into_iter().map(|x| self.mul(t, vec![c, x])).collect();
            return self.add(t, scaled);
        }
        if self.rules.expand
            && let Some(at) = all.iter().position(|&f| matches!(t.node(f), Node::Add(_)))
            && let Node::Add(terms) = t.node(all[at]).clone()
            && spread(t, &all) <= OPERANDS
        {
            let c = t.num(literal);
            let mut rest = all.clone();
            rest.remove(at);
            rest.push(c);
            // An infinity times what is positive and what is negative is not an infinity times their sum.
            if rest.iter().all(|&f| t.facts(f).finite()) {
                let spread = terms
                    .into_iter()
                    .map(|x| self.mul(t, rest.iter().copied().chain([x]).collect()))
                    .collect();
                return self.add(t, spread);
            }
        }
        if literal != 1.0 || all.is_empty() {
            all.push(t.num(literal));
        }
        all.sort_unstable();
        match all[..] {
            [one] => one,
            _ => t.add(Node::Mul(all)),
        }
    }

    /// A sum of normal terms.
    pub fn add(&mut self, t: &mut Terms, terms: Vec<Id>) -> Id {
        let all = flat(t, terms, |n| if let Node::Add(c) = n { Some(c) } else { None });
        let mut literal = 0.0;
        let mut rest: Vec<Id> = Vec::new();
        for x in all {
            if let Some(v) = t.literal(x).filter(|v| v.is_finite()) {
                literal += v;
                continue;
            }
            let opposite = if t.facts(x).finite() { Some(self.negative(t, x)) } else { None };
            match rest.iter().position(|&r| Some(r) == opposite) {
                Some(n) => {
                    rest.swap_remove(n);
                }
                None => self.add_like(t, &mut rest, x),
            }
        }
        if literal != 0.0 || rest.is_empty() {
            rest.push(t.num(literal));
        }
        rest.sort_unstable();
        match rest[..] {
            [one] => one,
            _ => t.add(Node::Add(rest)),
        }
    }

    /// Adds a term to those of a sum: to one that is a multiple of the same, if there is one.
    fn add_like(&mut self, t: &mut Terms, terms: &mut Vec<Id>, x: Id) {
        let (c, of) = multiple(t, x);
        let like = |&y: &Id| {
            let (d, other) = multiple(t, y);
            (other == of).then_some(c + d)
        };
        let found = terms.iter().enumerate().find_map(|(n, y)| Some((n, like(y)?)));
        match found.filter(|(_, c)| t.facts(x).finite() && c.is_finite() && *c != 0.0) {
            Some((n, c)) => {
                let c = t.num(c);
                terms[n] = self.mul(t, of.into_iter().chain([c]).collect());
            }
            None => terms.push(x),
        }
    }

    fn negative(&mut self, t: &mut Terms, x: Id) -> Id {
        let minus = t.num(-1.0);
        self.mul(t, vec![minus, x])
    }

    fn extreme(&mut self, t: &mut Terms, operands: Vec<Id>, make: fn(Vec<Id>) -> Node) -> Id {
        let mut all = match make(Vec::new()) {
            Node::Max(_) => flat(t, operands, |n| if let Node::Max(c) = n { Some(c) } else { None }),
            _ => flat(t, operands, |n| if let Node::Min(c) = n { Some(c) } else { None }),
        };
        all.sort_unstable();
        all.dedup();
        match all[..] {
            [one] => one,
            _ => t.add(make(all)),
        }
    }

    /// A function of a normal term.
    pub fn unary(&mut self, t: &mut Terms, f: Unary, x: Id) -> Id {
        if let Some(v) = t.literal(x) {
            let folded = match f {
                Unary::Inv if v != 0.0 => Some(1.0 / v),
                Unary::Sqrt if v >= 0.0 => Some(v.sqrt()),
                Unary::Rsqrt if v > 0.0 => Some(1.0 / v.sqrt()),
                Unary::Exp => Some(v.exp()),
                Unary::Exp2 => Some(v.exp2()),
                Unary::Log if v > 0.0 => Some(v.ln()),
                Unary::Abs => Some(v.abs()),
                _ => None,
            };
            if let Some(v) = folded.filter(|v| v.is_finite()) {
                return t.num(v);
            }
        }
        if self.rules.logarithms && f == Unary::Log {
            return self.logarithm(t, x);
        }
        if self.rules.logarithms
            && f == Unary::Exp
            && let Some(product) = self.exponential(t, x)
        {
            return product;
        }
        if self.rules.guard && HOMOMORPHISMS.contains(&f) {
            let bare = self.unguarded(t, x);
            if bare != x {
                return t.add(Node::Unary(f, bare));
            }
        }
        if self.rules.guard_scale
            && f == Unary::Inv
            && let Some(y) = self.without(t, x, TINY)
            && let Some(over) = maximum(t, y)
            && t.facts(y).lo >= 0.0
        {
            self.assumptions.insert(format!("a maximum over {over} that divides is positive"));
            return t.add(Node::Unary(f, y));
        }
        t.add(Node::Unary(f, x))
    }

    /// The logarithm of a product as a sum: what stands in homomorphisms, and those of inverses.
    fn logarithm(&mut self, t: &mut Terms, x: Id) -> Id {
        let factors = if let Node::Mul(c) = t.node(x) { c.clone() } else { vec![x] };
        let (mut terms, mut rest) = (Vec::new(), Vec::new());
        for (n, &f) in factors.iter().enumerate() {
            let others = || factors.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, &o)| t.facts(o));
            match *t.node(f) {
                Node::Unary(u, y)
                    if HOMOMORPHISMS.contains(&u)
                        && (t.facts(y).finite()
                            || t.facts(y).below && others().all(|o| o.finite() && o.lo >= 0.0)) =>
                {
                    let one = if u == Unary::Exp { 1.0 } else { std::f64::consts::LN_2 };
                    let one = t.num(one);
                    terms.push(self.mul(t, vec![one, y]));
                }
                Node::Unary(Unary::Inv, y) if t.facts(y).lo >= 0.0 => {
                    let of = self.unary(t, Unary::Log, y);
                    terms.push(self.negative(t, of));
                }
                _ => rest.push(f),
            }
        }
        if terms.is_empty() {
            return t.add(Node::Unary(Unary::Log, x));
        }
        if !rest.is_empty() {
            let rest = self.mul(t, rest);
            terms.push(self.unary(t, Unary::Log, rest));
        }
        self.add(t, terms)
    }

    /// The exponential of a sum as a product of what it has logarithms of.
    fn exponential(&mut self, t: &mut Terms, sum: Id) -> Option<Id> {
        let Node::Add(terms) = t.node(sum).clone() else { return None };
        let (mut factors, mut rest) = (Vec::new(), Vec::new());
        for x in terms {
            let (c, of) = multiple(t, x);
            match of[..] {
                [one]
                    if c.abs() == 1.0
                        && let Node::Unary(Unary::Log, y) = *t.node(one)
                        && t.facts(y).lo > 0.0 =>
                {
                    factors.push(if c > 0.0 { y } else { self.unary(t, Unary::Inv, y) });
                }
                _ => rest.push(x),
            }
        }
        if factors.is_empty() || rest.iter().any(|&x| !t.facts(x).below) {
            return None;
        }
        let rest = self.add(t, rest);
        factors.push(self.unary(t, Unary::Exp, rest));
        Some(self.mul(t, factors))
    }

    /// A maximum without a literal among its operands.
    fn without(&mut self, t: &mut Terms, x: Id, literal: f64) -> Option<Id> {
        let Node::Max(c) = t.node(x).clone() else { return None };
        let rest: Vec<Id> = c.iter().copied().filter(|&c| t.literal(c) != Some(literal)).collect();
        (rest.len() < c.len() && !rest.is_empty()).then(|| self.extreme(t, rest, Node::Max))
    }

    /// A sum whose subtracted maxima have lost their guards.
    fn unguarded(&mut self, t: &mut Terms, sum: Id) -> Id {
        let Node::Add(terms) = t.node(sum).clone() else { return sum };
        let mut out = Vec::new();
        for (n, &x) in terms.iter().enumerate() {
            let replaced = self.bare(t, x).filter(|&(_, over)| {
                // The guard is for a maximum over an axis along which the rest of the sum runs.
                terms.iter().enumerate().any(|(m, &o)| {
                    m != n
                        && [Part::Whole, Part::Inner]
                            .iter()
                            .any(|&part| t.facts(o).free.contains(&Piece { axis: over, part }))
                })
            });
            match replaced {
                Some((bare, over)) => {
                    self.assumptions.insert(format!(
                        "a maximum over {over} that is subtracted in an exponential is above -inf"
                    ));
                    out.push(bare);
                }
                None => out.push(x),
            }
        }
        self.add(t, out)
    }

    /// `c * max(y, LOWEST)` as `c * y` for negative `c`, and the axis of the maximum `y`.
    fn bare(&mut self, t: &mut Terms, x: Id) -> Option<(Id, tilewright_ir::Axis)> {
        let Node::Mul(c) = t.node(x).clone() else { return None };
        let [a, b] = c[..] else { return None };
        let (scale, guarded) = if t.literal(a).is_some() { (a, b) } else { (b, a) };
        if t.literal(scale)? >= 0.0 {
            return None;
        }
        let y = self.without(t, guarded, LOWEST)?;
        let over = maximum(t, y)?;
        Some((self.mul(t, vec![scale, y]), over))
    }

    /// A reduction of a normal body.
    pub fn reduce(&mut self, t: &mut Terms, op: Reduction, mut pieces: Vec<Piece>, body: Id) -> Id {
        pieces.sort_unstable();
        pieces.dedup();
        if pieces.is_empty() {
            return body;
        }
        if op == Reduction::Sum
            && self.rules.extent
            && is_number(t, body)
            && (t.literal(body) != Some(1.0) || pieces.iter().any(|p| p.part == Part::Whole))
        {
            return self.times(t, body, &pieces);
        }
        if op == Reduction::Sum
            && self.rules.count
            && t.literal(body) != Some(1.0)
            && !matches!(t.node(body), Node::Add(_))
            && !t.facts(body).depends(&pieces)
        {
            let one = t.num(1.0);
            let count = t.add(Node::Reduce(op, pieces, one));
            return self.mul(t, vec![body, count]);
        }
        if op == Reduction::Sum
            && self.rules.linear
            && let Node::Add(terms) = t.node(body).clone()
        {
            let sums = terms.into_iter().map(|x| self.reduce(t, op, pieces.clone(), x)).collect();
            return self.add(t, sums);
        }
        if self.rules.cases
            && let [Piece { axis, part: Part::Inner }] = pieces[..]
        {
            if let Node::Select([p, c, d]) = *t.node(body)
                && cases::about(t, p, axis)
            {
                let (c, d) = (self.reduce(t, op, pieces.clone(), c), self.reduce(t, op, pieces, d));
                let id = t.add(Node::Select([p, c, d]));
                return self.cases.of(t, id);
            }
            if !t.facts(body).depends(&pieces) && (op != Reduction::Sum || t.literal(body) == Some(0.0)) {
                return body;
            }
        }
        let node = t.node(body).clone();
        if op == Reduction::Sum
            && self.rules.swap
            && let Node::Mul(c) = &node
        {
            for (n, &f) in c.iter().enumerate() {
                let Node::Reduce(Reduction::Sum, more, x) = t.node(f).clone() else { continue };
                let mut rest = c.clone();
                rest.remove(n);
                let captured = rest.iter().any(|&r| t.facts(r).depends(&more));
                let apart =
                    more.iter().all(|p| p.part == Part::Whole && !pieces.iter().any(|q| q.axis == p.axis));
                // What is infinite times a sum is not a sum of what is infinite.
                let finite = rest.iter().all(|r| t.facts(*r).finite() || self.finite.contains(r));
                if apart && finite && !captured {
                    rest.push(x);
                    let product = self.mul(t, rest);
                    pieces.extend(more);
                    return self.reduce(t, op, pieces, product);
                }
            }
        }
        match (&node, op) {
            (Node::Mul(c), Reduction::Sum) if self.rules.factor => {
                let (inside, mut outside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&f| t.facts(f).depends(&pieces));
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.mul(t, inside);
                    let sum = self.reduce(t, op, pieces, inner);
                    outside.push(sum);
                    return self.mul(t, outside);
                }
            }
            (Node::Mul(c), Reduction::Max | Reduction::Min) if self.rules.scale_max => {
                let (mut outside, inside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&f| !t.facts(f).depends(&pieces) && t.facts(f).positive());
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.mul(t, inside);
                    let max = self.reduce(t, op, pieces, inner);
                    outside.push(max);
                    return self.mul(t, outside);
                }
            }
            (Node::Select([p, c, d]), _) if self.rules.choose => {
                let (p, c, d) = (*p, *c, *d);
                let some = pieces.iter().all(|q| q.part == Part::Inner || t.inhabited(q.axis));
                let fixed = [p, d].iter().all(|&x| !t.facts(x).depends(&pieces));
                if some && fixed && (op != Reduction::Sum || t.literal(d) == Some(0.0)) {
                    let inner = self.reduce(t, op, pieces, c);
                    return t.add(Node::Select([p, inner, d]));
                }
            }
            (Node::Max(c), Reduction::Max) if self.rules.binary_max => {
                let some = pieces.iter().all(|p| p.part == Part::Inner || t.inhabited(p.axis));
                let lowest = |t: &Terms, x: Id| t.literal(x) == Some(f64::NEG_INFINITY);
                let (inside, mut outside): (Vec<Id>, Vec<Id>) =
                    c.iter().partition(|&&x| t.facts(x).depends(&pieces) || !(some || lowest(t, x)));
                if !outside.is_empty() && !inside.is_empty() {
                    let inner = self.extreme(t, inside, Node::Max);
                    let max = self.reduce(t, op, pieces, inner);
                    outside.push(max);
                    return self.extreme(t, outside, Node::Max);
                }
            }
            (Node::Reduce(inner, more, x), _) if *inner == op => {
                if self.rules.split
                    && let [Piece { axis, part: Part::Outer }] = pieces[..]
                    && more.contains(&Piece::inner(axis))
                    && let Some(whole) = uncut(t, *x, axis)
                {
                    let joined =
                        more.iter().map(|&p| if p == Piece::inner(axis) { Piece::whole(axis) } else { p });
                    let whole = self.of(t, whole);
                    return self.reduce(t, op, joined.collect(), whole);
                }
                // A reduction of a reduction over other axes is one over all of them.
                let apart = |p: &Piece| p.part == Part::Whole && !pieces.iter().any(|q| q.axis == p.axis);
                if self.rules.merge && more.iter().all(apart) {
                    pieces.extend(more);
                    return self.reduce(t, op, pieces, *x);
                }
            }
            _ => {}
        }
        t.add(Node::Reduce(op, pieces, body))
    }

    /// As many times a number as there are positions.
    fn times(&mut self, t: &mut Terms, number: Id, pieces: &[Piece]) -> Id {
        let (whole, rest): (Vec<Piece>, Vec<Piece>) =
            pieces.iter().partition(|p| p.part == Part::Whole && t.extent(p.axis).is_some());
        let mut factors = vec![number];
        for extent in whole.iter().filter_map(|p| t.extent(p.axis)).collect::<Vec<_>>() {
            factors.push(match extent {
                Extent::Const(n) => t.num(n as f64),
                symbolic => t.add(Node::Size(symbolic)),
            });
        }
        if !rest.is_empty() {
            let one = t.num(1.0);
            factors.push(t.add(Node::Reduce(Reduction::Sum, rest, one)));
        }
        self.mul(t, factors)
    }

    /// `x * inv x` is 1 for positive finite `x`.
    fn cancel(&mut self, t: &mut Terms, all: &mut Vec<Id>) {
        let mut at = 0;
        while at < all.len() {
            let Node::Unary(Unary::Inv, x) = *t.node(all[at]) else {
                at += 1;
                continue;
            };
            let factors = match t.node(x) {
                Node::Mul(c) => c.clone(),
                _ => vec![x],
            };
            let mut rest = all.clone();
            let all_there = factors.iter().all(|&f| {
                t.facts(f).positive() && rest.iter().position(|&r| r == f).map(|n| rest.remove(n)).is_some()
            });
            if !all_there {
                at += 1;
                continue;
            }
            let inverse = all[at];
            if let Some(n) = rest.iter().position(|&r| r == inverse) {
                rest.remove(n);
            }
            *all = rest;
            at = 0;
        }
    }

    /// `f(a) * f(b)` as `f(a + b)`.
    fn gather(&mut self, t: &mut Terms, all: Vec<Id>) -> Vec<Id> {
        let mut arguments: BTreeMap<Unary, Vec<Id>> = BTreeMap::new();
        let mut rest = Vec::new();
        for f in all {
            match *t.node(f) {
                Node::Unary(u, x) if HOMOMORPHISMS.contains(&u) => arguments.entry(u).or_default().push(x),
                _ => rest.push(f),
            }
        }
        for (f, xs) in arguments {
            let sum = self.add(t, xs);
            rest.push(self.unary(t, f, sum));
        }
        rest
    }
}

/// `where(t == y, where(x ~ t, c, d), e)` as `where(x ~ y, c, d)`, if `meets` says of `x`, `t` and `y` that `x ~ y` is as `e` says
/// where `t` is not `y`: whether it is for what is less only, or for all that differs.
fn shifted(
    t: &mut Terms,
    p: Id,
    c: Id,
    d: Id,
    meets: fn(&mut Terms, Id, Id, Id) -> Option<Between>,
) -> Option<[Id; 3]> {
    let Node::Binary(Binary::Eq, outer) = *t.node(p) else { return None };
    let Node::Select([near, c, e]) = *t.node(c) else { return None };
    let Node::Binary(f, inner) = *t.node(near) else { return None };
    for (b, y) in [(outer[0], outer[1]), (outer[1], outer[0])] {
        for (at, x) in [(1, inner[0]), (0, inner[1])] {
            if inner[at] != b {
                continue;
            }
            let Some(known) = meets(t, x, b, y) else { continue };
            // Whether the comparison holds of an x that is another than y.
            let apart = match (f, at, known) {
                (Binary::Eq, ..) => false,
                (Binary::Ne, ..) => true,
                (Binary::Lt, 1, Between::Most) | (Binary::Gt, 0, Between::Most) => true,
                (Binary::Ge, 1, Between::Most) | (Binary::Le, 0, Between::Most) => false,
                (Binary::Gt, 1, Between::Least) | (Binary::Lt, 0, Between::Least) => true,
                (Binary::Le, 1, Between::Least) | (Binary::Ge, 0, Between::Least) => false,
                _ => continue,
            };
            if d != if apart { c } else { e } {
                continue;
            }
            let sides = if at == 1 { [x, y] } else { [y, x] };
            let whole = t.add(Node::Binary(f, sides));
            return Some([whole, c, e]);
        }
    }
    None
}

/// What is known of an `x`, a block's `b` and all blocks' `y`.
enum Between {
    /// If `x` is `y`, then `b` is.
    Same,
    /// `x <= b <= y`.
    Most,
    /// `x >= b >= y`.
    Least,
}

/// Whether `b` is an extreme within a block, of `x`, and `y` that over all blocks.
fn extreme(t: &mut Terms, x: Id, b: Id, y: Id) -> Option<Between> {
    let Node::Reduce(op, pieces, z) = t.node(b).clone() else { return None };
    let known = match op {
        Reduction::Max => Between::Most,
        Reduction::Min => Between::Least,
        Reduction::Sum => return None,
    };
    let [Piece { axis, part: Part::Inner }] = pieces[..] else { return None };
    let mut split = Normal::new(Rules { split: true, ..crate::laws::PLAN });
    let all = t.add(Node::Reduce(op, vec![Piece::outer(axis)], b));
    (z == x && split.of(t, all) == split.of(t, y)).then_some(known)
}

/// Whether `x` is a position, `b` a position of its block or of none, and `y` an extreme over blocks of such, or of choices
/// between such and none: if `x` is `y`, then `b` is.
fn placed(t: &mut Terms, x: Id, b: Id, y: Id) -> Option<Between> {
    let Node::CutPos(j) = *t.node(x) else { return None };
    let Node::Reduce(Reduction::Max | Reduction::Min, pieces, chosen) = t.node(y) else { return None };
    let none = |x: Id| crate::order::beside(t, x, j).is_some();
    let mut of = *chosen;
    while of != b {
        of = match *t.node(of) {
            Node::Select([_, c, d]) if none(d) => c,
            Node::Select([_, c, d]) if none(c) => d,
            _ => return None,
        };
    }
    (pieces[..] == [Piece::outer(j)] && crate::order::position(t, b, j, &mut Vec::new()))
        .then_some(Between::Same)
}

/// The axis over which a term is a maximum, alone or beside others, scaled by a positive literal or not.
fn maximum(t: &Terms, y: Id) -> Option<tilewright_ir::Axis> {
    match t.node(y) {
        Node::Reduce(Reduction::Max, pieces, _) => pieces.first().map(|p| p.axis),
        Node::Max(c) => c.iter().find_map(|&c| maximum(t, c)),
        Node::Mul(c) => match c[..] {
            [a, b] if t.literal(a).is_some_and(|x| x > 0.0) => maximum(t, b),
            [b, a] if t.literal(a).is_some_and(|x| x > 0.0) => maximum(t, b),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tilewright_ir::{Axis, EntityRef, Value};

    use super::*;
    use crate::laws::PLAN;

    #[test]
    fn like_terms_are_added_up_where_they_are_finite() {
        let mut t = Terms::default();
        let j = Axis::new(0);
        t.declare(j, Extent::Const(0));
        let pos = t.add(Node::Pos(j));
        let (x, y) = (t.add(Node::Read(Value::new(0), vec![])), t.add(Node::Read(Value::new(1), vec![pos])));
        // The largest of nothing is -inf.
        let m = t.add(Node::Reduce(Reduction::Max, vec![Piece::whole(j)], y));
        let mut n = Normal::new(PLAN);
        let mut sum = |terms: &[(f64, Id)]| {
            let scaled = terms.iter().map(|&(c, x)| {
                let c = t.num(c);
                t.add(Node::Mul(vec![c, x]))
            });
            let all = scaled.collect();
            let id = t.add(Node::Add(all));
            n.of(&mut t, id)
        };
        assert_eq!(sum(&[(1.0, x), (1.0, x)]), sum(&[(2.0, x)]));
        assert_eq!(sum(&[(0.25, x), (3.0, m), (0.5, x)]), sum(&[(3.0, m), (0.75, x)]));
        assert_ne!(sum(&[(1.0, x), (1.0, x)]), sum(&[(3.0, x)]));
        assert_eq!(sum(&[(2.0, x), (-2.0, x)]), sum(&[(0.0, x)]));
        assert_ne!(sum(&[(1.0, m), (1.0, m)]), sum(&[(2.0, m)]));
        assert_ne!(sum(&[(1.0, m), (-1.0, m)]), sum(&[(0.0, x)]));
    }
}
