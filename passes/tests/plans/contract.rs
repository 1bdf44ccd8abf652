//! Sums of products as products of two tiles: which factor goes where.

use std::collections::BTreeSet;

use cranelift_entity::EntityRef;
use tilewright_ir::expr::build as ex;
use tilewright_ir::{Axis, Ex, Expr, Value};
use tilewright_passes::schedule::contract::split;

/// A value read along axes.
fn read(value: usize, axes: &[usize]) -> Ex {
    ex::read(Value::new(value), axes.iter().map(|&a| ex::pos(Axis::new(a))).collect())
}

#[test]
fn a_scale_along_the_sum_joins_what_is_no_weight() {
    let (rows, columns, sum) = (0, 1, 2);
    let (x, scale, w) = (read(0, &[columns, sum]), read(1, &[sum]), read(2, &[rows, sum]));
    let summed = BTreeSet::from([Axis::new(sum)]);
    let axes = |e: &Ex| e.free_axes().into_iter().collect::<BTreeSet<Axis>>();
    for order in [[&x, &scale, &w], [&w, &scale, &x], [&scale, &w, &x]] {
        let factors: Vec<Ex> = order.into_iter().cloned().collect();
        let dealt = |weight: usize| {
            let is = |e: &Ex| matches!(&**e, Expr::Read(v, _) if *v == Value::new(weight));
            let s = split(&factors, &summed, &axes, &is).expect("a contraction");
            assert!(s.outside.is_empty());
            let alone: Vec<Ex> = [s.a, s.b].into_iter().filter(|h| h.len() == 1).flatten().collect();
            assert_eq!(alone.len(), 1, "the scale is in one hand");
            alone[0].clone()
        };
        // The matrix stays alone where it is the weight, and the other one where that is.
        assert_eq!(dealt(2), w);
        assert_eq!(dealt(0), x);
    }
}
