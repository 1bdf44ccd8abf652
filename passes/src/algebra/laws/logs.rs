//! Logarithms of products, and exponentials of sums of logarithms.
//!
//! A logarithm undoes a homomorphism: `log f(x) = x * log f(1)`. So the logarithm of a quotient of exponentials is a difference,
//! which is there before anything was divided and where the quotient is too small to be a number.

use egg::Id;
use tilewright_ir::Unary;

use super::construct::{add, mul, multiple, neg, num, unary};
use super::shift::raw;
use super::{HOMOMORPHISMS, Law, Search};
use crate::algebra::Term;

/// The logarithm of a product.
pub(crate) const LOG: Law = Law {
    name: "log",
    statement: "log(f(x) * y) = c * x + log y;  log(inv(x) * y) = log y - log x;  exp(x + log y) = exp(x) * y;  \
                exp(x - log y) = exp(x) * inv y",
    conditions: "f(a+b) = f(a) f(b) and c = log f(1); x finite, or not +inf and y finite and not negative, in f(x) * y; x not negative in inv(x); y \
                 positive and x not +inf in an exponential",
    apply: log,
};

fn log(s: &mut Search, id: Id, node: &Term) {
    exponential(s, id, node);
    let Term::Unary(Unary::Log, [argument]) = node else { return };
    let single = |n: &Term| match n {
        Term::Unary(f, _) if *f == Unary::Inv || HOMOMORPHISMS.contains(f) => Some((n.clone(), None)),
        Term::Mul(c) => Some((n.clone(), Some(c.to_vec()))),
        _ => None,
    };
    let written: Vec<(Term, Option<Vec<Id>>)> = s.graph[*argument].nodes.iter().filter_map(single).collect();
    for (term, factors) in written {
        let factors = factors.unwrap_or_else(|| vec![*argument]);
        let (mut terms, mut rest) = (Vec::new(), Vec::new());
        for (n, &f) in factors.iter().enumerate() {
            let others = factors.iter().enumerate().filter(|(m, _)| *m != n);
            let beside = others.map(|(_, &o)| &s.graph[o].data).all(|o| o.finite() && o.lo >= 0.0);
            match taken(s, f, beside) {
                Some(t) => terms.push(t),
                None => rest.push(f),
            }
        }
        if terms.is_empty() {
            continue;
        }
        s.matched(node, 0, term);
        if !rest.is_empty() {
            let rest = mul(&mut s.graph, rest);
            terms.push(unary(&mut s.graph, Unary::Log, rest));
        }
        // As they stand: what is known of a term by itself is another step.
        let rhs = if let [one] = terms[..] { one } else { raw(s, Term::Add, terms) };
        s.equate(id, rhs, "log");
    }
}

/// The logarithm of a factor without the function that it is of, if it has one; `beside` says that the others are finite and
/// not negative.
fn taken(s: &mut Search, factor: Id, beside: bool) -> Option<Id> {
    let of = s.graph[factor].nodes.iter().find_map(|n| match n {
        Term::Unary(Unary::Inv, [y]) if s.graph[*y].data.lo >= 0.0 => Some((Unary::Inv, *y)),
        Term::Unary(f, [x]) if HOMOMORPHISMS.contains(f) => {
            let known = &s.graph[*x].data;
            (known.finite() || known.below && beside).then_some((*f, *x))
        }
        _ => None,
    });
    Some(match of? {
        (Unary::Inv, y) => {
            let log = unary(&mut s.graph, Unary::Log, y);
            neg(&mut s.graph, log)
        }
        (Unary::Exp, x) => x,
        (_, x) => {
            let c = num(&mut s.graph, std::f64::consts::LN_2);
            mul(&mut s.graph, vec![c, x])
        }
    })
}

/// The exponential of a sum with logarithms among its terms.
fn exponential(s: &mut Search, id: Id, node: &Term) {
    let Term::Unary(Unary::Exp, [argument]) = node else { return };
    for terms in s.sums(*argument) {
        let (mut factors, mut rest) = (Vec::new(), Vec::new());
        for &t in &terms {
            let (by, of) = multiple(&s.graph, t);
            let logarithm = |n: &Term| match n {
                Term::Unary(Unary::Log, [y]) if s.graph[*y].data.lo > 0.0 => Some(*y),
                _ => None,
            };
            let y = match of[..] {
                [one] if by.abs() == 1.0 => s.graph[one].nodes.iter().find_map(logarithm),
                _ => None,
            };
            match y {
                Some(y) if by > 0.0 => factors.push(y),
                Some(y) => factors.push(unary(&mut s.graph, Unary::Inv, y)),
                None => rest.push(t),
            }
        }
        if factors.is_empty() || rest.iter().any(|&t| !s.graph[t].data.below) {
            continue;
        }
        s.matched(node, 0, Term::Add(terms.into()));
        let rest = add(&mut s.graph, rest);
        factors.push(unary(&mut s.graph, Unary::Exp, rest));
        let rhs = raw(s, Term::Mul, factors);
        s.equate(id, rhs, "log");
    }
}
