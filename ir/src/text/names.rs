//! How things are referred to: by name where that is unambiguous, else by entity number.

use std::collections::HashMap;

use cranelift_entity::PrimaryMap;

use crate::expr::{BINARY, REDUCTION, UNARY};
use crate::graph::ValueData;
use crate::{Axis, AxisData, DType, Extent, Packing, Sym, SymData, Value};

/// Words that have a meaning of their own where names stand, and hence name nothing.
const WORDS: [&str; 25] = [
    "_", "and", "axes", "block", "carry", "convert", "dot", "else", "fold", "if", "inf", "kernel", "load",
    "nan", "not", "option", "or", "param", "reduce", "return", "running", "size", "temps", "update", "where",
];

/// Whether a name would be taken for an entity number where things with the given prefix are named. A position stands
/// where locals and tiles do.
pub(crate) fn looks_numbered(name: &str, prefix: &str) -> bool {
    entity(name, prefix).is_some()
        || prefix == "ax" && (entity(name, "t").is_some() || entity(name, "tile").is_some())
}

/// Whether a word is one of the language.
pub(crate) fn reserved(word: &str) -> bool {
    WORDS.contains(&word)
        || UNARY.iter().any(|(_, n)| *n == word)
        || BINARY.iter().any(|(_, n)| *n == word)
        || REDUCTION.iter().any(|(_, n)| *n == word)
        || word.parse::<DType>().is_ok()
}

/// The number, if the word is an entity number with the given prefix. Numbers have no leading zeros.
pub(crate) fn entity(word: &str, prefix: &str) -> Option<u32> {
    let digits = word.strip_prefix(prefix)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

/// Whether a name is written as it is.
pub(crate) fn simple(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && !reserved(name)
}

/// The order of a buffer's elements, behind everything else that is said of it.
pub(crate) fn packed(packing: Option<&Packing>) -> String {
    packing.map_or(String::new(), |p| format!(" packed {p}"))
}

/// A name in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// For things with the given names: how each is referred to.
pub(crate) fn refs<'a>(names: impl Iterator<Item = &'a str> + Clone, prefix: &str) -> Vec<String> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for name in names.clone() {
        *count.entry(name).or_default() += 1;
    }
    names
        .enumerate()
        .map(|(n, name)| {
            let plain = simple(name) && count[name] == 1 && !looks_numbered(name, prefix);
            if plain { name.to_owned() } else { format!("{prefix}{n}") }
        })
        .collect()
}

/// How a thing is declared, given how it is referred to: by its name, or with the name in quotes.
pub(crate) fn declared(name: &str, reference: &str, prefix: &str) -> String {
    if name == reference && !looks_numbered(name, prefix) { name.to_owned() } else { quoted(name) }
}

pub(crate) fn axis_refs(axes: &PrimaryMap<Axis, AxisData>) -> Vec<String> {
    refs(axes.values().map(|a| a.name.as_str()), "ax")
}

pub(crate) fn symbol_refs(symbols: &PrimaryMap<Sym, SymData>) -> Vec<String> {
    refs(symbols.values().map(|s| s.name.as_str()), "s")
}

pub(crate) fn value_refs(values: &PrimaryMap<Value, ValueData>) -> Vec<String> {
    refs(values.values().map(|v| v.name.as_str()), "v")
}

/// How everything in an expression is referred to. Things outside the tables go by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) axes: Vec<String>,
    pub(crate) values: Vec<String>,
    pub(crate) symbols: Vec<String>,
}

impl Names {
    pub(crate) fn axis(&self, a: Axis) -> String {
        self.axes.get(a.as_u32() as usize).cloned().unwrap_or_else(|| a.to_string())
    }

    pub(crate) fn axes(&self, axes: &[Axis]) -> String {
        axes.iter().map(|&a| self.axis(a)).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn value(&self, v: Value) -> String {
        self.values.get(v.as_u32() as usize).cloned().unwrap_or_else(|| v.to_string())
    }

    pub(crate) fn extent(&self, e: Extent) -> String {
        extent(&self.symbols, e)
    }
}

pub(crate) fn extent(symbols: &[String], e: Extent) -> String {
    match e {
        Extent::Const(n) => n.to_string(),
        Extent::Sym(s) => symbols.get(s.as_u32() as usize).cloned().unwrap_or_else(|| s.to_string()),
    }
}
