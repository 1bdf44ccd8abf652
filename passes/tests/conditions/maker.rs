//! E-graphs made term by term, with parts of axes that no equation has.

use cranelift_entity::{EntityRef, PrimaryMap};
use egg::Id;
use tilewright_ir::expr::Num;
use tilewright_ir::{Axis, AxisData, Extent, Reduction, Unary, Value};
use tilewright_passes::algebra::{Facts, Graph, SubAxis, Term};

/// Makes e-graphs term by term. Axis 0 is `j`, which is worth cutting; axis 1 is `k`.
pub(crate) struct Maker {
    pub(crate) graph: Graph,
    pub(crate) axes: PrimaryMap<Axis, AxisData>,
    pub(crate) cascades: Vec<Axis>,
    pub(crate) disabled: Vec<&'static str>,
}

impl Maker {
    pub(crate) fn new() -> Maker {
        let mut axes = PrimaryMap::new();
        for name in ["j", "k"] {
            axes.push(AxisData { name: name.into(), extent: Extent::Const(300) });
        }
        let graph = Graph::new(Facts::default()).with_explanations_enabled();
        Maker { graph, axes, cascades: vec![Axis::new(0)], disabled: Vec::new() }
    }

    pub(crate) fn add(&mut self, t: Term) -> Id {
        self.graph.add_uncanonical(t)
    }

    pub(crate) fn num(&mut self, x: f64) -> Id {
        self.add(Term::Num(Num(x)))
    }

    pub(crate) fn read(&mut self, v: usize, index: &[Id]) -> Id {
        self.add(Term::Read(Value::new(v), index.into()))
    }

    pub(crate) fn product(&mut self, mut factors: Vec<Id>) -> Id {
        factors.sort_unstable();
        self.add(Term::Mul(factors.into()))
    }

    /// `f(x - y)`.
    pub(crate) fn difference(&mut self, f: Unary, x: Id, y: Id) -> Id {
        let minus = self.num(-1.0);
        let y = self.product(vec![minus, y]);
        let mut terms = vec![x, y];
        terms.sort_unstable();
        let sum = self.add(Term::Add(terms.into()));
        self.add(Term::Unary(f, [sum]))
    }

    /// `sum[j'](c[j] * sum[k](x[j,k] * y[k]))` over a part of `j`.
    pub(crate) fn two_sums(&mut self, part: fn(Axis) -> SubAxis) {
        self.cascades.clear();
        let (j, k) = (Axis::new(0), Axis::new(1));
        let at = match part(j) == SubAxis::whole(j) {
            true => self.add(Term::Pos(j)),
            false => self.add(Term::CutPos(j)),
        };
        let to = self.add(Term::Pos(k));
        let (c, x, y) = (self.read(0, &[at]), self.read(1, &[at, to]), self.read(2, &[to]));
        let inside = self.product(vec![x, y]);
        let near = self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(k)].into(), [inside]));
        let body = self.product(vec![c, near]);
        self.add(Term::Reduce(Reduction::Sum, [part(j)].into(), [body]));
    }

    /// `sum[k](c[k, p] * sum[j](x[j] * y[k]))` where `c` depends on a part of `j`, or on nothing more.
    pub(crate) fn sum_within_a_block(&mut self, of: fn(Axis) -> SubAxis) {
        let (j, k) = (Axis::new(0), Axis::new(1));
        self.cascades.clear();
        let (at, to) = (self.add(Term::Pos(j)), self.add(Term::Pos(k)));
        let place = match of(j) == SubAxis::outer(j) {
            true => self.add(Term::CutPos(j)),
            false => to,
        };
        let (c, x, y) = (self.read(0, &[to, place]), self.read(1, &[at]), self.read(2, &[at, to]));
        let inside = self.product(vec![x, y]);
        let near = self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j)].into(), [inside]));
        let body = self.product(vec![c, near]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(k)].into(), [body]));
    }

    /// `sum[j](x[j] * y)`, where `y` is of a block of `j` or not.
    pub(crate) fn cut_twice(&mut self, cut: bool) {
        let j = Axis::new(0);
        let at = self.add(Term::Pos(j));
        let x = self.read(0, &[at]);
        let y = match cut {
            true => {
                let at = self.add(Term::CutPos(j));
                self.read(1, &[at])
            }
            false => self.read(1, &[]),
        };
        let body = self.product(vec![x, y]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j)].into(), [body]));
    }

    /// `sum[j,k'](x[j, k])` over all of `j` and a part of `k`.
    pub(crate) fn over_two(&mut self, part: fn(Axis) -> SubAxis) {
        let (j, k) = (Axis::new(0), Axis::new(1));
        let at = self.add(Term::Pos(j));
        let to = match part(k) == SubAxis::whole(k) {
            true => self.add(Term::Pos(k)),
            false => self.add(Term::CutPos(k)),
        };
        let body = self.read(0, &[at, to]);
        self.add(Term::Reduce(Reduction::Sum, [SubAxis::whole(j), part(k)].into(), [body]));
    }

    /// `f(x) * y` where `y` has been found to be 0.
    pub(crate) fn vanishing(&mut self, f: Unary) {
        let (x, y, zero) = (self.read(0, &[]), self.read(1, &[]), self.num(0.0));
        let x = self.add(Term::Unary(f, [x]));
        self.product(vec![x, y]);
        self.graph.union_trusted(y, zero, "given");
        self.graph.rebuild();
    }

    /// `sum[j'](f(x) - t)` within a block, `t` the mean of `f(x)` there.
    pub(crate) fn centred(&mut self, f: Unary) {
        let inner = SubAxis::inner(Axis::new(0));
        let at = self.add(Term::CutPos(Axis::new(0)));
        let x = self.read(0, &[at]);
        let x = self.add(Term::Unary(f, [x]));
        let one = self.num(1.0);
        let sum = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [x]));
        let count = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [one]));
        let inverse = self.add(Term::Unary(Unary::Inv, [count]));
        let minus = self.num(-1.0);
        let mean = self.product(vec![minus, sum, inverse]);
        let mut terms = vec![x, mean];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        self.add(Term::Reduce(Reduction::Sum, [inner].into(), [body]));
    }

    /// `sum[j.o](q + n**power * (t - y))` where `t` and `y` are means of a block and of all, `n` counts a block and `q` is some
    /// sum within it.
    pub(crate) fn moments(&mut self, power: usize) {
        let j = Axis::new(0);
        let (outer, inner) = (SubAxis::outer(j), SubAxis::inner(j));
        let at = self.add(Term::CutPos(j));
        let (x, z) = (self.read(0, &[at]), self.read(1, &[at]));
        let one = self.num(1.0);
        let within = |m: &mut Maker, x: Id| m.add(Term::Reduce(Reduction::Sum, [inner].into(), [x]));
        let (s, n, q) = (within(self, x), within(self, one), within(self, z));
        let all = |m: &mut Maker, x: Id| m.add(Term::Reduce(Reduction::Sum, [outer].into(), [x]));
        let (sum, count) = (all(self, s), all(self, n));
        let mean = |m: &mut Maker, s: Id, n: Id, more: Vec<Id>| {
            let inverse = m.add(Term::Unary(Unary::Inv, [n]));
            m.product([s, inverse].into_iter().chain(more).collect())
        };
        let minus = self.num(-1.0);
        let (t, y) = (mean(self, s, n, Vec::new()), mean(self, sum, count, vec![minus]));
        let mut terms = vec![t, y];
        terms.sort_unstable();
        let far = self.add(Term::Add(terms.into()));
        let g = self.product([vec![n; power], vec![far]].concat());
        let mut terms = vec![q, g];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        self.add(Term::Reduce(Reduction::Sum, [outer].into(), [body]));
    }

    /// `sum[j] w * (x - y)`, `y` the maximum of `x`, made equal to its sum over blocks relative to their own maxima, with the
    /// sums of `w` of blocks times what `by` makes of `t - y`. No law does that here.
    pub(crate) fn weighed(&mut self, by: fn(Id) -> Vec<Id>) {
        self.disabled = vec!["loc-sum"];
        let j = Axis::new(0);
        let (whole, outer, inner) = (SubAxis::whole(j), SubAxis::outer(j), SubAxis::inner(j));
        let (at, near) = (self.add(Term::Pos(j)), self.add(Term::CutPos(j)));
        let [(x, w), (xb, wb)] = [at, near].map(|p| (self.read(0, &[p]), self.read(1, &[p])));
        let reduce = |m: &mut Maker, op: Reduction, over: SubAxis, of: Id| {
            m.add(Term::Reduce(op, [over].into(), [of]))
        };
        let y = reduce(self, Reduction::Max, whole, x);
        let t = reduce(self, Reduction::Max, inner, xb);
        let minus = |m: &mut Maker, a: Id, b: Id| {
            let one = m.num(-1.0);
            let b = m.product(vec![one, b]);
            let mut terms = vec![a, b];
            terms.sort_unstable();
            m.add(Term::Add(terms.into()))
        };
        let (far, near, d) = (minus(self, x, y), minus(self, xb, t), minus(self, t, y));
        let (of_all, of_block) = (self.product(vec![w, far]), self.product(vec![wb, near]));
        let total = reduce(self, Reduction::Sum, whole, of_all);
        let q = reduce(self, Reduction::Sum, inner, of_block);
        let l = reduce(self, Reduction::Sum, inner, wb);
        let mut factors = by(d);
        factors.push(l);
        let moved = if factors.len() == 1 { l } else { self.product(factors) };
        let mut terms = vec![q, moved];
        terms.sort_unstable();
        let body = self.add(Term::Add(terms.into()));
        let sum = reduce(self, Reduction::Sum, outer, body);
        self.graph.union_trusted(total, sum, "given");
        self.graph.rebuild();
    }

    /// `sum[j] exp(x - y)`, `y` the extreme of `x`, made equal to its sum over blocks relative to their own extremes, with
    /// what `rescale` makes of `exp(t - y)`. No other law does that here.
    pub(crate) fn blocks(&mut self, op: Reduction, rescale: fn(&mut Maker, Id) -> Vec<Id>) {
        self.disabled = vec!["loc", "guard"];
        let j = Axis::new(0);
        let (whole, outer, inner) = (SubAxis::whole(j), SubAxis::outer(j), SubAxis::inner(j));
        let (at, near) = (self.add(Term::Pos(j)), self.add(Term::CutPos(j)));
        let (x, xb) = (self.read(0, &[at]), self.read(0, &[near]));
        let y = self.add(Term::Reduce(op, [whole].into(), [x]));
        let t = self.add(Term::Reduce(op, [inner].into(), [xb]));
        let e = self.difference(Unary::Exp, x, y);
        let total = self.add(Term::Reduce(Reduction::Sum, [whole].into(), [e]));
        let e = self.difference(Unary::Exp, xb, t);
        let q = self.add(Term::Reduce(Reduction::Sum, [inner].into(), [e]));
        let h = self.difference(Unary::Exp, t, y);
        let mut factors = rescale(self, h);
        factors.push(q);
        let body = self.product(factors);
        let sum = self.add(Term::Reduce(Reduction::Sum, [outer].into(), [body]));
        self.graph.union_trusted(total, sum, "given");
        self.graph.rebuild();
    }
}
