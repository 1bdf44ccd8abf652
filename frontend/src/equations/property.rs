//! Declared properties of functions: `fn f(x) = exp2(x * 0.5) where f(a+b) = f(a)*f(b)`.
//!
//! Why here: a property that does not hold would make a wrong answer, so none is taken on trust. Both sides are first
//! brought to a normal form (polynomials whose monomials may carry an exponential); where those agree the property is
//! proved. It is evaluated at many points in any case; one point where the sides differ refutes it.
//!
//! Pre: functions without axes and arrays. Post: each property is proved or tested, or the text is refused with a
//! counterexample. A tested property is evidence and not a proof, and says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tilewright_ir::diag::Diagnostic;
use tilewright_ir::eval::{Domain, F64, Sort};
use tilewright_ir::expr::UNARY;
use tilewright_ir::{Binary, Unary};

use super::ast::{Call, FnDef, Kind, Node, Stmt};
use super::library::library;

/// How well a declared property is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Both sides have the same normal form.
    Proved,
    /// Both sides agreed at this many points; their normal forms are not known to agree.
    Tested(usize),
}

/// A declared property that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedProperty {
    /// The function it was declared with.
    pub function: String,
    /// The number of the property in its declaration, from 0.
    pub number: usize,
    /// Why it is believed.
    pub evidence: Evidence,
}

type Functions<'a> = HashMap<&'a str, &'a FnDef>;

/// Points at which a property is evaluated.
const POINTS: usize = 400;

/// Fewest points where both sides must be finite for the test to mean anything.
const MIN_VALID: usize = 40;

/// Deepest nesting of calls while a property is evaluated.
const MAX_CALLS: usize = 24;

/// Checks every declared property.
pub(super) fn check(stmts: &[Stmt]) -> Result<Vec<CheckedProperty>, Diagnostic> {
    let mut functions: Functions = library().iter().map(|f| (f.name.text.as_str(), f)).collect();
    let own: Vec<&FnDef> = stmts
        .iter()
        .filter_map(|s| match s {
            Stmt::Fn(f) => Some(f),
            _ => None,
        })
        .collect();
    functions.extend(own.iter().map(|f| (f.name.text.as_str(), *f)));
    let mut out = Vec::new();
    for f in own {
        for (number, (left, right)) in f.properties.iter().enumerate() {
            let evidence = check_one(left, right, &functions)?;
            out.push(CheckedProperty { function: f.name.text.clone(), number, evidence });
        }
    }
    Ok(out)
}

fn check_one(left: &Node, right: &Node, functions: &Functions) -> Result<Evidence, Diagnostic> {
    let span = left.span.to(right.span);
    let mut variables = BTreeSet::new();
    free_names(left, &mut variables);
    free_names(right, &mut variables);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut valid = 0;
    for k in 0..POINTS {
        let env: HashMap<&str, f64> = variables.iter().map(|v| (v.as_str(), random.point(k))).collect();
        let eval = |n: &Node| {
            evaluate(n, &env, functions, 0).map_err(|why| Diagnostic::new(n.span, why.to_string()))
        };
        let (l, r) = (eval(left)?, eval(right)?);
        if !l.is_finite() || !r.is_finite() {
            continue;
        }
        valid += 1;
        if (l - r).abs() > 1e-7 * (l.abs() + r.abs()) + 1e-9 {
            let at: Vec<String> = variables.iter().map(|v| format!("{v} = {:.6}", env[v.as_str()])).collect();
            let message =
                format!("the declared property does not hold: at {} it says {l:.9} = {r:.9}", at.join(", "));
            return Err(Diagnostic::new(span, message).with_help("remove the property or correct it"));
        }
    }
    if valid < MIN_VALID {
        let message =
            format!("the declared property cannot be checked: finite at only {valid} of {POINTS} points");
        return Err(Diagnostic::new(span, message));
    }
    let normal = |n: &Node| Poly::of(n, &BTreeMap::new(), functions, 0);
    let proved = matches!((normal(left), normal(right)), (Some(l), Some(r)) if l.same(&r));
    Ok(if proved { Evidence::Proved } else { Evidence::Tested(valid) })
}

fn free_names(node: &Node, out: &mut BTreeSet<String>) {
    match &node.kind {
        Kind::Name(n) => drop(out.insert(n.clone())),
        Kind::Call(c) => c.args.iter().chain(c.named.iter().map(|(_, n)| n)).for_each(|n| free_names(n, out)),
        Kind::Neg(x) | Kind::Not(x) => free_names(x, out),
        Kind::Binary(_, a, b) | Kind::Power(a, b) => {
            free_names(a, out);
            free_names(b, out);
        }
        Kind::Num(..) | Kind::Index(..) | Kind::Block(..) => {}
    }
}

/// A small generator with fixed seed: the same text is always judged the same.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Points of several magnitudes, and now and then a special one.
    fn point(&mut self, k: usize) -> f64 {
        let u = self.unit() * 2.0 - 1.0;
        match k % 4 {
            0 => u,
            1 => u * 8.0,
            2 => u * 40.0,
            _ => [0.0, 1.0, -1.0, 0.5, 2.0][(self.unit() * 5.0) as usize % 5],
        }
    }
}

const NOT_SCALAR: &str = "properties can be declared only for functions of numbers, without axes and arrays";

/// The parameters of a call with their arguments.
fn bind<'a, T: Clone>(
    def: &'a FnDef,
    call: &Call,
    mut eval: impl FnMut(&Node) -> Option<T>,
) -> Option<Vec<(&'a str, T)>> {
    let mut out = Vec::new();
    for (k, (param, default)) in def.params.iter().enumerate() {
        let named = call.named.iter().find(|(n, _)| n.text == param.text).map(|(_, n)| n);
        let node = call.args.get(k).or(named).or(default.as_ref())?;
        out.push((param.text.as_str(), eval(node)?));
    }
    (call.args.len() <= def.params.len() && def.axes.is_empty()).then_some(out)
}

fn evaluate(
    node: &Node,
    env: &HashMap<&str, f64>,
    functions: &Functions,
    calls: usize,
) -> Result<f64, &'static str> {
    let eval = |n: &Node| evaluate(n, env, functions, calls);
    Ok(match &node.kind {
        Kind::Num(x, _) => *x,
        Kind::Name(n) => *env.get(n.as_str()).ok_or(NOT_SCALAR)?,
        Kind::Index(..) => return Err(NOT_SCALAR),
        Kind::Neg(x) => -eval(x)?,
        Kind::Not(x) => F64.unary(Unary::Not, Sort::Bool, eval(x)?),
        Kind::Power(a, b) => eval(a)?.powf(eval(b)?),
        Kind::Binary(op, a, b) => {
            // What is random is written as a call.
            if *op == Binary::Random {
                return Err(NOT_SCALAR);
            }
            F64.binary(*op, Sort::F64, eval(a)?, eval(b)?)
        }
        Kind::Block(lets, result) => {
            let mut inner = env.clone();
            for (name, n) in lets {
                let x = evaluate(n, &inner, functions, calls)?;
                inner.insert(&name.text, x);
            }
            evaluate(result, &inner, functions, calls)?
        }
        Kind::Call(c) => {
            if c.axes.is_some() {
                return Err(NOT_SCALAR);
            }
            if let Some(def) = functions.get(c.callee.text.as_str()) {
                if calls >= MAX_CALLS {
                    return Err("the functions of the property are nested too deeply");
                }
                let mut failed = None;
                let bound = bind(def, c, |n| eval(n).map_err(|e| failed = Some(e)).ok());
                let inner =
                    bound.ok_or(failed.unwrap_or("the function is called with the wrong arguments"))?;
                return evaluate(&def.body, &inner.into_iter().collect(), functions, calls + 1);
            }
            let args = c.args.iter().map(eval).collect::<Result<Vec<f64>, _>>()?;
            primitive(&c.callee.text, &args)
                .ok_or("the property uses an unknown function or wrong arguments")?
        }
    })
}

fn primitive(name: &str, args: &[f64]) -> Option<f64> {
    let unary = |known: &&(Unary, &str)| known.1 == if name == "recip" { "inv" } else { name };
    Some(match (name, args) {
        ("where", &[c, a, b]) => F64.select(c, a, b),
        ("max", [a, rest @ ..]) if !rest.is_empty() => rest.iter().fold(*a, |m, x| m.max(*x)),
        ("min", [a, rest @ ..]) if !rest.is_empty() => rest.iter().fold(*a, |m, x| m.min(*x)),
        ("pow", &[a, b]) => a.powf(b),
        // A cast only rounds; the property is about the exact function.
        ("f64" | "f32" | "bf16" | "f16", &[x]) => x,
        (_, &[x]) => F64.unary(UNARY.iter().find(unary)?.0, Sort::F64, x),
        _ => return None,
    })
}

/// A product of powers of atoms and an exponential. Atoms are variables and opaque calls, by their printed form.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Monomial {
    powers: BTreeMap<String, i32>,
    exponent: Vec<(Monomial, f64)>,
}

/// A sum of monomials with coefficients, sorted by [`Monomial`]'s printed form.
#[derive(Clone, Debug, Default)]
struct Poly(BTreeMap<String, (Monomial, f64)>);

/// Largest normal form that is worth computing.
const MAX_TERMS: usize = 64;

impl Monomial {
    fn one() -> Monomial {
        Monomial { powers: BTreeMap::new(), exponent: Vec::new() }
    }

    fn key(&self) -> String {
        let powers: Vec<String> = self.powers.iter().map(|(a, n)| format!("{a}^{n}")).collect();
        let exponent: Vec<String> =
            self.exponent.iter().map(|(m, c)| format!("{c:.9e}*{}", m.key())).collect();
        format!("{};{}", powers.join("*"), exponent.join("+"))
    }

    fn exponent(&self) -> Poly {
        Poly(self.exponent.iter().map(|(m, c)| (m.key(), (m.clone(), *c))).collect())
    }

    fn times(&self, other: &Monomial) -> Monomial {
        let mut powers = self.powers.clone();
        for (a, n) in &other.powers {
            *powers.entry(a.clone()).or_default() += n;
        }
        powers.retain(|_, n| *n != 0);
        let exponent = self.exponent().plus(&other.exponent(), 1.0).0.into_values().collect();
        Monomial { powers, exponent }
    }
}

impl Poly {
    fn constant(x: f64) -> Poly {
        Poly::single(Monomial::one(), x)
    }

    fn single(m: Monomial, c: f64) -> Poly {
        Poly(if c == 0.0 { BTreeMap::new() } else { BTreeMap::from([(m.key(), (m, c))]) })
    }

    fn atom(name: String) -> Poly {
        Poly::single(Monomial { powers: BTreeMap::from([(name, 1)]), exponent: Vec::new() }, 1.0)
    }

    fn plus(&self, other: &Poly, factor: f64) -> Poly {
        let mut out = self.clone();
        for (k, (m, c)) in &other.0 {
            let entry = out.0.entry(k.clone()).or_insert_with(|| (m.clone(), 0.0));
            let (before, added) = (entry.1, factor * c);
            entry.1 += added;
            // What is left of two terms that cancel up to rounding is rounding.
            if entry.1.abs() <= 1e-13 * (before.abs() + added.abs()) {
                out.0.remove(k);
            }
        }
        out
    }

    fn times(&self, other: &Poly) -> Option<Poly> {
        if self.0.len() * other.0.len() > MAX_TERMS {
            return None;
        }
        let mut out = Poly::default();
        for (m, c) in self.0.values() {
            for (n, d) in other.0.values() {
                out = out.plus(&Poly::single(m.times(n), c * d), 1.0);
            }
        }
        Some(out)
    }

    fn key(&self) -> String {
        let terms: Vec<String> = self.0.iter().map(|(k, (_, c))| format!("{c:.9e}*{k}")).collect();
        terms.join("+")
    }

    fn as_constant(&self) -> Option<f64> {
        match self.0.values().collect::<Vec<_>>()[..] {
            [] => Some(0.0),
            [(m, c)] if *m == Monomial::one() => Some(*c),
            _ => None,
        }
    }

    fn exp(&self) -> Poly {
        let constant = self.0.get(&Monomial::one().key()).map_or(0.0, |t| t.1);
        let rest = self.plus(&Poly::constant(constant), -1.0);
        let exponent = rest.0.into_values().collect();
        Poly::single(Monomial { powers: BTreeMap::new(), exponent }, constant.exp())
    }

    fn inv(&self) -> Poly {
        match self.0.values().collect::<Vec<_>>()[..] {
            [(m, c)] => {
                let powers = m.powers.iter().map(|(a, n)| (a.clone(), -n)).collect();
                let exponent = m.exponent.iter().map(|(m, c)| (m.clone(), -c)).collect();
                Poly::single(Monomial { powers, exponent }, 1.0 / c)
            }
            _ => Poly::atom(format!("inv({})", self.key())),
        }
    }

    fn same(&self, other: &Poly) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((k, (_, c)), (l, (_, d)))| k == l && (c - d).abs() <= 1e-12 * (c.abs() + d.abs()))
    }

    /// The normal form of an expression, if it is small enough.
    fn of(node: &Node, env: &BTreeMap<&str, Poly>, functions: &Functions, calls: usize) -> Option<Poly> {
        let of = |n: &Node| Poly::of(n, env, functions, calls);
        Some(match &node.kind {
            Kind::Num(x, _) if x.is_finite() => Poly::constant(*x),
            Kind::Num(..) | Kind::Index(..) => return None,
            Kind::Name(n) => env.get(n.as_str()).cloned().unwrap_or_else(|| Poly::atom(n.clone())),
            Kind::Neg(x) => Poly::default().plus(&of(x)?, -1.0),
            Kind::Not(x) => Poly::atom(format!("not({})", of(x)?.key())),
            Kind::Power(a, b) => {
                let (base, n) = (of(a)?, of(b)?.as_constant()?);
                if n.fract() != 0.0 || n.abs() > 8.0 {
                    return Some(Poly::atom(format!("pow({},{n})", base.key())));
                }
                let mut out = Poly::constant(1.0);
                for _ in 0..n.abs() as u32 {
                    out = out.times(&base)?;
                }
                if n < 0.0 { out.inv() } else { out }
            }
            Kind::Binary(op, a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                match op {
                    Binary::Add => a.plus(&b, 1.0),
                    Binary::Sub => a.plus(&b, -1.0),
                    Binary::Mul => a.times(&b)?,
                    Binary::Div => a.times(&b.inv())?,
                    _ => Poly::atom(format!("{}({},{})", op.name(), a.key(), b.key())),
                }
            }
            Kind::Block(lets, result) => {
                let mut inner = env.clone();
                for (name, n) in lets {
                    let p = Poly::of(n, &inner, functions, calls)?;
                    inner.insert(&name.text, p);
                }
                Poly::of(result, &inner, functions, calls)?
            }
            Kind::Call(c) => {
                if let Some(def) = functions.get(c.callee.text.as_str()) {
                    if calls >= MAX_CALLS {
                        return None;
                    }
                    let inner = bind(def, c, of)?.into_iter().collect();
                    return Poly::of(&def.body, &inner, functions, calls + 1);
                }
                let args = c.args.iter().map(of).collect::<Option<Vec<Poly>>>()?;
                match (c.callee.text.as_str(), &args[..]) {
                    ("exp", [x]) => x.exp(),
                    ("exp2", [x]) => x.times(&Poly::constant(std::f64::consts::LN_2))?.exp(),
                    ("inv" | "recip", [x]) => x.inv(),
                    ("neg", [x]) => Poly::default().plus(x, -1.0),
                    (name, args) => {
                        let keys: Vec<String> = args.iter().map(Poly::key).collect();
                        Poly::atom(format!("{name}({})", keys.join(",")))
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse;
    use super::*;

    fn evidence(text: &str) -> Result<Evidence, String> {
        let stmts = parse(text).map_err(|d| d.message)?;
        check(&stmts).map(|v| v[0].evidence).map_err(|d| d.message)
    }

    #[test]
    fn exponentials_are_proved_and_other_truths_are_tested() {
        let proved = [
            "fn f(x) = exp2(x * 0.5) where f(a+b) = f(a)*f(b)",
            "fn f(x) = exp(-3*x) where f(a - b) = f(a) / f(b)",
            "fn f(x) = 3*x where f(a+b) = f(a)+f(b), f(2*a) = 2*f(a)",
            "fn f(x) = { y = x*x; y + 1 } where f(a) = f(-a)",
            "fn g(x) = exp(x)\nfn f(x, k = 2) = g(k*x) where f(a+b) = f(a)*f(b)",
        ];
        for text in proved {
            assert_eq!(evidence(text), Ok(Evidence::Proved), "{text}");
        }
        for text in [
            "fn f(x) = max(x, 0) where f(f(a)) = f(a)",
            "fn f(x) = log(abs(x)) where f(a*b) = f(a)+f(b)",
            "fn f(x) = tanh(x) where f(-a) = -f(a)",
        ] {
            assert!(matches!(evidence(text), Ok(Evidence::Tested(n)) if n >= MIN_VALID), "{text}");
        }
    }

    #[test]
    fn false_properties_are_refuted_with_a_point() {
        for text in [
            "fn f(x) = exp2(x) + 0.00001 where f(a+b) = f(a)*f(b)",
            "fn f(x) = x where f(a) = f(a*1.0001)",
            "fn f(x) = max(x, 0) where f(a+b) = f(a)+f(b)",
        ] {
            let e = evidence(text).expect_err(text);
            assert!(e.contains("does not hold: at a = "), "{e}");
        }
        for text in [
            "fn f(x) = log(-abs(x) - 1) where f(a) = f(a)",
            "fn f(x) = f(x) where f(a) = f(a)",
            "fn f(x) = x where f(a, b) = a",
            "fn f(x) = q[x] where f(a) = f(a)",
            "fn f[j](x) = sum[j](x) where f(a+b) = f(a)+f(b)",
        ] {
            assert!(evidence(text).is_err(), "{text}");
        }
    }
}
