//! Long chains: values that are each used more than once by the next.
//!
//! Such a term is small as a graph and has more than 2^30 leaves written out, so whatever walks it must look at each part
//! once. Every pass is run, certificates included; a walk that does not share would not end. What comes out is not looked
//! at here beyond that it is a plan whose certificates are accepted.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_passes::{Compiled, Options, PassError, compile_module};

/// `head`, `first` for number 0, `step` for each next number `{n}` after `{m}`, and `last` of the last.
fn chain(head: &str, first: &str, step: &str, length: usize, last: &str) -> String {
    let of = |text: &str, n: usize| {
        text.replace("{n}", &n.to_string()).replace("{m}", &n.saturating_sub(1).to_string())
    };
    let mut all = vec![head.to_owned(), of(first, 0)];
    all.extend((1..length).map(|n| of(step, n)));
    all.push(of(last, length - 1));
    all.join("; ")
}

fn compiled(text: &str) -> Compiled {
    let module = parse_equations(text, &Given::default(), &[]).expect("parses");
    compile_module(&module, &Options { certify: true, ..Options::default() }).expect("compiles")
}

#[track_caller]
fn proved(text: &str) {
    let compiled = compiled(text);
    assert!(!compiled.programs.is_empty());
    for one in compiled.certificates.iter().flat_map(|(_, all)| all) {
        assert!(one.is_ok(), "{}", one.as_ref().err().map_or("", String::as_str));
    }
}

const ROWS: &str = "X: f32[i=33, j=70]";

#[test]
fn functions_of_functions() {
    let step = "A{n}[i,j] = tanh(A{m}[i,j]) * A{m}[i,j] + A{m}[i,j]";
    proved(&chain(ROWS, "A{n}[i,j] = X[i,j]", step, 32, "Y[i] = sum[j](A{n}[i,j])"));
}

#[test]
fn choices_of_choices() {
    let step = "A{n}[i,j] = where(A{m}[i,j] > 0.5, A{m}[i,j] * 0.5, A{m}[i,j] + 1)";
    proved(&chain(ROWS, "A{n}[i,j] = X[i,j]", step, 32, "Y[i] = max[j](A{n}[i,j])"));
}

#[test]
fn masks_of_what_is_masked() {
    let step = "A{n}[i,j] = where(j <= i, A{m}[i,j] * tanh(A{m}[i,j]), A{m}[i,j])";
    proved(&chain(ROWS, "A{n}[i,j] = where(j <= i, X[i,j], 0)", step, 32, "Y[i] = sum[j](A{n}[i,j])"));
}

#[test]
fn sums_of_the_last_two() {
    let step = "A{n}[i] = B{m}[i]; B{n}[i] = A{m}[i] * 0.5 + B{m}[i]";
    let first = "A{n}[i] = X[i]; B{n}[i] = tanh(X[i])";
    proved(&chain("X: f32[i=33]", first, step, 32, "Y[i] = A{n}[i] + B{n}[i]"));
}

#[test]
fn sums_doubled() {
    let step = "A{n}[i] = A{m}[i] + A{m}[i]";
    let last = "Y[i] = sum[j](where(j < A{n}[i], X[i,j], 0))";
    proved(&chain("X: f32[i=33, j=70]; N: i32[i]", "A{n}[i] = N[i]", step, 32, last));
}

#[test]
fn products_squared() {
    let step = "A{n}[i] = (A{m}[i] + 1) * (A{m}[i] + 1)";
    proved(&chain("X: f32[i=33]", "A{n}[i] = X[i]", step, 32, "Y[i] = A{n}[i]"));
}

#[test]
fn extremes_of_extremes() {
    let step = "A{n}[i,j] = max(A{m}[i,j], min(A{m}[i,j] * 0.5, A{m}[i,j] + 1))";
    proved(&chain(ROWS, "A{n}[i,j] = X[i,j]", step, 32, "Y[i,j] = A{n}[i,j]"));
}

#[test]
fn indices_of_indices() {
    let step = "A{n}[i] = (A{m}[i] + A{m}[i]) % 70";
    proved(&chain("X: f32[j=70]; N: i32[i=33]", "A{n}[i] = N[i]", step, 32, "Y[i] = X[j := A{n}[i]]"));
}

#[test]
fn the_next_largest() {
    let step = "M{n}[i] = max[j](where(X[i,j] < M{m}[i], X[i,j], -inf))";
    proved(&chain(ROWS, "M{n}[i] = max[j](X[i,j])", step, 20, "Y[i] = M{n}[i]"));
}

#[test]
fn the_next_largest_and_where_it_is() {
    let below = "X[i,j] < M{m}[i] or (X[i,j] == M{m}[i] and j > S{m}[i])";
    let step = format!(
        "M{{n}}[i] = max[j](where({below}, X[i,j], -inf)); \
         S{{n}}[i] = min[j](where(({below}) and X[i,j] == M{{n}}[i], j, size[j]()))"
    );
    let first = "M{n}[i] = max[j](X[i,j]); S{n}[i] = argmax[j](X[i,j])";
    proved(&chain("X: f32[i=33, j=5000]", first, &step, 16, "Y[i] = S{n}[i]"));
}

/// Positions are chosen among those that none of the ranks before took. What one block has left when others have taken theirs
/// is a choice of choices, each used by several of the next.
#[test]
fn the_largest_of_what_is_left() {
    let mut text = format!("{ROWS}; M0[i] = max[j](X[i,j]); S0[i] = argmax[j](X[i,j]); R0[i,j] = X[i,j]");
    let mut all = "M0[i] + S0[i]".to_owned();
    for n in 1..10 {
        let m = n - 1;
        let found = format!("where(R{n}[i,j] == M{n}[i], j, size[j]())");
        let left = (0..n).fold(found, |e, r| format!("where(j != S{r}[i], {e}, size[j]())"));
        text += &format!(
            "; R{n}[i,j] = where(j != S{m}[i], R{m}[i,j], -inf); M{n}[i] = max[j](R{n}[i,j]); S{n}[i] = min[j]({left})"
        );
        all += &format!(" + M{n}[i] + S{n}[i]");
    }
    proved(&format!("{text}; Y[i] = {all}"));
}

#[test]
fn sums_of_sums() {
    let step = "M{n}[i] = sum[j](tanh(X[i,j] - M{m}[i] * 0.01) * M{m}[i] * 0.01)";
    proved(&chain(ROWS, "M{n}[i] = sum[j](X[i,j])", step, 20, "Y[i] = M{n}[i]"));
}

#[test]
fn softmaxes_of_softmaxes() {
    let step = "A{n}[i,j] = softmax[j](A{m}[i,j])";
    proved(&chain("X: f32[i=33, j=500]", "A{n}[i,j] = X[i,j]", step, 12, "Y[i,j] = A{n}[i,j]"));
}

#[test]
fn norms_of_sums() {
    let step = "A{n}[i,j] = layer_norm[j](A{m}[i,j] + tanh(A{m}[i,j]))";
    proved(&chain(ROWS, "A{n}[i,j] = X[i,j]", step, 12, "Y[i,j] = A{n}[i,j]"));
}

#[test]
fn layers_beside_what_they_skip() {
    let step = "B{n}[i,e] = tanh(sum[d](A{m}[i,d] * W[d,e])); A{n}[i,d] = A{m}[i,d] + B{n}[i,e := d]";
    let head = "X: f32[i=33, d=64]; W: f32[d, e=64]";
    proved(&chain(head, "A{n}[i,d] = X[i,d]", step, 10, "Y[i,d] = A{n}[i,d]"));
}

/// Each operation is one level, and the sum is one more.
#[test]
fn what_is_nested_without_end_is_refused() {
    let nested = |length: usize| {
        chain(ROWS, "A{n}[i,j] = X[i,j]", "A{n}[i,j] = exp(-A{m}[i,j])", length, "Y[i] = sum[j](A{n}[i,j])")
    };
    proved(&nested(250));
    let text = nested(10_000);
    let module = parse_equations(&text, &Given::default(), &[]).expect("parses");
    let refused = compile_module(&module, &Options::default()).map(|_| ());
    let Err(PassError::Limit(why)) = refused else { panic!("{refused:?}") };
    // The first of them that is too deep, counted by hand: `A0` reads, and each next one adds two.
    assert!(why.contains("`A256`") && why.contains("`equations`"), "{why}");
}
