//! Summed axes that become one: of which equations, and of which not.

use tilewright_frontend::equations::{Given, parse_equations};
use tilewright_ir::Value;
use tilewright_passes::partition::build::reads;
use tilewright_passes::schedule::merge;
use tilewright_passes::{Options, compile_module};

/// The dimensions of what the only kernel of some equations reads, after merging.
fn views(text: &str) -> Option<Vec<Vec<u64>>> {
    let module = parse_equations(text, &Given::default(), &[]).expect("equations");
    let options = Options { whole_passes: true, ..Options::default() };
    let compiled = compile_module(&module, &options).expect("a plan");
    let plan = &compiled.plans[0].1;
    assert_eq!(plan.kernels.len(), 1, "{text}");
    let (view, kernel) = merge(plan, &plan.kernels[0])?;
    assert_eq!(kernel.locals.len(), plan.kernels[0].locals.len());
    let of = |v: Value| view.values[v].axes.iter().filter_map(|&a| view.axes[a].extent.as_const()).collect();
    Some(reads(&kernel).into_iter().map(of).collect())
}

const HEADS: &str = "X: f32[b=3, h=4, r=3, d=8]; W: f32[c=5, h, r, d]; ";

#[test]
fn what_stands_together_everywhere_is_one() {
    let all = views(&format!("{HEADS} y[b,c] = sum[h,r,d](X[b,h,r,d] * W[c,h,r,d])"));
    assert_eq!(all, Some(vec![vec![3, 96], vec![5, 96]]));
    // Something in between is no obstacle for the others.
    let two = views(
        "X: f32[h=4, b=3, r=3, d=8]; W: f32[c=5, h, r, d]; y[b,c] = sum[h,r,d](X[h,b,r,d] * W[c,h,r,d])",
    );
    assert_eq!(two, Some(vec![vec![4, 3, 24], vec![5, 4, 24]]));
}

#[test]
fn what_does_not_stays() {
    for (why, equations) in [
        ("another order", "V: f32[c=5, r=3, h=4]; U: f32[b=3, h, r]; y[b,c] = sum[h,r](U[b,h,r] * V[c,r,h])"),
        ("an operand with one of them", "U: f32[b=3, h=4, r=3]; S: f32[r]; y[b] = sum[h,r](U[b,h,r] * S[r])"),
        ("a position", "U: f32[b=3, h=4, r=3]; y[b] = sum[h,r](where(h < r, U[b,h,r], 0))"),
        ("a result along one", "U: f32[b=3, h=4, r=3]; y[b,h] = sum[r](U[b,h,r])"),
        ("two views of a tensor", "U: f32[a=4, b=4]; V: f32[c=4]; y[c] = sum[a,b](U[a,b] * U[b,a] * V[c])"),
    ] {
        let module = parse_equations(equations, &Given::default(), &[]);
        if module.is_err() {
            panic!("{why}: {equations}: {:?}", module.err());
        }
        assert_eq!(views(equations), None, "{why}");
    }
}
