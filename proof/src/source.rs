//! The source term of an equation, derived from the graph.
//!
//! Why here: a certificate says what it starts from; the checker does not believe it. Values are inlined, differences and
//! quotients written with `-1 *` and `inv`, conversions between floating-point types set aside (they are refinements),
//! reads outside of a tensor are 0.
//!
//! Pre: a verified function whose axes and tensors are declared. Post: no binder has the name of an axis that is free in what
//! was put below it. Binders of one reduction have the same names wherever it is read, so that what is read at one place
//! from many is one term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap as HashMap;
use tilewright_ir::graph::{Def, Function};
use tilewright_ir::{Axis, Binary, DType, Ex, Expr, Extent, Reduction, Unary, Value};

use crate::facts::Kind;
use crate::term::{Id, Node, Piece, Terms};

type Env = BTreeMap<Axis, Id>;

/// An element that is read, and which positions are known to exist.
type Element = (Value, Vec<Id>, BTreeSet<(Id, Axis)>);

/// Derives terms of one function.
pub struct Source<'a> {
    function: &'a Function,
    memo: HashMap<Element, Id>,
    /// Whether updates may be read as what they write.
    forward: bool,
    /// Whether one was.
    pub forwarded: bool,
    /// Positions that exist along an axis, where they are read.
    exist: BTreeSet<(Id, Axis)>,
    /// The names of each axis that a reduction binds: the first, and others for where that one would capture a position.
    names: HashMap<(*const Expr, Axis), Vec<Axis>>,
}

/// Declares the axes and tensors of a function.
pub fn declare(
    t: &mut Terms,
    axes: &tilewright_ir::PrimaryMap<Axis, tilewright_ir::AxisData>,
    values: &tilewright_ir::PrimaryMap<Value, tilewright_ir::graph::ValueData>,
    symbols: &tilewright_ir::PrimaryMap<tilewright_ir::Sym, tilewright_ir::SymData>,
) {
    for (a, data) in axes {
        t.declare(a, data.extent);
    }
    for (v, data) in values {
        t.kinds.insert(v, kind(data.dtype));
    }
    for (s, data) in symbols {
        t.least.insert(s, data.min);
        t.most.insert(s, data.max);
    }
}

/// The kind of a tensor's elements.
pub fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::Bool => Kind::Bool,
        d if d.is_int() => Kind::Int,
        _ => Kind::Real,
    }
}

impl<'a> Source<'a> {
    /// Of this function.
    pub fn new(function: &'a Function) -> Source<'a> {
        Source {
            function,
            memo: HashMap::default(),
            forward: false,
            forwarded: false,
            exist: BTreeSet::new(),
            names: HashMap::default(),
        }
    }

    /// The same, with updates read as what they write was computed.
    pub fn forwarding(self, forward: bool) -> Source<'a> {
        Source { forward, ..self }
    }

    /// What the element of a value is at the positions of its axes; of an update, the element that is written.
    pub fn root(&mut self, t: &mut Terms, value: Value) -> Option<Id> {
        let data = self.function.values.get(value)?;
        match &data.def {
            Def::Equation(_) => {
                let index: Vec<Id> = data.axes.iter().map(|&a| t.add(Node::Pos(a))).collect();
                self.value(t, value, &index)
            }
            Def::Update { value, .. } => self.expr(t, value, &Env::new()),
            Def::Param(_) => None,
        }
    }

    fn value(&mut self, t: &mut Terms, value: Value, index: &[Id]) -> Option<Id> {
        let data = self.function.values.get(value)?;
        let Def::Equation(expr) = &data.def else {
            let updated = if self.forward { self.updated(t, value, index) } else { None };
            return Some(updated.unwrap_or_else(|| t.add(Node::Read(value, index.to_vec()))));
        };
        let key = (value, index.to_vec(), self.exist.clone());
        if let Some(&id) = self.memo.get(&key) {
            return Some(id);
        }
        let env: Env = data.axes.iter().copied().zip(index.iter().copied()).collect();
        let mut id = self.expr(t, expr, &env)?;
        if let Some(inside) = inside(t, &data.axes, index, &self.exist) {
            let zero = t.num(0.0);
            id = t.add(Node::Select([inside, id, zero]));
        }
        self.memo.insert(key, id);
        Some(id)
    }

    /// An element of a state after an update: what the update writes, if it writes there, else what was there before. `None`
    /// unless each axis of the domain is a position of one dimension, up to an offset that is known without it: then at most
    /// one position writes the element, and it is known which.
    fn updated(&mut self, t: &mut Terms, value: Value, index: &[Id]) -> Option<Id> {
        let function = self.function;
        let data = function.values.get(value)?;
        let Def::Update { of, domain, index: to, value: new } = &data.def else { return None };
        if inside(t, &data.axes, index, &self.exist).is_some() {
            return None;
        }
        let mut found: Vec<(Axis, Id)> = Vec::new();
        let (mut moved, mut only) = (Vec::new(), Vec::new());
        for ((mut e, &axis), &at) in to.iter().zip(&data.axes).zip(index) {
            let extent = function.axes.get(axis)?.extent.as_const();
            // What goes beyond the end is not written.
            while let Expr::Select(c, within, beyond) = &**e {
                let from = match &**beyond {
                    Expr::Num(n) => n.0,
                    Expr::Size(Extent::Const(n)) => *n as f64,
                    _ => return None,
                };
                if from < extent? as f64 {
                    return None;
                }
                only.push(c);
                e = within;
            }
            match &**e {
                Expr::Pos(a) => found.push((*a, at)),
                Expr::Binary(Binary::Add, x, y) => moved.push((x, y, at)),
                _ => return None,
            }
        }
        let known: Env = found.iter().copied().collect();
        for (x, y, at) in moved {
            let own = |e: &Ex| match &**e {
                Expr::Pos(a) if domain.contains(a) => Some(*a),
                _ => None,
            };
            let (axis, offset) = match (own(x), own(y)) {
                (Some(a), None) => (a, y),
                (None, Some(a)) => (a, x),
                _ => return None,
            };
            if offset.free_axes().iter().any(|a| !known.contains_key(a)) {
                return None;
            }
            let offset = self.expr(t, offset, &known)?;
            let minus = unary(t, Unary::Neg, offset);
            found.push((axis, t.add(Node::Add(vec![at, minus]))));
        }
        let env: Env = found.iter().copied().collect();
        if env.len() != found.len()
            || env.len() != domain.len()
            || !domain.iter().all(|a| env.contains_key(a))
        {
            return None;
        }
        let (axes, at): (Vec<Axis>, Vec<Id>) = found.into_iter().unzip();
        let mut test = inside(t, &axes, &at, &self.exist);
        for c in only {
            let c = self.expr(t, c, &env)?;
            test = Some(match test {
                None => c,
                Some(before) => t.add(Node::Binary(Binary::And, [before, c])),
            });
        }
        let outer = self.exist.clone();
        self.exist.extend(env.iter().map(|(&a, &id)| (id, a)));
        let new = self.expr(t, new, &env);
        self.exist = outer;
        let (new, old) = (new?, self.value(t, *of, index)?);
        self.forwarded = true;
        Some(match test {
            None => new,
            Some(test) => t.add(Node::Select([test, new, old])),
        })
    }

    /// A name for an axis that a reduction binds, none of those that are taken.
    fn name(&mut self, t: &mut Terms, e: &Ex, axis: Axis, taken: &BTreeSet<Piece>) -> Axis {
        let known = self.names.entry((Arc::as_ptr(e), axis)).or_default();
        if let Some(&free) = known.iter().find(|&&n| !taken.contains(&Piece::whole(n))) {
            return free;
        }
        let own = t.fresh(axis);
        known.push(own);
        own
    }

    fn expr(&mut self, t: &mut Terms, e: &Ex, env: &Env) -> Option<Id> {
        Some(match &**e {
            Expr::Num(n) => t.add(Node::Num(*n)),
            Expr::Pos(a) => match env.get(a) {
                Some(&id) => id,
                None => t.add(Node::Pos(*a)),
            },
            Expr::Size(Extent::Const(n)) => t.num(*n as f64),
            Expr::Size(s) => t.add(Node::Size(*s)),
            Expr::Read(v, index) => {
                let index = index.iter().map(|i| self.expr(t, i, env)).collect::<Option<Vec<_>>>()?;
                self.value(t, *v, &index)?
            }
            Expr::Unary(f, x) => {
                let x = self.expr(t, x, env)?;
                unary(t, *f, x)
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.expr(t, a, env)?, self.expr(t, b, env)?);
                binary(t, *op, a, b)
            }
            Expr::Select(c, a, b) => {
                let c = self.expr(t, c, env)?;
                let (a, b) = (self.expr(t, a, env)?, self.expr(t, b, env)?);
                t.add(Node::Select([c, a, b]))
            }
            Expr::Cast(d, x) => {
                let x = self.expr(t, x, env)?;
                cast(t, *d, x)
            }
            Expr::Reduce(op, bound, body) => {
                let taken: BTreeSet<Piece> =
                    env.values().flat_map(|&x| t.facts(x).free.iter().copied()).collect();
                let mut env = env.clone();
                let mut pieces = Vec::new();
                for &a in bound {
                    let own = self.name(t, e, a, &taken);
                    env.insert(a, t.add(Node::Pos(own)));
                    pieces.push(Piece::whole(own));
                }
                let body = self.expr(t, body, &env)?;
                reduce(t, *op, pieces, body)
            }
            Expr::Local(_) | Expr::Tile(_) => return None,
        })
    }
}

/// A function of one argument; a negation is a product.
pub(crate) fn unary(t: &mut Terms, f: Unary, x: Id) -> Id {
    if f == Unary::Neg {
        let minus = t.num(-1.0);
        return t.add(Node::Mul(vec![minus, x]));
    }
    t.add(Node::Unary(f, x))
}

/// A function of two arguments; differences and quotients are sums and products.
pub(crate) fn binary(t: &mut Terms, op: Binary, a: Id, b: Id) -> Id {
    match op {
        Binary::Add => t.add(Node::Add(vec![a, b])),
        Binary::Sub => {
            let b = unary(t, Unary::Neg, b);
            t.add(Node::Add(vec![a, b]))
        }
        Binary::Mul => t.add(Node::Mul(vec![a, b])),
        Binary::Div => {
            let b = t.add(Node::Unary(Unary::Inv, b));
            t.add(Node::Mul(vec![a, b]))
        }
        Binary::Max => t.add(Node::Max(vec![a, b])),
        Binary::Min => t.add(Node::Min(vec![a, b])),
        _ => t.add(Node::Binary(op, [a, b])),
    }
}

/// A conversion: of truth values a choice, to truth values a comparison, between floating-point types nothing.
pub(crate) fn cast(t: &mut Terms, d: DType, x: Id) -> Id {
    match (d, t.facts(x).kind) {
        (DType::Bool, Kind::Bool) => x,
        (_, Kind::Bool) => {
            let (one, zero) = (t.num(1.0), t.num(0.0));
            t.add(Node::Select([x, one, zero]))
        }
        (DType::Bool, _) => {
            let zero = t.num(0.0);
            t.add(Node::Binary(Binary::Ne, [x, zero]))
        }
        (d, _) if d.is_float() => x,
        (DType::I32 | DType::I64, Kind::Int) => x,
        _ => t.add(Node::Cast(d, x)),
    }
}

/// A reduction; over nothing the body.
pub(crate) fn reduce(t: &mut Terms, op: Reduction, mut pieces: Vec<Piece>, body: Id) -> Id {
    pieces.sort_unstable();
    pieces.dedup();
    if pieces.is_empty() { body } else { t.add(Node::Reduce(op, pieces, body)) }
}

/// The condition that indices are within the extents of axes, where it is neither plain nor known.
fn inside(t: &mut Terms, axes: &[Axis], index: &[Id], exist: &BTreeSet<(Id, Axis)>) -> Option<Id> {
    let mut all: Option<Id> = None;
    for (&axis, &i) in axes.iter().zip(index) {
        let Some(extent) = t.extent(axis) else { continue };
        if exist.iter().any(|&(at, a)| at == i && t.extent(a) == Some(extent)) {
            continue;
        }
        let (least, size) = match extent {
            Extent::Const(n) => (n, t.num(n as f64)),
            Extent::Sym(s) => (t.least.get(&s).copied().unwrap_or(0), t.add(Node::Size(extent))),
        };
        let below = match *t.node(i) {
            Node::Pos(a) => match t.extent(a) {
                Some(other) if other == extent => true,
                Some(Extent::Const(n)) => n <= least,
                Some(Extent::Sym(s)) => t.most.get(&s).is_some_and(|&n| n <= least),
                None => false,
            },
            _ => t.facts(i).hi < least as f64,
        };
        let mut tests = Vec::new();
        if t.facts(i).lo < 0.0 {
            let zero = t.num(0.0);
            tests.push(t.add(Node::Binary(Binary::Ge, [i, zero])));
        }
        if !below {
            tests.push(t.add(Node::Binary(Binary::Lt, [i, size])));
        }
        for test in tests {
            all = Some(match all {
                None => test,
                Some(before) => t.add(Node::Binary(Binary::And, [before, test])),
            });
        }
    }
    all
}
