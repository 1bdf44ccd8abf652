//! Functions into the e-graph: values are inlined, differences and quotients normalised, narrowings set aside.
//!
//! Why here: the search must see through every value; which values are stored is decided after it.
//!
//! Pre: a verified function. Post: one class per equation and per updated element; `Neg`, `Sub`, `Div` and casts to
//! floating-point types do not occur. Binders that would capture a position are renamed to new axes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cranelift_entity::PrimaryMap;
use egg::Id;
use tilewright_ir::expr::Num;
use tilewright_ir::graph::{Def, Function, ParamKind};
use tilewright_ir::{Axis, AxisData, Binary, DType, Ex, Expr, Extent, Reduction, Sym, SymData, Unary, Value};

use super::axes::MAX_AXES;
use super::facts::Kind;
use super::{AxisSet, Facts, Graph, Part, SubAxis, Term};
use crate::PassError;
use crate::algebra::laws::construct;

mod depth;
mod forward;

/// What must be computed: an equation that leaves the function, or the elements that an update writes.
#[derive(Clone, Debug)]
pub struct Root {
    /// The tensor.
    pub value: Value,
    /// The axes over which it is computed.
    pub axes: Vec<Axis>,
    /// Where the element goes.
    pub index: Vec<Ex>,
    /// The class of the element.
    pub class: Id,
}

/// A function in the e-graph.
pub struct Ingested {
    /// The e-graph.
    pub graph: Graph,
    /// What must be computed, in order.
    pub roots: Vec<Root>,
    /// The function's axes and those that renaming added.
    pub axes: PrimaryMap<Axis, AxisData>,
    /// Axes whose reductions are nested in one another through a maximum or a mean that is subtracted: the ones worth cutting
    /// into blocks.
    pub cascades: Vec<Axis>,
    /// The class of each equation value, for names.
    pub values: BTreeMap<Value, Id>,
    /// The number of terms before the search: smaller ids are terms of the source.
    pub source_terms: usize,
    /// Whether something that an update writes is read as it was computed.
    pub forwarded: bool,
}

struct Builder<'a> {
    function: &'a Function,
    symbols: &'a PrimaryMap<Sym, SymData>,
    /// Axes along which means are written with a count of the positions, so that blocks have means too; of all axes while
    /// it is not known yet which will be cut.
    counted: Option<Vec<Axis>>,
    graph: Graph,
    axes: PrimaryMap<Axis, AxisData>,
    memo: HashMap<Read, Id>,
    cascades: Vec<Axis>,
    /// Whether updates may be read as what they write was computed.
    forward: bool,
    /// Whether one was.
    forwards: bool,
    /// Positions that are known to exist along axes of these extents.
    exist: Vec<(Id, Extent)>,
}

/// An element that is read, and which positions are known to exist.
type Read = (Value, Vec<Id>, Vec<(Id, Extent)>);

type Env = Vec<(Axis, Id)>;

/// Builds the e-graph of a function. See the module.
pub fn ingest(function: &Function, symbols: &PrimaryMap<Sym, SymData>) -> Result<Ingested, PassError> {
    ingest_as(function, symbols, false)
}

/// The same, with what updates write read as it was computed.
pub fn ingest_forwarded(
    function: &Function,
    symbols: &PrimaryMap<Sym, SymData>,
) -> Result<Ingested, PassError> {
    ingest_as(function, symbols, true)
}

fn ingest_as(
    function: &Function,
    symbols: &PrimaryMap<Sym, SymData>,
    forward: bool,
) -> Result<Ingested, PassError> {
    depth::check(function, forward)?;
    let tried = build(function, symbols, None, forward)?;
    let counted = tried.cascades.iter().filter(|&&a| counts(&tried.graph, a)).copied().collect();
    build(function, symbols, Some(counted), forward)
}

fn build(
    function: &Function,
    symbols: &PrimaryMap<Sym, SymData>,
    counted: Option<Vec<Axis>>,
    forward: bool,
) -> Result<Ingested, PassError> {
    let mut facts = Facts::default();
    for (v, data) in &function.values {
        let kind = match data.dtype {
            DType::Bool => Kind::Bool,
            d if d.is_int() => Kind::Int,
            _ => Kind::Real,
        };
        facts.kinds.insert(v, kind);
        if data.def == Def::Param(ParamKind::Weight) {
            facts.weights.insert(v);
        }
    }
    for (a, data) in &function.axes {
        if data.extent.least(symbols) == 0 {
            facts.may_be_empty.insert(SubAxis::whole(a));
        }
        if data.extent.as_const().is_none() {
            facts.varying.insert(SubAxis::whole(a));
        }
    }
    let mut b = Builder {
        function,
        symbols,
        counted,
        graph: Graph::new(facts).with_explanations_enabled().without_explanation_length_optimization(),
        axes: function.axes.clone(),
        memo: HashMap::new(),
        cascades: Vec::new(),
        forward,
        forwards: false,
        exist: Vec::new(),
    };
    let mut roots = Vec::new();
    for (value, data) in &function.values {
        match &data.def {
            Def::Equation(_) if function.results.contains(&value) => {
                let index: Vec<Id> = data.axes.iter().map(|&a| b.graph.add(Term::Pos(a))).collect();
                let class = b.value(value, &index)?;
                let index = data.axes.iter().map(|&a| Arc::new(Expr::Pos(a))).collect();
                roots.push(Root { value, axes: data.axes.clone(), index, class });
            }
            Def::Update { domain, index, value: expr, .. } => {
                let class = b.expr(expr, &Vec::new())?;
                roots.push(Root { value, axes: domain.clone(), index: index.clone(), class });
            }
            _ => {}
        }
    }
    b.graph.rebuild();
    let mut values = BTreeMap::new();
    for (value, data) in &function.values {
        if matches!(data.def, Def::Equation(_)) {
            let index: Vec<Id> = data.axes.iter().map(|&a| b.graph.add(Term::Pos(a))).collect();
            if let Some(&id) = b.memo.get(&(value, index, Vec::new())) {
                values.insert(value, id);
            }
        }
    }
    if b.axes.len() > MAX_AXES {
        return Err(PassError::Limit(format!(
            "function `{}` has {} axes; the search holds {MAX_AXES}",
            function.name,
            b.axes.len()
        )));
    }
    let source_terms = b.graph.nodes().len();
    let forwarded = b.forwards;
    Ok(Ingested {
        source_terms,
        forwarded,
        graph: b.graph,
        roots,
        axes: b.axes,
        cascades: b.cascades,
        values,
    })
}

impl Builder<'_> {
    fn value(&mut self, value: Value, index: &[Id]) -> Result<Id, PassError> {
        let data = &self.function.values[value];
        match &data.def {
            Def::Equation(expr) => {
                let key = (value, index.to_vec(), self.exist.clone());
                if let Some(&id) = self.memo.get(&key) {
                    return Ok(id);
                }
                let env: Env = data.axes.iter().copied().zip(index.iter().copied()).collect();
                let inside = self.inside(&data.axes, index);
                let mut id = self.expr(expr, &env)?;
                // Indices outside of the tensor read 0, whatever its equation would give there.
                if let Some(inside) = inside {
                    let zero = self.num(0.0);
                    id = self.graph.add(Term::Select([inside, id, zero]));
                }
                self.memo.insert(key, id);
                Ok(id)
            }
            Def::Update { .. } if self.forward => match self.forwarded(value, index)? {
                Some(id) => Ok(id),
                None => Ok(self.graph.add(Term::Read(value, index.into()))),
            },
            _ => Ok(self.graph.add(Term::Read(value, index.into()))),
        }
    }

    /// The condition that the indices are within the extents of the axes, where it is not plain.
    fn inside(&mut self, axes: &[Axis], index: &[Id]) -> Option<Id> {
        let mut all: Option<Id> = None;
        for (&axis, &i) in axes.iter().zip(index) {
            let extent = self.axes[axis].extent;
            if self.exist.contains(&(i, extent)) {
                continue;
            }
            let (least, size) = match extent {
                Extent::Const(n) => (n, construct::num(&mut self.graph, n as f64)),
                Extent::Sym(s) => (self.symbols[s].min, self.graph.add(Term::Size(extent))),
            };
            let known = &self.graph[i].data;
            let (lo, hi) = (known.lo, known.hi);
            let below = match known.smallest {
                Term::Pos(a) => {
                    let other = self.axes[a].extent;
                    let most = match other {
                        Extent::Const(n) => n,
                        Extent::Sym(s) => self.symbols[s].max,
                    };
                    other == extent || most <= least
                }
                _ => hi < least as f64,
            };
            let mut add = |b: &mut Self, test: Term| {
                let test = b.graph.add(test);
                all = Some(match all {
                    None => test,
                    Some(before) => b.graph.add(Term::Binary(Binary::And, [before, test])),
                });
            };
            if lo < 0.0 {
                let zero = self.num(0.0);
                add(self, Term::Binary(Binary::Ge, [i, zero]));
            }
            if !below {
                add(self, Term::Binary(Binary::Lt, [i, size]));
            }
        }
        all
    }

    fn expr(&mut self, e: &Ex, env: &Env) -> Result<Id, PassError> {
        Ok(match &**e {
            Expr::Num(n) => self.graph.add(Term::Num(*n)),
            Expr::Pos(a) => match env.iter().find(|(b, _)| a == b) {
                Some((_, id)) => *id,
                None => self.graph.add(Term::Pos(*a)),
            },
            Expr::Size(Extent::Const(n)) => self.graph.add(Term::Num(Num(*n as f64))),
            Expr::Size(s) => self.graph.add(Term::Size(*s)),
            Expr::Read(v, index) => {
                let index = index.iter().map(|i| self.expr(i, env)).collect::<Result<Vec<_>, _>>()?;
                self.value(*v, &index)?
            }
            Expr::Unary(Unary::Neg, x) => {
                let x = self.expr(x, env)?;
                construct::neg(&mut self.graph, x)
            }
            Expr::Unary(u, x) => {
                let x = self.expr(x, env)?;
                construct::unary(&mut self.graph, *u, x)
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                let g = &mut self.graph;
                match op {
                    Binary::Add => construct::add(g, vec![a, b]),
                    Binary::Sub => {
                        let b = construct::neg(g, b);
                        construct::add(g, vec![a, b])
                    }
                    Binary::Mul | Binary::Div => {
                        let b = match self.count(*op, a, b) {
                            Some(count) => self.graph.add(Term::Unary(Unary::Inv, [count])),
                            None if *op == Binary::Div => construct::unary(&mut self.graph, Unary::Inv, b),
                            None => b,
                        };
                        construct::mul(&mut self.graph, vec![a, b])
                    }
                    Binary::Max => construct::max(g, vec![a, b]),
                    Binary::Min => construct::min(g, vec![a, b]),
                    _ => g.add(Term::Binary(*op, [a, b])),
                }
            }
            Expr::Select(c, a, b) => {
                let ids = [self.expr(c, env)?, self.expr(a, env)?, self.expr(b, env)?];
                self.graph.add(Term::Select(ids))
            }
            Expr::Cast(d, x) => {
                let id = self.expr(x, env)?;
                let kind = self.graph[id].data.kind;
                match (d, kind) {
                    (DType::Bool, Kind::Bool) => id,
                    (_, Kind::Bool) => {
                        let (one, zero) = (self.num(1.0), self.num(0.0));
                        self.graph.add(Term::Select([id, one, zero]))
                    }
                    (DType::Bool, _) => {
                        let zero = self.num(0.0);
                        self.graph.add(Term::Binary(Binary::Ne, [id, zero]))
                    }
                    // Narrowing is a refinement: placed again when values are stored.
                    (d, _) if d.is_float() => id,
                    (DType::I32 | DType::I64, Kind::Int) => id,
                    _ => self.graph.add(Term::Cast(*d, [id])),
                }
            }
            Expr::Reduce(op, bound, body) => {
                let mut env: Env = env.iter().filter(|(a, _)| !bound.contains(a)).cloned().collect();
                let mut bound = bound.clone();
                let free: Vec<Axis> = body.free_axes().into_iter().collect();
                let captured = env
                    .iter()
                    .filter(|(a, _)| free.contains(a))
                    .fold(AxisSet::default(), |s, (_, id)| s.union(self.graph[*id].data.free));
                for b in &mut bound {
                    if captured.contains(SubAxis::whole(*b)) {
                        let fresh = self.fresh(*b);
                        env.push((*b, self.graph.add(Term::Pos(fresh))));
                        *b = fresh;
                    }
                }
                let id = self.expr(body, &env)?;
                for &b in &bound {
                    let nests = |what| nests(&self.graph, id, b, what, &mut Vec::new());
                    if !self.cascades.contains(&b) && (nests(is_extreme) || nests(subtracts_mean)) {
                        self.cascades.push(b);
                    }
                }
                construct::reduce(&mut self.graph, *op, bound.into_iter().map(SubAxis::whole).collect(), id)
            }
            Expr::Local(_) | Expr::Tile(_) => {
                return Err(PassError::Bug("a graph holds a leaf of a lower level".into()));
            }
        })
    }

    fn num(&mut self, x: f64) -> Id {
        self.graph.add(Term::Num(Num(x)))
    }

    /// For `a / b` and `a * b` that are the mean of what `a` sums: the number of summed positions, as a sum of ones.
    fn count(&mut self, op: Binary, a: Id, b: Id) -> Option<Id> {
        let axes = self.graph[a].nodes.iter().find_map(summed)?.to_vec();
        // The number of positions: of constant extents together, and symbols.
        let (mut known, mut symbols) = (1_u64, Vec::new());
        for a in &axes {
            match self.axes[a.axis].extent {
                Extent::Const(0) => return None,
                Extent::Const(n) => known = known.checked_mul(n)?,
                symbol => symbols.push(symbol),
            }
        }
        if known == 1 && symbols.is_empty() {
            // A mean of one position is no sum.
            return None;
        }
        let by = &self.graph[b].data.smallest;
        let is_mean = match op {
            Binary::Mul => symbols.is_empty() && *by == Term::Num(Num(1.0 / known as f64)),
            _ => self.is_number(by, known, symbols),
        };
        let counted = |axis: Axis| self.counted.as_ref().is_none_or(|c| c.contains(&axis));
        if !is_mean || !axes.iter().any(|a| counted(a.axis)) {
            return None;
        }
        let one = self.num(1.0);
        Some(construct::reduce(&mut self.graph, Reduction::Sum, axes, one))
    }

    /// Whether a term is the product of a number and of symbols.
    fn is_number(&self, term: &Term, number: u64, mut symbols: Vec<Extent>) -> bool {
        let own = [term.clone()];
        let factors: Vec<&Term> = match term {
            Term::Mul(c) => c.iter().map(|&f| &self.graph[f].data.smallest).collect(),
            _ => own.iter().collect(),
        };
        let mut literal = 1.0;
        for f in factors {
            match f {
                Term::Num(x) => literal *= x.0,
                Term::Size(s) => match symbols.iter().position(|e| e == s) {
                    Some(at) => drop(symbols.swap_remove(at)),
                    None => return false,
                },
                _ => return false,
            }
        }
        symbols.is_empty() && literal == number as f64
    }

    fn fresh(&mut self, axis: Axis) -> Axis {
        let AxisData { name, extent } = self.axes[axis].clone();
        let mut name = format!("{name}_");
        while self.axes.values().any(|a| a.name == name) {
            name.push('_');
        }
        let fresh = self.axes.push(AxisData { name, extent });
        let facts = &mut self.graph.analysis;
        for set in [&mut facts.may_be_empty, &mut facts.varying] {
            if set.contains(SubAxis::whole(axis)) {
                set.insert(SubAxis::whole(fresh));
            }
        }
        fresh
    }
}

/// The axes of a sum over whole axes.
fn summed(node: &Term) -> Option<&[SubAxis]> {
    match node {
        Term::Reduce(Reduction::Sum, axes, _) if axes.iter().all(|a| a.part == Part::Whole) => Some(axes),
        _ => None,
    }
}

/// Whether the term holds a node with this property along `axis`.
fn nests(g: &Graph, id: Id, axis: Axis, what: fn(&Graph, &Term, Axis) -> bool, seen: &mut Vec<Id>) -> bool {
    if seen.contains(&id) || !g[id].data.mentions.contains(SubAxis::whole(axis)) {
        return false;
    }
    seen.push(id);
    g[id].nodes.iter().any(|n| {
        what(g, n, axis) || egg::Language::children(n).iter().any(|&c| nests(g, c, axis, what, seen))
    })
}

/// Whether the node is a maximum or a minimum over the axis.
fn is_extreme(_: &Graph, node: &Term, axis: Axis) -> bool {
    matches!(node, Term::Reduce(Reduction::Max | Reduction::Min, s, _) if s.contains(&SubAxis::whole(axis)))
}

/// Whether the node is a sum of what depends on the axis and a multiple of the mean along it.
fn subtracts_mean(g: &Graph, node: &Term, axis: Axis) -> bool {
    let Term::Add(terms) = node else { return false };
    let whole = SubAxis::whole(axis);
    let is_mean = |&t: &Id| {
        let Term::Mul(factors) = &g[t].data.smallest else { return false };
        let along = |axes: &&[SubAxis]| axes.contains(&whole);
        let sums = factors.iter().flat_map(|&f| &g[f].nodes).filter_map(summed).filter(along);
        sums.into_iter().any(|axes| factors.iter().any(|&f| is_count(g, f, axes)))
    };
    terms.iter().any(|&t| g[t].data.free.contains(whole)) && terms.iter().any(is_mean)
}

/// Whether the term is the inverse of the number of positions of the axes, written as a sum.
fn is_count(g: &Graph, id: Id, axes: &[SubAxis]) -> bool {
    let ones = |n: &Term| matches!(n, Term::Reduce(_, _, [x]) if summed(n) == Some(axes) && construct::literal(g, *x) == Some(1.0));
    g[id].nodes.iter().any(|n| matches!(n, Term::Unary(Unary::Inv, [y]) if g[*y].nodes.iter().any(ones)))
}

/// Whether the function has a mean along the axis that is subtracted.
fn counts(g: &Graph, axis: Axis) -> bool {
    g.classes().any(|c| c.nodes.iter().any(|n| subtracts_mean(g, n, axis)))
}
