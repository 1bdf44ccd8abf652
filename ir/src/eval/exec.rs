//! Running a compiled loop nest in a domain.
//!
//! Pre: one array per entry of [`Nest::arrays`], with the number of dimensions that the nest was compiled for.
//! Post: the result is dense over the free axes, from the start of their ranges.

use std::sync::Arc;

use crate::eval::domain::{Arg, Domain, Sort};
use crate::eval::nest::{Instr, Nest, Operand, Read};
use crate::eval::tensor::{Tensor, strides};
use crate::{Axis, Reduction};

/// Elements of a vector register.
const CHUNK: usize = 512;

/// An array and the absolute position of its first element along each dimension.
#[derive(Clone, Debug)]
pub(crate) struct Array<T> {
    pub(crate) tensor: Arc<Tensor<T>>,
    pub(crate) origin: Vec<i64>,
}

impl<T> Array<T> {
    pub(crate) fn new(tensor: Arc<Tensor<T>>) -> Array<T> {
        let origin = vec![0; tensor.dims.len()];
        Array { tensor, origin }
    }
}

/// A guarded read outside of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) array: usize,
    pub(crate) dim: usize,
    pub(crate) index: Option<i64>,
}

/// Runs a nest; `range` gives the first position and the number of positions of each axis.
pub(crate) fn run<D: Domain>(
    d: &D,
    nest: &Nest,
    arrays: &[&Array<D::T>],
    range: &dyn Fn(Axis) -> (i64, usize),
) -> Result<Tensor<D::T>, Fault> {
    let dims: Vec<usize> = nest.free.iter().map(|&a| range(a).1).collect();
    let steps = strides(&dims);
    let step_of = |axis: Axis| nest.free.iter().position(|&f| f == axis).map_or(0, |i| steps[i]);
    let arrays: Vec<View<'_, D::T>> = arrays
        .iter()
        .map(|a| View {
            data: &a.tensor.data,
            dims: &a.tensor.dims,
            strides: strides(&a.tensor.dims),
            origin: &a.origin,
        })
        .collect();
    let nothing = d.undefined();
    let mut scalars = vec![nothing; nest.scalar_registers];
    for &(x, r) in &nest.literals {
        scalars[r] = d.num(x);
    }
    let identity = nest.reduction.map_or(nothing, |(op, _)| d.num(op.identity()));
    let mut run = Run {
        d,
        nest,
        arrays,
        ranges: nest.outer.iter().map(|&a| range(a)).collect(),
        inner: nest.inner.map_or((0, 1), range),
        steps: nest.outer.iter().map(|&a| step_of(a)).collect(),
        inner_step: nest.inner.map_or(0, step_of),
        positions: vec![0; nest.outer.len()],
        scalars,
        vectors: (0..nest.vector_registers).map(|_| Slot { data: Vec::new(), at: None }).collect(),
        out: vec![identity; dims.iter().product()],
        acc: Vec::new(),
        fault: None,
    };
    run.scalar_level(0);
    run.free_loops(0, 0);
    match run.fault {
        Some(fault) => Err(fault),
        None => Ok(Tensor { dims, data: run.out }),
    }
}

struct View<'a, T> {
    data: &'a [T],
    dims: &'a [usize],
    strides: Vec<usize>,
    origin: &'a [i64],
}

/// A vector register: elements of its own, or a stretch of an array.
struct Slot<T> {
    data: Vec<T>,
    at: Option<(usize, usize)>,
}

struct Run<'a, D: Domain> {
    d: &'a D,
    nest: &'a Nest,
    arrays: Vec<View<'a, D::T>>,
    ranges: Vec<(i64, usize)>,
    inner: (i64, usize),
    steps: Vec<usize>,
    inner_step: usize,
    positions: Vec<i64>,
    scalars: Vec<D::T>,
    vectors: Vec<Slot<D::T>>,
    out: Vec<D::T>,
    /// Partial results of the current chunk, when the innermost axis is free and others are reduced.
    acc: Vec<D::T>,
    fault: Option<Fault>,
}

impl<D: Domain> Run<'_, D> {
    fn free_loops(&mut self, level: usize, at: usize) {
        if level == self.nest.outer_free {
            self.element(at);
            return;
        }
        let (start, len) = self.ranges[level];
        for i in 0..len {
            self.positions[level] = start + i as i64;
            self.scalar_level(level + 1);
            self.free_loops(level + 1, at + i * self.steps[level]);
        }
    }

    /// Everything inside the free outer loops; `at` is where results go.
    fn element(&mut self, at: usize) {
        let (start, len) = self.inner;
        match self.nest.reduction {
            Some((op, sort)) if self.nest.inner_bound || self.nest.inner.is_none() => {
                let acc = self.bound_loops(self.nest.outer_free, self.d.num(op.identity()), op, sort);
                self.out[at] = acc;
            }
            Some((op, sort)) => {
                for c in (0..len).step_by(CHUNK) {
                    let n = CHUNK.min(len - c);
                    self.acc.clear();
                    self.acc.resize(n, self.d.num(op.identity()));
                    self.chunk_loops(self.nest.outer_free, start + c as i64, n, op, sort);
                    let acc = std::mem::take(&mut self.acc);
                    self.write(at + c * self.inner_step, Arg::Slice(&acc), n);
                    self.acc = acc;
                }
            }
            None => {
                for c in (0..len).step_by(CHUNK) {
                    let n = CHUNK.min(len - c);
                    self.vector_level(start + c as i64, n);
                    let out = std::mem::take(&mut self.out);
                    self.out = self.write_into(out, at + c * self.inner_step, n);
                }
            }
        }
    }

    fn write(&mut self, at: usize, x: Arg<'_, D::T>, n: usize) {
        for i in 0..n {
            self.out[at + i * self.inner_step] = x.get(i);
        }
    }

    fn write_into(&self, mut out: Vec<D::T>, at: usize, n: usize) -> Vec<D::T> {
        match (self.arg(self.nest.root, n), self.inner_step) {
            (Arg::Slice(x), 1) => out[at..at + n].copy_from_slice(x),
            (x, step) => (0..n).for_each(|i| out[at + i * step] = x.get(i)),
        }
        out
    }

    /// The loops over bound axes when the innermost axis is one of them.
    fn bound_loops(&mut self, level: usize, mut acc: D::T, op: Reduction, sort: Sort) -> D::T {
        if level < self.nest.outer.len() {
            let (start, len) = self.ranges[level];
            for i in 0..len {
                self.positions[level] = start + i as i64;
                self.scalar_level(level + 1);
                acc = self.bound_loops(level + 1, acc, op, sort);
            }
            return acc;
        }
        let (start, len) = self.inner;
        for c in (0..len).step_by(CHUNK) {
            let n = CHUNK.min(len - c);
            self.vector_level(start + c as i64, n);
            acc = match self.nest.product {
                Some((a, b, sort)) => self.d.dot(sort, acc, self.arg(a, n), self.arg(b, n), n),
                None => self.d.reduce(op.combine(), sort, acc, self.arg(self.nest.root, n), n),
            };
        }
        acc
    }

    /// The loops over bound axes around a chunk of a free innermost axis.
    fn chunk_loops(&mut self, level: usize, at: i64, n: usize, op: Reduction, sort: Sort) {
        if level < self.nest.outer.len() {
            let (start, len) = self.ranges[level];
            for i in 0..len {
                self.positions[level] = start + i as i64;
                self.scalar_level(level + 1);
                self.chunk_loops(level + 1, at, n, op, sort);
            }
            return;
        }
        self.vector_level(at, n);
        let mut acc = std::mem::take(&mut self.acc);
        match self.nest.product {
            Some((a, b, sort)) => self.d.mul_add_each(sort, &mut acc, self.arg(a, n), self.arg(b, n)),
            None => self.d.combine_each(op.combine(), sort, &mut acc, self.arg(self.nest.root, n)),
        }
        self.acc = acc;
    }

    fn arg(&self, operand: Operand, n: usize) -> Arg<'_, D::T> {
        match operand {
            Operand::S(r) => Arg::Splat(self.scalars[r]),
            Operand::V(r) => {
                let slot = &self.vectors[r];
                match slot.at {
                    Some((array, start)) => Arg::Slice(&self.arrays[array].data[start..start + n]),
                    None => Arg::Slice(&slot.data[..n]),
                }
            }
        }
    }

    fn scalar(&self, operand: Operand) -> D::T {
        self.arg(operand, 1).get(0)
    }

    fn scalar_level(&mut self, level: usize) {
        let nest = self.nest;
        for instr in &nest.scalars[level] {
            let (x, dst) = match instr {
                Instr::Pos(at, dst) => (self.d.num(self.positions[*at] as f64), *dst),
                Instr::Inner(dst) => (self.d.num(self.inner.0 as f64), *dst),
                Instr::Unary(op, sort, x, dst) => (self.d.unary(*op, *sort, self.scalar(*x)), *dst),
                Instr::Binary(op, sort, a, b, dst) => {
                    (self.d.binary(*op, *sort, self.scalar(*a), self.scalar(*b)), *dst)
                }
                Instr::Select(c, a, b, dst) => {
                    (self.d.select(self.scalar(*c), self.scalar(*a), self.scalar(*b)), *dst)
                }
                Instr::Cast(to, x, dst) => (self.d.cast(*to, self.scalar(*x)), *dst),
                Instr::Read(read, dst) => {
                    let mut one = [self.d.num(0.0)];
                    if let Some(at) = self.read(read, 0, 1, &mut one) {
                        one[0] = self.arrays[read.array].data[at];
                    }
                    (one[0], *dst)
                }
            };
            self.scalars[dst] = x;
        }
    }

    /// Computes `n` positions from `at` on of all vector registers.
    fn vector_level(&mut self, at: i64, n: usize) {
        let nest = self.nest;
        for instr in &nest.vectors {
            let dst = match instr {
                Instr::Pos(_, d) | Instr::Inner(d) | Instr::Unary(.., d) | Instr::Binary(.., d) => *d,
                Instr::Select(.., d) | Instr::Cast(.., d) | Instr::Read(_, d) => *d,
            };
            let mut data = std::mem::take(&mut self.vectors[dst].data);
            if data.len() < n {
                data.resize(n.max(CHUNK.min(self.inner.1)), self.d.undefined());
            }
            let out = &mut data[..n];
            let mut stretch = None;
            match instr {
                Instr::Pos(loop_, _) => out.fill(self.d.num(self.positions[*loop_] as f64)),
                Instr::Inner(_) => {
                    out.iter_mut().enumerate().for_each(|(i, o)| *o = self.d.num((at + i as i64) as f64));
                }
                Instr::Unary(op, sort, x, _) => self.d.unary_each(*op, *sort, self.arg(*x, n), out),
                Instr::Binary(op, sort, a, b, _) => {
                    self.d.binary_each(*op, *sort, self.arg(*a, n), self.arg(*b, n), out);
                }
                Instr::Select(c, a, b, _) => {
                    let (c, a, b) = (self.arg(*c, n), self.arg(*a, n), self.arg(*b, n));
                    out.iter_mut()
                        .enumerate()
                        .for_each(|(i, o)| *o = self.d.select(c.get(i), a.get(i), b.get(i)));
                }
                Instr::Cast(to, x, _) => {
                    let x = self.arg(*x, n);
                    out.iter_mut().enumerate().for_each(|(i, o)| *o = self.d.cast(*to, x.get(i)));
                }
                Instr::Read(read, _) => {
                    stretch = self.read(read, at, n, out).map(|start| (read.array, start));
                }
            }
            self.vectors[dst] = Slot { data, at: stretch };
        }
    }

    /// Reads `n` elements at innermost positions from `at` on into `out`, or gives the place of the first when they
    /// are all inside the array and adjacent.
    fn read(&mut self, read: &Read, at: i64, n: usize, out: &mut [D::T]) -> Option<usize> {
        if read.dims.iter().any(|dim| matches!(dim.dynamic, Some(Operand::V(_)))) {
            self.gather(read, at, n, out);
            return None;
        }
        let array = &self.arrays[read.array];
        // The positions `lo..hi` are inside; `flat + step * i` is where element `i` is.
        let (mut lo, mut hi, mut flat, mut step) = (0i64, n as i64, 0i64, 0i64);
        for (k, dim) in read.dims.iter().enumerate() {
            let mut base = dim.constant + dim.inner * at - array.origin[k];
            for &(outer, c) in &dim.terms {
                base += c * self.positions[outer];
            }
            if let Some(operand) = dim.dynamic {
                let x = self.scalar(operand);
                if !self.d.is_known(x) {
                    out.fill(self.d.undefined());
                    return None;
                }
                match self.d.index(x) {
                    Some(i) => base += i,
                    None => hi = 0,
                }
            }
            let (size, c) = (array.dims[k] as i64, dim.inner);
            if c == 0 {
                if base < 0 || base >= size {
                    hi = 0;
                }
            } else {
                // 0 <= base + c * i < size
                let (from, to) = inside(base, c, size);
                lo = lo.max(from);
                hi = hi.min(to);
            }
            flat = flat.wrapping_add(base.wrapping_mul(array.strides[k] as i64));
            step = step.wrapping_add(c.wrapping_mul(array.strides[k] as i64));
        }
        if lo >= hi {
            (lo, hi) = (0, 0);
        }
        if lo == 0 && hi == n as i64 && (step == 1 || n == 1) {
            return Some(flat as usize);
        }
        if read.guard.is_some() {
            for i in (0..lo).chain(hi..n as i64) {
                self.check(read, at, i as usize);
            }
        }
        let array = &self.arrays[read.array];
        let zero = self.d.num(0.0);
        out[..lo as usize].fill(zero);
        out[hi as usize..].fill(zero);
        for i in lo..hi {
            out[i as usize] = array.data[(flat + step * i) as usize];
        }
        None
    }

    /// Reads elements one by one.
    fn gather(&mut self, read: &Read, at: i64, n: usize, out: &mut [D::T]) {
        for (i, o) in out.iter_mut().enumerate().take(n) {
            if !self.is_placed(read, i) {
                *o = self.d.undefined();
                continue;
            }
            let array = &self.arrays[read.array];
            let mut flat = Some(0);
            for k in 0..read.dims.len() {
                let index = self.index(read, k, at, i);
                flat = match (flat, index) {
                    (Some(f), Some(x)) if x >= 0 && x < array.dims[k] as i64 => {
                        Some(f + x as usize * array.strides[k])
                    }
                    _ => None,
                };
            }
            match flat {
                Some(f) => *o = array.data[f],
                None => {
                    *o = self.d.num(0.0);
                    if read.guard.is_some() {
                        self.check(read, at, i);
                    }
                }
            }
        }
    }

    /// The index along one dimension of element `i`.
    fn index(&self, read: &Read, k: usize, at: i64, i: usize) -> Option<i64> {
        let dim = &read.dims[k];
        let mut x = dim.constant + dim.inner * (at + i as i64) - self.arrays[read.array].origin[k];
        for &(outer, c) in &dim.terms {
            x += c * self.positions[outer];
        }
        match dim.dynamic {
            Some(operand) => Some(x + self.d.index(self.arg(operand, i + 1).get(i))?),
            None => Some(x),
        }
    }

    /// Whether it is known where element `i` of a read is.
    fn is_placed(&self, read: &Read, i: usize) -> bool {
        let mut dynamic = read.dims.iter().filter_map(|dim| dim.dynamic);
        dynamic.all(|operand| self.d.is_known(self.arg(operand, i + 1).get(i)))
    }

    /// Records a fault if element `i` of a guarded read is outside its array where the guard holds.
    fn check(&mut self, read: &Read, at: i64, i: usize) {
        let Some(guard) = read.guard else { return };
        if self.fault.is_some() || !self.d.truth(self.arg(guard, i + 1).get(i)) {
            return;
        }
        for k in 0..read.dims.len() {
            let index = self.index(read, k, at, i);
            if index.is_none_or(|x| x < 0 || x >= self.arrays[read.array].dims[k] as i64) {
                self.fault = Some(Fault { array: read.array, dim: k, index });
                return;
            }
        }
    }
}

/// The half-open range of `i` with `0 <= base + c * i < size`, for `c` other than 0.
fn inside(base: i64, c: i64, size: i64) -> (i64, i64) {
    // ceil(a / c) for positive c.
    let ceil = |a: i64, c: i64| a.div_euclid(c) + i64::from(a.rem_euclid(c) != 0);
    if c > 0 {
        (ceil(-base, c), ceil(size - base, c))
    } else {
        // base - |c| i < size and base - |c| i >= 0
        let c = -c;
        ((base - size).div_euclid(c) + 1, base.div_euclid(c) + 1)
    }
}
