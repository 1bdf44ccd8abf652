//! Evaluating a tile program block by block over plain buffers.
//!
//! Places and layouts are ignored: this is what a program means, and so the oracle for lowering and code generation.
//! Positions beyond the extent exist in ragged blocks and are computed like all others; touching memory outside of a
//! buffer, there or anywhere, is an error unless the mask forbids it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::eval::domain::{Domain, Sort};
use crate::eval::exec::{self, Array};
use crate::eval::nest::{self, Job, Nest, Shapes};
use crate::eval::nodes::{Dag, Id, Leaf, Leaves, Node, Src};
use crate::eval::tensor::{Tensor, elements, strides};
use crate::eval::{EvalError, Symbols};
use crate::expr::Num;
use crate::tile::{Bounds, Op, Range, Role, TileProgram, extreme};
use crate::{Axis, Binary, DType, Ex, Extent, Param, Reduction, Tile};

/// Evaluates a program on one tensor per buffer in global memory (those that are written with what they hold before), and gives back the
/// buffers after it ran. Tensors are rounded to the types of tiles and buffers as the domain says.
pub fn eval_tile<D: Domain>(
    d: &D,
    program: &TileProgram,
    symbols: &Symbols,
    buffers: Vec<Tensor<D::T>>,
) -> Result<Vec<Tensor<D::T>>, EvalError> {
    let what = format!("@{}", program.name);
    let expected = program.arguments().count();
    if buffers.len() != expected {
        return Err(EvalError::Arguments { what, expected, found: buffers.len() });
    }
    let symbols: Vec<u64> = symbols.values().copied().collect();
    let value = |e: Extent| -> Result<u64, EvalError> {
        match e {
            Extent::Const(n) => Ok(n),
            Extent::Sym(s) => symbols
                .get(s.as_u32() as usize)
                .copied()
                .ok_or_else(|| EvalError::UnknownSymbol { name: s.to_string() }),
        }
    };
    let mut inputs = HashMap::new();
    let mut outputs = HashMap::new();
    for ((p, data), tensor) in program.arguments().zip(buffers) {
        let dims = data.dims.iter().map(|&e| value(e).map(|n| n as usize)).collect::<Result<Vec<_>, _>>()?;
        if tensor.data.len() != elements(&data.name, &dims)? {
            let expected = dims.iter().product();
            return Err(EvalError::Elements { what: data.name.clone(), expected, found: tensor.data.len() });
        }
        let tensor = Tensor { dims, data: tensor.data };
        if data.written {
            outputs.insert(p, tensor);
        } else {
            inputs.insert(p, Array::new(Arc::new(tensor)));
        }
    }
    let mut extents = HashMap::new();
    let mut blocks: u64 = 1;
    let mut grid = Vec::new();
    for (a, data) in program.axes.iter() {
        let n = value(data.extent)?;
        let block = u64::from(data.block.max(1));
        if data.role == Role::Resident && n > block {
            let message = format!("resident axis {a} of extent {n} has a block of {block}");
            return Err(EvalError::Malformed { what, message });
        }
        if data.role == Role::Grid {
            grid.push((a, n.div_ceil(block)));
            blocks = blocks.saturating_mul(n.div_ceil(block));
        }
        extents.insert(a, n);
    }
    let mut leaves = Leaves::new();
    for (t, data) in program.tiles.iter() {
        leaves.insert(Src::Tile(t), Leaf::Array(data.axes.clone(), Sort::of(data.dtype)));
    }
    for (p, data) in program.params.iter() {
        leaves.insert(Src::Param(p), Leaf::Array(Vec::new(), Sort::of(data.dtype)));
    }
    let mut run = Run {
        d,
        program,
        leaves: Arc::new(leaves),
        what,
        symbols,
        extents,
        inputs,
        outputs,
        areas: HashMap::new(),
        windows: HashMap::new(),
        tiles: HashMap::new(),
        compiled: HashMap::new(),
    };
    for linear in 0..blocks {
        let mut rest = linear;
        run.tiles.clear();
        run.leave();
        for (a, data) in program.axes.iter() {
            run.windows.insert(a, (0, data.block.max(1) as usize));
        }
        for &(a, n) in grid.iter().rev() {
            let block = program.axes[a].block.max(1);
            run.windows.insert(a, ((rest % n) as i64 * i64::from(block), block as usize));
            rest /= n;
        }
        run.ops(&program.body)?;
    }
    let mut out = Vec::new();
    for (p, _) in program.arguments() {
        let tensor = match (run.outputs.remove(&p), run.inputs.remove(&p)) {
            (Some(t), _) => t,
            (_, Some(a)) => Arc::try_unwrap(a.tensor).unwrap_or_else(|t| (*t).clone()),
            _ => return Err(EvalError::missing(Src::Param(p))),
        };
        out.push(tensor);
    }
    Ok(out)
}

/// The nests of an operation: the parts that it needs, in order.
type Compiled = Vec<Nest>;

struct Run<'a, D: Domain> {
    d: &'a D,
    program: &'a TileProgram,
    /// What tiles and buffers stand for.
    leaves: Arc<Leaves>,
    what: String,
    symbols: Vec<u64>,
    extents: HashMap<Axis, u64>,
    inputs: HashMap<Param, Array<D::T>>,
    outputs: HashMap<Param, Tensor<D::T>>,
    /// What the block keeps in its areas, by their numbers.
    areas: HashMap<u32, Vec<D::T>>,
    /// The current block of each axis: first position and number of positions.
    windows: HashMap<Axis, (i64, usize)>,
    tiles: HashMap<Tile, Arc<Tensor<D::T>>>,
    /// Compiled operations by address: the program does not move while it runs.
    compiled: HashMap<*const Op, Arc<Compiled>>,
}

/// What a part of an operation computes.
enum Part<'a> {
    Map(&'a Ex),
    Load {
        param: Param,
        index: &'a [Ex],
        mask: Option<&'a Ex>,
        fill: f64,
    },
    Reduce {
        op: Reduction,
        src: Tile,
        over: &'a [Axis],
    },
    Dot {
        a: Tile,
        b: Tile,
        over: &'a [Axis],
    },
    /// The result of the part before, added to a tile.
    AddTo(Tile),
    Copy(Tile),
}

/// What is no integer, or too large, bounds nothing.
impl<D: Domain> Bounds for Run<'_, D> {
    type T = Option<i64>;
    type E = EvalError;

    fn literal(&mut self, x: i64) -> Result<Option<i64>, EvalError> {
        Ok(Some(x))
    }

    fn position(&mut self, axis: Axis, high: bool) -> Result<Option<i64>, EvalError> {
        let (first, count) = *self.windows.get(&axis).ok_or(EvalError::Unbound { axis })?;
        let extent = self.extents.get(&axis).map_or(i64::MAX, |&n| i64::try_from(n).unwrap_or(i64::MAX));
        Ok(Some(if high { (first + count as i64).min(extent) - 1 } else { first }))
    }

    fn size(&mut self, extent: Extent) -> Result<Option<i64>, EvalError> {
        Ok(match extent {
            Extent::Const(n) => i64::try_from(n).ok(),
            Extent::Sym(s) => {
                let value = self.symbols.get(s.as_u32() as usize).copied();
                let value = value.ok_or_else(|| EvalError::UnknownSymbol { name: s.to_string() })?;
                i64::try_from(value).ok()
            }
        })
    }

    fn tile(&mut self, tile: Tile) -> Result<Option<i64>, EvalError> {
        let held = self.get(tile)?;
        Ok(held.data.first().and_then(|&x| self.d.index(x)))
    }

    fn join(&mut self, op: Binary, a: Option<i64>, b: Option<i64>) -> Result<Option<i64>, EvalError> {
        let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
        Ok(match op {
            Binary::Add => a.checked_add(b),
            Binary::Sub => a.checked_sub(b),
            Binary::Mul => a.checked_mul(b),
            Binary::Max => Some(a.max(b)),
            Binary::Min => Some(a.min(b)),
            _ => None,
        })
    }

    fn other(&mut self, _: &Ex) -> Result<Option<i64>, EvalError> {
        Err(self.malformed("interval arithmetic does not know a bound of a loop".to_owned()))
    }
}

impl<D: Domain> Run<'_, D> {
    fn ops(&mut self, body: &[Op]) -> Result<(), EvalError> {
        body.iter().try_for_each(|op| self.op(op))
    }

    fn op(&mut self, op: &Op) -> Result<(), EvalError> {
        match op {
            Op::Load { out, param, index, mask, fill } => {
                if self.program.params.get(*param).is_some_and(|p| p.written) {
                    return Err(self.malformed(format!("{param} is written and read")));
                }
                self.view(*param)?;
                let part = Part::Load { param: *param, index, mask: mask.as_ref(), fill: *fill };
                self.tile(op, *out, &[part])
            }
            Op::Map { out, expr } => self.tile(op, *out, &[Part::Map(expr)]),
            Op::Convert { out, src } => self.tile(op, *out, &[Part::Copy(*src)]),
            Op::Reduce { out, op: reduction, axes, src } => {
                self.tile(op, *out, &[Part::Reduce { op: *reduction, src: *src, over: axes }])
            }
            Op::Dot { out, a, b, acc, over, kind: _ } => {
                let dot = Part::Dot { a: *a, b: *b, over };
                match acc {
                    Some(acc) => self.tile(op, *out, &[dot, Part::AddTo(*acc)]),
                    None => self.tile(op, *out, &[dot]),
                }
            }
            Op::Store { param, index, mask, value } => self.store(op, *param, index, mask.as_ref(), *value),
            Op::Loop { axis, range, carried, body } => {
                let extent = *self.extents.get(axis).ok_or(EvalError::Unbound { axis: *axis })?;
                let block = self.program.axes[*axis].block.max(1);
                let mut values = Vec::new();
                for c in carried {
                    values.push(self.get(c.initial)?);
                }
                let within = self.blocks(range, extent, u64::from(block))?;
                let (start, blocks) = (within.start, within.end - within.start);
                let range = match self.program.axes[*axis].runs {
                    None => within,
                    Some(number) => {
                        let runs = *self.extents.get(&number).ok_or(EvalError::Unbound { axis: number })?;
                        let at = self.windows.get(&number).map_or(0, |w| w.0.unsigned_abs());
                        let each = blocks.div_ceil(runs.max(1));
                        start + (at * each).min(blocks)..start + ((at + 1) * each).min(blocks)
                    }
                };
                for o in range {
                    self.windows.insert(*axis, (o as i64 * i64::from(block), block as usize));
                    for (c, v) in carried.iter().zip(values) {
                        self.tiles.insert(c.inside, v);
                    }
                    self.ops(body)?;
                    values = carried.iter().map(|c| self.get(c.next)).collect::<Result<_, _>>()?;
                }
                self.windows.insert(*axis, (0, block as usize));
                for (c, v) in carried.iter().zip(values) {
                    self.tiles.insert(c.after, v);
                }
                Ok(())
            }
        }
    }

    /// The blocks of an axis that a range leaves.
    fn blocks(&mut self, range: &Range, extent: u64, block: u64) -> Result<std::ops::Range<u64>, EvalError> {
        let all = extent.div_ceil(block);
        let mut at = |bound: &Option<Ex>, high: bool| -> Result<Option<u64>, EvalError> {
            let found = bound.as_ref().map(|e| extreme(self, e, high)).transpose()?.flatten();
            Ok(found.map(|x| u64::try_from(x.max(0)).unwrap_or(0).min(extent)))
        };
        let first = at(&range.from, false)?.map_or(0, |p| (p / block).min(all.saturating_sub(1)));
        let end = at(&range.to, true)?.map_or(all, |p| p.div_ceil(block));
        Ok(first..end.max(first + 1).min(all))
    }

    /// The extents and the number of elements of a buffer that is an area, and the area.
    fn area(&self, param: Param) -> Result<Option<(u32, Vec<usize>, usize)>, EvalError> {
        let data = self.program.params.get(param).ok_or_else(|| EvalError::missing(Src::Param(param)))?;
        let Some(area) = data.area else { return Ok(None) };
        let dims = data.dims.iter().map(|d| d.as_const().map(|n| n as usize)).collect::<Option<Vec<_>>>();
        let dims = dims.ok_or_else(|| self.malformed(format!("area {area} has no constant extents")))?;
        let count = elements(&data.name, &dims)?;
        Ok(Some((area, dims, count)))
    }

    /// Forgets what a block kept.
    fn leave(&mut self) {
        self.areas.clear();
        let params = &self.program.params;
        self.inputs.retain(|&p, _| params.get(p).is_none_or(|p| p.area.is_none()));
    }

    /// Makes what an area holds readable as a buffer. What nobody stored is undefined.
    fn view(&mut self, param: Param) -> Result<(), EvalError> {
        let Some((area, dims, count)) = self.area(param)? else { return Ok(()) };
        if !self.inputs.contains_key(&param) {
            let nothing = self.d.undefined();
            let data = self.areas.entry(area).or_insert_with(|| vec![nothing; count]).clone();
            if data.len() != count {
                return Err(self.malformed(format!("area {area} has two sizes")));
            }
            self.inputs.insert(param, Array::new(Arc::new(Tensor { dims, data })));
        }
        Ok(())
    }

    fn malformed(&self, message: String) -> EvalError {
        EvalError::Malformed { what: self.what.clone(), message }
    }

    fn get(&self, t: Tile) -> Result<Arc<Tensor<D::T>>, EvalError> {
        self.tiles.get(&t).cloned().ok_or_else(|| EvalError::missing(Src::Tile(t)))
    }

    fn data(&self, t: Tile) -> Result<(&[Axis], DType), EvalError> {
        let data = self.program.tiles.get(t).ok_or_else(|| EvalError::missing(Src::Tile(t)))?;
        Ok((&data.axes, data.dtype))
    }

    /// Compiles a root over axes. Axes of one position per block may be mentioned without being axes of the result.
    fn compile(
        &self,
        dag: &Dag,
        root: Id,
        axes: &[Axis],
        reduction: Option<(Reduction, &[Axis], Sort)>,
        guard: Option<(Src, Id)>,
        partial: &[usize],
    ) -> Result<Nest, EvalError> {
        let mut free = axes.to_vec();
        let mentioned = dag.free(root).iter().chain(guard.map_or(&[][..], |(_, g)| dag.free(g)));
        for &a in mentioned {
            let single = self.windows.get(&a).is_some_and(|w| w.1 == 1);
            if single && !free.contains(&a) && !reduction.is_some_and(|(_, over, _)| over.contains(&a)) {
                free.push(a);
            }
        }
        let job = Job { root, free: &free, reduction, guard };
        let shapes = Shapes {
            extent: &|a| self.windows.get(&a).map_or(0, |w| w.1 as u64),
            dims: &|src| match src {
                Src::Tile(t) => {
                    let axes = &self.program.tiles.get(t)?.axes;
                    Some(axes.iter().map(|a| self.windows.get(a).map_or(0, |w| w.1)).collect())
                }
                Src::Param(p) => self.inputs.get(&p).map(|a| a.tensor.dims.clone()),
                Src::Reduction(_) => Some(partial.to_vec()),
                _ => None,
            },
        };
        nest::compile(dag, &job, &shapes)
    }

    /// Runs a nest over the current block.
    fn run(&self, nest: &Nest, partial: Option<&Array<D::T>>) -> Result<Tensor<D::T>, EvalError> {
        let mut owned: Vec<Array<D::T>> = Vec::new();
        for src in &nest.arrays {
            owned.push(match src {
                Src::Tile(t) => {
                    let origin = self.data(*t)?.0.iter().map(|a| self.windows.get(a).map_or(0, |w| w.0));
                    Array { tensor: self.get(*t)?, origin: origin.collect() }
                }
                Src::Param(p) => self.inputs.get(p).cloned().ok_or_else(|| EvalError::missing(*src))?,
                Src::Reduction(_) => partial.cloned().ok_or(EvalError::Internal("a partial result"))?,
                _ => return Err(EvalError::missing(*src)),
            });
        }
        let arrays: Vec<&Array<D::T>> = owned.iter().collect();
        let range = |a: Axis| self.windows.get(&a).copied().unwrap_or((0, 0));
        exec::run(self.d, nest, &arrays, &range).map_err(|fault| {
            let what = nest.arrays[fault.array];
            EvalError::OutOfBounds {
                program: self.what.clone(),
                operation: match what {
                    Src::Param(p) => format!("load of {p} `{}`", self.program.params[p].name),
                    _ => "load".to_owned(),
                },
                dim: fault.dim,
                index: fault.index.map_or("not an integer".to_owned(), |i| i.to_string()),
                extent: owned[fault.array].tensor.dims[fault.dim],
            }
        })
    }

    /// Computes a tile part by part.
    fn tile(&mut self, op: &Op, out: Tile, parts: &[Part<'_>]) -> Result<(), EvalError> {
        let (axes, dtype) = self.data(out)?;
        let axes = axes.to_vec();
        let compiled = match self.compiled.get(&std::ptr::from_ref(op)) {
            Some(c) => c.clone(),
            None => {
                let mut nests = Vec::new();
                for part in parts {
                    nests.push(self.part(part, &axes)?);
                }
                let c = Arc::new(nests);
                self.compiled.insert(std::ptr::from_ref(op), c.clone());
                c
            }
        };
        let dims: Vec<usize> = axes.iter().map(|a| self.windows.get(a).map_or(0, |w| w.1)).collect();
        let origin: Vec<i64> = axes.iter().map(|a| self.windows.get(a).map_or(0, |w| w.0)).collect();
        let mut result: Option<Array<D::T>> = None;
        for nest in compiled.iter() {
            let mut t = self.run(nest, result.as_ref())?;
            t.dims.clone_from(&dims);
            result = Some(Array { tensor: Arc::new(t), origin: origin.clone() });
        }
        let mut tensor = result.ok_or(EvalError::Internal("an operation without parts"))?.tensor;
        for x in &mut Arc::make_mut(&mut tensor).data {
            *x = self.d.store(dtype, *x);
        }
        self.tiles.insert(out, tensor);
        Ok(())
    }

    fn part(&self, part: &Part<'_>, axes: &[Axis]) -> Result<Nest, EvalError> {
        let mut dag = Dag::new(self.symbols.clone(), self.leaves.clone());
        match part {
            Part::Map(e) => {
                let root = dag.add(e);
                self.compile(&dag, root, axes, None, None, &[])
            }
            Part::Copy(src) => {
                let root = dag.leaf(Src::Tile(*src));
                self.compile(&dag, root, axes, None, None, &[])
            }
            Part::Load { param, index, mask, fill } => {
                // The guard is older than the read that it guards.
                let guard = match mask {
                    Some(m) => dag.add(m),
                    None => dag.push(Node::Num(Num(1.0))),
                };
                let index = index.iter().map(|i| dag.add(i)).collect();
                let read = dag.push(Node::Read(Src::Param(*param), index));
                let root = match mask {
                    Some(_) => {
                        let fill = dag.push(Node::Num(Num(*fill)));
                        dag.push(Node::Select(guard, read, fill))
                    }
                    None => read,
                };
                self.compile(&dag, root, axes, None, Some((Src::Param(*param), guard)), &[])
            }
            Part::Reduce { op, src, over } => {
                let root = dag.leaf(Src::Tile(*src));
                let sort = dag.sort(root);
                self.compile(&dag, root, axes, Some((*op, over, sort)), None, &[])
            }
            Part::Dot { a, b, over } => {
                let (a, b) = (dag.leaf(Src::Tile(*a)), dag.leaf(Src::Tile(*b)));
                let root = dag.push(Node::Binary(Binary::Mul, a, b));
                let sort = dag.sort(root);
                self.compile(&dag, root, axes, Some((Reduction::Sum, over, sort)), None, &[])
            }
            Part::AddTo(acc) => {
                let acc = dag.leaf(Src::Tile(*acc));
                let partial = dag.read_at(Src::Reduction(acc), axes);
                let root = dag.push(Node::Binary(Binary::Add, acc, partial));
                let dims: Vec<usize> = axes.iter().map(|a| self.windows.get(a).map_or(0, |w| w.1)).collect();
                self.compile(&dag, root, axes, None, None, &dims)
            }
        }
    }

    fn store(
        &mut self,
        op: &Op,
        param: Param,
        index: &[Ex],
        mask: Option<&Ex>,
        value: Tile,
    ) -> Result<(), EvalError> {
        let axes = self.data(value)?.0.to_vec();
        let compiled = match self.compiled.get(&std::ptr::from_ref(op)) {
            Some(c) => c.clone(),
            None => {
                let mut nests = vec![self.part(&Part::Copy(value), &axes)?];
                for e in index.iter().chain(mask) {
                    nests.push(self.part(&Part::Map(e), &axes)?);
                }
                let c = Arc::new(nests);
                self.compiled.insert(std::ptr::from_ref(op), c.clone());
                c
            }
        };
        let parts = compiled.iter().map(|n| self.run(n, None)).collect::<Result<Vec<_>, _>>()?;
        let d = self.d;
        let what = self.what.clone();
        let data = self.program.params.get(param).ok_or_else(|| EvalError::missing(Src::Param(param)))?;
        let nothing = self.d.undefined();
        let (dims, values) = match self.area(param)? {
            Some((area, dims, count)) => {
                let program = self.program;
                self.inputs.retain(|&p, _| program.params.get(p).is_none_or(|p| p.area != Some(area)));
                let values = self.areas.entry(area).or_insert_with(|| vec![nothing; count]);
                if values.len() != count {
                    let message = format!("area {area} has two sizes");
                    return Err(EvalError::Malformed { what, message });
                }
                (dims, values)
            }
            None => {
                let buffer = self.outputs.get_mut(&param).ok_or_else(|| EvalError::Malformed {
                    what: what.clone(),
                    message: format!("{param} is stored to and not declared as written"),
                })?;
                (buffer.dims.clone(), &mut buffer.data)
            }
        };
        if dims.len() != index.len() {
            return Err(EvalError::rank(Src::Param(param), dims.len(), index.len()));
        }
        let steps = strides(&dims);
        for (i, &x) in parts[0].data.iter().enumerate() {
            if mask.is_some() && !d.truth(parts[1 + index.len()].data[i]) {
                continue;
            }
            let mut at = 0;
            for (dim, step) in steps.iter().enumerate() {
                let k = d.index(parts[1 + dim].data[i]);
                match k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k < dims[dim]) {
                    Some(k) => at += k * step,
                    None => {
                        return Err(EvalError::OutOfBounds {
                            program: what,
                            operation: format!("store to {param} `{}`", data.name),
                            dim,
                            index: k.map_or("not an integer".to_owned(), |k| k.to_string()),
                            extent: dims[dim],
                        });
                    }
                }
            }
            values[at] = d.store(data.dtype, x);
        }
        Ok(())
    }
}
