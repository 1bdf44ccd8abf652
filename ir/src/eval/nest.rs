//! Loop nests: what one dense result is computed by.
//!
//! A nest computes `out[free] = root` or `out[free] = reduce[bound] root`. Compiling chooses the order of the loops,
//! moves each node out of the loops that it does not depend on, and makes the innermost loop a vector loop. The order
//! is chosen for contiguous reads; it never changes the meaning, only the order of sums.
//!
//! Pre: reductions below the root are arrays already ([`Src::Reduction`]).
//! Post: instructions of a level use results of the same or outer levels only.

use std::collections::BTreeMap;

use crate::eval::EvalError;
use crate::eval::domain::Sort;
use crate::eval::nodes::{Dag, Id, Node, Src, operands};
use crate::eval::tensor::strides;
use crate::{Axis, Binary, DType, Reduction, Unary};

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// A scalar register.
    S(usize),
    /// A vector register.
    V(usize),
}

/// One index of a read: `constant + sum of coefficient * position + dynamic`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DimIndex {
    pub(crate) constant: i64,
    /// Outer loop and coefficient.
    pub(crate) terms: Vec<(usize, i64)>,
    /// The coefficient of the innermost position.
    pub(crate) inner: i64,
    pub(crate) dynamic: Option<Operand>,
}

/// An instruction; the last operand of each is where the result goes.
#[derive(Clone, Debug)]
pub(crate) enum Instr {
    /// The position of an outer loop.
    Pos(usize, usize),
    /// The position of the innermost loop.
    Inner(usize),
    Unary(Unary, Sort, Operand, usize),
    Binary(Binary, Sort, Operand, Operand, usize),
    Select(Operand, Operand, Operand, usize),
    Cast(DType, Operand, usize),
    Read(Box<Read>, usize),
}

/// A read of an array.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Which of the nest's arrays.
    pub(crate) array: usize,
    pub(crate) dims: Vec<DimIndex>,
    /// When given, a read outside the array where this holds is a fault; without it, it reads 0.
    pub(crate) guard: Option<Operand>,
}

/// A compiled loop nest.
#[derive(Clone, Debug)]
pub(crate) struct Nest {
    /// The free axes in the order of the result.
    pub(crate) free: Vec<Axis>,
    /// The loops around the innermost, outermost first: free ones, then bound ones.
    pub(crate) outer: Vec<Axis>,
    /// How many of `outer` are free.
    pub(crate) outer_free: usize,
    /// The innermost axis; without axes there is one position.
    pub(crate) inner: Option<Axis>,
    /// Whether the innermost axis is bound.
    pub(crate) inner_bound: bool,
    /// The reduction and the sort it computes in.
    pub(crate) reduction: Option<(Reduction, Sort)>,
    /// Literals and the scalar registers that hold them.
    pub(crate) literals: Vec<(f64, usize)>,
    /// Scalar instructions: `scalars[n]` runs when loop `n - 1` has moved; `scalars[0]` once.
    pub(crate) scalars: Vec<Vec<Instr>>,
    /// Vector instructions.
    pub(crate) vectors: Vec<Instr>,
    pub(crate) scalar_registers: usize,
    pub(crate) vector_registers: usize,
    /// The result.
    pub(crate) root: Operand,
    /// When the root of a sum is a product: its factors, and the sort of the product.
    pub(crate) product: Option<(Operand, Operand, Sort)>,
    /// The arrays that are read.
    pub(crate) arrays: Vec<Src>,
}

/// What a nest is compiled against.
pub(crate) struct Shapes<'a> {
    /// How many positions of an axis are visited.
    pub(crate) extent: &'a dyn Fn(Axis) -> u64,
    /// The extents of an array.
    pub(crate) dims: &'a dyn Fn(Src) -> Option<Vec<usize>>,
}

/// A nest to compile.
pub(crate) struct Job<'a> {
    pub(crate) root: Id,
    pub(crate) free: &'a [Axis],
    /// The reduction, its axes, and the sort that it computes in.
    pub(crate) reduction: Option<(Reduction, &'a [Axis], Sort)>,
    /// Reads of this array must be inside it wherever the node holds; the node is older than the reads.
    pub(crate) guard: Option<(Src, Id)>,
}

/// An affine index: a constant and the coefficients of positions.
type Affine = (i64, BTreeMap<Axis, i64>);

/// Larger coefficients could overflow in products with positions; such indices are computed instead.
const AFFINE_LIMIT: i64 = 1 << 28;

/// The affine form of a node, if it has one.
fn affine(dag: &Dag, id: Id) -> Option<Affine> {
    let checked = |(c, terms): Affine| {
        let small = |x: &i64| x.abs() <= AFFINE_LIMIT;
        (small(&c) && terms.values().all(small)).then_some((c, terms))
    };
    let combine = |(ca, mut ta): Affine, (cb, tb): Affine, sign: i64| {
        for (axis, c) in tb {
            *ta.entry(axis).or_insert(0) += sign * c;
        }
        (ca + sign * cb, ta)
    };
    let form = match dag.node(id) {
        Node::Num(n) if n.0.fract() == 0.0 && n.0.abs() <= AFFINE_LIMIT as f64 => {
            (n.0 as i64, BTreeMap::new())
        }
        Node::Pos(a) => (0, BTreeMap::from([(*a, 1)])),
        Node::Unary(Unary::Neg, x) => combine((0, BTreeMap::new()), affine(dag, *x)?, -1),
        Node::Binary(Binary::Add, a, b) => combine(affine(dag, *a)?, affine(dag, *b)?, 1),
        Node::Binary(Binary::Sub, a, b) => combine(affine(dag, *a)?, affine(dag, *b)?, -1),
        Node::Binary(Binary::Mul, a, b) => {
            let (a, b) = (affine(dag, *a)?, affine(dag, *b)?);
            let (k, (c, terms)) = match (a.1.is_empty(), b.1.is_empty()) {
                (true, _) => (a.0, b),
                (_, true) => (b.0, a),
                _ => return None,
            };
            (k * c, terms.into_iter().map(|(axis, t)| (axis, k * t)).collect())
        }
        _ => return None,
    };
    checked(form)
}

/// A read in terms of nodes: array, and per dimension the affine form or the node of the index.
struct ReadPlan {
    src: Src,
    dims: Vec<Result<Affine, Id>>,
}

fn read_plan(dag: &Dag, id: Id) -> Option<ReadPlan> {
    match dag.node(id) {
        Node::Read(src, index) => {
            Some(ReadPlan { src: *src, dims: index.iter().map(|&i| affine(dag, i).ok_or(i)).collect() })
        }
        Node::Reduce(..) => Some(ReadPlan {
            src: Src::Reduction(id),
            dims: dag.free(id).iter().map(|&a| Ok((0, BTreeMap::from([(a, 1)])))).collect(),
        }),
        _ => None,
    }
}

/// Compiles a nest.
pub(crate) fn compile(dag: &Dag, job: &Job<'_>, shapes: &Shapes<'_>) -> Result<Nest, EvalError> {
    let bound: &[Axis] = job.reduction.map_or(&[], |(_, axes, _)| axes);
    // A reduced axis hides a free one of the same name; verified programs have no such clash.
    let free: Vec<Axis> = job.free.to_vec();
    for &a in free.iter().chain(bound) {
        if (shapes.extent)(a) > 1 << 31 {
            return Err(EvalError::Extent { axis: a, extent: (shapes.extent)(a) });
        }
    }

    // The nodes that are needed: not the insides of reductions, nor of indices with an affine form.
    let guard = job.guard;
    let last = guard.map_or(job.root, |(_, g)| g.max(job.root));
    let mut needed = vec![false; last + 1];
    needed[job.root] = true;
    if let Some((_, g)) = guard {
        needed[g] = true;
    }
    let mut plans: BTreeMap<Id, ReadPlan> = BTreeMap::new();
    for id in (0..=last).rev() {
        if !needed[id] {
            continue;
        }
        if let Some(plan) = read_plan(dag, id) {
            plan.dims.iter().for_each(|d| {
                if let Err(node) = d {
                    needed[*node] = true;
                }
            });
            plans.insert(id, plan);
        } else {
            operands(dag.node(id)).into_iter().for_each(|o| needed[o] = true);
        }
    }

    let (outer, inner, inner_bound) = choose_order(dag, &free, bound, &plans, shapes)?;
    let outer_free = outer.iter().filter(|a| free.contains(a)).count();
    let mut c = Compiler {
        dag,
        outer: &outer,
        inner,
        places: BTreeMap::new(),
        literals: Vec::new(),
        scalars: vec![Vec::new(); outer.len() + 1],
        vectors: Vec::new(),
        scalar_registers: 0,
        vector_registers: 0,
        arrays: Vec::new(),
    };
    for id in (0..=last).filter(|&id| needed[id]) {
        let operand = c.node(id, plans.get(&id), guard)?;
        c.places.insert(id, operand);
    }
    let place = |id: Id| c.places.get(&id).copied();
    let root = place(job.root).ok_or(EvalError::Internal("the root of a nest was not compiled"))?;
    let product = match (job.reduction, dag.node(job.root)) {
        (Some((Reduction::Sum, ..)), Node::Binary(Binary::Mul, a, b)) => {
            place(*a).zip(place(*b)).map(|(x, y)| (x, y, dag.sort(job.root)))
        }
        _ => None,
    };
    // The product itself is not computed when its factors are multiplied and added in one go. It may be an operand of
    // something else only if it is not the root.
    if product.is_some() {
        let dst = |i: &Instr| matches!((i, root), (Instr::Binary(.., d), Operand::V(r)) if *d == r);
        c.vectors.retain(|i| !dst(i));
    }
    let nest = Nest {
        free,
        outer_free,
        inner,
        inner_bound,
        reduction: job.reduction.map(|(op, _, sort)| (op, sort)),
        literals: c.literals,
        scalars: c.scalars,
        vectors: c.vectors,
        scalar_registers: c.scalar_registers,
        vector_registers: c.vector_registers,
        root,
        product,
        arrays: c.arrays,
        outer,
    };
    Ok(nest)
}

/// The order of the loops: the outer ones, the innermost, and whether that one is bound.
fn choose_order(
    dag: &Dag,
    free: &[Axis],
    bound: &[Axis],
    plans: &BTreeMap<Id, ReadPlan>,
    shapes: &Shapes<'_>,
) -> Result<(Vec<Axis>, Option<Axis>, bool), EvalError> {
    // For each axis, what a step along it costs in all reads together, and the largest array that it moves in.
    let mut cost: BTreeMap<Axis, f64> = BTreeMap::new();
    let mut largest: BTreeMap<Axis, usize> = BTreeMap::new();
    let price = |step: i64| match step.abs() {
        0 => 0.0,
        1 => 1.0,
        2..8 => 2.0,
        _ => 6.0,
    };
    for plan in plans.values() {
        let dims = (shapes.dims)(plan.src).ok_or_else(|| EvalError::missing(plan.src))?;
        if dims.len() != plan.dims.len() {
            return Err(EvalError::rank(plan.src, dims.len(), plan.dims.len()));
        }
        let steps = strides(&dims);
        let mut step: BTreeMap<Axis, Option<i64>> = BTreeMap::new();
        for (dim, stride) in plan.dims.iter().zip(steps) {
            match dim {
                Ok((_, terms)) => {
                    for (&axis, &c) in terms {
                        if let Some(s) = step.entry(axis).or_insert(Some(0)) {
                            *s = s.wrapping_add(c.wrapping_mul(stride as i64));
                        }
                    }
                }
                Err(node) => dag.free(*node).iter().for_each(|&axis| {
                    step.insert(axis, None);
                }),
            }
        }
        let size: usize = dims.iter().product();
        for (axis, step) in step {
            *cost.entry(axis).or_default() += step.map_or(8.0, price);
            let entry = largest.entry(axis).or_default();
            *entry = size.max(*entry);
        }
    }
    let mut stride = 1.0f64;
    for &axis in free.iter().rev() {
        *cost.entry(axis).or_default() += if stride == 1.0 { 1.0 } else { 3.0 };
        stride *= (shapes.extent)(axis) as f64;
    }
    // Short innermost loops pay for their start.
    let total =
        |axis: &Axis| cost.get(axis).copied().unwrap_or(0.0) + 60.0 / ((shapes.extent)(*axis).max(1) as f64);
    let inner = bound.iter().chain(free).min_by(|a, b| total(a).total_cmp(&total(b))).copied();
    let inner_bound = inner.is_some_and(|a| bound.contains(&a));
    let mut outer: Vec<Axis> = free.iter().copied().filter(|&a| Some(a) != inner).collect();
    // Axes of the largest array outermost, so that its elements are read in one sweep.
    outer.sort_by_key(|a| std::cmp::Reverse(largest.get(a).copied().unwrap_or(0)));
    outer.extend(bound.iter().copied().filter(|&a| Some(a) != inner));
    Ok((outer, inner, inner_bound))
}

struct Compiler<'a> {
    dag: &'a Dag,
    outer: &'a [Axis],
    inner: Option<Axis>,
    places: BTreeMap<Id, Operand>,
    literals: Vec<(f64, usize)>,
    scalars: Vec<Vec<Instr>>,
    vectors: Vec<Instr>,
    scalar_registers: usize,
    vector_registers: usize,
    arrays: Vec<Src>,
}

impl Compiler<'_> {
    fn operand(&self, id: Id) -> Result<Operand, EvalError> {
        self.places.get(&id).copied().ok_or(EvalError::Internal("an operand of a nest was not compiled"))
    }

    /// The loop that a node moves with: `None` is the innermost, else the number of outer loops around it.
    fn level(&self, id: Id, extra: Option<Id>) -> Result<Option<usize>, EvalError> {
        let mut level = 0;
        for &axis in self.dag.free(id).iter().chain(extra.map_or(&[][..], |e| self.dag.free(e))) {
            if Some(axis) == self.inner {
                return Ok(None);
            }
            let at = self.outer.iter().position(|&a| a == axis).ok_or(EvalError::Unbound { axis })?;
            level = level.max(at + 1);
        }
        Ok(Some(level))
    }

    /// Compiles one node whose operands are compiled.
    fn node(
        &mut self,
        id: Id,
        plan: Option<&ReadPlan>,
        guard: Option<(Src, Id)>,
    ) -> Result<Operand, EvalError> {
        let node = self.dag.node(id);
        if let Node::Num(n) = node {
            let r = self.scalar_registers;
            self.scalar_registers += 1;
            self.literals.push((n.0, r));
            return Ok(Operand::S(r));
        }
        let guard = guard.filter(|(src, _)| plan.is_some_and(|p| p.src == *src)).map(|(_, g)| g);
        let level = self.level(id, guard)?;
        let dst = match level {
            None => &mut self.vector_registers,
            Some(_) => &mut self.scalar_registers,
        };
        let r = *dst;
        *dst += 1;
        let sort = |x: Id| self.dag.sort(x);
        let instr = match (node, plan) {
            (_, Some(plan)) => Instr::Read(Box::new(self.read(plan, guard)?), r),
            (Node::Pos(a), _) => match self.outer.iter().position(|o| o == a) {
                Some(at) => Instr::Pos(at, r),
                None => Instr::Inner(r),
            },
            (Node::Unary(op, x), _) => Instr::Unary(*op, Sort::unary(*op, sort(*x)), self.operand(*x)?, r),
            (Node::Binary(op, a, b), _) => Instr::Binary(
                *op,
                Sort::binary(*op, sort(*a), sort(*b)).0,
                self.operand(*a)?,
                self.operand(*b)?,
                r,
            ),
            (Node::Select(c, a, b), _) => {
                Instr::Select(self.operand(*c)?, self.operand(*a)?, self.operand(*b)?, r)
            }
            (Node::Cast(to, x), _) => Instr::Cast(*to, self.operand(*x)?, r),
            (Node::Num(_) | Node::Read(..) | Node::Reduce(..), None) => {
                return Err(EvalError::Internal("a read of a nest was not planned"));
            }
        };
        Ok(match level {
            None => {
                self.vectors.push(instr);
                Operand::V(r)
            }
            Some(level) => {
                self.scalars[level].push(instr);
                Operand::S(r)
            }
        })
    }

    fn read(&mut self, plan: &ReadPlan, guard: Option<Id>) -> Result<Read, EvalError> {
        let array = self.arrays.iter().position(|&s| s == plan.src).unwrap_or_else(|| {
            self.arrays.push(plan.src);
            self.arrays.len() - 1
        });
        let mut dims = Vec::with_capacity(plan.dims.len());
        for dim in &plan.dims {
            dims.push(match dim {
                Err(node) => DimIndex { dynamic: Some(self.operand(*node)?), ..DimIndex::default() },
                Ok((constant, terms)) => {
                    let mut index = DimIndex { constant: *constant, ..DimIndex::default() };
                    for (&axis, &c) in terms {
                        if Some(axis) == self.inner {
                            index.inner = c;
                        } else {
                            let at = self
                                .outer
                                .iter()
                                .position(|&a| a == axis)
                                .ok_or(EvalError::Unbound { axis })?;
                            index.terms.push((at, c));
                        }
                    }
                    index
                }
            });
        }
        let guard = guard.map(|g| self.operand(g)).transpose()?;
        Ok(Read { array, dims, guard })
    }
}
