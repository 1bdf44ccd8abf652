//! Terms as text that people read.
//!
//! What: a term over the texts of its operands, with brackets only where they say something, differences as differences, and
//! whatever the source names by its name, whatever the order of operands.
//! Why here: a derivation is long, and most of what its steps show has a name in the source: those who wrote the source
//! know the names.
//! Pre: the terms of the source are in the e-graph. Post: equal texts for terms that differ in the order of operands in a
//! place that is named; the text alone means the term, given the source.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use cranelift_entity::PrimaryMap;
use egg::{Id, Language, RecExpr};
use tilewright_ir::plan::Plan;
use tilewright_ir::{Axis, AxisData, Extent, Sym, SymData, Value, text};

use crate::algebra::ingest::Ingested;
use crate::algebra::{Part, Term};

/// The longest text of a term. What is longer is not shown: a term that shares its parts may have 2^30 leaves.
const LONGEST: usize = 4000;

/// How tightly a text holds together: what may stand beside it without brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// An operator between two operands, such as a comparison.
    Operator,
    /// A sum.
    Sum,
    /// A product.
    Product,
    /// Anything with its own brackets, or without parts.
    Whole,
}

/// A term in words.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Its text.
    pub(super) text: String,
    hold: Hold,
    /// The text of what it is the negation of, if it is written as one.
    negated: Option<String>,
    /// Equal for equal terms, whatever the order of operands of sums and products.
    key: u64,
}

impl Said {
    /// In place of what is not shown.
    pub(super) fn left_out() -> Said {
        Said { text: "...".into(), hold: Hold::Whole, negated: None, key: 0 }
    }

    fn within(&self, least: Hold) -> String {
        if self.hold >= least { self.text.clone() } else { format!("({})", self.text) }
    }
}

/// Several operands of a sum or product that have a name together.
struct Bundle {
    product: bool,
    keys: Vec<u64>,
    said: Said,
}

/// What terms are made of, by name.
pub(super) struct Names {
    symbols: PrimaryMap<Sym, SymData>,
    axes: PrimaryMap<Axis, AxisData>,
    values: HashMap<Value, String>,
    /// What the source names, by key.
    known: HashMap<u64, Said>,
    /// Sums and products that the source names, those of many operands first.
    bundles: Vec<Bundle>,
}

impl Names {
    /// The names of a function.
    pub(super) fn new(ingested: &Ingested, plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> Names {
        let mut names = Names {
            symbols: symbols.clone(),
            axes: plan.axes.clone(),
            values: plan.values.iter().map(|(v, d)| (v, d.name.clone())).collect(),
            known: HashMap::new(),
            bundles: Vec::new(),
        };
        let mut known = HashMap::new();
        let mut bundles: Vec<Bundle> = Vec::new();
        // In the order of values, so that of two names for one term the first is taken.
        let mut values: Vec<(Value, Id)> = ingested.values.iter().map(|(&v, &id)| (v, id)).collect();
        values.sort_unstable();
        for (v, id) in values {
            let data = &plan.values[v];
            if data.name.is_empty() {
                continue;
            }
            let term = ingested.graph.id_to_expr(id);
            let cascades = ingested.cascades.iter().filter(|a| data.axes.contains(a));
            for cut in std::iter::once(None).chain(cascades.map(|&a| Some(a))) {
                let mut keys: Vec<u64> = Vec::new();
                for node in &term {
                    let operands: Vec<u64> = node.children().iter().map(|&c| keys[usize::from(c)]).collect();
                    let cut_here = matches!(node, Term::Pos(a) if cut == Some(*a));
                    keys.push(match node {
                        Term::Pos(a) if cut_here => key(&Term::CutPos(*a), operands),
                        _ => key(node, operands),
                    });
                }
                let (Some(top), Some(&key)) = (term.as_ref().last(), keys.last()) else { continue };
                if top.is_leaf() || matches!(top, Term::Read(..)) {
                    continue;
                }
                let axis = |a: &Axis| format!("{}{}", names.axis(*a), if cut == Some(*a) { "'" } else { "" });
                let axes: Vec<String> = data.axes.iter().map(axis).collect();
                let text = format!("{}[{}]", data.name, axes.join(","));
                let said = Said { text, hold: Hold::Whole, negated: None, key };
                if let Term::Mul(c) | Term::Add(c) = top {
                    let mut parts: Vec<u64> = c.iter().map(|&c| keys[usize::from(c)]).collect();
                    parts.sort_unstable();
                    let product = matches!(top, Term::Mul(_));
                    bundles.push(Bundle { product, keys: parts, said: said.clone() });
                }
                known.entry(key).or_insert(said);
            }
        }
        bundles.sort_by_key(|b| std::cmp::Reverse(b.keys.len()));
        names.known = known;
        names.bundles = bundles;
        names
    }

    fn axis(&self, a: Axis) -> &str {
        self.axes.get(a).map_or("?", |d| d.name.as_str())
    }

    /// One node over its operands, by its name if the source has one for it.
    pub(super) fn named(&self, node: &Term, operands: &[Said]) -> Said {
        let key = key(node, operands.iter().map(|o| o.key).collect());
        self.known.get(&key).cloned().unwrap_or_else(|| self.spelled(node, operands))
    }

    /// A term in words.
    pub(super) fn of(&self, term: &RecExpr<Term>) -> Said {
        let mut all: Vec<Said> = Vec::new();
        for node in term {
            let operands: Vec<Said> = node.children().iter().map(|&c| all[usize::from(c)].clone()).collect();
            all.push(self.named(node, &operands));
        }
        all.pop().unwrap_or_else(Said::left_out)
    }

    /// One node over its operands.
    pub(super) fn spelled(&self, node: &Term, operands: &[Said]) -> Said {
        let key = key(node, operands.iter().map(|o| o.key).collect());
        let list = |sep: &str| operands.iter().map(|o| o.text.as_str()).collect::<Vec<_>>().join(sep);
        let whole = |text: String| (text, Hold::Whole, None);
        let (text, hold, negated) = match node {
            Term::Num(n) => {
                let negated = (n.0 < 0.0 && n.0.is_finite()).then(|| text::number(-n.0));
                (text::number(n.0), Hold::Whole, negated)
            }
            Term::Pos(a) => whole(self.axis(*a).to_owned()),
            Term::CutPos(a) => whole(format!("{}'", self.axis(*a))),
            Term::Size(Extent::Const(n)) => whole(n.to_string()),
            Term::Size(Extent::Sym(s)) => {
                whole(self.symbols.get(*s).map_or_else(|| s.to_string(), |d| d.name.clone()))
            }
            Term::Read(v, _) => {
                let name = self.values.get(v).filter(|n| !n.is_empty()).cloned();
                whole(format!("{}[{}]", name.unwrap_or_else(|| v.to_string()), list(",")))
            }
            Term::Add(_) => sum(&self.bundled(false, operands)),
            Term::Mul(_) => product(&self.bundled(true, operands)),
            Term::Max(_) => whole(format!("max({})", list(", "))),
            Term::Min(_) => whole(format!("min({})", list(", "))),
            Term::Unary(f, _) => whole(format!("{}({})", f.name(), list(", "))),
            Term::Binary(f, _) => {
                let least = if f.is_comparison() { Hold::Sum } else { Hold::Whole };
                let sides: Vec<String> = operands.iter().map(|o| o.within(least)).collect();
                (sides.join(&format!(" {} ", f.name())), Hold::Operator, None)
            }
            Term::Select(_) => whole(format!("where({})", list(", "))),
            Term::Cast(d, _) => whole(format!("{d}({})", list(""))),
            Term::Reduce(op, parts, _) => {
                let axes: Vec<String> = parts
                    .iter()
                    .map(|p| match p.part {
                        Part::Whole => self.axis(p.axis).to_owned(),
                        Part::Outer => format!("{}.o", self.axis(p.axis)),
                        Part::Inner => format!("{}.i", self.axis(p.axis)),
                    })
                    .collect();
                whole(format!("{}[{}]({})", op.name(), axes.join(","), list("")))
            }
            Term::Part(a, _) => whole(format!("part[{}]({})", self.axis(*a), list(""))),
            Term::Hole => whole("_".into()),
            Term::Fold(a, op, _) => whole(format!("fold {}[{}]({})", op.name(), self.axis(*a), list("; "))),
        };
        if text.len() > LONGEST {
            return Said { key, ..Said::left_out() };
        }
        Said { text, hold, negated, key }
    }

    /// Operands of a sum or product, with those that have a name together in one.
    fn bundled(&self, product: bool, operands: &[Said]) -> Vec<Said> {
        let mut rest = operands.to_vec();
        for bundle in &self.bundles {
            if bundle.product != product || bundle.keys.len() >= rest.len() {
                continue;
            }
            let mut left = rest.clone();
            let mut first = usize::MAX;
            let all = bundle.keys.iter().all(|key| {
                let Some(at) = left.iter().position(|o| o.key == *key) else { return false };
                first = first.min(at);
                left.remove(at);
                true
            });
            if all {
                left.insert(first.min(left.len()), bundle.said.clone());
                rest = left;
            }
        }
        rest
    }
}

/// A sum: what is added, and then what is taken away.
fn sum(operands: &[Said]) -> (String, Hold, Option<String>) {
    let (minus, plus): (Vec<&Said>, Vec<&Said>) = operands.iter().partition(|o| o.negated.is_some());
    let mut text = plus.iter().map(|o| o.within(Hold::Product)).collect::<Vec<_>>().join(" + ");
    for o in minus {
        let term = o.negated.as_deref().unwrap_or_default();
        text += &if text.is_empty() { format!("-{term}") } else { format!(" - {term}") };
    }
    (text, Hold::Sum, None)
}

/// A product. A product within a product keeps its brackets: taking them away is a step that must show.
fn product(operands: &[Said]) -> (String, Hold, Option<String>) {
    let join = |all: &[&Said]| all.iter().map(|o| o.within(Hold::Whole)).collect::<Vec<_>>().join(" * ");
    let rest: Vec<&Said> = operands.iter().filter(|o| o.text != "-1").collect();
    if rest.len() + 1 == operands.len() && !rest.is_empty() {
        let rest = join(&rest);
        return (format!("-{rest}"), Hold::Product, Some(rest));
    }
    (join(&operands.iter().collect::<Vec<_>>()), Hold::Product, None)
}

/// The same for equal terms; operands by their keys.
fn key(node: &Term, mut operands: Vec<u64>) -> u64 {
    if matches!(node, Term::Mul(_) | Term::Add(_) | Term::Max(_) | Term::Min(_)) {
        operands.sort_unstable();
    }
    let mut hasher = DefaultHasher::new();
    node.clone().map_children(|_| Id::from(0)).hash(&mut hasher);
    operands.hash(&mut hasher);
    hasher.finish()
}
