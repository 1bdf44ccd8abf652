//! What: the literals of plans and programs as the source has them, for exact arithmetic.
//! Why here: the search multiplies literals out, in double precision; in a finite field the double nearest to a product of
//! literals is another number than their product. What a literal stands for is looked for among what few literals of the
//! source give, whoever wrote the plan.
//! Pre: a module and what was compiled from it.
//! Post: a literal without a meaning is the fraction or the double that it is. A wrong meaning cannot make two programs
//! agree, since each of them still has to compute one number.

use std::collections::{HashMap, HashSet};

use tilewright_ir::eval::{Domain, Field, FieldValue, Sort};
use tilewright_ir::graph::{Def, Module};
use tilewright_ir::tile::Op;
use tilewright_ir::{Binary, DType, Expr, Extent, Reduction, Unary};
use tilewright_passes::Compiled;

/// The functions that the search computes of literals.
const FOLDED: [Unary; 6] = [Unary::Inv, Unary::Sqrt, Unary::Rsqrt, Unary::Exp, Unary::Exp2, Unary::Log];
/// The most numbers of the source that are combined.
const MOST: usize = 200;
/// The relative distance of a double from the product that it stands for.
const NEAR: f64 = 16.0 * f64::EPSILON;

/// What literals stand for, by their bits.
pub(super) type Meanings = HashMap<u64, FieldValue>;

/// A real number and what stands for it.
type Number = (f64, FieldValue);

/// The field with literals as they were meant.
#[derive(Clone, Copy)]
pub(super) struct Meant<'a> {
    pub(super) field: Field,
    pub(super) literals: &'a Meanings,
}

impl Domain for Meant<'_> {
    type T = FieldValue;

    fn num(&self, x: f64) -> FieldValue {
        self.literals.get(&x.to_bits()).copied().unwrap_or_else(|| self.field.num(x))
    }
    fn undefined(&self) -> FieldValue {
        self.field.undefined()
    }
    fn index(&self, x: FieldValue) -> Option<i64> {
        self.field.index(x)
    }
    fn truth(&self, x: FieldValue) -> bool {
        self.field.truth(x)
    }
    fn unary(&self, op: Unary, sort: Sort, x: FieldValue) -> FieldValue {
        self.field.unary(op, sort, x)
    }
    fn binary(&self, op: Binary, sort: Sort, a: FieldValue, b: FieldValue) -> FieldValue {
        self.field.binary(op, sort, a, b)
    }
    fn cast(&self, to: DType, x: FieldValue) -> FieldValue {
        self.field.cast(to, x)
    }
    fn select(&self, c: FieldValue, a: FieldValue, b: FieldValue) -> FieldValue {
        self.field.select(c, a, b)
    }
    fn is_identity(&self, op: Reduction, x: FieldValue) -> bool {
        self.field.is_identity(op, x)
    }
}

/// What the literals of plans and programs stand for.
pub(super) fn meanings(field: &Field, graph: &Module, compiled: &Compiled) -> Meanings {
    let mut source: Vec<Number> = Vec::new();
    for e in equations(graph) {
        constant(field, e, &mut source);
    }
    let mut targets: Vec<f64> = Vec::new();
    let mut collect = |e: &Expr| {
        e.visit(&mut |e| {
            if let Expr::Num(n) = e {
                targets.push(n.0);
            }
        });
    };
    for (_, plan) in &compiled.plans {
        plan.kernels.iter().flat_map(|k| k.exprs()).for_each(|e| collect(e));
    }
    for program in &compiled.programs {
        literals(&program.body, &mut collect);
    }
    targets.sort_by(f64::total_cmp);
    targets.dedup_by_key(|t| t.to_bits());
    let mut written: Vec<u64> = Vec::new();
    let mut note = |e: &Expr| {
        e.visit(&mut |e| {
            if let Expr::Num(n) = e {
                written.push(n.0.to_bits());
            }
        });
    };
    equations(graph).for_each(&mut note);
    targets.retain(|t| !plain(*t) && !written.contains(&t.to_bits()));
    if targets.is_empty() {
        return Meanings::new();
    }
    let numbers = Numbers::new(field, source);
    targets.into_iter().filter_map(|t| Some((t.to_bits(), numbers.find(field, t)?))).collect()
}

/// The expressions of a module.
fn equations(graph: &Module) -> impl Iterator<Item = &Expr> {
    graph.functions.values().flat_map(|f| f.values.values()).flat_map(|value| -> Vec<&Expr> {
        match &value.def {
            Def::Equation(e) => vec![e],
            Def::Update { value, index, .. } => index.iter().chain([value]).map(|e| &**e).collect(),
            Def::Param(_) => vec![],
        }
    })
}

/// The literals of operations.
fn literals(ops: &[Op], collect: &mut impl FnMut(&Expr)) {
    for op in ops {
        match op {
            Op::Map { expr, .. } => collect(expr),
            Op::Loop { body, .. } => literals(body, collect),
            // Indices and masks are about positions.
            _ => {}
        }
    }
}

/// Whether a number is what it is written as, whatever it was made of: one of few binary digits.
fn plain(x: f64) -> bool {
    !x.is_finite() || (x * f64::from(1 << 20)).fract() == 0.0
}

/// The number that an expression is wherever it is; numbers on the way are noted.
fn constant(field: &Field, e: &Expr, out: &mut Vec<Number>) -> Option<Number> {
    let children: Vec<Option<Number>> = e.children().into_iter().map(|c| constant(field, c, out)).collect();
    let children: Vec<Number> = children.into_iter().collect::<Option<_>>()?;
    let found = match (e, &children[..]) {
        (Expr::Num(n), _) => field.num(n.0),
        (Expr::Size(Extent::Const(n)), _) => field.num(*n as f64),
        (Expr::Unary(f, _), [x]) => field.unary(*f, Sort::F64, x.1),
        (Expr::Binary(f, ..), [a, b]) => field.binary(*f, Sort::F64, a.1, b.1),
        _ => return None,
    };
    let number = (found.shadow(), found);
    if number.0.is_finite() && !out.iter().any(|n| n.0 == number.0) {
        out.push(number);
    }
    Some(number)
}

/// Numbers of the source and products of two, by size.
struct Numbers {
    singles: Vec<Number>,
    pairs: Vec<Number>,
}

impl Numbers {
    fn new(field: &Field, mut source: Vec<Number>) -> Numbers {
        source.truncate(MOST / (FOLDED.len() + 1));
        let mut singles = vec![(1.0, field.num(1.0))];
        singles.extend(&source);
        for (_, x) in source {
            let of = FOLDED.iter().map(|&f| field.unary(f, Sort::F64, x));
            singles.extend(of.map(|y| (y.shadow(), y)));
        }
        // Of equal doubles the first: a root of 1 is no 1 in the field.
        let mut seen = HashSet::new();
        singles.retain(|x| x.0.is_finite() && x.0 != 0.0 && seen.insert(x.0.to_bits()));
        let times = |a: &Number, b: &Number| {
            let product = field.binary(Binary::Mul, Sort::F64, a.1, b.1);
            (product.shadow(), product)
        };
        let mut pairs: Vec<Number> = singles
            .iter()
            .enumerate()
            .flat_map(|(n, a)| singles[n..].iter().map(move |b| times(a, b)))
            .filter(|p| p.0.is_finite() && p.0 != 0.0)
            .collect();
        singles.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
        pairs.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
        Numbers { singles, pairs }
    }

    /// A number that is `t` or `-t`, turned around if need be.
    fn among(field: &Field, all: &[Number], t: f64) -> Option<FieldValue> {
        let from = all.partition_point(|n| n.0.abs() < t.abs() * (1.0 - NEAR));
        let &(x, value) = all.get(from).filter(|n| (n.0.abs() - t.abs()).abs() <= t.abs() * NEAR)?;
        Some(if (x < 0.0) == (t < 0.0) { value } else { field.unary(Unary::Neg, Sort::F64, value) })
    }

    /// What few numbers of the source give `t`: products of up to four, or sums of a number and a product of two.
    fn find(&self, field: &Field, t: f64) -> Option<FieldValue> {
        let both = |op, a, b| field.binary(op, Sort::F64, a, b);
        let product = |of: &[Number]| {
            of.iter().find_map(|p| Some(both(Binary::Mul, p.1, Numbers::among(field, &self.pairs, t / p.0)?)))
        };
        let sum = |of: &[Number]| {
            of.iter().find_map(|s| {
                let with = |op, rest| Some(both(op, Numbers::among(field, &self.pairs, rest)?, s.1));
                with(Binary::Add, t - s.0).or_else(|| with(Binary::Sub, t + s.0))
            })
        };
        // The simplest first: the square of a root is no number of the source in the field.
        Numbers::among(field, &self.singles, t)
            .or_else(|| Numbers::among(field, &self.pairs, t))
            .or_else(|| product(&self.singles))
            .or_else(|| sum(&self.singles))
            .or_else(|| product(&self.pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Settings, run};
    use super::*;
    use crate::{Compiler, Listener};

    #[test]
    fn plans_whose_literals_were_folded_are_exactly_their_equations() {
        for text in [
            "X: f32[i=3, c=67]; W: f32[n=5, c]; b: f32[n]; \
             Y[i,n] = gelu(sum[c](layer_norm[c](X[i,c]) * W[n,c]) + b[n])",
            "X: f32[i=5, j=19]; m[i] = max[j](X[i,j]); O[i] = sum[j](pow(10, X[i,j] - m[i]))",
            "X: f32[n=9, v=31]; l[n] = logsumexp[v](X[n,v]); L[n] = 0.9*l[n] + 0.1*mean[v](X[n,v] - l[n])",
            "X: f32[i=7, d=16]; Y: f32[j=7, d]; S[i,j] = sum[d](X[i,d] * Y[j,d]) / 0.07; L = mean[i](logsumexp[j](S[i,j]))",
            "Q: f32[i=3, d=16]; K: f32[j=97, d]; V: f32[j, e=8]; \
             O[i,e] = sum[j](sigmoid(sum[d](Q[i,d] * K[j,d]) * 0.25 - log(97)) * V[j,e])",
        ] {
            let settings = Settings { seed: 3, kernels: false };
            let report = run(&Compiler::equations(text), &settings, &Listener::default()).expect(text);
            let tests = || report.phases.iter().flat_map(|p| &p.tests);
            let exact = tests().filter_map(|t| match &t.outcome {
                Outcome::Exact(tally) => Some(tally),
                _ => None,
            });
            assert!(exact.clone().count() >= 6);
            for tally in exact {
                assert!(tally.same > 0 && tally.differ == 0 && tally.untold == 0, "{text}: {tally:?}");
            }
        }
    }

    #[test]
    fn a_literal_that_is_no_product_has_no_meaning() {
        let field = Field { key: 5 };
        let (a, b) = (0.797_884_560_802_865_4, 0.044_715);
        let numbers = Numbers::new(&field, vec![(a, field.num(a)), (b, field.num(b))]);
        let product = field.binary(Binary::Mul, Sort::F64, field.num(a), field.num(b));
        assert!(numbers.find(&field, a * b).is_some_and(|x| x.same(&product)));
        assert!(!field.num(a * b).same(&product));
        assert!(numbers.find(&field, a * b * (1.0 + 1e-12)).is_none());
    }
}
