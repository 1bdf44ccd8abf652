//! What every term of an e-graph means, and whether equal terms have equal values.
//!
//! Each term that was ever put into the e-graph is evaluated by its own syntax, on random inputs and at small extents, with
//! blocks of any size. Nothing of the search is relied on: not its facts, not its representatives. Then every union must
//! join equal values, every class must have one value, and what the analysis knows of a class must hold for that value.
//!
//! Positions where a term is undefined (the inverse of 0, inf - inf, what overflows) say nothing and are counted.

// Shared by several tests; failures are printed.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)]

pub mod number;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use cranelift_entity::EntityRef;
use egg::{Id, Language};
use number::{Number, UNDEFINED};
use tilewright_ir::graph::{Function, Module};
use tilewright_ir::{Axis, DType, Extent, Value};
use tilewright_passes::algebra::facts::{Depends, Kind};
use tilewright_passes::algebra::ingest::Ingested;
use tilewright_passes::algebra::{Part, SubAxis, Term};

/// Extents, block sizes and inputs.
#[derive(Clone)]
pub struct World {
    extents: Vec<usize>,
    blocks: Vec<usize>,
    symbols: HashMap<Extent, usize>,
    /// Extents of the tensors that are read, and their elements.
    inputs: HashMap<Value, (Vec<usize>, Vec<f64>)>,
}

/// Small numbers for extents, in the order of the extents that they stand for.
const SMALL: [usize; 8] = [2, 3, 5, 7, 8, 9, 10, 11];

impl World {
    /// Extents in the order of the real ones, so that what fits still fits; equal ones stay equal. `block` makes a block
    /// size for an extent, `element` an input.
    pub fn new(
        module: &Module,
        function: &Function,
        ingested: &Ingested,
        block: &mut dyn FnMut(usize) -> usize,
        element: &mut dyn FnMut(DType) -> f64,
    ) -> World {
        let size = |e: Extent| match e {
            Extent::Const(n) => (n, String::new()),
            Extent::Sym(s) => (module.symbols[s].max, module.symbols[s].name.clone()),
        };
        let mut known: BTreeMap<(u64, String), Extent> = BTreeMap::new();
        for a in ingested.axes.values() {
            known.insert(size(a.extent), a.extent);
        }
        let mut small = SMALL.iter();
        let symbols: HashMap<Extent, usize> = known
            .into_iter()
            .map(|((n, _), e)| (e, if n <= 1 { n as usize } else { *small.next().expect("few extents") }))
            .collect();
        let extents: Vec<usize> = ingested.axes.values().map(|a| symbols[&a.extent]).collect();
        let mut inputs = HashMap::new();
        for v in function.values.keys() {
            let dims: Vec<usize> = function
                .dims(v)
                .iter()
                .map(|e| symbols.get(e).copied().unwrap_or_else(|| size(*e).0.min(3) as usize))
                .collect();
            let n = dims.iter().product();
            inputs.insert(v, (dims, (0..n).map(|_| element(function.values[v].dtype)).collect()));
        }
        World { blocks: extents.iter().map(|&n| block(n)).collect(), extents, symbols, inputs }
    }

    /// Another run: the same sizes and weights, other inputs of the same signs.
    fn another_run(&self, weights: &BTreeSet<Value>) -> World {
        let mut other = self.clone();
        for (_, (_, data)) in other.inputs.iter_mut().filter(|(v, _)| !weights.contains(v)) {
            let by = data.len().min(1);
            data.rotate_right(by);
            data.iter_mut().filter(|x| x.fract() != 0.0).for_each(|x| *x *= 0.7);
        }
        other
    }

    fn positions(&self, a: SubAxis) -> usize {
        let (n, b) = (self.extents[a.axis.index()], self.blocks[a.axis.index()]);
        match a.part {
            Part::Whole => n,
            Part::Outer => n.div_ceil(b),
            Part::Inner => b,
        }
    }

    /// Whether the position exists: the last block may be ragged.
    fn exists(&self, axes: &[SubAxis], at: &[usize]) -> bool {
        axes.iter().zip(at).filter(|(a, _)| a.part == Part::Inner).all(|(inner, i)| {
            let j = inner.axis.index();
            let block = axes.iter().position(|a| *a == SubAxis::outer(inner.axis)).map_or(0, |n| at[n]);
            block * self.blocks[j] + i < self.extents[j]
        })
    }

    /// Calls `f` with each position that exists.
    fn each(&self, axes: &[SubAxis], f: &mut dyn FnMut(&[usize])) {
        let sizes: Vec<usize> = axes.iter().map(|&a| self.positions(a)).collect();
        let mut at = vec![0; axes.len()];
        for n in 0..sizes.iter().product() {
            let mut rest: usize = n;
            for k in (0..axes.len()).rev() {
                at[k] = rest % sizes[k];
                rest /= sizes[k];
            }
            if self.exists(axes, &at) {
                f(&at);
            }
        }
    }
}

/// The values of a term along the axes that it depends on.
pub struct Grid {
    pub axes: Vec<SubAxis>,
    strides: Vec<usize>,
    data: Vec<Number>,
}

impl Grid {
    fn new(world: &World, axes: Vec<SubAxis>, f: &mut dyn FnMut(&[usize]) -> Number) -> Grid {
        let mut strides = vec![1; axes.len()];
        for k in (1..axes.len()).rev() {
            strides[k - 1] = strides[k] * world.positions(axes[k]);
        }
        let size = axes.iter().map(|&a| world.positions(a)).product();
        let mut data = vec![UNDEFINED; size];
        world.each(&axes, &mut |at| {
            let n: usize = at.iter().zip(&strides).map(|(a, s)| a * s).sum();
            data[n] = f(at);
        });
        Grid { axes, strides, data }
    }

    /// How to look it up by positions along other axes, of which there must be all of its own.
    fn along(&self, axes: &[SubAxis]) -> Vec<usize> {
        let stride = |a: &SubAxis| self.axes.iter().position(|b| a == b).map_or(0, |n| self.strides[n]);
        axes.iter().map(stride).collect()
    }

    fn at(&self, strides: &[usize], at: &[usize]) -> Number {
        self.data[at.iter().zip(strides).map(|(a, s)| a * s).sum::<usize>()]
    }
}

/// Evaluates terms. See the module.
pub struct Meaning<'a> {
    terms: &'a [Term],
    world: &'a World,
    memo: HashMap<(usize, Vec<Axis>), Rc<Grid>>,
    /// Terms `part[j] e` that only name a class, and one of that class whose `e` is the term that was restricted. What a
    /// block contributes is a property of a term and not of a class: `e` may have been split already.
    named: HashMap<Id, Id>,
    /// Which terms speak of what a fold moves, outside of folds of their own.
    holds: Vec<bool>,
    hole: Option<Rc<Grid>>,
}

impl<'a> Meaning<'a> {
    pub fn new(terms: &'a [Term], world: &'a World) -> Meaning<'a> {
        let mut holds = Vec::with_capacity(terms.len());
        for t in terms {
            let inner = t.children().iter().any(|&c| holds.get(usize::from(c)).copied().unwrap_or(false));
            holds.push(matches!(t, Term::Hole) || (inner && !matches!(t, Term::Fold(..))));
        }
        Meaning { terms, world, memo: HashMap::new(), named: HashMap::new(), holds, hole: None }
    }

    /// The values of the term; along the axes `cut`, what one block contributes.
    pub fn of(&mut self, id: Id, cut: &[Axis]) -> Rc<Grid> {
        // What moves is another in each fold.
        if self.holds[usize::from(id)] {
            return Rc::new(self.evaluate(id, cut));
        }
        let key = (usize::from(id), cut.to_vec());
        if let Some(known) = self.memo.get(&key) {
            return known.clone();
        }
        let grid = Rc::new(self.evaluate(id, cut));
        self.memo.insert(key, grid.clone());
        grid
    }

    fn evaluate(&mut self, id: Id, cut: &[Axis]) -> Grid {
        let (terms, world) = (self.terms, self.world);
        let term = &terms[usize::from(id)];
        match term {
            Term::Part(..) if self.named.contains_key(&id) => {
                let meant = self.of(self.named[&id], cut);
                let strides = meant.along(&meant.axes);
                Grid::new(world, meant.axes.clone(), &mut |at| meant.at(&strides, at))
            }
            Term::Part(j, [x]) => {
                let mut cut = cut.to_vec();
                cut.push(*j);
                cut.sort_unstable();
                cut.dedup();
                let inner = self.of(*x, &cut);
                let strides = inner.along(&inner.axes);
                Grid::new(world, inner.axes.clone(), &mut |at| inner.at(&strides, at))
            }
            Term::Pos(a) if !cut.contains(a) => {
                Grid::new(world, vec![SubAxis::whole(*a)], &mut |at| Number::given(at[0] as f64))
            }
            Term::Pos(a) | Term::CutPos(a) => {
                let block = world.blocks[a.index()];
                let axes = vec![SubAxis::outer(*a), SubAxis::inner(*a)];
                Grid::new(world, axes, &mut |at| Number::given((block * at[0] + at[1]) as f64))
            }
            Term::Reduce(op, bound, [body]) => {
                let part = |a: &SubAxis| match a.part == Part::Whole && cut.contains(&a.axis) {
                    true => SubAxis::inner(a.axis),
                    false => *a,
                };
                let bound: Vec<SubAxis> = bound.iter().map(part).collect();
                let body = self.of(*body, cut);
                self.reduce(&bound, &body, &mut |values| number::reduce(*op, values))
            }
            Term::Hole => match self.hole.clone() {
                Some(moved) => self.pointwise(&[moved], &mut |x| x[0]),
                // An action by itself moves a number of any kind.
                None => Grid::new(world, Vec::new(), &mut |_| Number::given(1.0)),
            },
            Term::Fold(j, op, c) => {
                let q = self.of(c[0], cut);
                let outer = self.hole.replace(q);
                let moved = self.of(c[1], cut);
                self.hole = outer;
                self.reduce(&[SubAxis::outer(*j)], &moved, &mut |values| number::reduce(*op, values))
            }
            _ => {
                let children: Vec<Rc<Grid>> = term.children().iter().map(|&c| self.of(c, cut)).collect();
                self.pointwise(&children, &mut |x| operation(world, term, x))
            }
        }
    }

    fn pointwise(&self, children: &[Rc<Grid>], f: &mut dyn FnMut(&[Number]) -> Number) -> Grid {
        let axes: BTreeSet<SubAxis> = children.iter().flat_map(|c| c.axes.iter().copied()).collect();
        let axes: Vec<SubAxis> = axes.into_iter().collect();
        let strides: Vec<Vec<usize>> = children.iter().map(|c| c.along(&axes)).collect();
        let mut values = Vec::new();
        Grid::new(self.world, axes, &mut |at| {
            values.clear();
            values.extend(children.iter().zip(&strides).map(|(c, s)| c.at(s, at)));
            f(&values)
        })
    }

    fn reduce(
        &self,
        bound: &[SubAxis],
        body: &Grid,
        f: &mut dyn FnMut(&mut dyn Iterator<Item = Number>) -> Number,
    ) -> Grid {
        let mut free: BTreeSet<SubAxis> = body.axes.iter().copied().collect();
        // How many positions a block has depends on which block it is, whatever is summed over them.
        free.extend(bound.iter().filter(|a| a.part == Part::Inner).map(|a| SubAxis::outer(a.axis)));
        let free: Vec<SubAxis> = free.into_iter().filter(|a| !bound.contains(a)).collect();
        let all: Vec<SubAxis> = free.iter().chain(bound).copied().collect();
        let strides = body.along(&all);
        let sizes: Vec<usize> = bound.iter().map(|&a| self.world.positions(a)).collect();
        let count: usize = sizes.iter().product();
        // Over blocks at a position within them that is not there in all: a term of a class whose value depends on no position,
        // which means nothing by itself.
        let open =
            |a: &SubAxis| free.contains(&SubAxis::inner(a.axis)) && bound.contains(&SubAxis::outer(a.axis));
        let open: Vec<usize> = (0..all.len()).filter(|&n| open(&all[n])).collect();
        let open_axes: Vec<SubAxis> = open.iter().map(|&n| all[n]).collect();
        Grid::new(self.world, free.clone(), &mut |at| {
            let mut inside = at.to_vec();
            inside.resize(all.len(), 0);
            let mut values = (0..count).filter_map(|n| {
                let mut rest = n;
                for k in (0..sizes.len()).rev() {
                    inside[at.len() + k] = rest % sizes[k];
                    rest /= sizes[k];
                }
                let there: Vec<usize> = open.iter().map(|&n| inside[n]).collect();
                if !self.world.exists(&open_axes, &there) {
                    return Some(UNDEFINED);
                }
                self.world.exists(&all, &inside).then(|| body.at(&strides, &inside))
            });
            f(&mut values)
        })
    }
}

fn operation(world: &World, term: &Term, x: &[Number]) -> Number {
    match term {
        Term::Num(n) => Number::literal(n.0),
        Term::Size(Extent::Const(n)) => Number::given(*n as f64),
        Term::Size(e) => Number::given(world.symbols[e] as f64),
        Term::Read(v, _) => {
            let (dims, data) = &world.inputs[v];
            let mut offset = 0;
            for (&n, i) in dims.iter().zip(x) {
                if !i.defined() || i.e > 0.0 {
                    return UNDEFINED;
                }
                if i.x < 0.0 || i.x >= n as f64 {
                    return Number::given(0.0);
                }
                offset = offset * n + i.x as usize;
            }
            Number::given(data[offset])
        }
        Term::Add(_) => number::sum(x.iter().copied()),
        Term::Mul(_) => number::product(x.iter().copied()),
        Term::Max(_) => number::extreme(x.iter().copied(), true),
        Term::Min(_) => number::extreme(x.iter().copied(), false),
        Term::Unary(f, _) => number::unary(*f, x[0]),
        Term::Binary(op, _) => number::binary(*op, x[0], x[1]),
        Term::Select(_) => number::select(x[0], x[1], x[2]),
        Term::Cast(d, _) => number::cast(*d, x[0]),
        Term::Pos(_) | Term::CutPos(_) | Term::Reduce(..) | Term::Part(..) | Term::Fold(..) | Term::Hole => {
            unreachable!("not pointwise: {term}")
        }
    }
}

/// Positions that were compared, and those that say nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub unions: usize,
    pub compared: usize,
    pub skipped: usize,
}

/// What was found.
#[derive(Default)]
pub struct Verdict {
    /// The unions of each law.
    pub laws: BTreeMap<String, Count>,
    /// All terms of all classes.
    pub classes: Count,
    /// What is wrong, readable.
    pub faults: Vec<String>,
    /// The laws whose unions joined unequal terms.
    pub guilty: BTreeSet<String>,
}

/// Evaluates every term of the e-graph and compares. See the module.
pub fn judge(ingested: &mut Ingested, world: &World) -> Verdict {
    let terms = ingested.graph.nodes().to_vec();
    let mut meaning = Meaning::new(&terms, world);
    let mut out = Verdict::default();
    let mut unions: Vec<(Id, Id, String)> = ingested
        .graph
        .get_union_equalities()
        .into_iter()
        .map(|(a, b, law)| (a, b, law.to_string()))
        .collect();
    unions.sort_unstable();
    let mut markers: HashMap<(Id, Axis), Id> = HashMap::new();
    let ends: BTreeSet<Id> = unions.iter().filter(|u| u.2 == "part").flat_map(|u| [u.0, u.1]).collect();
    let part = |id: &Id| if let Term::Part(j, _) = &terms[usize::from(*id)] { Some(*j) } else { None };
    for id in &ends {
        if let Some(j) = part(id) {
            markers.entry((ingested.graph.find(*id), j)).or_insert(*id);
        }
    }
    for id in (0..terms.len()).map(Id::from).filter(|id| !ends.contains(id)) {
        if let Some(&meant) = part(&id).and_then(|j| markers.get(&(ingested.graph.find(id), j))) {
            meaning.named.insert(id, meant);
        }
    }
    for (a, b, law) in unions {
        let count = out.laws.entry(law.clone()).or_default();
        count.unions += 1;
        let (x, y) = (meaning.of(a, &[]), meaning.of(b, &[]));
        if let Err(why) = compare(world, &x, &y, count) {
            let (a, b) = (ingested.graph.id_to_expr(a), ingested.graph.id_to_expr(b));
            out.faults.push(format!("`{law}` joins unequal terms, {why}:\n  {a}\n  {b}"));
            out.guilty.insert(law);
        }
    }
    let mut classes: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for n in 0..terms.len() {
        classes.entry(ingested.graph.find(Id::from(n))).or_default().push(Id::from(n));
    }
    let mut odd = Vec::new();
    for (class, members) in &classes {
        let first = meaning.of(members[0], &[]);
        for &m in members {
            let grid = meaning.of(m, &[]);
            if let Err(why) = compare(world, &first, &grid, &mut out.classes) {
                odd.push((*class, members[0], m, why));
            }
            if let Err(why) = holds(world, ingested, *class, &grid) {
                out.faults.push(format!("class {class}: {why}: {}", ingested.graph.id_to_expr(m)));
            }
        }
    }
    // What is said to be the same in every run is that in another one.
    let again = world.another_run(&ingested.graph.analysis.weights);
    let mut later = Meaning::new(&terms, &again);
    later.named.clone_from(&meaning.named);
    for (class, members) in &classes {
        if ingested.graph[*class].data.depends == Depends::Run {
            continue;
        }
        let (x, y) = (meaning.of(members[0], &[]), later.of(members[0], &[]));
        if let Err(why) = compare(world, &x, &y, &mut Count::default()) {
            let term = ingested.graph.id_to_expr(members[0]);
            out.faults.push(format!("class {class} changes from run to run, {why}: {term}"));
        }
    }
    drop((meaning, later));
    for (class, a, b, why) in odd {
        let proof = ingested.graph.explain_id_equivalence(a, b);
        let mut laws = BTreeSet::new();
        for tree in &proof.explanation_trees {
            laws_of(tree, &mut laws, &mut Vec::new());
        }
        let (a, b) = (ingested.graph.id_to_expr(a), ingested.graph.id_to_expr(b));
        out.faults.push(format!("class {class} has two values, {why}, by {laws:?}:\n  {a}\n  {b}"));
    }
    out
}

fn laws_of(
    tree: &Rc<egg::TreeTerm<Term>>,
    out: &mut BTreeSet<String>,
    seen: &mut Vec<*const egg::TreeTerm<Term>>,
) {
    if seen.contains(&Rc::as_ptr(tree)) {
        return;
    }
    seen.push(Rc::as_ptr(tree));
    out.extend(tree.forward_rule.or(tree.backward_rule).map(|r| r.to_string()));
    for child in tree.child_proofs.iter().flatten() {
        laws_of(child, out, seen);
    }
}

fn compare(world: &World, a: &Grid, b: &Grid, count: &mut Count) -> Result<(), String> {
    let axes: BTreeSet<SubAxis> = a.axes.iter().chain(&b.axes).copied().collect();
    let axes: Vec<SubAxis> = axes.into_iter().collect();
    let (s, t) = (a.along(&axes), b.along(&axes));
    let mut fault = Ok(());
    world.each(&axes, &mut |at| {
        let (x, y) = (a.at(&s, at), b.at(&t, at));
        if !x.sharp() || !y.sharp() {
            count.skipped += 1;
            return;
        }
        count.compared += 1;
        if fault.is_ok() && !x.agrees(y) {
            let place: Vec<String> = axes.iter().zip(at).map(|(a, n)| format!("{a}={n}")).collect();
            fault = Err(format!("{x:?} and {y:?} at {}", place.join(" ")));
        }
    });
    fault
}

/// Whether what the analysis knows of a class is true of a term of it.
fn holds(world: &World, ingested: &Ingested, class: Id, grid: &Grid) -> Result<(), String> {
    let known = &ingested.graph[class].data;
    let own = grid.along(&grid.axes);
    let bound: Vec<bool> = grid.axes.iter().map(|a| !known.free.contains(*a)).collect();
    let mut fault = Ok(());
    // The first value for each position along the free axes.
    let mut seen: HashMap<Vec<usize>, Number> = HashMap::new();
    world.each(&grid.axes, &mut |at| {
        let v = grid.at(&own, at);
        if !v.sharp() || fault.is_err() {
            return;
        }
        let slack = 4.0 * v.e;
        let kind = match known.kind {
            Kind::Bool => v.x == 0.0 || v.x == 1.0,
            Kind::Int => v.x.is_infinite() || v.e > 0.0 || v.x.fract() == 0.0,
            Kind::Real => true,
        };
        let finite = (!known.above || v.x > f64::NEG_INFINITY) && (!known.below || v.x < f64::INFINITY);
        if !(v.x >= known.lo - slack && v.x <= known.hi + slack && kind && finite) {
            fault = Err(format!("{v:?} is against {known:?}"));
        }
        if bound.contains(&true) {
            let place: Vec<usize> = at.iter().zip(&bound).filter(|(_, b)| !**b).map(|(a, _)| *a).collect();
            let first = *seen.entry(place).or_insert(v);
            if !first.agrees(v) {
                fault = Err(format!("depends on more than {:?}", known.free.iter().collect::<Vec<_>>()));
            }
        }
    });
    fault
}
