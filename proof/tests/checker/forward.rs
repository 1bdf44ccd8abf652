//! Reading what an update writes as it was computed: accepted where each element is written by one position that follows
//! from the index, refused otherwise.

use std::collections::BTreeMap;

use tilewright_ir::text::{parse_module, parse_plans};
use tilewright_proof::build::Builder;
use tilewright_proof::plan::Kernel;
use tilewright_proof::{Certificate, Checker, Context, Refusal};

/// The verdict on a kernel that stores `stored` for `new[a, d]`, where `new` is updated at an index, by a certificate that
/// says that the source has what the update writes, or that it does not.
fn verdict(index: &str, stored: &str, forwarded: bool) -> Result<Certificate, Refusal> {
    let values = format!(
        "(x: f32[i=2, k=3] input, n: i32[l=3] input, s: f32[p=5, q=3] state, r: f32[a=kv, d=3] input) {{\n    \
         new[p,q]: f32 = update s over [i,k] at [{index}] with x[i,k] * 2\n    y[a,d]: f32 = new[a,d] * r[a,d]\n"
    );
    let symbols = "symbol past: 0..=3\nsymbol kv: 1..=5\n";
    let graph = format!("{symbols}graph @f{values}    return y\n}}\n");
    let plan = format!(
        "{symbols}plan @f{values}    temps 6\n    return y\n    kernel @f_y over [a,d] {{\n        \
         store y[a,d] over [a,d] = {stored}\n    }}\n    kernel @f_new over [i,k] beside {{\n        \
         store new[{index}] over [i,k] = x[i,k] * 2\n    }}\n}}\n"
    );
    let module = parse_module(&graph).unwrap_or_else(|e| panic!("{}", e.render("graph", &graph)));
    let plans = parse_plans(&plan).unwrap_or_else(|e| panic!("{}", e.render("plan", &plan)));
    let function = module.functions.values().next().expect("a function");
    let context = Context { symbols: &module.symbols, function, plan: &plans.plans[0] };
    let kernel = &context.plan.kernels[0];
    let mut b = Builder::new(context);
    let others = BTreeMap::new();
    let term = Kernel::new(context.plan, kernel, &others)
        .expr(&mut b.terms, &kernel.stores[0].expr)
        .expect("a term");
    let certificate = Certificate { forwarded, ..b.finish(term, term, None, Vec::new()) };
    let sealed = Checker::new(context).seal((0, 0), &certificate)?;
    // What was sealed is accepted, and says nothing else if it says that nothing was read so.
    Checker::new(context).check((0, 0), &sealed)?;
    let other = Certificate { forwarded: !sealed.forwarded, ..sealed.clone() };
    assert!(Checker::new(context).check((0, 0), &other).is_err());
    Ok(sealed)
}

#[test]
fn what_an_update_writes_and_what_it_leaves() {
    let at = "a - size(past)";
    let right = format!("where({at} >= 0 and {at} < 2, x[{at}, d] * 2, s[a,d]) * r[a,d]");
    for index in ["size(past) + i, k", "i + size(past), k"] {
        assert!(verdict(index, &right, true).expect("accepted").forwarded);
        assert_eq!(verdict(index, &right, false).map(|_| ()), Err(Refusal::Source));
    }
    let some = format!("where({at} >= 0 and {at} < 2 and {at} < n[d], x[{at}, d] * 2, s[a,d]) * r[a,d]");
    verdict("where(i < n[k], size(past) + i, 5), k", &some, true).expect("accepted");
    // A read of the updated state is what it was before.
    assert!(!verdict("size(past) + i, k", "new[a,d] * r[a,d]", false).expect("accepted").forwarded);
}

#[test]
fn what_another_position_writes_is_refused() {
    let at = "a - size(past)";
    for wrong in [
        format!("where({at} > 0 and {at} < 2, x[{at}, d] * 2, s[a,d]) * r[a,d]"),
        format!("where({at} >= 0 and {at} < 3, x[{at}, d] * 2, s[a,d]) * r[a,d]"),
        format!("where({at} >= 0, x[{at}, d] * 2, s[a,d]) * r[a,d]"),
        format!("where({at} >= 0 and {at} < 2, x[{at}, d], s[a,d]) * r[a,d]"),
        format!("where({at} >= 0 and {at} < 2, x[{at} - 1, d] * 2, s[a,d]) * r[a,d]"),
        format!("where({at} >= 0 and {at} < 2, s[a,d], x[{at}, d] * 2) * r[a,d]"),
        "s[a,d] * r[a,d]".to_owned(),
    ] {
        assert_eq!(verdict("size(past) + i, k", &wrong, true).map(|_| ()), Err(Refusal::Source), "{wrong}");
    }
}

#[test]
fn each_condition_is_needed() {
    for (index, position, why) in [
        ("2 * i, k", "a", "a multiple of a position"),
        ("i + i, k", "a - i", "an offset that moves with the position"),
        ("i, i", "a", "one axis in two dimensions"),
        ("n[i] + i, k", "a - n[i]", "an offset that moves with the position through a tensor"),
        (
            "where(i < n[k], size(past) + i, 4), k",
            "a - size(past)",
            "a place within the state for the others",
        ),
    ] {
        if position.contains("[i]") || position.contains("- i") {
            // There is no position to write down.
            let read = verdict(index, "new[a,d] * r[a,d]", true).expect("it is read back");
            assert!(!read.forwarded, "{why}");
            continue;
        }
        let taken =
            format!("where({position} >= 0 and {position} < 2, x[{position}, d] * 2, s[a,d]) * r[a,d]");
        assert_eq!(verdict(index, &taken, true).map(|_| ()), Err(Refusal::Source), "{why}");
        assert!(!verdict(index, "new[a,d] * r[a,d]", true).expect("it is read back").forwarded, "{why}");
    }
}
