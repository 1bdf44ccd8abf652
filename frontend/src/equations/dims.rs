//! Which axes and array dimensions have the same extent, and which extent that is.
//!
//! Why here: extents come from declarations, from arrays and from sharing a name, in any order; a union-find over
//! dimension variables makes the order of statements irrelevant and remembers why, for the message when they disagree.
//!
//! Post: of two extents that must agree and do not, the diagnostic names both and where each came from.

use std::collections::HashMap;

use tilewright_ir::diag::{Diagnostic, Span};

use super::ast::Size;

/// Something that has an extent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Var {
    /// The axis of this name.
    Axis(String),
    /// A dimension of the array of this name.
    Slot(String, usize),
}

/// An extent and where it comes from.
#[derive(Clone, Debug)]
struct Origin<T> {
    value: T,
    what: String,
    span: Option<Span>,
}

#[derive(Clone, Debug, Default)]
struct Class {
    declared: Option<Origin<Size>>,
    given: Option<Origin<u64>>,
}

/// The union-find.
#[derive(Debug, Default)]
pub(super) struct Dims {
    ids: HashMap<Var, usize>,
    parent: Vec<usize>,
    classes: Vec<Class>,
}

impl Dims {
    fn id(&mut self, var: &Var) -> usize {
        if let Some(&id) = self.ids.get(var) {
            return id;
        }
        let id = self.parent.len();
        self.ids.insert(var.clone(), id);
        self.parent.push(id);
        self.classes.push(Class::default());
        id
    }

    fn root(&self, mut id: usize) -> usize {
        while self.parent[id] != id {
            id = self.parent[id];
        }
        id
    }

    /// The extent was declared.
    pub(super) fn declare(
        &mut self,
        var: &Var,
        size: Size,
        what: String,
        span: Span,
    ) -> Result<(), Diagnostic> {
        let (id, new) = (self.id(var), Origin { value: size, what, span: Some(span) });
        let root = self.root(id);
        let class = Class { declared: Some(new), given: None };
        self.classes[root] = merge(self.classes[root].clone(), class, span)?;
        Ok(())
    }

    /// An array that was given has this extent.
    pub(super) fn give(&mut self, var: &Var, size: u64, what: String, span: Span) -> Result<(), Diagnostic> {
        let (id, new) = (self.id(var), Origin { value: size, what, span: None });
        let root = self.root(id);
        let class = Class { declared: None, given: Some(new) };
        self.classes[root] = merge(self.classes[root].clone(), class, span)?;
        Ok(())
    }

    /// Both have the same extent.
    pub(super) fn equal(&mut self, a: &Var, b: &Var, span: Span) -> Result<(), Diagnostic> {
        let (a, b) = (self.id(a), self.id(b));
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.classes[a] = merge(self.classes[a].clone(), self.classes[b].clone(), span)?;
            self.parent[b] = a;
        }
        Ok(())
    }

    /// The extent, as far as it is known.
    pub(super) fn get(&self, var: &Var) -> Option<Size> {
        let class = &self.classes[self.root(*self.ids.get(var)?)];
        match (&class.declared, &class.given) {
            (Some(d), _) => Some(d.value.clone()),
            (None, Some(g)) => Some(Size::Const(g.value)),
            (None, None) => None,
        }
    }

    /// The values that given arrays imply for symbols, with the array that implies each.
    pub(super) fn symbol_values(&self) -> Vec<(String, u64, String)> {
        let mut out = Vec::new();
        for id in 0..self.parent.len() {
            if self.parent[id] != id {
                continue;
            }
            if let Class { declared: Some(Origin { value: Size::Sym(s), .. }), given: Some(g) } =
                &self.classes[id]
            {
                out.push((s.clone(), g.value, g.what.clone()));
            }
        }
        out
    }
}

fn show(size: &Size) -> String {
    match size {
        Size::Const(n) => n.to_string(),
        Size::Sym(s) => format!("`{s}`"),
    }
}

fn disagree(a: (&str, &str, Option<Span>), b: (&str, &str, Option<Span>), at: Span) -> Diagnostic {
    let message = format!("axes do not agree: {} is {}, but {} is {}", a.1, a.0, b.1, b.0);
    let mut d = Diagnostic::new(at, message);
    for (size, _, span) in [a, b] {
        if let Some(span) = span.filter(|&s| s != at) {
            d = d.with_label(span, format!("extent {size} from here"));
        }
    }
    d
}

fn merge(a: Class, b: Class, at: Span) -> Result<Class, Diagnostic> {
    if let (Some(x), Some(y)) = (&a.declared, &b.declared)
        && x.value != y.value
    {
        return Err(disagree((&show(&x.value), &x.what, x.span), (&show(&y.value), &y.what, y.span), at));
    }
    if let (Some(x), Some(y)) = (&a.given, &b.given)
        && x.value != y.value
    {
        let (m, n) = (x.value.to_string(), y.value.to_string());
        return Err(disagree((&m, &x.what, x.span), (&n, &y.what, y.span), at));
    }
    let merged = Class { declared: a.declared.or(b.declared), given: a.given.or(b.given) };
    if let Class { declared: Some(Origin { value: Size::Const(n), what, span }), given: Some(g) } = &merged
        && *n != g.value
    {
        return Err(disagree((&n.to_string(), what, *span), (&g.value.to_string(), &g.what, None), at));
    }
    Ok(merged)
}
