//! Axes that may have no positions: what equations say of none is what plans and programs give.

use crate::families::{families, maybe_empty};
use crate::meaning::check;
use tilewright_frontend::equations::{Given, parse_equations};

/// The longest axes here: more than a block.
const LONGEST: u64 = 150;

/// The same equations over shorter axes.
fn shortened(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() && (!digits.is_empty() || out.ends_with('=')) {
            digits.push(c);
            continue;
        }
        if let Ok(n) = digits.parse::<u64>() {
            out += &if matches!(c, ',' | ']') { n.min(LONGEST) } else { n }.to_string();
            digits.clear();
        }
        out.push(c);
    }
    out
}

/// What is infinite or undefined where there is nothing, beside what is read there.
#[test]
fn factors_of_sums_over_nothing() {
    for text in [
        "n in 0..40; X: f32[i=5, j=n]; Y[i] = sum[j](X[i,j] * rsqrt(mean[j](X[i,j] * X[i,j])))",
        "n in 0..400; X: f32[i=5, j=n]; Y[i] = sum[j](X[i,j] * rsqrt(mean[j](X[i,j] * X[i,j])))",
        "n in 0..400; X: f32[i=20, j=n]; W: f32[j, o=30]; Y[i,o] = sum[j](rms_norm[j](X[i,j]) * W[j,o] * inv(size(j)))",
        "n in 0..400; X: f32[i=5, j=n]; W: f32[j]; Y[i] = sum[j](layer_norm[j](X[i,j]) * W[j])",
        "n in 0..400; X: f32[i=5, j=n, h=7]; W: f32[j, h]; Y[i] = sum[j,h](layer_norm[j,h](X[i,j,h]) * W[j,h])",
    ] {
        check(text, &[("n", 0)]);
        check(text, &[("n", 37)]);
    }
}

#[test]
fn reductions_over_nothing() {
    let mut found = 0;
    for (name, text) in families() {
        for text in maybe_empty(&shortened(&text)) {
            println!("{name}");
            let module = parse_equations(&text, &Given::default(), &[]).expect("parses");
            let symbols: Vec<(String, u64)> =
                module.symbols.values().map(|s| (s.name.clone(), if s.min == 0 { 0 } else { 7 })).collect();
            let symbols: Vec<(&str, u64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            check(&text, &symbols);
            found += 1;
        }
    }
    assert!(found > 100, "{found}");
}
