//! That the result of a certificate is what the kernel computes.
//!
//! Why here: this is where a proof meets the plan. What the kernel reads of others is in the place of what they store, as
//! the graph or as that kernel says it.
//!
//! Pre: kernels that this one reads from were checked. Post: the store has the result's value, at the places that the graph
//! says.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::graph::Def;
use tilewright_ir::plan::{KernelPlan, LocalDef, Store};
use tilewright_ir::{Axis, Ex, Expr, Value};

use super::{Checker, Context, Refusal};
use crate::cert::{Certificate, StoredRow};
use crate::plan::Kernel;
use crate::term::{Id, Node};

impl Checker<'_> {
    /// That the result is what the kernel computes; the values of other kernels that it reads.
    pub(super) fn result(
        &mut self,
        kernel: &KernelPlan,
        store: &Store,
        c: &Certificate,
        result: Id,
    ) -> Result<Vec<StoredRow>, Refusal> {
        let Context { function, plan, .. } = self.context;
        let wrong = |reason: &str| Refusal::Result(reason.to_owned());
        let mut rows = Vec::new();
        let mut stored: BTreeMap<Value, Id> = BTreeMap::new();
        for v in reads(kernel, store).into_iter().filter(|v| self.stores.contains(v)) {
            let Some(&Some((source, result))) = self.stored.get(&v) else {
                return Err(Refusal::Rests { on: v.to_string() });
            };
            let name = v.to_string();
            let form = c.stored.iter().find(|r| r.value == name).map_or("source", |r| r.form.as_str());
            let term = match form {
                "result" if source != result => result,
                _ => source,
            };
            let form = if term == source { "source" } else { "result" };
            stored.insert(v, term);
            rows.push(StoredRow { value: name, form: form.to_owned() });
        }
        let mut k = Kernel::new(plan, kernel, &stored).judged();
        let term = k.expr(&mut self.terms, &store.expr).map_err(Refusal::Result)?;
        let index: Vec<Id> = store
            .index
            .iter()
            .map(|i| k.expr(&mut self.terms, i))
            .collect::<Result<_, _>>()
            .map_err(Refusal::Result)?;
        // Where it goes.
        let update = function.values.get(store.value).map(|d| &d.def);
        let (axes, places): (&[Axis], Vec<Id>) = match update {
            Some(Def::Update { domain, index, .. }) => {
                let mut k = Kernel::new(plan, kernel, &stored);
                let places = index.iter().map(|i| k.expr(&mut self.terms, i)).collect::<Result<_, _>>();
                (domain, places.map_err(Refusal::Result)?)
            }
            _ => {
                let axes = &plan.values[store.value].axes;
                (axes, axes.iter().map(|&a| self.terms.add(Node::Pos(a))).collect())
            }
        };
        let same_place = index.len() == places.len()
            && index.iter().zip(&places).all(|(&a, &b)| self.canonical(a) == self.canonical(b));
        if store.axes != axes || !same_place {
            return Err(wrong("it is stored somewhere else"));
        }
        let (a, b) = (self.canonical(term), self.canonical(result));
        if a != b {
            return Err(wrong("the terms differ"));
        }
        Ok(rows)
    }
}

/// The tensors that a store of a kernel needs, in order of first occurrence.
fn reads(kernel: &KernelPlan, store: &Store) -> Vec<Value> {
    let (mut out, mut seen) = (Vec::new(), BTreeSet::new());
    let mut todo: Vec<&Ex> = store.index.iter().chain([&store.expr]).collect();
    todo.reverse();
    while let Some(e) = todo.pop() {
        let mut locals = Vec::new();
        e.visit(&mut |e| match e {
            Expr::Read(v, _) if !out.contains(v) => out.push(*v),
            Expr::Local(l) => locals.push(*l),
            _ => {}
        });
        while let Some(l) = locals.pop() {
            if !seen.insert(l) {
                continue;
            }
            match kernel.locals.get(l).map(|l| &l.def) {
                Some(LocalDef::Map(e)) => todo.push(e),
                Some(LocalDef::Reduce { body, .. } | LocalDef::Block { body, .. }) => todo.push(body),
                Some(LocalDef::Running { block, .. }) => todo.push(block),
                Some(LocalDef::Fold { block, action, tracks, .. }) => {
                    todo.extend([block, action]);
                    locals.extend(tracks.iter().flat_map(|&(t, y)| [t, y]));
                }
                None => {}
            }
        }
    }
    out
}
