//! Certificates that someone wrote by hand: right ones are accepted, wrong ones are refused for the right reason.

use tilewright_ir::expr::build as ex;
use tilewright_ir::graph::{Def, Function, ParamKind};
use tilewright_ir::plan::{KernelPlan, LocalData, LocalDef, Plan, Store};
use tilewright_ir::{Axis, Binary, DType, Ex, Extent, Local, PrimaryMap, Reduction, Unary, Value};
use tilewright_proof::build::{Builder, Proof};
use tilewright_proof::cert::NodeRow;
use tilewright_proof::term::{Id, Node, Piece};
use tilewright_proof::{Certificate, Checker, Context, Refusal};

fn function(
    e: impl Fn(Value, Value, Axis, Axis) -> (Vec<Axis>, Ex),
) -> (Function, Value, [Value; 2], [Axis; 2]) {
    let mut f = Function { name: "f".into(), ..Function::default() };
    let i = f.axis("i", Extent::Const(5));
    let j = f.axis("j", Extent::Const(7));
    let c = f.param("c", ParamKind::Input, DType::F32, &[i]);
    let x = f.param("x", ParamKind::Input, DType::F32, &[i, j]);
    let (axes, e) = e(c, x, i, j);
    let y = f.define("y", DType::F32, &axes, e);
    f.results = vec![y];
    (f, y, [c, x], [i, j])
}

fn plan(f: &Function, y: Value, locals: Vec<LocalData>, e: Ex) -> Plan {
    let axes = f.values[y].axes.clone();
    let index = axes.iter().map(|&a| ex::pos(a)).collect();
    let mut all = PrimaryMap::new();
    for l in locals {
        all.push(l);
    }
    let kernel = KernelPlan {
        name: "k".into(),
        grid: axes.clone(),
        locals: all,
        stores: vec![Store { value: y, axes, index, expr: e }],
        ..KernelPlan::default()
    };
    Plan {
        name: f.name.clone(),
        axes: f.axes.clone(),
        values: f.values.clone(),
        first_temp: f.values.len() as u32,
        results: f.results.clone(),
        kernels: vec![kernel],
    }
}

fn local(n: u32) -> Ex {
    ex::local(Local::from_u32(n))
}

/// `sum[j](c[i] * x[i,j])` as `c[i] * sum[j] x[i,j]`, in a graph, a plan and terms.
struct Factor {
    f: Function,
    plan: Plan,
}

impl Factor {
    fn new() -> Factor {
        let (f, y, [c, x], [i, j]) =
            function(|c, x, i, j| (vec![i], ex::sum(&[j], ex::mul(ex::at(c, &[i]), ex::at(x, &[i, j])))));
        let sum = LocalDef::Reduce { op: Reduction::Sum, axes: vec![j], body: ex::at(x, &[i, j]) };
        let plan =
            plan(&f, y, vec![LocalData { axes: vec![i], def: sum }], ex::mul(ex::at(c, &[i]), local(0)));
        Factor { f, plan }
    }

    fn context<'a>(
        &'a self,
        symbols: &'a PrimaryMap<tilewright_ir::Sym, tilewright_ir::SymData>,
    ) -> Context<'a> {
        Context { symbols, function: &self.f, plan: &self.plan }
    }

    fn terms(b: &mut Builder) -> (Id, Id) {
        let [i, j] = [0, 1].map(Axis::from_u32);
        let (pi, pj) = (b.node(Node::Pos(i)), b.node(Node::Pos(j)));
        let c = b.node(Node::Read(Value::from_u32(0), vec![pi]));
        let x = b.node(Node::Read(Value::from_u32(1), vec![pi, pj]));
        let inside = b.node(Node::Mul(vec![c, x]));
        let source = b.node(Node::Reduce(Reduction::Sum, vec![Piece::whole(j)], inside));
        let sum = b.node(Node::Reduce(Reduction::Sum, vec![Piece::whole(j)], x));
        (source, b.node(Node::Mul(vec![c, sum])))
    }

    fn certificate(&self) -> Certificate {
        let symbols = PrimaryMap::new();
        let context = self.context(&symbols);
        let mut b = Builder::new(context);
        let (source, result) = Factor::terms(&mut b);
        let proof: Proof = b.law("fact", source, result, &[]).expect("an instance");
        let unsealed = b.finish(source, result, proof, Vec::new());
        Checker::new(context).seal((0, 0), &unsealed).expect("valid")
    }

    fn check(&self, c: &Certificate) -> Result<(), Refusal> {
        let symbols = PrimaryMap::new();
        Checker::new(self.context(&symbols)).check((0, 0), c).map(|_| ())
    }
}

#[test]
fn a_right_one_is_accepted() {
    let f = Factor::new();
    f.check(&f.certificate()).expect("accepted");
}

fn with_law(c: &mut Certificate, name: &str) {
    if let Some(tilewright_proof::cert::Step::Law { law, .. }) = c.steps.first_mut() {
        *law = name.into();
    }
}

#[test]
fn a_wrong_law_is_refused_and_an_unknown_one_is_named() {
    let f = Factor::new();
    for wrong in ["assoc", "swap", "dist", "loc", "max-scale", "fold"] {
        let mut c = f.certificate();
        with_law(&mut c, wrong);
        assert!(matches!(f.check(&c), Err(Refusal::Step { at: 0, .. })), "{wrong}");
    }
    let mut c = f.certificate();
    with_law(&mut c, "wishful");
    let refusal = f.check(&c).expect_err("refused");
    assert_eq!(refusal, Refusal::UnknownLaw { at: 0, law: "wishful".into() });
    assert!(refusal.to_string().contains("`wishful`"));
}

#[test]
fn a_factor_that_depends_on_the_axis_does_not_leave_the_sum() {
    let f = Factor::new();
    let symbols = PrimaryMap::new();
    let mut b = Builder::new(f.context(&symbols));
    let j = Axis::from_u32(1);
    let (pi, pj) = (b.node(Node::Pos(Axis::from_u32(0))), b.node(Node::Pos(j)));
    let x = b.node(Node::Read(Value::from_u32(1), vec![pi, pj]));
    let square = b.node(Node::Mul(vec![x, x]));
    let source = b.node(Node::Reduce(Reduction::Sum, vec![Piece::whole(j)], square));
    let sum = b.node(Node::Reduce(Reduction::Sum, vec![Piece::whole(j)], x));
    let wrong = b.node(Node::Mul(vec![x, sum]));
    assert_eq!(b.law("fact", source, wrong, &[]), None);
}

#[test]
fn another_graph_or_another_plan_is_refused() {
    let f = Factor::new();
    let c = f.certificate();
    let mut graph = Factor::new();
    let y = graph.f.results[0];
    let Def::Equation(e) = graph.f.values[y].def.clone() else { panic!("an equation") };
    graph.f.values[y].def = Def::Equation(ex::add(e, ex::num(1.0)));
    assert_eq!(graph.check(&c), Err(Refusal::Source));
    let mut plan = Factor::new();
    let e = &mut plan.plan.kernels[0].stores[0].expr;
    *e = ex::add(e.clone(), ex::num(1.0));
    assert!(matches!(plan.check(&c), Err(Refusal::Result(_))));
}

/// Whether the checker makes a term of a kernel that stores `e`.
fn has_a_term(f: &Function, y: Value, locals: Vec<LocalData>, e: Ex) -> Result<(), String> {
    let plan = plan(f, y, locals, e);
    let symbols = PrimaryMap::new();
    let context = Context { symbols: &symbols, function: f, plan: &plan };
    let stored = std::collections::BTreeMap::new();
    let mut b = Builder::new(context);
    let kernel = &plan.kernels[0];
    tilewright_proof::plan::Kernel::new(&plan, kernel, &stored)
        .expr(&mut b.terms, &kernel.stores[0].expr)
        .map(|_| ())
}

/// A running sum of exponentials with a rescale.
fn online(rescale: &dyn Fn(Ex, Ex) -> Ex, op: Reduction) -> Result<(), String> {
    let (f, y, [_, x], [i, j]) = function(|_, x, i, j| {
        let m = ex::reduce(Reduction::Max, vec![j], ex::at(x, &[i, j]));
        (vec![i], ex::sum(&[j], ex::unary(Unary::Exp, ex::sub(ex::at(x, &[i, j]), m))))
    });
    let shifted = ex::unary(Unary::Exp, ex::sub(ex::at(x, &[i, j]), local(0)));
    let on = |def| LocalData { axes: vec![i], def };
    let locals = vec![
        on(LocalDef::Block { op: Reduction::Max, axis: j, body: ex::at(x, &[i, j]) }),
        on(LocalDef::Running { op, axis: j, block: local(0) }),
        on(LocalDef::Block { op: Reduction::Sum, axis: j, body: shifted }),
        on(LocalDef::Fold {
            op: Reduction::Sum,
            axis: j,
            block: local(2),
            action: ex::mul(local(3), rescale(local(0), local(1))),
            tracks: vec![(Local::from_u32(0), Local::from_u32(1))],
        }),
    ];
    has_a_term(&f, y, locals, local(3))
}

#[test]
fn only_a_cocycle_rescales_a_fold() {
    fn exp(x: Ex) -> Ex {
        ex::unary(Unary::Exp, x)
    }
    online(&|t, y| exp(ex::sub(t, y)), Reduction::Max).expect("the right one");
    type Rescale = dyn Fn(Ex, Ex) -> Ex;
    let wrong: [(&str, &Rescale); 5] = [
        ("dropped", &|_, _| ex::num(1.0)),
        ("turned around", &|t, y| exp(ex::sub(y, t))),
        ("of the block alone", &|t, _| exp(t)),
        ("twice", &|t, y| ex::mul(ex::num(2.0), exp(ex::sub(t, y)))),
        ("not a homomorphism", &|t, y| ex::sub(t, y)),
    ];
    for (what, h) in wrong {
        let out = online(h, Reduction::Max);
        // These two are cocycles, of another sum: the terms differ then.
        let cocycle = ["dropped", "turned around"].contains(&what);
        assert_eq!(out.is_ok(), cocycle, "{what}: {out:?}");
    }
    let lowest = online(&|t, y| exp(ex::sub(t, y)), Reduction::Min).expect_err("tracks a minimum");
    assert!(lowest.contains("tracks minima"), "{lowest}");
}

/// A running sum of squares of distances from the mean, with what is added when the mean moves: a term over the sum and the
/// count of a block, and over those of all blocks.
fn moments(g: &dyn Fn([Ex; 4]) -> Ex, counted: Reduction) -> Result<(), String> {
    let (f, y, [_, x], [i, j]) = function(|_, x, i, j| {
        let mean = ex::div(ex::sum(&[j], ex::at(x, &[i, j])), ex::num(7.0));
        let far = ex::sub(ex::at(x, &[i, j]), mean);
        (vec![i], ex::sum(&[j], ex::mul(far.clone(), far)))
    });
    let inverse = |x: Ex| ex::unary(Unary::Inv, x);
    let far = ex::sub(ex::at(x, &[i, j]), ex::mul(local(0), inverse(local(2))));
    let on = |def| LocalData { axes: vec![i], def };
    let of_all = |def| LocalData { axes: vec![], def };
    let own = |n| Local::from_u32(n);
    let locals = vec![
        on(LocalDef::Block { op: Reduction::Sum, axis: j, body: ex::at(x, &[i, j]) }),
        on(LocalDef::Running { op: Reduction::Sum, axis: j, block: local(0) }),
        of_all(LocalDef::Block { op: Reduction::Sum, axis: j, body: ex::num(1.0) }),
        of_all(LocalDef::Running { op: counted, axis: j, block: local(2) }),
        on(LocalDef::Block { op: Reduction::Sum, axis: j, body: ex::mul(far.clone(), far) }),
        on(LocalDef::Fold {
            op: Reduction::Sum,
            axis: j,
            block: local(4),
            action: ex::add(local(5), g([local(0), local(2), local(1), local(3)])),
            tracks: vec![(own(0), own(1)), (own(2), own(3))],
        }),
    ];
    has_a_term(&f, y, locals, local(5))
}

#[test]
fn only_what_adds_up_is_added_to_a_fold() {
    fn mean(s: &Ex, n: &Ex) -> Ex {
        ex::mul(s.clone(), ex::unary(Unary::Inv, n.clone()))
    }
    fn far([s, n, all, count]: &[Ex; 4]) -> Ex {
        ex::sub(mean(s, n), mean(all, count))
    }
    let right = |c: [Ex; 4]| ex::mul(c[1].clone(), ex::mul(far(&c), far(&c)));
    moments(&right, Reduction::Sum).expect("the right one");
    type Added = dyn Fn([Ex; 4]) -> Ex;
    let wrong: [(&str, &Added); 6] = [
        ("not counted", &|c| ex::mul(far(&c), far(&c))),
        ("counted by all", &|c| ex::mul(c[3].clone(), ex::mul(far(&c), far(&c)))),
        ("not squared", &|c| ex::mul(c[1].clone(), ex::mul(far(&c), ex::mul(far(&c), far(&c))))),
        ("a constant", &|_| ex::num(1.0)),
        ("of sums and not of means", &|[s, _, all, _]| {
            ex::mul(ex::sub(s.clone(), all.clone()), ex::sub(s, all))
        }),
        ("divided by nothing", &|c| ex::unary(Unary::Inv, ex::sub(c[0].clone(), c[0].clone()))),
    ];
    for (what, g) in wrong {
        assert!(moments(g, Reduction::Sum).is_err(), "{what}");
    }
    assert!(moments(&right, Reduction::Max).is_err(), "the count runs as a maximum");
    // Moving in one step is moving in two for a multiple of it, too: that is a fold of something else.
    moments(&|c| ex::mul(ex::num(2.0), right(c)), Reduction::Sum).expect("twice as much");
}

/// The sum of `exp(x - m) * (x - m)` and that of `exp(x - m)` beside it, with what becomes of the first, of which `a` knows the
/// value, the block's maximum, that of all blocks and the block's own of the other sum, and of the other.
fn beside_a_sum(
    a: &dyn Fn([Ex; 4]) -> Ex,
    other: &dyn Fn([Ex; 3]) -> Ex,
    largest: Reduction,
    tracks: &[(u32, u32)],
) -> Result<(), String> {
    let (f, y, [_, x], [i, j]) = function(|_, x, i, j| (vec![i], ex::sum(&[j], ex::at(x, &[i, j]))));
    let near = ex::sub(ex::at(x, &[i, j]), local(0));
    let near_exp = ex::unary(Unary::Exp, near.clone());
    let on = |def| LocalData { axes: vec![i], def };
    let pair = |&(t, y): &(u32, u32)| (Local::from_u32(t), Local::from_u32(y));
    let fold = |block: u32, action: Ex, tracks: &[(u32, u32)]| LocalDef::Fold {
        op: Reduction::Sum,
        axis: j,
        block: local(block),
        action,
        tracks: tracks.iter().map(pair).collect(),
    };
    let locals = vec![
        on(LocalDef::Block { op: largest, axis: j, body: ex::at(x, &[i, j]) }),
        on(LocalDef::Running { op: largest, axis: j, block: local(0) }),
        on(LocalDef::Block { op: Reduction::Sum, axis: j, body: near_exp.clone() }),
        on(fold(2, other([local(3), local(0), local(1)]), &[(0, 1)])),
        on(LocalDef::Block { op: Reduction::Sum, axis: j, body: ex::mul(near_exp, near) }),
        on(fold(4, a([local(5), local(0), local(1), local(2)]), tracks)),
        on(LocalDef::Running { op: Reduction::Sum, axis: j, block: local(2) }),
    ];
    has_a_term(&f, y, locals, local(5))
}

#[test]
fn only_what_composes_moves_several_sums() {
    fn h(t: &Ex, y: &Ex) -> Ex {
        ex::unary(Unary::Exp, ex::sub(t.clone(), y.clone()))
    }
    fn d(t: &Ex, y: &Ex) -> Ex {
        ex::sub(t.clone(), y.clone())
    }
    type Action = dyn Fn([Ex; 4]) -> Ex;
    let both = [(0, 1), (2, 3)];
    let scaled = |[l, t, y]: [Ex; 3]| ex::mul(l, h(&t, &y));
    let right = |[v, t, y, l]: [Ex; 4]| ex::mul(h(&t, &y), ex::add(v, ex::mul(d(&t, &y), l)));
    let accepted: [(&str, &Action); 4] = [
        ("the right one", &right),
        ("the same multiplied out", &|[v, t, y, l]| {
            ex::add(ex::mul(h(&t, &y), v), ex::mul(ex::mul(h(&t, &y), d(&t, &y)), l))
        }),
        // These are folds of something else; the terms differ then.
        ("the other way round", &|[v, t, y, l]| ex::mul(h(&t, &y), ex::sub(v, ex::mul(d(&t, &y), l)))),
        ("without the other sum", &|[v, t, y, _]| ex::mul(h(&t, &y), v)),
    ];
    for (what, a) in accepted {
        beside_a_sum(a, &scaled, Reduction::Max, &both).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let wrong: [(&str, &Action, &str); 8] = [
        (
            "only one of them scaled",
            &|[v, t, y, l]| ex::add(ex::mul(h(&t, &y), v), ex::mul(d(&t, &y), l)),
            "twice",
        ),
        ("nothing scaled", &|[v, t, y, l]| ex::add(v, ex::mul(d(&t, &y), l)), "twice"),
        (
            "squared",
            &|[v, t, y, l]| ex::mul(h(&t, &y), ex::add(v, ex::mul(ex::mul(d(&t, &y), d(&t, &y)), l))),
            "twice",
        ),
        ("moved where nothing moves", &|[v, t, y, l]| ex::mul(h(&t, &y), ex::add(v, l)), "not moving"),
        ("no multiple of a sum", &|[v, t, y, _]| ex::mul(h(&t, &y), ex::add(v, d(&t, &y))), "not linear"),
        (
            "a product of sums",
            &|[v, t, y, l]| ex::mul(h(&t, &y), ex::add(v, ex::mul(d(&t, &y), ex::mul(l.clone(), l)))),
            "not linear",
        ),
        (
            "what is of all blocks",
            &|[v, t, y, _]| ex::mul(h(&t, &y), ex::add(v, ex::mul(d(&t, &y), local(3)))),
            "more than",
        ),
        (
            "what is not tracked",
            &|[v, t, y, _]| ex::mul(h(&t, &y), ex::add(v, ex::mul(d(&t, &y), local(4)))),
            "more than",
        ),
    ];
    for (what, a, why) in wrong {
        let refused = beside_a_sum(a, &scaled, Reduction::Max, &both).expect_err(what);
        assert!(refused.contains(why), "{what}: {refused}");
    }
    let refused = |other: &dyn Fn([Ex; 3]) -> Ex, largest, tracks: &[(u32, u32)], why: &str| {
        let refused = beside_a_sum(&right, other, largest, tracks).expect_err(why);
        assert!(refused.contains(why), "{refused}");
    };
    let turned = |[l, t, y]: [Ex; 3]| ex::mul(l, h(&y, &t));
    refused(&turned, Reduction::Max, &both, "twice");
    refused(&scaled, Reduction::Max, &[(2, 3)], "nothing that they follow");
    refused(&scaled, Reduction::Min, &both, "minima");
    // A sum of the blocks as they are moves by itself only if it does not move.
    refused(&scaled, Reduction::Max, &[(0, 1), (2, 6)], "twice");
}

/// The largest of what is less than the largest, with what becomes of a block's own where the largest moves.
fn second(a: &dyn Fn(Ex, Ex, Ex) -> Ex, op: Reduction) -> Result<(), String> {
    let (f, y, [_, x], [i, j]) =
        function(|_, x, i, j| (vec![i], ex::reduce(Reduction::Max, vec![j], ex::at(x, &[i, j]))));
    let less = ex::binary(Binary::Lt, ex::at(x, &[i, j]), local(0));
    let on = |def| LocalData { axes: vec![i], def };
    let locals = vec![
        on(LocalDef::Block { op: Reduction::Max, axis: j, body: ex::at(x, &[i, j]) }),
        on(LocalDef::Running { op: Reduction::Max, axis: j, block: local(0) }),
        on(LocalDef::Block {
            op: Reduction::Max,
            axis: j,
            body: ex::select(less, ex::at(x, &[i, j]), ex::num(f64::NEG_INFINITY)),
        }),
        on(LocalDef::Fold {
            op,
            axis: j,
            block: local(2),
            action: a(local(3), local(0), local(1)),
            tracks: vec![(Local::from_u32(0), Local::from_u32(1))],
        }),
    ];
    has_a_term(&f, y, locals, local(3))
}

#[test]
fn only_what_moves_in_steps_as_at_once_is_chosen_in_a_fold() {
    fn stays(t: &Ex, y: &Ex) -> Ex {
        ex::binary(Binary::Eq, t.clone(), y.clone())
    }
    type Action = dyn Fn(Ex, Ex, Ex) -> Ex;
    let right: [(&str, &Action); 4] = [
        ("the right one", &|v, t, y| ex::select(stays(&t, &y), v, t)),
        ("the same in other words", &|v, t, y| {
            ex::select(ex::binary(Binary::Lt, t.clone(), y), ex::binary(Binary::Max, v.clone(), t), v)
        }),
        // These are folds of something else; the terms differ then.
        ("kept", &|v, t, y| ex::select(stays(&t, &y), v, ex::num(f64::NEG_INFINITY))),
        ("never moved", &|v, _, _| v),
    ];
    for (what, a) in right {
        second(a, Reduction::Max).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let wrong: [(&str, &Action, &str); 7] = [
        ("turned around", &|v, t, y| ex::select(stays(&t, &y), t, v), "not moving changes"),
        ("the largest of all", &|v, t, y| ex::select(stays(&t, &y), v, y), "not there yet"),
        ("a bound that may show", &|v, t, y| ex::select(stays(&t, &y), v, ex::num(7.0)), "not there yet"),
        (
            "more than a choice",
            &|v, t, y| ex::select(stays(&t, &y), v, ex::add(t, ex::num(-1.0))),
            "does more",
        ),
        ("of something else", &|v, _, y| ex::select(stays(&local(2), &y), v, y), "does more"),
        ("scaled", &|v, t, y| ex::mul(v, ex::sub(t, y)), "does more"),
        (
            "dropped below a bound",
            &|v, t, y| {
                let low = ex::binary(Binary::Lt, y, ex::num(3.0));
                ex::select(low, v, ex::binary(Binary::Min, t, ex::num(0.0)))
            },
            "not moving changes",
        ),
    ];
    for (what, a, why) in wrong {
        let refused = second(a, Reduction::Max).expect_err(what);
        assert!(refused.contains(why), "{what}: {refused}");
    }
    let least = second(right[0].1, Reduction::Min).expect_err("joined by minima");
    assert!(least.contains("not there yet"), "{least}");
}

/// The first position of the largest and the largest of the others: the position is followed by a fold, and itself follows the
/// largest. `own` is what a block has chosen, `kept` what it is worth where the largest is elsewhere.
fn beside(own: &dyn Fn(Ex, Ex) -> Ex, kept: f64) -> Result<(), String> {
    let (f, y, [_, x], [i, j]) =
        function(|_, x, i, j| (vec![i], ex::reduce(Reduction::Max, vec![j], ex::at(x, &[i, j]))));
    let at = || ex::at(x, &[i, j]);
    let eq = |a: Ex, b: Ex| ex::binary(Binary::Eq, a, b);
    let on = |def| LocalData { axes: vec![i], def };
    let l = Local::from_u32;
    let other = ex::binary(Binary::Ne, ex::pos(j), local(2));
    let locals = vec![
        on(LocalDef::Block { op: Reduction::Max, axis: j, body: at() }),
        on(LocalDef::Running { op: Reduction::Max, axis: j, block: local(0) }),
        on(LocalDef::Block { op: Reduction::Min, axis: j, body: own(eq(at(), local(0)), ex::pos(j)) }),
        on(LocalDef::Fold {
            op: Reduction::Min,
            axis: j,
            block: local(2),
            action: ex::select(eq(local(0), local(1)), local(3), ex::num(kept)),
            tracks: vec![(l(0), l(1))],
        }),
        on(LocalDef::Block {
            op: Reduction::Min,
            axis: j,
            body: ex::select(ex::binary(Binary::And, other, eq(at(), local(0))), ex::pos(j), ex::num(7.0)),
        }),
        // Positions of the largest other than the first.
        on(LocalDef::Fold {
            op: Reduction::Min,
            axis: j,
            block: local(4),
            action: ex::select(
                eq(local(0), local(1)),
                ex::select(eq(local(2), local(3)), local(5), local(2)),
                ex::num(7.0),
            ),
            tracks: vec![(l(0), l(1)), (l(2), l(3))],
        }),
    ];
    has_a_term(&f, y, locals, local(5))
}

#[test]
fn a_fold_may_track_a_fold_of_positions_and_of_no_other_numbers() {
    let first = |p: Ex, j: Ex| ex::select(p, j, ex::num(7.0));
    beside(&first, 7.0).expect("positions");
    // What is no position may be more than the number that stands for none.
    let halves = |p: Ex, j: Ex| ex::select(p, ex::binary(Binary::FloorDiv, j, ex::num(2.0)), ex::num(7.0));
    let refused = beside(&halves, 7.0).expect_err("halves");
    assert!(refused.contains("not there yet"), "{refused}");
    let refused = beside(&first, 6.0).expect_err("6 is a position");
    assert!(refused.contains("not there yet") || refused.contains("in two steps"), "{refused}");
}

/// A claim about `depth` operations in one another.
fn nested(c: &Certificate, op: &str, of: &str, depth: u32) -> Certificate {
    let mut deep = Certificate { nodes: c.nodes[..3].to_vec(), steps: vec![], ..c.clone() };
    let leaf = deep.nodes.iter().position(|n| n.op == "read").expect("a tensor is read") as u32;
    deep.nodes.truncate(leaf as usize + 1);
    for n in 0..depth {
        deep.nodes.push(NodeRow { op: op.into(), of: of.into(), args: vec![leaf + n] });
    }
    (deep.source, deep.result) = (leaf + depth, leaf + depth);
    deep
}

#[test]
fn what_is_nested_without_end_is_refused_and_not_walked() {
    let f = Factor::new();
    let c = f.certificate();
    for (op, of) in [("unary", "exp"), ("reduce", "sum ax1")] {
        assert_eq!(f.check(&nested(&c, op, of, 1000)), Err(Refusal::Source), "{op}");
        let refused = f.check(&nested(&c, op, of, 1_000_000));
        assert!(matches!(refused, Err(Refusal::Node { at, .. }) if at > 1000), "{op}: {refused:?}");
    }
}
