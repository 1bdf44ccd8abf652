//! Parsing graph modules.

use cranelift_entity::{EntityRef, PrimaryMap};
use indexmap::IndexMap;

use crate::diag::Diagnostic;
use crate::graph::{Arg, Call, Def, Function, GlobalData, GlobalKind, Module, ParamKind, ValueData};
use crate::text::cursor::{Cursor, Declared, Name, Parsed};
use crate::text::lexer::Kind;
use crate::text::names::entity;
use crate::text::parse_expr::{self, Names};
use crate::{Axis, AxisData, Func, Global, Value};

/// The items of a module; symbols before them have been read.
pub(crate) fn module(c: &mut Cursor) -> Parsed<Module> {
    let mut m = Module::default();
    let mut globals: Declared<Global> = Declared::new("global", "g");
    let mut functions: Declared<Func> = Declared::new("function", "fn");
    while *c.peek() != Kind::End {
        let (w, span) = c.word("`symbol`, `global`, `graph`, `call` or `output`")?;
        match w.as_str() {
            "symbol" => c.symbol()?,
            "global" => {
                let name = c.name("the name of a global")?;
                c.expect(":")?;
                let dtype = c.dtype()?;
                let dims = c.dims()?;
                let (kind, kind_span) = c.word("what the global is")?;
                let kind = match kind.as_str() {
                    "input" => GlobalKind::Input,
                    "weight" => GlobalKind::Weight(c.text("the name of a tensor")?),
                    "table" => GlobalKind::Table(c.table()?),
                    "state" => GlobalKind::State,
                    "temp" => GlobalKind::Temp,
                    _ => {
                        return Err(Diagnostic::new(kind_span, format!("`{kind}` is no kind of global"))
                            .with_help("a global is input, weight \"name\", table …, state or temp"));
                    }
                };
                globals.declare(&name)?;
                m.globals.push(GlobalData { name: name.text, dtype, dims, kind });
            }
            "graph" => {
                let f = function(c, &mut functions)?;
                m.functions.push(f);
            }
            "call" => m.program.push(call(c, &functions, &globals)?),
            "output" => m.outputs.push(global(c, &globals)?),
            _ => {
                return Err(Diagnostic::new(span, format!("`{w}` begins nothing in a graph module")).with_help(
                    "expected `symbol`, `global`, `graph`, `call` or `output`; a file holds one level only",
                ));
            }
        }
    }
    m.symbols = c.symbols.clone();
    Ok(m)
}

fn global(c: &mut Cursor, globals: &Declared<Global>) -> Parsed<Global> {
    let (w, span) = c.word("a global")?;
    globals.resolve(&w, span)
}

fn call(c: &mut Cursor, functions: &Declared<Func>, globals: &Declared<Global>) -> Parsed<Call> {
    c.take_mark("@");
    let (w, span) = c.word("a function")?;
    let func = functions.resolve(&w, span)?;
    let args = c.list("(", ")", |c| {
        if c.is_mark("[") {
            return Ok(Arg::PerIteration(c.list("[", "]", |c| global(c, globals))?));
        }
        if c.take_word("carry") {
            c.expect("(")?;
            let first = global(c, globals)?;
            c.expect(",")?;
            let result: u32 = c.integer("the number of a result")?;
            c.expect(")")?;
            return Ok(Arg::Carried(first, result as usize));
        }
        Ok(Arg::Shared(global(c, globals)?))
    })?;
    let count = if c.take_word("times") { c.integer("how many times")? } else { 1 };
    c.expect("->")?;
    let results = c.list("(", ")", |c| global(c, globals))?;
    Ok(Call { func, count, args, results })
}

/// The name after `@`.
pub(crate) fn at_name(c: &mut Cursor, expected: &str) -> Parsed<Name> {
    c.expect("@")?;
    c.name(expected)
}

/// What functions and plans have in common while they are read.
pub(crate) struct Body {
    pub(crate) axes: PrimaryMap<Axis, AxisData>,
    pub(crate) axis_table: Declared<Axis>,
    pub(crate) values: PrimaryMap<Value, ValueData>,
    pub(crate) value_table: Declared<Value>,
}

impl Body {
    /// The axes in brackets, if any, and the parameters, up to the opening brace.
    pub(crate) fn header(c: &mut Cursor) -> Parsed<Body> {
        let mut b = Body {
            axes: PrimaryMap::new(),
            axis_table: Declared::new("axis", "ax"),
            values: PrimaryMap::new(),
            value_table: Declared::new("value", "v"),
        };
        if c.is_mark("[") {
            c.list("[", "]", |c| c.axis(&mut b.axes, &mut b.axis_table))?;
        }
        c.list("(", ")", |c| {
            let name = b.value_name(c)?;
            c.expect(":")?;
            let dtype = c.dtype()?;
            let axes = c.list("[", "]", |c| {
                if matches!(c.peek_at(1), Kind::Mark("=")) {
                    c.axis(&mut b.axes, &mut b.axis_table)
                } else {
                    c.axis_ref(&b.axis_table)
                }
            })?;
            let kind = param_kind(c)?;
            b.value_table.declare(&name)?;
            b.values.push(ValueData { name: name.text, dtype, axes, def: Def::Param(kind) });
            Ok(())
        })?;
        c.expect("{")?;
        Ok(b)
    }

    /// `axes name=extent, …`, after the word.
    pub(crate) fn more_axes(&mut self, c: &mut Cursor) -> Parsed<()> {
        loop {
            c.axis(&mut self.axes, &mut self.axis_table)?;
            if !c.take_mark(",") {
                return Ok(());
            }
        }
    }

    /// A value where it is defined: its name, or its number, or its number and its name in quotes.
    fn value_name(&self, c: &mut Cursor) -> Parsed<Name> {
        let (w, span) = c.word("a value")?;
        let Some(n) = entity(&w, "v") else { return Ok(Name { text: w, quoted: false, span }) };
        if n as usize != self.values.len() {
            let message = format!("the next value is v{}, found `{w}`", self.values.len());
            return Err(Diagnostic::new(span, message).with_help("values are numbered in order"));
        }
        let text = if matches!(c.peek(), Kind::Text(_)) { c.text("a name")? } else { String::new() };
        Ok(Name { text, quoted: true, span })
    }

    pub(crate) fn names(&self) -> Names<'_> {
        Names { axes: &self.axis_table, values: Some(&self.value_table), locals: None, tiles: None }
    }

    pub(crate) fn value_ref(&self, c: &mut Cursor) -> Parsed<Value> {
        let (w, span) = c.word("a value")?;
        self.value_table.resolve(&w, span)
    }

    /// `name[axes]: dtype = …`.
    pub(crate) fn definition(&mut self, c: &mut Cursor) -> Parsed<()> {
        let name = self.value_name(c)?;
        let axes = c.axis_list(&self.axis_table)?;
        c.expect(":")?;
        let dtype = c.dtype()?;
        c.expect("=")?;
        let def = if c.take_word("param") {
            Def::Param(param_kind(c)?)
        } else if c.take_word("update") {
            let of = self.value_ref(c)?;
            c.expect_word("over")?;
            let domain = c.axis_list(&self.axis_table)?;
            c.expect_word("at")?;
            let index = parse_expr::indices(c, &self.names())?;
            c.expect_word("with")?;
            let value = parse_expr::expr(c, &self.names())?;
            Def::Update { of, domain, index, value }
        } else {
            Def::Equation(parse_expr::expr(c, &self.names())?)
        };
        self.value_table.declare(&name)?;
        self.values.push(ValueData { name: name.text, dtype, axes, def });
        Ok(())
    }

    /// `return a, b`, after the word.
    pub(crate) fn returns(&self, c: &mut Cursor, results: &mut Vec<Value>) -> Parsed<()> {
        loop {
            results.push(self.value_ref(c)?);
            if !c.take_mark(",") {
                return Ok(());
            }
        }
    }
}

fn param_kind(c: &mut Cursor) -> Parsed<ParamKind> {
    let (w, span) = c.word("`input`, `weight` or `state`")?;
    [ParamKind::Input, ParamKind::Weight, ParamKind::State]
        .into_iter()
        .find(|k| k.name() == w)
        .ok_or_else(|| Diagnostic::new(span, format!("expected `input`, `weight` or `state`, found `{w}`")))
}

/// A function, after its keyword.
fn function(c: &mut Cursor, functions: &mut Declared<Func>) -> Parsed<Function> {
    let name = at_name(c, "the name of a function")?;
    functions.declare(&name)?;
    let mut b = Body::header(c)?;
    let mut results = Vec::new();
    let mut options = IndexMap::new();
    while !c.take_mark("}") {
        if c.take_word("axes") {
            b.more_axes(c)?;
        } else if c.take_word("option") {
            let key = c.text("the name of an option")?;
            c.expect("=")?;
            options.insert(key, c.text("the value of an option")?);
        } else if c.take_word("return") {
            b.returns(c, &mut results)?;
        } else if matches!(c.peek(), Kind::Word(_)) {
            b.definition(c)?;
        } else {
            return Err(c.unexpected("a definition, `axes`, `option`, `return` or `}`"));
        }
    }
    debug_assert_eq!(b.value_table.len(), b.values.len());
    debug_assert!(b.values.is_empty() || b.values.is_valid(Value::new(0)));
    Ok(Function { name: name.text, axes: b.axes, values: b.values, results, options })
}
