//! What follows from the terms of a certificate: folds and why they are right, stability, axes, tensors.
//!
//! Why here: a certificate says these for its readers; the checker believes none of them.
//!
//! Pre: steps that were checked. Post: rows in the order in which certificates have them, or the fold that is none.

use std::collections::BTreeSet;

use tilewright_ir::{Axis, DType};

use super::{Checker, Refusal};
use crate::cert::{AxisRow, Certificate, FoldRow, LeafRow, StabilityRow, extent};
use crate::fold::check_node;
use crate::order;
use crate::stable::judge;
use crate::term::{Id, Node};

impl Checker<'_> {
    /// Whether a kernel that came before stores what was made by this fold.
    fn was_proved(&mut self, fold: Id) -> bool {
        if self.proved.is_empty() {
            return false;
        }
        let form = self.canonical(fold);
        self.proved.contains(&form)
    }

    /// Assumptions name axes as the function does.
    pub(super) fn with_names(&self, text: &str) -> String {
        let words: Vec<String> = text
            .split(' ')
            .map(|w| {
                let axis = w.strip_prefix("ax").and_then(|n| n.parse().ok()).map(Axis::from_u32);
                axis.and_then(|a| self.context.plan.axes.get(a))
                    .map_or_else(|| w.to_owned(), |d| d.name.clone())
            })
            .collect();
        words.join(" ")
    }

    pub(super) fn judge(
        &mut self,
        c: &Certificate,
        ids: &[Id],
    ) -> Result<(Vec<FoldRow>, Vec<StabilityRow>), Refusal> {
        let mut within = BTreeSet::from([c.result]);
        for n in (0..c.nodes.len()).rev() {
            if within.contains(&(n as u32)) {
                within.extend(c.nodes[n].args.iter().copied());
            }
        }
        let (mut folds, mut stability) = (Vec::new(), Vec::new());
        for &row in &within {
            let id = ids[row as usize];
            let node = self.terms.node(id).clone();
            if let Node::Fold(_, op, children) = &node {
                let law = match self.folds.contains(&id) || self.was_proved(id) {
                    true => order::TOGETHER,
                    false => check_node(&mut self.terms, &node)
                        .map_err(|reason| Refusal::Node { at: row as usize, reason })?,
                };
                folds.push(FoldRow {
                    node: row,
                    identity: op.identity().to_string(),
                    tracks: (children.len() as u32 - 2) / 2,
                    cocycle: law.into(),
                });
            }
            if let Some(judgement) = judge(&mut self.terms, id) {
                stability.push(StabilityRow { node: row, judgement });
            }
        }
        Ok((folds, stability))
    }

    pub(super) fn axes(&self, ids: &[Id]) -> Vec<AxisRow> {
        let mut out = BTreeSet::new();
        for &id in ids {
            match self.terms.node(id) {
                Node::Pos(a) | Node::CutPos(a) | Node::Part(a, _) | Node::Fold(a, ..) => {
                    out.insert(*a);
                }
                Node::Reduce(_, pieces, _) => out.extend(pieces.iter().map(|p| p.axis)),
                _ => {}
            }
        }
        out.into_iter()
            .map(|a| {
                let data = &self.context.plan.axes[a];
                AxisRow { axis: a.to_string(), name: data.name.clone(), extent: extent(data.extent) }
            })
            .collect()
    }

    pub(super) fn leaves(&self, ids: &[Id]) -> Vec<LeafRow> {
        let mut out = BTreeSet::new();
        for &id in ids {
            if let Node::Read(v, _) = self.terms.node(id) {
                out.insert(*v);
            }
        }
        out.into_iter()
            .map(|v| {
                let data = &self.context.function.values[v];
                let assumption = match data.dtype {
                    DType::Bool => "truth values",
                    d if d.is_int() => "integers",
                    _ => "finite numbers",
                };
                LeafRow {
                    value: v.to_string(),
                    name: data.name.clone(),
                    dtype: data.dtype.to_string(),
                    assumption: assumption.into(),
                }
            })
            .collect()
    }
}
