//! Equations from Rust: the same language without text.
//!
//! Why here: programs that make equations should not have to print and parse them. The builder makes the syntax tree
//! that the parser makes, so that names, extents and kinds are checked by the same code, at [`Equations::build`].
//!
//! Post: `build` gives the same module as the text would, or a diagnostic without a place.
//!
//! ```
//! use tilewright_frontend::equations::builder::{Equations, library, sum};
//! use tilewright_ir::DType;
//! let mut e = Equations::new();
//! let (i, j, d) = (e.axis("i", 33), e.axis("j", 20), e.axis("d", 64));
//! let q = e.input("Q", DType::F32, &[&i, &d]);
//! let k = e.input("K", DType::F32, &[&j, &d]);
//! let s = sum(&[&d], q.at([&i, &d]) * k.at([&j, &d]));
//! e.define("P", &[&i, &j], library("softmax", &[&j], [s]));
//! let module = e.build(&["P"]).unwrap();
//! assert_eq!(module.outputs.len(), 1);
//! ```

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

use tilewright_ir::diag::{Diagnostic, Span};
use tilewright_ir::graph::Module;
use tilewright_ir::{Binary, DType};

use super::ast::{AxisDecl, Call, Decl, Definition, Kind, MAX_DEPTH, Name, Node, Size, Slot, Stmt};
use super::library::PRIMITIVES;
use super::parser::is_keyword;
use super::{Given, assemble};

fn name(text: &str) -> Name {
    Name { text: text.to_owned(), span: Span::default() }
}

fn node(kind: Kind) -> Node {
    Node::new(kind, Span::default())
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    name: String,
    size: Size,
}

/// A symbolic extent.
#[derive(Clone, Debug, PartialEq)]
pub struct Symbol {
    name: String,
}

/// An extent: a number, or a symbol.
#[derive(Clone, Debug)]
pub struct Extent(Size);

impl From<u64> for Extent {
    fn from(n: u64) -> Extent {
        Extent(Size::Const(n))
    }
}

impl From<&Symbol> for Extent {
    fn from(s: &Symbol) -> Extent {
        Extent(Size::Sym(s.name.clone()))
    }
}

/// An array: an input, or what was defined.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    name: String,
}

/// An expression. One that is nested too deeply to be walked is remembered as such and refused by `build`.
#[derive(Clone, Debug)]
pub struct Term(Option<Node>);

/// An index of an access: the position along an axis, or an expression.
#[derive(Clone, Debug)]
pub struct Index(Term);

impl From<&Axis> for Index {
    fn from(a: &Axis) -> Index {
        Index(a.position())
    }
}

impl From<Term> for Index {
    fn from(t: Term) -> Index {
        Index(t)
    }
}

impl Axis {
    /// The position along the axis.
    pub fn position(&self) -> Term {
        Term::of(Kind::Name(self.name.clone()))
    }

    /// The extent of the axis.
    pub fn size(&self) -> Term {
        Term::of(call("size", Some(&[self]), Vec::new()))
    }
}

impl Array {
    /// The element at an index per axis of the array.
    pub fn at<I: Into<Index>>(&self, index: impl IntoIterator<Item = I>) -> Term {
        let index: Option<Vec<Node>> = index.into_iter().map(|i| i.into().0.0).collect();
        let slots = index.map(|all| all.into_iter().map(|index| Slot { axis: None, index }).collect());
        Term::checked(slots.map(|s| Kind::Index(name(&self.name), s)))
    }

    /// The value of an array without axes.
    pub fn value(&self) -> Term {
        Term::of(Kind::Index(name(&self.name), Vec::new()))
    }
}

fn call(callee: &str, axes: Option<&[&Axis]>, args: Vec<Node>) -> Kind {
    let axes = axes.map(|all| all.iter().map(|a| name(&a.name)).collect());
    Kind::Call(Call { callee: name(callee), axes, args, named: Vec::new() })
}

impl Term {
    fn of(kind: Kind) -> Term {
        Term::checked(Some(kind))
    }

    fn checked(kind: Option<Kind>) -> Term {
        // Dropping what is too deep here keeps every tree shallow enough to be dropped and walked recursively.
        Term(kind.map(node).filter(|n| n.depth <= MAX_DEPTH))
    }

    fn apply(callee: &str, axes: Option<&[&Axis]>, args: impl IntoIterator<Item = Term>) -> Term {
        let args: Option<Vec<Node>> = args.into_iter().map(|t| t.0).collect();
        Term::checked(args.map(|a| call(callee, axes, a)))
    }

    fn infix(op: Binary, a: Term, b: Term) -> Term {
        Term::checked(a.0.zip(b.0).map(|(a, b)| Kind::Binary(op, Box::new(a), Box::new(b))))
    }
}

impl From<f64> for Term {
    fn from(x: f64) -> Term {
        Term::of(Kind::Num(x, false))
    }
}

impl From<i64> for Term {
    fn from(x: i64) -> Term {
        Term::of(Kind::Num(x as f64, true))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<T: Into<Term>> $trait<T> for Term {
            type Output = Term;
            fn $method(self, other: T) -> Term {
                Term::infix(Binary::$op, self, other.into())
            }
        }
    )*};
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Mod);

impl Neg for Term {
    type Output = Term;
    fn neg(self) -> Term {
        Term::checked(self.0.map(|x| Kind::Neg(Box::new(x))))
    }
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $method:ident $op:ident),*) => {
        impl Term {$(
            $(#[$doc])*
            pub fn $method(self, other: impl Into<Term>) -> Term {
                Term::infix(Binary::$op, self, other.into())
            }
        )*}
    };
}
comparisons!(
    /// Whether this is less.
    lt Lt,
    /// Whether this is at most the other.
    le Le,
    /// Whether this is greater.
    gt Gt,
    /// Whether this is at least the other.
    ge Ge,
    /// Whether both are equal.
    equals Eq,
    /// Whether they differ.
    differs Ne,
    /// Whether both hold.
    and And,
    /// Whether one of them holds.
    or Or,
    /// The quotient rounded toward minus infinity.
    floor_div FloorDiv
);

macro_rules! functions {
    ($($(#[$doc:meta])* $method:ident)*) => {
        impl Term {$(
            $(#[$doc])*
            pub fn $method(self) -> Term {
                Term::apply(stringify!($method), None, [self])
            }
        )*}
    };
}
functions!(
    /// The absolute value.
    abs
    /// The reciprocal.
    inv
    /// The exponential.
    exp
    /// The power of two.
    exp2
    /// The natural logarithm.
    log
    /// The square root.
    sqrt
    /// The reciprocal of the square root.
    rsqrt
    /// The hyperbolic tangent.
    tanh
    /// The sine.
    sin
    /// The cosine.
    cos
    /// The largest integer that is not greater.
    floor
);

impl Term {
    /// Whether this does not hold.
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Term {
        Term::checked(self.0.map(|x| Kind::Not(Box::new(x))))
    }

    /// The greater of two.
    pub fn maximum(self, other: impl Into<Term>) -> Term {
        Term::apply("max", None, [self, other.into()])
    }

    /// The lesser of two.
    pub fn minimum(self, other: impl Into<Term>) -> Term {
        Term::apply("min", None, [self, other.into()])
    }

    /// A power.
    pub fn pow(self, exponent: impl Into<Term>) -> Term {
        Term::apply("pow", None, [self, exponent.into()])
    }

    /// The conversion to a type, with its rounding.
    pub fn cast(self, dtype: DType) -> Term {
        Term::apply(dtype.name(), None, [self])
    }
}

/// The sum over axes.
pub fn sum(axes: &[&Axis], body: Term) -> Term {
    Term::apply("sum", Some(axes), [body])
}

/// The maximum over axes.
pub fn max(axes: &[&Axis], body: Term) -> Term {
    Term::apply("max", Some(axes), [body])
}

/// The minimum over axes.
pub fn min(axes: &[&Axis], body: Term) -> Term {
    Term::apply("min", Some(axes), [body])
}

/// `then` where the condition holds, else `otherwise`.
pub fn select(condition: Term, then: impl Into<Term>, otherwise: impl Into<Term>) -> Term {
    Term::apply("where", None, [condition, then.into(), otherwise.into()])
}

/// A function of the library, such as `softmax` over `j`. Without axes, pass none.
pub fn library(function: &str, axes: &[&Axis], args: impl IntoIterator<Item = Term>) -> Term {
    Term::apply(function, (!axes.is_empty()).then_some(axes), args)
}

/// Equations under construction.
#[derive(Clone, Debug, Default)]
pub struct Equations {
    stmts: Vec<Stmt>,
    /// The first thing that is wrong.
    error: Option<Diagnostic>,
}

impl Equations {
    /// No equations.
    pub fn new() -> Equations {
        Equations::default()
    }

    fn check(&mut self, text: &str, what: &str) {
        let mut chars = text.chars();
        let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let word = starts && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !word || is_keyword(text) || PRIMITIVES.contains(&text) {
            let d = Diagnostic::general(format!("`{text}` cannot name {what}"))
                .with_help("names are letters, digits and underscores, and no words of the language");
            self.error.get_or_insert(d);
        }
    }

    /// A symbolic extent within a range, both ends included.
    pub fn symbol(&mut self, text: &str, min: u64, max: u64) -> Symbol {
        self.check(text, "a symbol");
        if min > max {
            let d = Diagnostic::general(format!("the range {min}..{max} of symbol `{text}` is empty"));
            self.error.get_or_insert(d);
        }
        self.stmts.push(Stmt::Range(name(text), min, max));
        Symbol { name: text.to_owned() }
    }

    /// An axis.
    pub fn axis(&mut self, text: &str, extent: impl Into<Extent>) -> Axis {
        self.check(text, "an axis");
        let axis = Axis { name: text.to_owned(), size: extent.into().0 };
        self.stmts.push(Stmt::Axes(vec![declared(&axis)]));
        axis
    }

    fn declare(&mut self, text: &str, constant: bool, dtype: Option<DType>, axes: &[&Axis]) -> Array {
        self.check(text, "an array");
        let axes = Some(axes.iter().map(|a| declared(a)).collect());
        self.stmts.push(Stmt::Decl(Decl { name: name(text), constant, dtype, axes }));
        Array { name: text.to_owned() }
    }

    /// An input.
    pub fn input(&mut self, text: &str, dtype: DType, axes: &[&Axis]) -> Array {
        self.declare(text, false, Some(dtype), axes)
    }

    /// An input that is the same in every run, a weight.
    pub fn constant(&mut self, text: &str, dtype: DType, axes: &[&Axis]) -> Array {
        self.declare(text, true, Some(dtype), axes)
    }

    /// Defines an array; its type follows from the inputs.
    pub fn define(&mut self, text: &str, axes: &[&Axis], body: Term) -> Array {
        self.define_typed(text, None, axes, body)
    }

    /// Defines an array of a given type.
    pub fn define_as(&mut self, text: &str, dtype: DType, axes: &[&Axis], body: Term) -> Array {
        self.define_typed(text, Some(dtype), axes, body)
    }

    fn define_typed(&mut self, text: &str, dtype: Option<DType>, axes: &[&Axis], body: Term) -> Array {
        let array = self.declare(text, false, dtype, axes);
        match body.0 {
            Some(body) => {
                let axes = axes.iter().map(|a| name(&a.name)).collect();
                self.stmts.push(Stmt::Define(Definition { name: name(text), axes, body }));
            }
            None => {
                let message = format!("the expression of `{text}` has more than {MAX_DEPTH} levels");
                self.error.get_or_insert(
                    Diagnostic::general(message).with_help("define parts of it as arrays of their own"),
                );
            }
        }
        array
    }

    /// Checks everything and makes a module. Without outputs, the last definition is the output.
    pub fn build(&self, outputs: &[&str]) -> Result<Module, Diagnostic> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let outputs: Vec<String> = outputs.iter().map(|&o| o.to_owned()).collect();
        assemble(&self.stmts, &Given::default(), &outputs).map(|e| e.module).map_err(|d| Diagnostic {
            // There is no text that places could point into.
            span: None,
            labels: Vec::new(),
            ..d
        })
    }
}

fn declared(axis: &Axis) -> AxisDecl {
    AxisDecl { name: name(&axis.name), size: Some((axis.size.clone(), Span::default())) }
}

#[cfg(test)]
mod tests {
    use super::super::parse_equations;
    use super::*;

    #[test]
    fn the_builder_makes_the_module_that_the_text_makes() {
        let text = "seq in 1..100; axis i=seq, j=20, d=64
            Q: bf16[i=seq, d=64]; K: bf16[j=20, d=64]; ids: i32[i=seq]; E: f32[j=20, d=64]; c: f32[]
            A: [i=seq, j=20]
            A[i,j] = softmax[j](where(j <= i + 1, sum[d](Q[i,d] * K[j,d]) * 0.5, -inf))
            O: f32[i=seq, d=64]
            O[i,d] = -E[ids[i] % 20, d] / max(abs(c[]), 1) + rms_norm[d](Q[i,d], 0.001) ** 2 * sum[j](A[i,j] * size[j]())";
        let mut e = Equations::new();
        let seq = e.symbol("seq", 1, 100);
        let (i, j, d) = (e.axis("i", &seq), e.axis("j", 20), e.axis("d", 64));
        let q = e.input("Q", DType::Bf16, &[&i, &d]);
        let k = e.input("K", DType::Bf16, &[&j, &d]);
        let ids = e.input("ids", DType::I32, &[&i]);
        let table = e.input("E", DType::F32, &[&j, &d]);
        let c = e.input("c", DType::F32, &[]);
        let s = sum(&[&d], q.at([&i, &d]) * k.at([&j, &d])) * 0.5;
        let seen = j.position().le(i.position() + 1);
        let a = e.define(
            "A",
            &[&i, &j],
            library("softmax", &[&j], [select(seen, s, -Term::from(f64::INFINITY))]),
        );
        let row = ids.at([&i]) % 20;
        let x = -table.at([Index::from(row), Index::from(&d)]) / c.value().abs().maximum(1);
        let n = library("rms_norm", &[&d], [q.at([&i, &d]), 0.001.into()]).pow(2);
        e.define_as("O", DType::F32, &[&i, &d], x + n * sum(&[&j], a.at([&i, &j]) * j.size()));
        let built = e.build(&["A", "O"]).expect("builds");
        let outputs = ["A".to_owned(), "O".to_owned()];
        let parsed = parse_equations(text, &Given::default(), &outputs);
        let parsed = parsed.unwrap_or_else(|d| panic!("{}", d.render("text", text)));
        assert_eq!(built, parsed);
    }

    #[test]
    fn mistakes_are_errors_at_build() {
        let mut e = Equations::new();
        let (i, j) = (e.axis("i", 3), e.axis("j", 4));
        let x = e.input("X", DType::F32, &[&i]);
        e.define("O", &[&i], sum(&[&j], x.at([&j])));
        assert!(e.build(&[]).expect_err("extents").message.contains("axes do not agree"));

        let mut e = Equations::new();
        let i = e.axis("i", 3);
        e.input("not a name", DType::F32, &[&i]);
        assert!(e.build(&[]).expect_err("name").message.contains("`not a name`"));

        let mut e = Equations::new();
        let mut t = Term::from(1);
        for _ in 0..100_000 {
            t = t + 1;
        }
        e.define("O", &[], t);
        assert!(e.build(&[]).expect_err("depth").message.contains("levels"));
        assert!(Equations::new().build(&[]).is_err());
    }
}
