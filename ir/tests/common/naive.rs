//! An oracle for graph functions: walks the expression for each element, with nothing clever.

use std::collections::HashMap;

use tilewright_ir::eval::Tensor;
use tilewright_ir::graph::{Def, Function, ParamKind};
use tilewright_ir::{Axis, Binary, Expr, Extent, Unary, Value};

pub struct Naive<'a> {
    pub function: &'a Function,
    pub symbols: &'a [u64],
    pub values: HashMap<Value, Tensor<f64>>,
}

impl Naive<'_> {
    pub fn extent(&self, e: Extent) -> usize {
        match e {
            Extent::Const(n) => n as usize,
            Extent::Sym(s) => self.symbols[s.as_u32() as usize] as usize,
        }
    }

    fn expr(&self, e: &Expr, at: &mut HashMap<Axis, i64>) -> f64 {
        let truth = |b: bool| f64::from(u8::from(b));
        match e {
            Expr::Num(n) => n.0,
            Expr::Pos(a) => at[a] as f64,
            Expr::Size(e) => self.extent(*e) as f64,
            Expr::Read(v, index) => {
                let mut flat = 0usize;
                let t = &self.values[v];
                for (i, d) in index.iter().zip(&t.dims) {
                    let x = self.expr(i, at);
                    if !(x >= 0.0 && x < *d as f64 && x.fract() == 0.0) {
                        return 0.0;
                    }
                    flat = flat * d + x as usize;
                }
                t.data[flat]
            }
            Expr::Local(_) | Expr::Tile(_) => panic!("not in graphs"),
            Expr::Unary(op, x) => {
                let x = self.expr(x, at);
                match op {
                    Unary::Neg => -x,
                    Unary::Not => truth(x == 0.0),
                    Unary::Abs => x.abs(),
                    Unary::Inv => 1.0 / x,
                    Unary::Exp => x.exp(),
                    Unary::Exp2 => x.exp2(),
                    Unary::Log => x.ln(),
                    Unary::Sqrt => x.sqrt(),
                    Unary::Rsqrt => 1.0 / x.sqrt(),
                    Unary::Tanh => x.tanh(),
                    Unary::Sin => x.sin(),
                    Unary::Cos => x.cos(),
                    Unary::Floor => x.floor(),
                }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.expr(a, at), self.expr(b, at));
                match op {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                    Binary::FloorDiv => (a / b).floor(),
                    Binary::Mod => a - b * (a / b).floor(),
                    Binary::Max => a.max(b),
                    Binary::Min => a.min(b),
                    Binary::Lt => truth(a < b),
                    Binary::Le => truth(a <= b),
                    Binary::Gt => truth(a > b),
                    Binary::Ge => truth(a >= b),
                    Binary::Eq => truth(a == b),
                    Binary::Ne => truth(a != b),
                    Binary::And => truth(a != 0.0 && b != 0.0),
                    Binary::Or => truth(a != 0.0 || b != 0.0),
                    // Its definition has known answers of its own.
                    Binary::Random => f64::from(tilewright_ir::random::uniform(a as i64, b as i64)),
                }
            }
            // Lazy, as the definition says.
            Expr::Select(c, a, b) => {
                if self.expr(c, at) != 0.0 {
                    self.expr(a, at)
                } else {
                    self.expr(b, at)
                }
            }
            Expr::Cast(to, x) => {
                let x = self.expr(x, at);
                if to.is_float() { x } else { to.round(x) }
            }
            Expr::Reduce(op, axes, body) => {
                let mut acc = op.identity();
                self.each(axes, at, &mut |at| {
                    let x = self.expr(body, at);
                    acc = match op {
                        tilewright_ir::Reduction::Sum => acc + x,
                        tilewright_ir::Reduction::Max => acc.max(x),
                        tilewright_ir::Reduction::Min => acc.min(x),
                    };
                });
                acc
            }
        }
    }

    /// Calls `f` at all positions of the axes, which hide outer ones; restores the positions after.
    fn each(&self, axes: &[Axis], at: &mut HashMap<Axis, i64>, f: &mut dyn FnMut(&mut HashMap<Axis, i64>)) {
        let Some((&first, rest)) = axes.split_first() else { return f(at) };
        let before = at.get(&first).copied();
        for i in 0..self.extent(self.function.axes[first].extent) {
            at.insert(first, i as i64);
            self.each(rest, at, f);
        }
        match before {
            Some(x) => at.insert(first, x),
            None => at.remove(&first),
        };
    }

    fn tensor(&self, axes: &[Axis], e: &Expr) -> Vec<f64> {
        let mut out = Vec::new();
        self.each(axes, &mut HashMap::new(), &mut |at| out.push(self.expr(e, at)));
        out
    }
}

/// Results, then the final states.
pub fn eval(
    function: &Function,
    symbols: &[u64],
    params: &[Tensor<f64>],
) -> (Vec<Tensor<f64>>, Vec<Tensor<f64>>) {
    let mut n = Naive { function, symbols, values: HashMap::new() };
    let mut params = params.iter();
    let mut states: Vec<Value> = Vec::new();
    for (v, data) in function.values.iter() {
        let dims: Vec<usize> = data.axes.iter().map(|&a| n.extent(function.axes[a].extent)).collect();
        let store = |xs: Vec<f64>| -> Vec<f64> {
            xs.into_iter().map(|x| if data.dtype.is_float() { x } else { data.dtype.round(x) }).collect()
        };
        let tensor = match &data.def {
            Def::Param(kind) => {
                if *kind == ParamKind::State {
                    states.push(v);
                }
                params.next().expect("one per parameter").clone()
            }
            Def::Equation(e) => Tensor { dims, data: store(n.tensor(&data.axes, e)) },
            Def::Update { of, domain, index, value } => {
                let mut t = n.values[of].clone();
                let values = store(n.tensor(domain, value));
                let index: Vec<Vec<f64>> = index.iter().map(|i| n.tensor(domain, i)).collect();
                for (k, x) in values.into_iter().enumerate() {
                    let at: Vec<f64> = index.iter().map(|i| i[k]).collect();
                    if at.iter().zip(&dims).all(|(&i, &d)| i >= 0.0 && i < d as f64) {
                        let flat = at.iter().zip(&dims).fold(0, |f, (&i, &d)| f * d + i as usize);
                        t.data[flat] = x;
                    }
                }
                states.iter_mut().filter(|s| *s == of).for_each(|s| *s = v);
                t
            }
        };
        n.values.insert(v, tensor);
    }
    let get = |v: &Value| n.values[v].clone();
    (function.results.iter().map(get).collect(), states.iter().map(get).collect())
}
