//! The functions that come with the language.
//!
//! Why here: library functions are written in the language itself, so that nothing behind them needs to know their
//! names; lowering expands them like functions of the user. What is left are the primitives of the IR.
//!
//! Numerics: `softmax` and its relatives subtract a maximum that is held at or above the lowest finite f32, so that a
//! row of `-inf` gives zeros and not NaN; the sum is held at or above the smallest normal f32, which changes nothing
//! wherever one key is finite (the sum is then at least 1). Variances are means of squared deviations.

use std::sync::OnceLock;

use super::ast::{FnDef, Stmt};
use super::parser::parse;

/// The library, in the language.
const PRELUDE: &str = "
fn mean[d](x) = sum[d](x) / size[d]()
fn var[d](x) = { c = x - mean[d](x); mean[d](c * c) }
fn std[d](x) = sqrt(var[d](x))
fn any[d](c) = max[d](where(c, 1, 0)) > 0
fn all[d](c) = min[d](where(c, 1, 0)) > 0
fn count[d](c) = sum[d](where(c, 1, 0))
fn argmax[d](x) = min[d](where(x == max[d](x), d, size[d]()))
fn argmin[d](x) = min[d](where(x == min[d](x), d, size[d]()))

fn softmax[j](x) = {
    m = max(max[j](x), -3.4028234663852886e38)
    p = exp(x - m)
    l = sum[j](p)
    p * inv(max(l, 1))
}
fn log_softmax[j](x) = {
    m = max(max[j](x), -3.4028234663852886e38)
    l = sum[j](exp(x - m))
    x - m - log(max(l, 1))
}
fn logsumexp[j](x) = {
    m = max(max[j](x), -3.4028234663852886e38)
    m + log(sum[j](exp(x - m)))
}
fn rms_norm[d](x, eps = 1e-6) = x * rsqrt(mean[d](x * x) + eps)
fn layer_norm[d](x, eps = 1e-5) = { c = x - mean[d](x); c * rsqrt(mean[d](c * c) + eps) }

fn sigmoid(x) = inv(1 + exp(-x))
fn silu(x) = x * inv(1 + exp(-x))
fn swish(x) = x * inv(1 + exp(-x))
fn relu(x) = max(x, 0)
fn gelu(x) = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
fn softplus(x) = max(x, 0) + log(1 + exp(-abs(x)))
fn leaky_relu(x, slope = 0.01) = where(x >= 0, x, slope * x)
fn elu(x, alpha = 1.0) = where(x >= 0, x, alpha * (exp(min(x, 0)) - 1))
fn square(x) = x * x
fn sign(x) = where(x > 0, 1, where(x < 0, -1, 0))
fn clamp(x, low, high) = min(max(x, low), high)
fn ceil(x) = -floor(-x)
fn log2(x) = log(x) * 1.4426950408889634
fn log10(x) = log(x) * 0.4342944819032518
";

/// The library functions, parsed once.
pub(super) fn library() -> &'static [FnDef] {
    static LIBRARY: OnceLock<Vec<FnDef>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // The text is a constant of this file and a test parses it.
        let stmts = parse(PRELUDE).unwrap_or_default();
        stmts
            .into_iter()
            .filter_map(|s| match s {
                Stmt::Fn(f) => Some(f),
                _ => None,
            })
            .collect()
    })
}

/// Functions whose length depends on the extent of their last argument's axis: the `n`-th largest value of a row, and where it is.
pub(super) const RANKED: [&str; 2] = ["topk", "argtopk"];

/// The most ranks of a [`RANKED`] function: each is two folds along the row, which follow those of the ranks before it.
pub(super) const MOST_RANKS: u64 = 32;

/// A [`RANKED`] function for `count` ranks, if there are as many: of equal values the first one is the larger.
pub(super) fn ranked(name: &str, count: u64) -> Option<FnDef> {
    if !RANKED.contains(&name) || !(1..=MOST_RANKS).contains(&count) {
        return None;
    }
    match parse(&ranks(name, count)).ok()?.pop()? {
        Stmt::Fn(f) => Some(f),
        _ => None,
    }
}

/// The text of a [`RANKED`] function. Each rank is the largest of what is left when those before it are taken out, and so are its
/// positions: what was taken out is `-inf`, as masked values may be, and at no position, as they are not.
fn ranks(name: &str, count: u64) -> String {
    let mut body = "m0 = max[d](x); s0 = min[d](where(x == m0, d, size[d]())); x0 = x; d0 = d".to_owned();
    for n in 1..count {
        let m = n - 1;
        body += &format!(
            "; x{n} = where(d != s{m}, x{m}, -inf); d{n} = where(d != s{m}, d{m}, size[d]()); m{n} = max[d](x{n}); \
             s{n} = min[d](where(x{n} == m{n}, d{n}, size[d]()))"
        );
    }
    let value = if name == RANKED[0] { 'm' } else { 's' };
    format!("fn {name}[d](x, n) = {{ {body}; {} }}", pick(value, 0, count))
}

/// One of the locals `of`, by the value of `n`, halving.
fn pick(of: char, from: u64, to: u64) -> String {
    let half = from.midpoint(to);
    if to - from <= 1 {
        return format!("{of}{from}");
    }
    format!("where(n < {half}, {}, {})", pick(of, from, half), pick(of, half, to))
}

/// The names of everything that can be called without being defined.
pub(super) const PRIMITIVES: [&str; 30] = [
    "sum", "max", "min", "where", "size", "neg", "not", "abs", "inv", "exp", "exp2", "log", "sqrt", "rsqrt",
    "tanh", "sin", "cos", "floor", "pow", "bool", "i8", "u8", "i32", "i64", "f16", "bf16", "f32", "f64",
    "recip", "random",
];

/// The name that is closest to a misspelt one, if any is close.
pub(super) fn closest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among.map(|c| (distance(name, c), c)).filter(|(d, c)| *d <= 1 + c.len() / 4).min().map(|(_, c)| c)
}

/// Edit distance of short names.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(40).collect(), b.chars().take(40).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranked_functions_parse_for_every_number_of_ranks() {
        for name in RANKED {
            assert!((1..=MOST_RANKS).all(|n| ranked(name, n).is_some_and(|f| f.name.text == name)));
            assert!(ranked(name, 0).is_none() && ranked(name, MOST_RANKS + 1).is_none());
        }
    }

    #[test]
    fn the_library_parses_completely() {
        let stmts = parse(PRELUDE).expect("the prelude parses");
        assert_eq!(stmts.len(), PRELUDE.matches("fn ").count());
        assert_eq!(stmts.len(), library().len());
    }

    #[test]
    fn misspelt_names_get_a_suggestion() {
        let names = || library().iter().map(|f| f.name.text.as_str());
        assert_eq!(closest("sofmax", names()), Some("softmax"));
        assert_eq!(closest("rmsnorm", names()), Some("rms_norm"));
        assert_eq!(closest("qqqqqqqq", names()), None);
    }
}
