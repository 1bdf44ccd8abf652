//! Random graph functions: well-formed, small, and with the corners in them (extents 0 and 1, shadowed binders, values
//! read along other axes than their own, gathers, ragged guards, states).

use tilewright_ir::eval::Tensor;
use tilewright_ir::expr::build::*;
use tilewright_ir::graph::{Def, Function, ParamKind};
use tilewright_ir::{Axis, Binary, DType, Ex, Extent, Reduction, Sym, Unary, Value};

use super::Rng;

pub struct Generator<'a> {
    pub rng: &'a mut Rng,
    pub function: Function,
    /// States that were taken over by an update.
    dead: Vec<Value>,
}

pub const SYMBOLS: usize = 2;

impl Generator<'_> {
    /// A function over up to six axes; extents may be symbols `0..SYMBOLS`.
    pub fn function(rng: &mut Rng, name: &str) -> Function {
        let mut g = Generator {
            rng,
            function: Function { name: name.to_owned(), ..Function::default() },
            dead: vec![],
        };
        let axes = 2 + g.rng.below(4);
        for n in 0..axes {
            let extent = match g.rng.below(8) {
                0 => Extent::Sym(Sym::from_u32(g.rng.below(SYMBOLS) as u32)),
                1 => Extent::Const(0),
                2 | 3 => Extent::Const(1),
                _ => Extent::Const([2, 3, 5, 7, 4][g.rng.below(5)]),
            };
            g.function.axis(["i", "j", "k", "d", "e", "h"][n], extent);
        }
        for n in 0..1 + g.rng.below(4) {
            let axes = g.axes(3);
            let dtype = *g.rng.pick(&[DType::F32, DType::Bf16, DType::I32, DType::F16, DType::F64]);
            let kind =
                *g.rng.pick(&[ParamKind::Input, ParamKind::Weight, ParamKind::State, ParamKind::Input]);
            let name = if g.rng.chance(4) { String::new() } else { format!("a{n}") };
            g.function.param(&name, kind, dtype, &axes);
        }
        for n in 0..1 + g.rng.below(5) {
            g.value(n);
        }
        let live: Vec<Value> = g.function.values.keys().filter(|v| !g.dead.contains(v)).collect();
        for _ in 0..1 + g.rng.below(3) {
            let v = *g.rng.pick(&live);
            g.function.results.push(v);
        }
        if g.rng.chance(3) {
            g.function.options.insert("note \"x\"".to_owned(), "a\\b\n".to_owned());
        }
        g.function
    }

    fn value(&mut self, n: usize) {
        let name = if self.rng.chance(3) { String::new() } else { format!("c{n}") };
        let live = |g: &Self, v: Value| !g.dead.contains(&v);
        let states: Vec<Value> = self
            .function
            .values
            .iter()
            .filter(|(v, d)| {
                live(self, *v) && matches!(d.def, Def::Param(ParamKind::State) | Def::Update { .. })
            })
            .map(|(v, _)| v)
            .collect();
        if !states.is_empty() && self.rng.chance(2) {
            let of = *self.rng.pick(&states);
            // One element each: the value's own axes, shifted, so that no two writes meet.
            let domain = self.function.values[of].axes.clone();
            let index = domain
                .iter()
                .map(|&a| match self.rng.below(3) {
                    0 => add(pos(a), num(1.0)),
                    1 => sub(pos(a), num(2.0)),
                    _ => pos(a),
                })
                .collect();
            let value = self.real(&domain, 2);
            self.function.update(&name, of, &domain, index, value);
            self.dead.push(of);
            return;
        }
        let axes = self.axes(3);
        let expr = self.real(&axes, 4);
        let dtype = *self.rng.pick(&[DType::F32, DType::Bf16, DType::F64, DType::F32]);
        self.function.define(&name, dtype, &axes, expr);
    }

    /// Up to `most` distinct axes.
    fn axes(&mut self, most: usize) -> Vec<Axis> {
        let mut out: Vec<Axis> = Vec::new();
        for _ in 0..self.rng.below(most + 1) {
            let a = Axis::from_u32(self.rng.below(self.function.axes.len()) as u32);
            if !out.contains(&a) {
                out.push(a);
            }
        }
        out
    }

    /// An integer expression over the axes in scope.
    fn int(&mut self, scope: &[Axis], depth: usize) -> Ex {
        let choice = self.rng.below(if depth == 0 { 3 } else { 8 });
        match choice {
            0 | 1 if !scope.is_empty() => pos(*self.rng.pick(scope)),
            0..=2 => match self.rng.below(3) {
                0 => size(Extent::Sym(Sym::from_u32(self.rng.below(SYMBOLS) as u32))),
                1 => size(Extent::Const(self.rng.below(4) as u64)),
                _ => num(self.rng.below(5) as f64 - 1.0),
            },
            3 => add(self.int(scope, depth - 1), self.int(scope, depth - 1)),
            4 => sub(self.int(scope, depth - 1), self.int(scope, depth - 1)),
            5 => mul(self.int(scope, depth - 1), num(self.rng.below(4) as f64 - 1.0)),
            6 => {
                let op = *self.rng.pick(&[Binary::FloorDiv, Binary::Mod, Binary::Max, Binary::Min]);
                binary(op, self.int(scope, depth - 1), num(1.0 + self.rng.below(3) as f64))
            }
            _ => self.read(scope, depth - 1, true).unwrap_or_else(|| num(2.0)),
        }
    }

    /// A read of a value of integer or real type; indices are mostly axes in scope.
    fn read(&mut self, scope: &[Axis], depth: usize, ints: bool) -> Option<Ex> {
        let values: Vec<Value> = self
            .function
            .values
            .iter()
            .filter(|(v, d)| d.dtype.is_int() == ints && !self.dead.contains(v))
            .map(|(v, _)| v)
            .collect();
        let v = *values.get(self.rng.below(values.len()))?;
        let axes = self.function.values[v].axes.clone();
        let mut index = Vec::new();
        for a in axes {
            index.push(if scope.contains(&a) && !self.rng.chance(4) {
                pos(a)
            } else {
                self.int(scope, depth.min(2))
            });
        }
        Some(read(v, index))
    }

    fn truth(&mut self, scope: &[Axis], depth: usize) -> Ex {
        let compare =
            *self.rng.pick(&[Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge, Binary::Eq, Binary::Ne]);
        match self.rng.below(if depth == 0 { 1 } else { 4 }) {
            0 | 1 => binary(compare, self.int(scope, depth.min(2)), self.int(scope, depth.min(2))),
            2 => {
                let op = *self.rng.pick(&[Binary::And, Binary::Or]);
                binary(op, self.truth(scope, depth - 1), self.truth(scope, depth - 1))
            }
            _ => unary(Unary::Not, self.truth(scope, depth - 1)),
        }
    }

    /// A real expression over the axes in scope, bounded for inputs in -1..1 so that sums in different orders agree.
    pub fn real(&mut self, scope: &[Axis], depth: usize) -> Ex {
        if depth == 0 {
            return match self.rng.below(4) {
                0 => num(self.rng.real() * 3.0),
                1 => self.int(scope, 1),
                _ => self.read(scope, 1, false).unwrap_or_else(|| num(0.1)),
            };
        }
        let d = depth - 1;
        match self.rng.below(13) {
            0 | 1 => add(self.real(scope, d), self.real(scope, d)),
            2 => sub(self.real(scope, d), self.real(scope, d)),
            3 | 4 => mul(self.real(scope, d), self.real(scope, d)),
            5 => {
                let op = *self.rng.pick(&[Unary::Tanh, Unary::Sin, Unary::Cos, Unary::Neg, Unary::Abs]);
                unary(op, self.real(scope, d))
            }
            6 => {
                let op = *self.rng.pick(&[Unary::Exp, Unary::Exp2]);
                unary(op, unary(Unary::Tanh, self.real(scope, d)))
            }
            7 => {
                binary(*self.rng.pick(&[Binary::Max, Binary::Min]), self.real(scope, d), self.real(scope, d))
            }
            8 => {
                let (c, a) = (self.truth(scope, 2), self.real(scope, d));
                let b = if self.rng.chance(3) { num(f64::NEG_INFINITY) } else { self.real(scope, d) };
                // Infinities are bounded right away: inf - inf is outside of the laws.
                binary(Binary::Max, select(c, a, b), num(-9.0))
            }
            9 => cast(*self.rng.pick(&[DType::Bf16, DType::F32]), self.real(scope, d)),
            10 | 11 => {
                let mut bound = self.axes(2);
                if bound.is_empty() {
                    bound.push(Axis::from_u32(0));
                }
                let mut inner = scope.to_vec();
                inner.extend(bound.iter().filter(|a| !scope.contains(a)));
                let body = self.real(&inner, d);
                let op = *self.rng.pick(&[Reduction::Sum, Reduction::Sum, Reduction::Max, Reduction::Min]);
                let r = reduce(op, bound, body);
                if op == Reduction::Sum {
                    r
                } else {
                    binary(Binary::Min, binary(Binary::Max, r, num(-9.0)), num(9.0))
                }
            }
            _ => self.read(scope, 2, false).unwrap_or_else(|| num(0.25)),
        }
    }
}

/// Random contents for each parameter.
pub fn params(rng: &mut Rng, function: &Function, symbols: &[u64]) -> Vec<Tensor<f64>> {
    function
        .params()
        .map(|v| {
            let dims: Vec<usize> = function
                .dims(v)
                .into_iter()
                .map(|e| match e {
                    Extent::Const(n) => n as usize,
                    Extent::Sym(s) => symbols[s.as_u32() as usize] as usize,
                })
                .collect();
            let ints = function.values[v].dtype.is_int();
            Tensor::from_fn(&dims, |_| if ints { rng.below(6) as f64 - 1.0 } else { rng.real() })
        })
        .collect()
}
