//! What kernels that run one after the other in the same blocks may keep, and along which axes they are dealt out.

use std::collections::BTreeSet;

use tilewright_ir::chain::{chain, kept};
use tilewright_ir::text::parse_plans;
use tilewright_ir::verify::verify_plan;

/// The names of the rows and of what is kept of two kernels, the second of which reads `h` so.
fn of(read: &str, returned: &str) -> (Vec<String>, BTreeSet<String>) {
    let text = format!(
        "symbol n: 1..=100\nplan @f(x: f32[b=2, i=n, j=3] input, w: f32[k=4, j] weight, u: f32[l=5, k] weight) {{\n    \
         h[b,i,k]: f32 = sum[j](x[b,i,j] * w[k,j])\n    y[b,i,l]: f32 = sum[k](h[b,i,k] * u[l,k])\n    temps 5\n    \
         return {returned}\n    kernel @h over [b,i,k] {{\n        t0[b,i,k] = reduce sum[j] x[b,i,j] * w[k,j]\n        \
         store h[b,i,k] over [b,i,k] = t0\n    }}\n    kernel @y over [b,i,l] continues {{\n        \
         t0[b,i,l] = reduce sum[k] {read} * u[l,k]\n        store y[b,i,l] over [b,i,l] = t0\n    }}\n}}\n"
    );
    let file = parse_plans(&text).unwrap_or_else(|e| panic!("{}", e.render("plan", &text)));
    let plan = &file.plans[0];
    let found = chain(plan, &[0, 1]);
    assert_eq!(kept(plan), found.kept);
    // A value that leaves the function is no matter of a block.
    assert_eq!(verify_plan(plan, &file.symbols).is_ok(), !found.kept.is_empty(), "{read}");
    let rows = found.rows.iter().map(|&a| plan.axes[a].name.clone()).collect();
    (rows, found.kept.iter().map(|&v| plan.values[v].name.clone()).collect())
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

#[test]
fn rows_are_where_each_block_reads_what_it_stored() {
    let h: BTreeSet<String> = names(&["h"]).into_iter().collect();
    for (read, rows) in [
        ("h[b,i,k]", &["b", "i"][..]),
        ("h[b,max(i - 1, 0),k]", &["b"]),
        ("h[1 - b,i,k]", &["i"]),
        ("h[1 - b,size(n) - 1 - i,k]", &[]),
        ("(h[b,i,k] + h[b,0,k])", &["b"]),
        // Along what is summed a block has all positions.
        ("h[b,i,3 - k]", &["b", "i"]),
    ] {
        assert_eq!(of(read, "y"), (names(rows), h.clone()), "{read}");
    }
    assert_eq!(of("h[b,i,k]", "h, y").1, BTreeSet::new());
}
