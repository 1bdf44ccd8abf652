//! Random equations with inputs and expected results.
//!
//! The generator makes a typed expression tree of its own, prints it as text, and evaluates it directly with plain
//! recursion, element by element: an oracle that shares nothing with parsing, lowering or evaluation of modules.
//!
//! Values stay of order one and conditions compare integers only, so that results are meaningful in single precision.

use tilewright_ir::DType;

use super::Rng;

/// A generated text with its inputs and what it means.
pub struct Case {
    pub text: String,
    /// Name, type, extents, elements (already rounded to the type).
    pub inputs: Vec<(String, DType, Vec<usize>, Vec<f64>)>,
    /// Name, extents, elements.
    pub outputs: Vec<(String, Vec<usize>, Vec<f64>)>,
}

const AXES: [&str; 5] = ["i", "j", "k", "d", "e"];
const EXTENTS: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 33];

#[derive(Clone)]
struct Array {
    name: String,
    dtype: DType,
    axes: Vec<usize>,
    data: Vec<f64>,
    /// Elements are indices below this.
    below: Option<usize>,
}

/// An expression; axes are numbers.
#[derive(Clone)]
enum E {
    Num(f64),
    Int(i64),
    Pos(usize),
    Read(usize, Vec<E>),
    Unary(&'static str, Box<E>),
    Infix(&'static str, Box<E>, Box<E>),
    Where(Box<E>, Box<E>, Box<E>),
    Reduce(&'static str, Vec<usize>, Box<E>),
    /// A library function over axes whose result varies along them (`softmax`, `rms_norm`).
    Along(&'static str, Vec<usize>, Box<E>),
}

struct Gen<'a> {
    rng: &'a mut Rng,
    extents: Vec<usize>,
    arrays: Vec<Array>,
}

/// Makes a case.
pub fn case(rng: &mut Rng) -> Case {
    let extents: Vec<usize> = AXES.iter().map(|_| EXTENTS[rng.below(EXTENTS.len())]).collect();
    let mut g = Gen { rng, extents, arrays: Vec::new() };
    let count = 2 + g.rng.below(3);
    for n in 0..count {
        g.array(n);
    }
    let definitions = 1 + g.rng.below(2);
    let inputs = g.arrays.clone();
    let (mut text, mut outputs) = (String::new(), Vec::new());
    for a in &inputs {
        text.push_str(&format!(
            "{}: {}[{}]\n",
            a.name,
            a.dtype,
            list(&a.axes, |&x| format!("{}={}", AXES[x], g.extents[x]))
        ));
    }
    text.push_str(&format!(
        "axis {}\n",
        list(&[0, 1, 2, 3, 4], |&x| format!("{}={}", AXES[x], g.extents[x]))
    ));
    for n in 0..definitions {
        let (axes, body) = g.definition();
        let name = format!("O{n}");
        let head =
            if axes.is_empty() { String::new() } else { format!("[{}]", list(&axes, |&x| AXES[x].into())) };
        let data = g.all(&axes, &body);
        text.push_str(&format!(
            "{name}: f32{}\n{name}{head} = {}\n",
            if axes.is_empty() { "[]" } else { "" },
            g.print(&body)
        ));
        outputs.push((name.clone(), axes.iter().map(|&a| g.extents[a]).collect(), data.clone()));
        // Later definitions may read earlier ones.
        g.arrays.push(Array { name, dtype: DType::F32, axes, data, below: None });
    }
    let extents = g.extents.clone();
    let inputs = inputs
        .into_iter()
        .map(|a| (a.name, a.dtype, a.axes.iter().map(|&x| extents[x]).collect(), a.data))
        .collect();
    Case { text, inputs, outputs }
}

fn list<T>(items: &[T], f: impl Fn(&T) -> String) -> String {
    items.iter().map(f).collect::<Vec<_>>().join(", ")
}

impl Gen<'_> {
    fn size(&self, axes: &[usize]) -> usize {
        axes.iter().map(|&a| self.extents[a]).product()
    }

    fn some_axes(&mut self, most: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..AXES.len()).collect();
        let count = self.rng.below(most + 1);
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(all.remove(self.rng.below(all.len())));
        }
        out
    }

    fn array(&mut self, n: usize) {
        let axes = self.some_axes(3);
        let size = self.size(&axes);
        let (dtype, below) = match self.rng.below(6) {
            0 => (DType::I32, Some(self.extents[self.rng.below(AXES.len())])),
            1 => (DType::Bf16, None),
            2 => (DType::F16, None),
            _ => (DType::F32, None),
        };
        let data = (0..size)
            .map(|_| match below {
                Some(n) => self.rng.below(n) as f64,
                None => dtype.round(self.rng.real()),
            })
            .collect();
        self.arrays.push(Array { name: format!("A{n}"), dtype, axes, data, below });
    }

    /// A definition whose direct evaluation is not too long.
    fn definition(&mut self) -> (Vec<usize>, E) {
        loop {
            let axes = self.some_axes(3);
            let body = self.real(&axes, 4);
            let work = self.size(&axes) as f64 * self.work(&body);
            if work < 3e5 {
                return (axes, body);
            }
        }
    }

    fn work(&self, e: &E) -> f64 {
        match e {
            E::Num(_) | E::Int(_) | E::Pos(_) => 1.0,
            E::Read(_, index) => 1.0 + index.iter().map(|x| self.work(x)).sum::<f64>(),
            E::Unary(_, x) => 1.0 + self.work(x),
            E::Infix(_, a, b) => 1.0 + self.work(a) + self.work(b),
            E::Where(c, a, b) => 1.0 + self.work(c) + self.work(a) + self.work(b),
            E::Reduce(op, axes, x) => {
                // `logsumexp` looks at its argument twice.
                let passes = if *op == "logsumexp" { 2.0 } else { 1.0 };
                passes * self.size(axes) as f64 * self.work(x)
            }
            E::Along(_, axes, x) => 3.0 * self.size(axes) as f64 * self.work(x),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())]
    }

    /// An integer expression that is an index below `n`, now and then outside.
    fn index(&mut self, scope: &[usize], n: usize) -> E {
        let fitting: Vec<usize> = scope.iter().copied().filter(|&a| self.extents[a] == n).collect();
        if !fitting.is_empty() && self.rng.below(4) > 0 {
            return E::Pos(self.pick(&fitting));
        }
        let tables: Vec<usize> = (0..self.arrays.len())
            .filter(|&t| {
                self.arrays[t].below.is_some() && self.arrays[t].axes.iter().all(|a| scope.contains(a))
            })
            .collect();
        if !tables.is_empty() && self.rng.below(2) == 0 {
            let t = self.pick(&tables);
            let at = self.arrays[t].axes.iter().map(|&a| E::Pos(a)).collect();
            return E::Read(t, at);
        }
        if scope.is_empty() {
            return E::Int(self.rng.below(n) as i64);
        }
        let p = Box::new(E::Pos(self.pick(scope)));
        let shift = self.rng.below(5) as i64 - 2;
        match self.rng.below(4) {
            0 => E::Int(self.rng.below(n) as i64),
            1 => E::Infix("%", p, Box::new(E::Int(n as i64))),
            2 => E::Infix("//", p, Box::new(E::Int(2))),
            _ => E::Infix("+", p, Box::new(E::Int(shift))),
        }
    }

    fn condition(&mut self, scope: &[usize]) -> E {
        let simple = |g: &mut Self| match scope {
            [] => E::Int(g.rng.below(4) as i64),
            _ if g.rng.below(3) == 0 => E::Int(g.rng.below(9) as i64),
            _ => E::Pos(g.pick(scope)),
        };
        // Lengths from memory, and what lies a little before or behind a position.
        let term = |g: &mut Self| {
            let lengths: Vec<usize> = (0..g.arrays.len())
                .filter(|&t| {
                    g.arrays[t].below.is_some() && g.arrays[t].axes.iter().all(|a| scope.contains(a))
                })
                .collect();
            match g.rng.below(5) {
                0 if !lengths.is_empty() => {
                    let t = g.pick(&lengths);
                    E::Read(t, g.arrays[t].axes.iter().map(|&a| E::Pos(a)).collect())
                }
                1 => {
                    let op = g.pick(&["+", "-"]);
                    E::Infix(op, Box::new(simple(g)), Box::new(simple(g)))
                }
                _ => simple(g),
            }
        };
        let (a, b) = (term(self), term(self));
        let op = self.pick(&["<", "<=", ">", ">=", "==", "!="]);
        let simple = E::Infix(op, Box::new(a), Box::new(b));
        match self.rng.below(6) {
            0 => E::Unary("not ", Box::new(simple)),
            1 => E::Infix(self.pick(&["and", "or"]), Box::new(simple), Box::new(self.condition(scope))),
            _ => simple,
        }
    }

    fn read(&mut self, scope: &[usize]) -> E {
        // An array whose axes are in scope is most interesting.
        let mut best: Vec<usize> = (0..self.arrays.len())
            .filter(|&t| {
                self.arrays[t].below.is_none() && self.arrays[t].axes.iter().all(|a| scope.contains(a))
            })
            .collect();
        if best.is_empty() || self.rng.below(5) == 0 {
            best = (0..self.arrays.len()).collect();
        }
        let t = self.pick(&best);
        let axes = self.arrays[t].axes.clone();
        let along = axes.iter().all(|a| scope.contains(a)) && self.rng.below(5) > 0;
        let index = axes
            .iter()
            .map(|&a| if along { E::Pos(a) } else { self.index(scope, self.extents[a]) })
            .collect();
        let read = E::Read(t, index);
        match self.arrays[t].below {
            // Integers as reals would be large; their parity is not.
            Some(_) => E::Infix("%", Box::new(read), Box::new(E::Int(3))),
            None => read,
        }
    }

    fn leaf(&mut self, scope: &[usize]) -> E {
        match self.rng.below(8) {
            0 => E::Num((self.rng.real() * 8.0).round() / 8.0),
            1 if !scope.is_empty() => {
                let p = Box::new(E::Pos(self.pick(scope)));
                E::Infix("*", p, Box::new(E::Num(0.125)))
            }
            _ => self.read(scope),
        }
    }

    fn real(&mut self, scope: &[usize], depth: usize) -> E {
        if depth == 0 {
            return self.leaf(scope);
        }
        let sub = |g: &mut Self, scope: &[usize]| Box::new(g.real(scope, depth - 1));
        match self.rng.below(14) {
            0 | 1 => self.leaf(scope),
            2..=4 => {
                let op = self.pick(&["+", "-", "*", "max", "min"]);
                E::Infix(op, sub(self, scope), sub(self, scope))
            }
            5 | 6 => {
                let op = self
                    .pick(&["tanh", "sin", "cos", "abs", "-", "silu", "sigmoid", "relu", "gelu", "square"]);
                E::Unary(op, sub(self, scope))
            }
            7 => E::Where(Box::new(self.condition(scope)), sub(self, scope), sub(self, scope)),
            8 => {
                // exp and division of bounded arguments.
                let bounded = Box::new(E::Unary("tanh", sub(self, scope)));
                match self.rng.below(2) {
                    0 => E::Unary("exp", bounded),
                    _ => E::Infix(
                        "/",
                        sub(self, scope),
                        Box::new(E::Infix("+", bounded, Box::new(E::Num(2.5)))),
                    ),
                }
            }
            9..=11 => {
                let axis = self.rng.below(AXES.len());
                let mut inner = scope.to_vec();
                inner.push(axis);
                let op = self.pick(&["sum", "sum", "sum", "max", "min", "mean", "logsumexp"]);
                let mut axes = vec![axis];
                let second = self.rng.below(AXES.len());
                if second != axis && self.rng.below(4) == 0 {
                    axes.push(second);
                    inner.push(second);
                }
                let mut body = sub(self, &inner);
                if op == "sum" && self.rng.below(2) == 0 {
                    body = Box::new(E::Infix("*", body, Box::new(self.read(&inner))));
                }
                if op != "mean" && self.rng.below(3) == 0 {
                    // A mask with a neutral element; where nothing is left, a finite value takes over.
                    let c = self.condition(&inner);
                    body = Box::new(E::Where(Box::new(c), body, Box::new(E::Num(0.0))));
                }
                E::Reduce(op, axes, body)
            }
            _ => {
                // Softmax times values, with a mask that may leave nothing; or a norm.
                let mut axes = vec![self.rng.below(AXES.len())];
                let second = self.rng.below(AXES.len());
                if !axes.contains(&second) && self.rng.below(4) == 0 {
                    axes.push(second);
                }
                let mut inner = scope.to_vec();
                inner.extend(&axes);
                let mut body = sub(self, &inner);
                if self.rng.below(3) == 0 {
                    let op = self.pick(&["rms_norm", "layer_norm"]);
                    let normed = Box::new(E::Along(op, axes.clone(), body));
                    let product = E::Infix("*", normed, Box::new(self.read(&inner)));
                    return E::Reduce("sum", axes, Box::new(product));
                }
                if self.rng.below(2) == 0 {
                    let c = self.condition(&inner);
                    body = Box::new(E::Where(Box::new(c), body, Box::new(E::Num(f64::NEG_INFINITY))));
                }
                // Times values, or times the same along one of the axes.
                let by = match self.rng.below(6) {
                    0 => E::Along("softmax", axes[..1].to_vec(), body.clone()),
                    _ => self.read(&inner),
                };
                let p = Box::new(E::Along("softmax", axes.clone(), body));
                E::Reduce("sum", axes, Box::new(E::Infix("*", p, Box::new(by))))
            }
        }
    }

    fn print(&self, e: &E) -> String {
        match e {
            E::Num(x) if *x == f64::NEG_INFINITY => "-inf".into(),
            E::Num(x) => format!("({x:?})"),
            E::Int(n) => format!("({n})"),
            E::Pos(a) => AXES[*a].into(),
            E::Read(t, index) if index.is_empty() => self.arrays[*t].name.clone(),
            E::Read(t, index) => format!("{}[{}]", self.arrays[*t].name, list(index, |x| self.slot(x))),
            E::Unary(op @ ("-" | "not "), x) => format!("({op}({}))", self.print(x)),
            E::Unary(op, x) => format!("{op}({})", self.print(x)),
            E::Infix(op @ ("max" | "min"), a, b) => format!("{op}({}, {})", self.print(a), self.print(b)),
            E::Infix(op, a, b) => format!("({} {op} {})", self.print(a), self.print(b)),
            E::Where(c, a, b) => format!("where({}, {}, {})", self.print(c), self.print(a), self.print(b)),
            E::Reduce(op, axes, x) => format!("{op}[{}]({})", list(axes, |&a| AXES[a].into()), self.print(x)),
            E::Along(op, axes, x) => format!("{op}[{}]({})", list(axes, |&a| AXES[a].into()), self.print(x)),
        }
    }

    fn slot(&self, e: &E) -> String {
        self.print(e)
    }

    fn all(&self, axes: &[usize], body: &E) -> Vec<f64> {
        let mut out = Vec::new();
        self.each(axes, &mut vec![0; AXES.len()], &mut |at| out.push(self.eval(body, at)));
        out
    }

    /// Calls `f` with each position along the axes, last fastest.
    fn each(&self, axes: &[usize], at: &mut Vec<usize>, f: &mut dyn FnMut(&mut Vec<usize>)) {
        let Some((&axis, rest)) = axes.split_first() else { return f(at) };
        let before = at[axis];
        for n in 0..self.extents[axis] {
            at[axis] = n;
            self.each(rest, at, f);
        }
        at[axis] = before;
    }

    fn eval(&self, e: &E, at: &mut Vec<usize>) -> f64 {
        let truth = |b: bool| f64::from(u8::from(b));
        match e {
            E::Num(x) => *x,
            E::Int(n) => *n as f64,
            E::Pos(a) => at[*a] as f64,
            E::Read(t, index) => {
                let array = &self.arrays[*t];
                let mut offset = 0;
                for (x, &a) in index.iter().zip(&array.axes) {
                    let n = self.eval(x, at);
                    if n < 0.0 || n >= self.extents[a] as f64 {
                        return 0.0;
                    }
                    offset = offset * self.extents[a] + n as usize;
                }
                array.data[offset]
            }
            E::Unary(op, x) => {
                let x = self.eval(x, at);
                match *op {
                    "tanh" => x.tanh(),
                    "sin" => x.sin(),
                    "cos" => x.cos(),
                    "abs" => x.abs(),
                    "exp" => x.exp(),
                    "-" => -x,
                    "not " => truth(x == 0.0),
                    "silu" => x / (1.0 + (-x).exp()),
                    "sigmoid" => 1.0 / (1.0 + (-x).exp()),
                    "relu" => x.max(0.0),
                    "square" => x * x,
                    "gelu" => {
                        0.5 * x
                            * (1.0
                                + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
                    }
                    _ => unreachable!("{op}"),
                }
            }
            E::Infix(op, a, b) => {
                let (a, b) = (self.eval(a, at), self.eval(b, at));
                match *op {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    "/" => a / b,
                    "//" => (a / b).floor(),
                    "%" => a - b * (a / b).floor(),
                    "max" => a.max(b),
                    "min" => a.min(b),
                    "<" => truth(a < b),
                    "<=" => truth(a <= b),
                    ">" => truth(a > b),
                    ">=" => truth(a >= b),
                    "==" => truth(a == b),
                    "!=" => truth(a != b),
                    "and" => truth(a != 0.0 && b != 0.0),
                    "or" => truth(a != 0.0 || b != 0.0),
                    _ => unreachable!("{op}"),
                }
            }
            E::Where(c, a, b) => {
                if self.eval(c, at) != 0.0 {
                    self.eval(a, at)
                } else {
                    self.eval(b, at)
                }
            }
            E::Reduce(op, axes, x) => {
                let mut values = Vec::new();
                self.each(axes, at, &mut |at| values.push(self.eval(x, at)));
                let sum: f64 = values.iter().sum();
                match *op {
                    "sum" => sum,
                    "mean" => sum / values.len() as f64,
                    "max" => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                    "min" => values.into_iter().fold(f64::INFINITY, f64::min),
                    "logsumexp" => {
                        let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        top + values.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
                    }
                    _ => unreachable!("{op}"),
                }
            }
            E::Along(op, axes, x) => {
                let mut values = Vec::new();
                self.each(axes, at, &mut |at| values.push(self.eval(x, at)));
                let (here, n) = (self.eval(x, at), values.len() as f64);
                match *op {
                    "softmax" => {
                        let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        if here == f64::NEG_INFINITY {
                            return 0.0;
                        }
                        (here - top).exp() / values.iter().map(|v| (v - top).exp()).sum::<f64>()
                    }
                    "rms_norm" => here / (values.iter().map(|v| v * v).sum::<f64>() / n + 1e-6).sqrt(),
                    "layer_norm" => {
                        let mean = values.iter().sum::<f64>() / n;
                        let var = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                        (here - mean) / (var + 1e-5).sqrt()
                    }
                    _ => unreachable!("{op}"),
                }
            }
        }
    }
}
