//! Kernels from a cut term.
//!
//! Each stored subterm and each root becomes a kernel: one store, and locals for what is reduced, tracked, or used more
//! than once. Operands of n-ary operations are associated with the fewest positions first, so that narrow factors are
//! combined before they meet wide ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cranelift_entity::{EntityRef, PrimaryMap};
use egg::Language;
use indexmap::IndexMap;
use tilewright_ir::expr::{Num, build as ex};
use tilewright_ir::graph::{Def, Function, ParamKind, ValueData};
use tilewright_ir::plan::{KernelPlan, LocalData, LocalDef, Plan, Store, replace_locals};
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Local, Reduction, Unary, Value};

use super::association::{Brackets, Sums};
use super::canon::{Canons, Form};
use super::cuts::Cuts;
use super::group::heavy;
use crate::PassError;
use crate::algebra::costs::Sizes;
use crate::algebra::dag::child;
use crate::algebra::facts::{Depends, Kind};
use crate::algebra::ingest::Ingested;
use crate::algebra::{Dag, NodeId, Part, SubAxis, Term};

/// A tensor that holds a subterm.
struct Stored {
    value: Value,
    form: Form,
    /// For each axis of the tensor, which free axis of the canonical form it is.
    order: Vec<usize>,
    node: NodeId,
}

struct Builder<'a> {
    dag: &'a Dag,
    sizes: &'a Sizes,
    heavy: Vec<bool>,
    /// Whether a node depends on weights alone.
    once: Vec<bool>,
    canons: Canons,
    sums: Sums<'a>,
    stored: IndexMap<Form, Stored>,
}

/// Builds the plan of a function, and the node behind each value that it stores. `storage` is the type of intermediates that the function does not name.
pub fn build(
    function: &Function,
    ingested: &Ingested,
    dag: &Dag,
    sizes: &Sizes,
    cuts: &Cuts,
    storage: DType,
) -> Result<(Plan, BTreeMap<Value, NodeId>), PassError> {
    let mut plan = Plan {
        name: function.name.clone(),
        axes: ingested.axes.clone(),
        values: function.values.clone(),
        first_temp: function.values.len() as u32,
        results: function.results.clone(),
        kernels: Vec::new(),
    };
    let once = dag.depends(&ingested.graph.analysis).into_iter().map(|d| d == Depends::Weights).collect();
    let canons = Canons::new(dag, &ingested.axes);
    let sums = Sums::of(ingested);
    let mut b = Builder { dag, sizes, heavy: heavy(dag), once, canons, sums, stored: IndexMap::new() };

    // A result that is an equation over its own axes can be read back by others.
    for (root, &node) in ingested.roots.iter().zip(&dag.roots) {
        let plain = matches!(function.values[root.value].def, Def::Equation(_));
        if plain && b.heavy[node.index()] {
            b.register(root.value, node, &root.axes);
        }
    }
    let declared: BTreeMap<_, Value> =
        ingested.values.iter().map(|(&v, &id)| (ingested.graph.find(id), v)).collect();
    for &node in cuts.stored.values() {
        let free: Vec<Axis> = dag.nodes[node].free.iter().map(|p| p.axis).collect();
        let named = declared.get(&dag.nodes[node].class).copied().filter(|&v| {
            let axes = &function.values[v].axes;
            axes.len() == free.len() && axes.iter().all(|a| free.contains(a))
        });
        let value = named.unwrap_or_else(|| {
            let dtype = match dag.nodes[node].kind {
                // A weight is not rounded again because of what was folded into it.
                Kind::Real if b.once[node.index()] && storage != DType::F64 => DType::F32,
                Kind::Real => storage,
                Kind::Int => DType::I64,
                Kind::Bool => DType::Bool,
            };
            plan.values.push(ValueData {
                name: String::new(),
                dtype,
                axes: free,
                def: Def::Param(ParamKind::Input),
            })
        });
        let axes = plan.values[value].axes.clone();
        b.register(value, node, &axes);
    }

    // Results that another's kernel has at hand are stored there, unless that makes kernels wait for one another in a circle.
    plan.kernels = match b.kernels(&plan, ingested, cuts, true).and_then(|k| order(function, k)) {
        Ok(kernels) => kernels,
        Err(_) => order(function, b.kernels(&plan, ingested, cuts, false)?)?,
    };
    let mut names: HashMap<String, u32> = HashMap::new();
    for k in &mut plan.kernels {
        let n = names.entry(k.name.clone()).or_default();
        *n += 1;
        if *n > 1 {
            k.name = format!("{}_{n}", k.name);
        }
    }
    let mut nodes: BTreeMap<Value, NodeId> = b.stored.values().map(|s| (s.value, s.node)).collect();
    nodes.extend(ingested.roots.iter().zip(&dag.roots).map(|(r, &n)| (r.value, n)));
    Ok((plan, nodes))
}

/// Sorts kernels so that each comes after those whose stores it reads, and an update of a state after those that read the
/// state as it was.
fn order(function: &Function, kernels: Vec<KernelPlan>) -> Result<Vec<KernelPlan>, PassError> {
    let mut graph = petgraph::graph::DiGraph::<usize, ()>::new();
    let nodes: Vec<_> = (0..kernels.len()).map(|n| graph.add_node(n)).collect();
    let writer: HashMap<Value, usize> =
        kernels.iter().enumerate().flat_map(|(n, k)| k.stores.iter().map(move |s| (s.value, n))).collect();
    for (n, k) in kernels.iter().enumerate() {
        for v in reads(k) {
            if let Some(&w) = writer.get(&v).filter(|&&w| w != n) {
                graph.update_edge(nodes[w], nodes[n], ());
            }
        }
    }
    for (v, data) in &function.values {
        let Def::Update { of, .. } = data.def else { continue };
        let Some(&w) = writer.get(&v) else { continue };
        for (n, k) in kernels.iter().enumerate() {
            if n != w && reads(k).contains(&of) {
                graph.update_edge(nodes[n], nodes[w], ());
            }
        }
        if let Some(&earlier) = writer.get(&of).filter(|&&e| e != w) {
            graph.update_edge(nodes[earlier], nodes[w], ());
        }
    }
    let sorted = petgraph::algo::toposort(&graph, None)
        .map_err(|_| PassError::Bug("kernels depend on one another in a cycle".into()))?;
    let mut kernels: Vec<Option<KernelPlan>> = kernels.into_iter().map(Some).collect();
    Ok(sorted.into_iter().filter_map(|n| kernels[graph[n]].take()).collect())
}

/// The tensors that a kernel reads, in order of first occurrence.
pub fn reads(kernel: &KernelPlan) -> Vec<Value> {
    let mut out = Vec::new();
    for e in kernel.exprs() {
        e.visit(&mut |e| {
            if let Expr::Read(v, _) = e
                && !out.contains(v)
            {
                out.push(*v);
            }
        });
    }
    out
}

impl Builder<'_> {
    fn register(&mut self, value: Value, node: NodeId, axes: &[Axis]) {
        let canon = self.canons.of(node);
        let order: Option<Vec<usize>> = axes.iter().map(|a| canon.free.iter().position(|f| f == a)).collect();
        if let Some(order) = order {
            let form = canon.form;
            self.stored.entry(form).or_insert(Stored { value, form, order, node });
        }
    }

    /// Whether what is stored depends on weights alone and does not leave the function.
    fn is_once(&self, plan: &Plan, output: &Output) -> bool {
        let leaves = plan.results.contains(&output.value)
            || matches!(plan.values[output.value].def, Def::Update { .. });
        self.once[output.node.index()] && !leaves
    }

    /// The kernels of all results and of all that is stored between kernels.
    fn kernels(
        &self,
        plan: &Plan,
        ingested: &Ingested,
        cuts: &Cuts,
        together: bool,
    ) -> Result<Vec<KernelPlan>, PassError> {
        let mut kernels = Vec::new();
        let output = |n: usize| {
            let root = &ingested.roots[n];
            let (axes, index) = (root.axes.clone(), root.index.clone());
            Output { value: root.value, axes, index, node: self.dag.roots[n] }
        };
        let mut hosts: BTreeMap<usize, usize> = BTreeMap::new();
        // What is made last has most at hand.
        let mut last: Vec<usize> = (0..ingested.roots.len()).collect();
        last.sort_by_key(|&n| std::cmp::Reverse(self.dag.roots[n]));
        for &n in last.iter().filter(|_| together) {
            if hosts.contains_key(&n) {
                continue;
            }
            let others = (0..ingested.roots.len()).filter(|m| *m != n && !hosts.contains_key(m));
            let others = others.filter(|m| !hosts.values().any(|h| h == m));
            for m in self.at_hand(ingested, n, &others.collect::<Vec<_>>())? {
                hosts.insert(m, n);
            }
        }
        for n in (0..ingested.roots.len()).filter(|n| !hosts.contains_key(n)) {
            let guests = hosts.iter().filter(|&(_, &h)| h == n).map(|(&g, _)| output(g));
            let outputs: Vec<Output> = std::iter::once(output(n)).chain(guests).collect();
            kernels.push(self.kernel(plan, &outputs)?);
        }
        let done: HashSet<Value> = ingested.roots.iter().map(|r| r.value).collect();
        let open = |s: &&Stored| !done.contains(&s.value) && !cuts.hosts.contains_key(&s.form);
        for s in self.stored.values().filter(open) {
            let guests = self.stored.values().filter(|g| cuts.hosts.get(&g.form) == Some(&s.form));
            let all: Vec<&Stored> = std::iter::once(s).chain(guests).collect();
            let outputs: Vec<Output> = all
                .iter()
                .map(|s| {
                    let axes = plan.values[s.value].axes.clone();
                    let index = axes.iter().map(|&a| ex::pos(a)).collect();
                    Output { value: s.value, axes, index, node: s.node }
                })
                .collect();
            let mut kernel = self.kernel(plan, &outputs)?;
            kernel.boundaries = all.iter().filter_map(|s| cuts.reasons.get(&s.form).cloned()).collect();
            kernels.push(kernel);
        }
        Ok(kernels)
    }

    /// Those of some results that the kernel of result `n` has at hand at the same positions: what its folds track, and what is
    /// made of that without a reduction.
    fn at_hand(&self, ingested: &Ingested, n: usize, others: &[usize]) -> Result<Vec<usize>, PassError> {
        let mut k = Kernel {
            b: self,
            roots: vec![self.dag.roots[n]],
            locals: PrimaryMap::new(),
            memo: HashMap::new(),
            uses: HashMap::new(),
        };
        k.count(self.dag.roots[n]);
        k.convert(self.dag.roots[n])?;
        let axes = |n: usize| ingested.roots[n].axes.iter().copied().collect::<BTreeSet<Axis>>();
        let fits = |m: usize| {
            let node = self.dag.roots[m];
            node != self.dag.roots[n]
                && self.heavy[node.index()]
                && self.once[node.index()] == self.once[self.dag.roots[n].index()]
                && axes(m) == axes(n)
                && self.made_of_runs(&k, node, &mut BTreeMap::new())
        };
        Ok(others.iter().copied().filter(|&m| fits(m)).collect())
    }

    /// Whether a kernel computes all reductions of a term, each as something that runs along with a pass.
    fn made_of_runs(&self, k: &Kernel<'_>, n: NodeId, memo: &mut BTreeMap<NodeId, bool>) -> bool {
        if let Some(&done) = memo.get(&n) {
            return done;
        }
        let runs = match k.memo.get(&n).map(|e| &**e) {
            Some(Expr::Local(l)) => k.locals[*l].def.runs().is_some(),
            _ => false,
        };
        let reduces = matches!(self.dag.nodes[n].term, Term::Reduce(..) | Term::Fold(..));
        let out = runs || (!reduces && self.dag.children(n).all(|c| self.made_of_runs(k, c, memo)));
        memo.insert(n, out);
        out
    }

    /// A kernel that stores these, the first over the most axes.
    fn kernel(&self, plan: &Plan, outputs: &[Output]) -> Result<KernelPlan, PassError> {
        let mut k = Kernel {
            b: self,
            roots: outputs.iter().map(|o| o.node).collect(),
            locals: PrimaryMap::new(),
            memo: HashMap::new(),
            uses: HashMap::new(),
        };
        for o in outputs {
            k.count(o.node);
        }
        let mut stores = Vec::new();
        for o in outputs {
            let expr = k.convert(o.node)?;
            stores.push(Store { value: o.value, axes: o.axes.clone(), index: o.index.clone(), expr });
        }
        let (Some(first), grid) =
            (outputs.first(), stores.iter().flat_map(|s: &Store| s.axes.iter().copied()))
        else {
            return Err(PassError::Bug("a kernel without a store".into()));
        };
        let grid: indexmap::IndexSet<Axis> = grid.collect();
        let data = &plan.values[first.value];
        let name = if data.name.is_empty() { first.value.to_string() } else { data.name.clone() };
        let name: String = format!("{}_{name}", plan.name)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        Ok(KernelPlan {
            name,
            grid: grid.into_iter().collect(),
            beside: false,
            continues: false,
            prologue: outputs.iter().all(|o| self.is_once(plan, o)),
            runs: None,
            locals: k.locals,
            stores,
            derivation: Vec::new(),
            refinements: Vec::new(),
            boundaries: Vec::new(),
        })
    }
}

/// What a kernel stores.
struct Output {
    value: Value,
    axes: Vec<Axis>,
    index: Vec<Ex>,
    node: NodeId,
}

struct Kernel<'a> {
    b: &'a Builder<'a>,
    roots: Vec<NodeId>,
    locals: PrimaryMap<Local, LocalData>,
    memo: HashMap<NodeId, Ex>,
    uses: HashMap<NodeId, u32>,
}

impl Kernel<'_> {
    fn stored(&self, n: NodeId) -> Option<&Stored> {
        if self.roots.contains(&n) || !self.b.heavy[n.index()] {
            return None;
        }
        self.b.stored.get(&self.b.canons.form(n)).filter(|s| !self.roots.contains(&s.node))
    }

    /// Counts how often each node is used within the kernel.
    fn count(&mut self, n: NodeId) {
        let uses = self.uses.entry(n).or_default();
        *uses += 1;
        if *uses == 1 && self.stored(n).is_none() {
            for c in self.b.dag.children(n).collect::<Vec<_>>() {
                self.count(c);
            }
        }
    }

    fn define(&mut self, n: NodeId, def: LocalDef) -> Ex {
        let parts = self.b.dag.nodes[n].parts;
        // An axis that only its block number mentions is not free: the local is one number per block.
        let axes: Vec<Axis> = parts.iter().filter(|p| p.part != Part::Outer).map(|p| p.axis).collect();
        // Within a block and along the whole axis the same is read at the same positions.
        let data = LocalData { axes, def };
        match self.locals.iter().find(|(_, l)| **l == data) {
            Some((same, _)) => ex::local(same),
            None => ex::local(self.locals.push(data)),
        }
    }

    /// The node as a local, whatever it is.
    fn local(&mut self, n: NodeId) -> Result<Local, PassError> {
        let e = self.convert(n)?;
        if let Expr::Local(l) = &*e {
            return Ok(*l);
        }
        let e = self.define(n, LocalDef::Map(e));
        self.memo.insert(n, e.clone());
        match &*e {
            Expr::Local(l) => Ok(*l),
            _ => Err(PassError::Bug("a local is not a local".into())),
        }
    }

    fn convert(&mut self, n: NodeId) -> Result<Ex, PassError> {
        if let Some(e) = self.memo.get(&n) {
            return Ok(e.clone());
        }
        let e = self.convert_new(n)?;
        self.memo.insert(n, e.clone());
        Ok(e)
    }

    fn convert_new(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let node = &self.b.dag.nodes[n];
        if let Some(s) = self.stored(n) {
            let here = self.b.canons.of(n);
            let index = s.order.iter().map(|&k| ex::pos(here.free[k])).collect();
            return Ok(ex::read(s.value, index));
        }
        let term = &node.term;
        let e = match term {
            Term::Num(x) => return Ok(ex::num(x.0)),
            Term::Pos(a) | Term::CutPos(a) => return Ok(ex::pos(*a)),
            Term::Size(s) => return Ok(ex::size(*s)),
            Term::Read(v, index) => {
                let index = index.iter().map(|&i| self.convert(child(i))).collect::<Result<Vec<_>, _>>()?;
                return Ok(ex::read(*v, index));
            }
            Term::Add(_) => self.sum(n)?,
            Term::Mul(_) => self.fold_operands(n, Binary::Mul)?,
            Term::Max(_) => self.fold_operands(n, Binary::Max)?,
            Term::Min(_) => self.fold_operands(n, Binary::Min)?,
            Term::Unary(f, [x]) => ex::unary(*f, self.convert(child(*x))?),
            Term::Binary(f, [a, b]) => ex::binary(*f, self.convert(child(*a))?, self.convert(child(*b))?),
            Term::Select([c, a, b]) => {
                ex::select(self.convert(child(*c))?, self.convert(child(*a))?, self.convert(child(*b))?)
            }
            Term::Cast(d, [x]) => ex::cast(*d, self.convert(child(*x))?),
            Term::Reduce(op, parts, [body]) => return self.reduce(n, *op, parts, child(*body)),
            Term::Hole => return Ok(ex::local(Local::from_u32(HOLE))),
            Term::Fold(..) => return self.fold(n),
            Term::Part(..) => return Err(PassError::Bug("a block marker was extracted".into())),
        };
        // Used more than once: named, so that it is computed once.
        if self.uses.get(&n).is_some_and(|&u| u > 1) {
            return Ok(self.define(n, LocalDef::Map(e)));
        }
        Ok(e)
    }

    /// A fold, whether or not its final value is stored elsewhere.
    fn fold(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let Term::Fold(axis, op, c) = &self.b.dag.nodes[n].term else {
            return Err(PassError::Bug("a fold is no fold".into()));
        };
        let mut tracks = Vec::new();
        for pair in c[2..].chunks(2) {
            let (t, y) = (child(pair[0]), child(pair[1]));
            let t = self.local(t)?;
            tracks.push((t, self.running(y, t, *axis)?));
        }
        let block = self.convert(child(c[0]))?;
        let action = self.action(child(c[1]), &c[2..])?;
        let own = BTreeMap::from([(Local::from_u32(HOLE), ex::local(Local::new(self.locals.len())))]);
        let action = replace_locals(&moved_first(&action), &own);
        Ok(self.define(n, LocalDef::Fold { op: *op, axis: *axis, block, action, tracks }))
    }

    /// What a fold tracks, of all blocks: computed in step even where its final value is stored elsewhere.
    fn running(&mut self, y: NodeId, t: Local, axis: Axis) -> Result<Local, PassError> {
        if let Some(Expr::Local(l)) = self.memo.get(&y).map(|e| (**e).clone())
            && matches!(self.locals[l].def, LocalDef::Running { .. } | LocalDef::Fold { .. })
        {
            return Ok(l);
        }
        let e = match self.b.dag.nodes[y].term {
            Term::Reduce(op, ..) => self.define(y, LocalDef::Running { op, axis, block: ex::local(t) }),
            Term::Fold(..) => self.fold(y)?,
            _ => return Err(PassError::Bug("a fold tracks what does not run".into())),
        };
        self.memo.insert(y, e.clone());
        match &*e {
            Expr::Local(l) => Ok(*l),
            _ => Err(PassError::Bug("a local is not a local".into())),
        }
    }

    /// An action as an expression over the moved value and what is tracked alone, so that it can be evaluated at other pairs of values.
    /// What compares and chooses more than once has a name.
    fn action(&mut self, n: NodeId, tracked: &[egg::Id]) -> Result<Ex, PassError> {
        let only: HashMap<NodeId, Ex> =
            tracked.iter().filter_map(|&t| Some((child(t), self.memo.get(&child(t))?.clone()))).collect();
        let memo = std::mem::replace(&mut self.memo, only);
        let mut named = HashMap::new();
        self.named(n, &mut named, &mut HashMap::new());
        let uses = std::mem::replace(&mut self.uses, named);
        let e = self.convert(n);
        self.memo = memo;
        self.uses = uses;
        e
    }

    /// How often what compares and chooses is used, of the parts of an action that do not hold what it moves; whether it holds that.
    fn named(&self, n: NodeId, out: &mut HashMap<NodeId, u32>, seen: &mut HashMap<NodeId, bool>) -> bool {
        if let Some(&holds) = seen.get(&n) {
            return holds;
        }
        let term = &self.b.dag.nodes[n].term;
        let mut holds = matches!(term, Term::Hole);
        if !self.memo.contains_key(&n) {
            for c in self.b.dag.children(n) {
                holds |= self.named(c, out, seen);
            }
        }
        if !holds && matches!(term, Term::Select(_) | Term::Binary(..) | Term::Max(_) | Term::Min(_)) {
            out.extend(self.uses.get(&n).map(|&u| (n, u)));
        }
        seen.insert(n, holds);
        holds
    }

    fn reduce(&mut self, n: NodeId, op: Reduction, parts: &[SubAxis], body: NodeId) -> Result<Ex, PassError> {
        let body_ex = self.convert(body)?;
        let of =
            |part: Part| -> Vec<Axis> { parts.iter().filter(|p| p.part == part).map(|p| p.axis).collect() };
        let (whole, outer, inner) = (of(Part::Whole), of(Part::Outer), of(Part::Inner));
        match (&whole[..], &outer[..], &inner[..]) {
            (axes, [], []) => Ok(self.define(n, LocalDef::Reduce { op, axes: axes.to_vec(), body: body_ex })),
            ([], [axis], []) => Ok(self.define(n, LocalDef::Running { op, axis: *axis, block: body_ex })),
            (axes, [], [axis]) => {
                let body = if axes.is_empty() {
                    body_ex
                } else {
                    let free: Vec<Axis> = self.b.dag.nodes[body]
                        .parts
                        .iter()
                        .filter(|p| p.part != Part::Outer && !axes.contains(&p.axis))
                        .map(|p| p.axis)
                        .collect();
                    let def = LocalDef::Reduce { op, axes: axes.to_vec(), body: body_ex };
                    ex::local(self.locals.push(LocalData { axes: free, def }))
                };
                Ok(self.define(n, LocalDef::Block { op, axis: *axis, body }))
            }
            _ => Err(PassError::Limit(
                "one reduction over blocks of several axes at once; split it into nested reductions".into(),
            )),
        }
    }

    /// Operands in the order in which they are combined.
    fn operands(&self, n: NodeId) -> Vec<NodeId> {
        let dag = self.b.dag;
        let mut ops: Vec<NodeId> = dag.nodes[n].term.children().iter().map(|&c| child(c)).collect();
        ops.sort_by(|&a, &b| {
            let size = |x: NodeId| self.b.sizes.product(&dag.nodes[x].free);
            size(a).total_cmp(&size(b)).then(a.cmp(&b))
        });
        // Several inverses: each is multiplied with what it scales before the next one comes, or their product overflows
        // where the quotients do not.
        let is_inverse = |n: &NodeId| matches!(dag.nodes[*n].term, Term::Unary(Unary::Inv, _));
        if matches!(dag.nodes[n].term, Term::Mul(_)) && ops.iter().filter(|n| is_inverse(n)).count() > 1 {
            let (inverses, mut plain): (Vec<NodeId>, Vec<NodeId>) = ops.into_iter().partition(is_inverse);
            plain.reverse();
            let mut inverses = inverses.into_iter();
            ops = Vec::new();
            for p in plain {
                ops.push(p);
                ops.extend(inverses.next());
            }
            ops.extend(inverses);
        }
        ops
    }

    fn fold_operands(&mut self, n: NodeId, f: Binary) -> Result<Ex, PassError> {
        let ops = self.operands(n);
        let mut out: Option<Ex> = None;
        for op in ops {
            let e = self.convert(op)?;
            out = Some(match out {
                None => e,
                Some(x) => ex::binary(f, x, e),
            });
        }
        out.ok_or_else(|| PassError::Bug("an operation without operands".into()))
    }

    /// A sum: terms with a factor of -1 are subtracted, one by one: `a - (b + c)` would be another term, and round where
    /// `a - b` does not. Of reals the source says what is added up first.
    fn sum(&mut self, n: NodeId) -> Result<Ex, PassError> {
        let operands = self.operands(n);
        let brackets = match self.b.dag.nodes[n].kind {
            Kind::Real => self.b.sums.brackets(self.b.dag, &operands),
            _ => operands.into_iter().map(Brackets::One).collect(),
        };
        let mut minus = Vec::new();
        if let Some(all) = self.added(brackets, &mut minus)? {
            return Ok(all);
        }
        let mut minus = minus.into_iter();
        let first = minus.next().ok_or_else(|| PassError::Bug("a sum without terms".into()))?;
        Ok(minus.fold(ex::unary(Unary::Neg, first), ex::sub))
    }

    /// What these add up to, if some of them is added; if all are subtracted, they are left to be.
    fn added(&mut self, brackets: Vec<Brackets>, left: &mut Vec<Ex>) -> Result<Option<Ex>, PassError> {
        let (mut plus, mut minus) = (Vec::new(), Vec::new());
        for b in brackets {
            match b {
                Brackets::All(inner) => plus.extend(self.added(inner, &mut minus)?),
                Brackets::One(op) => match self.negated(op)? {
                    Some(e) => minus.push(e),
                    None => plus.push(self.convert(op)?),
                },
            }
        }
        match plus.into_iter().reduce(ex::add) {
            Some(first) => Ok(Some(minus.into_iter().fold(first, ex::sub))),
            None => {
                left.extend(minus);
                Ok(None)
            }
        }
    }

    /// `x` if the node is `-1 * x` and nobody else needs the product.
    fn negated(&mut self, n: NodeId) -> Result<Option<Ex>, PassError> {
        if self.stored(n).is_some() {
            return Ok(None);
        }
        let Term::Mul(factors) = &self.b.dag.nodes[n].term else { return Ok(None) };
        let minus = Term::Num(Num(-1.0));
        let Some(at) = factors.iter().position(|&f| self.b.dag.nodes[child(f)].term == minus) else {
            return Ok(None);
        };
        let mut rest: Vec<NodeId> = self.operands(n);
        let dropped = child(factors[at]);
        rest.retain(|&r| r != dropped);
        let mut out: Option<Ex> = None;
        for r in rest {
            let e = self.convert(r)?;
            out = Some(match out {
                None => e,
                Some(x) => ex::mul(x, e),
            });
        }
        Ok(out)
    }
}

/// Stands for the value that an action moves until its fold has a number.
const HOLE: u32 = u32::MAX - 1;

/// A product with the moved value as its first factor and all others as its second.
fn moved_first(e: &Ex) -> Ex {
    fn factors(e: &Ex, out: &mut Vec<Ex>) {
        match &**e {
            Expr::Binary(Binary::Mul, a, b) => [a, b].into_iter().for_each(|x| factors(x, out)),
            _ => out.push(e.clone()),
        }
    }
    let mut all = Vec::new();
    factors(e, &mut all);
    let hole = |e: &Ex| matches!(**e, Expr::Local(l) if l.as_u32() == HOLE);
    let Some(at) = all.iter().position(hole) else { return e.clone() };
    let v = all.remove(at);
    match all.into_iter().reduce(ex::mul) {
        Some(rest) => ex::mul(v, rest),
        None => v,
    }
}
