//! What the evaluator computes with.
//!
//! A [`Domain`] says what a number is and what the functions of the expression language do to it; the evaluator says
//! which numbers meet. [`Sort`]s are inferred from the declared types, so that a domain that rounds knows where the
//! arithmetic is in single precision and where it is on exact integers.

use std::fmt::Debug;

use crate::{Binary, DType, Reduction, Unary};

/// What an operation computes in. The order is that of promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sort {
    /// Truth values.
    Bool,
    /// Integers that were written as literals; they take on the sort of what they meet.
    Literal,
    /// Exact integers: positions, extents, elements of integer tensors.
    Int,
    /// Reals that were written as literals.
    RealLiteral,
    /// Reals in single precision.
    F32,
    /// Reals in double precision.
    F64,
}

impl Sort {
    /// The sort of the elements of a stored tensor.
    pub fn of(dtype: DType) -> Sort {
        match dtype {
            DType::Bool => Sort::Bool,
            DType::I8 | DType::U8 | DType::I32 | DType::I64 => Sort::Int,
            DType::F16 | DType::Bf16 | DType::F32 => Sort::F32,
            DType::F64 => Sort::F64,
        }
    }

    /// The sort of a literal.
    pub fn of_literal(x: f64) -> Sort {
        if x.is_finite() && x.fract() == 0.0 { Sort::Literal } else { Sort::RealLiteral }
    }

    /// The sort in which two operands meet.
    pub fn join(self, other: Sort) -> Sort {
        let (low, high) = (self.min(other), self.max(other));
        // An integer and a fraction meet in the reals.
        if high == Sort::RealLiteral && matches!(low, Sort::Int | Sort::Bool) { Sort::F32 } else { high }
    }

    /// The sort in which a function of the reals computes.
    pub fn real(self) -> Sort {
        match self {
            Sort::Bool | Sort::Int => Sort::F32,
            Sort::Literal => Sort::RealLiteral,
            s => s,
        }
    }

    /// The sort in which a function of one argument computes.
    pub fn unary(op: Unary, x: Sort) -> Sort {
        match op {
            Unary::Neg | Unary::Abs | Unary::Floor => x,
            Unary::Not => Sort::Bool,
            _ => x.real(),
        }
    }

    /// The sorts in which a function of two arguments computes, and of its result.
    pub fn binary(op: Binary, a: Sort, b: Sort) -> (Sort, Sort) {
        let joined = a.join(b);
        match op {
            Binary::Div => (joined.real(), joined.real()),
            Binary::Random => (joined, joined.real()),
            op if op.is_predicate() => (joined, Sort::Bool),
            // Sums of truth values count.
            _ if joined == Sort::Bool => (Sort::Int, Sort::Int),
            _ => (joined, joined),
        }
    }
}

/// An operand of a vector operation.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a, T> {
    /// The same value for each element.
    Splat(T),
    /// One value per element.
    Slice(&'a [T]),
}

impl<T: Copy> Arg<'_, T> {
    /// The operand of element `i`.
    #[inline(always)]
    pub fn get(&self, i: usize) -> T {
        match self {
            Arg::Splat(x) => *x,
            Arg::Slice(s) => s[i],
        }
    }
}

/// What a number is, and what the functions do to it.
///
/// The operations must be total: where a result is not defined, it is a value that says so ([`Domain::undefined`]).
pub trait Domain {
    /// A number.
    type T: Copy + Debug + Send + Sync + 'static;

    /// The number that a literal, a position or an element of a real tensor stands for.
    fn num(&self, x: f64) -> Self::T;

    /// The result of what has none; also what memory holds before it is written.
    fn undefined(&self) -> Self::T;

    /// The integer that a number is, for use as an index.
    fn index(&self, x: Self::T) -> Option<i64>;

    /// Whether it is known which number this is. What is read at an index that is not known is undefined, and so is what
    /// was written at one.
    fn is_known(&self, _: Self::T) -> bool {
        true
    }

    /// Whether a truth value holds.
    fn truth(&self, x: Self::T) -> bool;

    /// A function of one argument, computed in `sort`.
    fn unary(&self, op: Unary, sort: Sort, x: Self::T) -> Self::T;

    /// A function of two arguments, computed in `sort` (for predicates: the sort of the operands).
    fn binary(&self, op: Binary, sort: Sort, a: Self::T, b: Self::T) -> Self::T;

    /// A conversion that the expression asks for.
    fn cast(&self, to: DType, x: Self::T) -> Self::T;

    /// What is read back of a number that was stored in a type.
    fn store(&self, to: DType, x: Self::T) -> Self::T {
        self.cast(to, x)
    }

    /// `where(c, a, b)`.
    #[inline(always)]
    fn select(&self, c: Self::T, a: Self::T, b: Self::T) -> Self::T {
        if self.truth(c) { a } else { b }
    }

    /// Whether a number is the identity of a reduction.
    fn is_identity(&self, op: Reduction, x: Self::T) -> bool;

    /// A function of one argument on each element; `out` has the length of the operands.
    fn unary_each(&self, op: Unary, sort: Sort, x: Arg<'_, Self::T>, out: &mut [Self::T]) {
        for (i, o) in out.iter_mut().enumerate() {
            *o = self.unary(op, sort, x.get(i));
        }
    }

    /// A function of two arguments on each element.
    ///
    /// The common operators have loops of their own, so that the compiler can make them vector code.
    fn binary_each(
        &self,
        op: Binary,
        sort: Sort,
        a: Arg<'_, Self::T>,
        b: Arg<'_, Self::T>,
        out: &mut [Self::T],
    ) {
        match op {
            Binary::Add => each(a, b, out, |x, y| self.binary(Binary::Add, sort, x, y)),
            Binary::Sub => each(a, b, out, |x, y| self.binary(Binary::Sub, sort, x, y)),
            Binary::Mul => each(a, b, out, |x, y| self.binary(Binary::Mul, sort, x, y)),
            Binary::Max => each(a, b, out, |x, y| self.binary(Binary::Max, sort, x, y)),
            _ => each(a, b, out, |x, y| self.binary(op, sort, x, y)),
        }
    }

    /// `acc = acc op x` on each element.
    fn combine_each(&self, op: Binary, sort: Sort, acc: &mut [Self::T], x: Arg<'_, Self::T>) {
        match op {
            Binary::Add => fold_each(acc, x, |a, b| self.binary(Binary::Add, sort, a, b)),
            Binary::Max => fold_each(acc, x, |a, b| self.binary(Binary::Max, sort, a, b)),
            _ => fold_each(acc, x, |a, b| self.binary(op, sort, a, b)),
        }
    }

    /// `acc = acc + a * b` on each element.
    fn mul_add_each(&self, sort: Sort, acc: &mut [Self::T], a: Arg<'_, Self::T>, b: Arg<'_, Self::T>) {
        for (i, o) in acc.iter_mut().enumerate() {
            *o = self.binary(Binary::Add, sort, *o, self.binary(Binary::Mul, sort, a.get(i), b.get(i)));
        }
    }

    /// `acc` combined with `len` elements, in any order.
    fn reduce(&self, op: Binary, sort: Sort, acc: Self::T, x: Arg<'_, Self::T>, len: usize) -> Self::T {
        (0..len).fold(acc, |acc, i| self.binary(op, sort, acc, x.get(i)))
    }

    /// `acc` plus the sum of `len` products, in any order.
    fn dot(&self, sort: Sort, acc: Self::T, a: Arg<'_, Self::T>, b: Arg<'_, Self::T>, len: usize) -> Self::T {
        (0..len).fold(acc, |acc, i| {
            self.binary(Binary::Add, sort, acc, self.binary(Binary::Mul, sort, a.get(i), b.get(i)))
        })
    }
}

#[inline(always)]
fn each<T: Copy>(a: Arg<'_, T>, b: Arg<'_, T>, out: &mut [T], f: impl Fn(T, T) -> T) {
    match (a, b) {
        (Arg::Slice(a), Arg::Slice(b)) => {
            for ((o, &x), &y) in out.iter_mut().zip(a).zip(b) {
                *o = f(x, y);
            }
        }
        (Arg::Slice(a), Arg::Splat(y)) => {
            for (o, &x) in out.iter_mut().zip(a) {
                *o = f(x, y);
            }
        }
        (Arg::Splat(x), Arg::Slice(b)) => {
            for (o, &y) in out.iter_mut().zip(b) {
                *o = f(x, y);
            }
        }
        (Arg::Splat(x), Arg::Splat(y)) => out.fill(f(x, y)),
    }
}

#[inline(always)]
fn fold_each<T: Copy>(acc: &mut [T], x: Arg<'_, T>, f: impl Fn(T, T) -> T) {
    match x {
        Arg::Slice(x) => acc.iter_mut().zip(x).for_each(|(a, &x)| *a = f(*a, x)),
        Arg::Splat(x) => acc.iter_mut().for_each(|a| *a = f(*a, x)),
    }
}
