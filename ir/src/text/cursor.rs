//! The parser's place in the tokens, and what all levels parse alike: names, numbers, lists, symbols, axes.

use std::collections::HashMap;

use cranelift_entity::{EntityRef, PrimaryMap};

use crate::diag::{Diagnostic, Span};
use crate::graph::Table;
use crate::packing::{Digit, Packing};
use crate::text::lexer::{Kind, Token};
use crate::text::names::{entity, looks_numbered, reserved};
use crate::{Axis, AxisData, DType, Extent, Sym, SymData};

pub(crate) type Parsed<T> = Result<T, Diagnostic>;

/// Things with names, of which some have been declared.
#[derive(Clone, Debug)]
pub(crate) struct Declared<K> {
    /// What the things are called in messages.
    pub(crate) what: &'static str,
    pub(crate) prefix: &'static str,
    by_name: HashMap<String, K>,
    count: usize,
}

impl<K: EntityRef + Copy> Declared<K> {
    pub(crate) fn new(what: &'static str, prefix: &'static str) -> Self {
        Declared { what, prefix, by_name: HashMap::new(), count: 0 }
    }

    /// Declares the next thing. A name in quotes may occur again, since such things go by number.
    pub(crate) fn declare(&mut self, name: &Name) -> Parsed<K> {
        let key = K::new(self.count);
        if !name.quoted {
            if reserved(&name.text) || looks_numbered(&name.text, self.prefix) {
                let message = format!("`{}` cannot name {}", name.text, article(self.what));
                return Err(Diagnostic::new(name.span, message)
                    .with_help("it has a meaning of its own: choose another name, or put it in quotes"));
            }
            if self.by_name.insert(name.text.clone(), key).is_some() {
                return Err(Diagnostic::new(
                    name.span,
                    format!("{} `{}` is declared twice", self.what, name.text),
                )
                .with_help("choose another name"));
            }
        }
        self.count += 1;
        Ok(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The thing of that name or number, if it is declared.
    pub(crate) fn find(&self, word: &str) -> Option<K> {
        if let Some(n) = entity(word, self.prefix) {
            return ((n as usize) < self.count).then(|| K::new(n as usize));
        }
        self.by_name.get(word).copied()
    }

    /// The thing of that name or number, or what there is instead.
    pub(crate) fn resolve(&self, word: &str, span: Span) -> Parsed<K> {
        self.find(word).ok_or_else(|| {
            let d = Diagnostic::new(span, format!("there is no {} `{word}`", self.what));
            let near = self.by_name.keys().filter(|k| distance(k, word) <= 2).min();
            match near {
                Some(near) => d.with_help(format!("did you mean `{near}`?")),
                None if self.count == 0 => d.with_help(format!("no {} is declared before this", self.what)),
                None => d.with_help(format!("{}s are used after they are declared", self.what)),
            }
        })
    }
}

fn article(what: &str) -> String {
    let an = what.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {what}", if an { "an" } else { "a" })
}

/// The number of edits between two words, up to 3.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 40 {
        return 3;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

/// A name where it is declared.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) quoted: bool,
    pub(crate) span: Span,
}

/// The parser's place, and the symbols of the file.
pub(crate) struct Cursor {
    tokens: Vec<Token>,
    at: usize,
    pub(crate) symbols: PrimaryMap<Sym, SymData>,
    pub(crate) symbol_table: Declared<Sym>,
    /// How deep the expression that is being parsed is nested.
    pub(crate) depth: usize,
    /// How high the expression is that was parsed last.
    pub(crate) height: usize,
}

impl Cursor {
    pub(crate) fn new(tokens: Vec<Token>) -> Cursor {
        Cursor {
            tokens,
            at: 0,
            symbols: PrimaryMap::new(),
            symbol_table: Declared::new("symbol", "s"),
            depth: 0,
            height: 0,
        }
    }

    fn token(&self, ahead: usize) -> &Token {
        // The last token is the end, and stays the last.
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    pub(crate) fn peek(&self) -> &Kind {
        &self.token(0).kind
    }

    pub(crate) fn peek_at(&self, ahead: usize) -> &Kind {
        &self.token(ahead).kind
    }

    pub(crate) fn span(&self) -> Span {
        self.token(0).span
    }

    /// The span of the token before.
    pub(crate) fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1).min(self.tokens.len() - 1)].span
    }

    pub(crate) fn next(&mut self) -> Token {
        let token = self.token(0).clone();
        self.at += 1;
        token
    }

    pub(crate) fn is_mark(&self, mark: &str) -> bool {
        matches!(self.peek(), Kind::Mark(m) if *m == mark)
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Kind::Word(w) if w == word)
    }

    pub(crate) fn take_mark(&mut self, mark: &str) -> bool {
        let found = self.is_mark(mark);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// That something else was expected here.
    pub(crate) fn unexpected(&self, expected: &str) -> Diagnostic {
        Diagnostic::new(self.span(), format!("expected {expected}, found {}", self.peek().describe()))
    }

    pub(crate) fn expect(&mut self, mark: &str) -> Parsed<()> {
        if self.take_mark(mark) { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    pub(crate) fn word(&mut self, expected: &str) -> Parsed<(String, Span)> {
        match self.peek() {
            Kind::Word(w) => {
                let found = (w.clone(), self.span());
                self.at += 1;
                Ok(found)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    pub(crate) fn text(&mut self, expected: &str) -> Parsed<String> {
        match self.peek() {
            Kind::Text(t) => {
                let t = t.clone();
                self.at += 1;
                Ok(t)
            }
            _ => Err(self.unexpected(&format!("{expected} in quotes"))),
        }
    }

    /// A name that is declared here.
    pub(crate) fn name(&mut self, expected: &str) -> Parsed<Name> {
        let span = self.span();
        let (text, quoted) = match self.peek() {
            Kind::Word(w) => (w.clone(), false),
            Kind::Text(t) => (t.clone(), true),
            _ => return Err(self.unexpected(expected)),
        };
        self.at += 1;
        Ok(Name { text, quoted, span })
    }

    pub(crate) fn integer<T: TryFrom<u64>>(&mut self, expected: &str) -> Parsed<T> {
        let Kind::Number(n) = self.peek() else { return Err(self.unexpected(expected)) };
        let value = n.parse::<u64>().ok().and_then(|n| T::try_from(n).ok());
        let found = value.ok_or_else(|| {
            let most = (1u128 << (8 * size_of::<T>().min(8))) - 1;
            Diagnostic::new(self.span(), format!("expected {expected}, found `{n}`"))
                .with_help(format!("it must be an integer of at most {most}"))
        })?;
        self.at += 1;
        Ok(found)
    }

    /// A literal with its sign.
    pub(crate) fn signed_number(&mut self) -> Parsed<f64> {
        let negative = self.take_mark("-");
        let x = self.number()?;
        Ok(if negative { -x } else { x })
    }

    /// A literal without a sign: a decimal number, `inf` or `nan`.
    pub(crate) fn number(&mut self) -> Parsed<f64> {
        let span = self.span();
        match self.peek().clone() {
            Kind::Word(w) if w == "inf" => {
                self.at += 1;
                Ok(f64::INFINITY)
            }
            Kind::Word(w) if w == "nan" => {
                self.at += 1;
                if !self.take_mark("(") {
                    return Ok(f64::NAN);
                }
                let bits = match self.peek() {
                    Kind::Number(n) => n.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok()),
                    _ => None,
                };
                let value = bits.map(f64::from_bits).filter(|x| x.is_nan());
                let value = value.ok_or_else(|| {
                    Diagnostic::new(self.span(), "these are not the bits of a NaN")
                        .with_help("write `nan`, or nan(0x7ff8000000000001) for particular bits")
                })?;
                self.at += 1;
                self.expect(")")?;
                Ok(value)
            }
            Kind::Number(n) => {
                self.at += 1;
                n.parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(|| {
                    Diagnostic::new(span, format!("`{n}` is not a number in the range of double precision"))
                        .with_help("write `inf` for infinity")
                })
            }
            _ => Err(self.unexpected("a number")),
        }
    }

    pub(crate) fn dtype(&mut self) -> Parsed<DType> {
        let (w, span) = self.word("an element type")?;
        w.parse().map_err(|e: crate::dtype::UnknownDType| Diagnostic::new(span, e.to_string()))
    }

    /// Items between marks, separated by commas; a comma may follow the last.
    pub(crate) fn list<T>(
        &mut self,
        open: &str,
        close: &str,
        mut item: impl FnMut(&mut Cursor) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(open)?;
        let mut out = Vec::new();
        while !self.take_mark(close) {
            out.push(item(self)?);
            if !self.is_mark(close) && !self.take_mark(",") {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
        Ok(out)
    }

    pub(crate) fn extent(&mut self) -> Parsed<Extent> {
        match self.peek() {
            Kind::Number(_) => Ok(Extent::Const(self.integer("an extent")?)),
            Kind::Word(_) => {
                let (w, span) = self.word("an extent")?;
                Ok(Extent::Sym(self.symbol_table.resolve(&w, span)?))
            }
            _ => Err(self.unexpected("an extent (a number or a symbol)")),
        }
    }

    pub(crate) fn dims(&mut self) -> Parsed<Vec<Extent>> {
        self.list("[", "]", Cursor::extent)
    }

    /// `packed [step:count, …]`, if it is there.
    pub(crate) fn packing(&mut self) -> Parsed<Option<Packing>> {
        if !self.take_word("packed") {
            return Ok(None);
        }
        let digits = self.list("[", "]", |c| {
            let step = c.integer("the step of a digit")?;
            c.expect(":")?;
            Ok(Digit { step, count: c.integer("how many values the digit has")? })
        })?;
        Ok(Some(Packing { digits }))
    }

    /// `symbol name: min..=max`, after the word.
    pub(crate) fn symbol(&mut self) -> Parsed<()> {
        let name = self.name("the name of a symbol")?;
        self.expect(":")?;
        let span = self.span();
        let min = self.integer("the smallest value")?;
        self.expect("..=")?;
        let max = self.integer("the largest value")?;
        if min > max {
            return Err(Diagnostic::new(
                span.to(self.last_span()),
                format!("the range of `{}` is empty", name.text),
            ));
        }
        self.symbol_table.declare(&name)?;
        self.symbols.push(SymData { name: name.text, min, max });
        Ok(())
    }

    /// `name=extent`: declares an axis.
    pub(crate) fn axis(
        &mut self,
        axes: &mut PrimaryMap<Axis, AxisData>,
        table: &mut Declared<Axis>,
    ) -> Parsed<Axis> {
        let name = self.name("the name of an axis")?;
        self.expect("=")?;
        let extent = self.extent()?;
        let axis = table.declare(&name)?;
        axes.push(AxisData { name: name.text, extent });
        Ok(axis)
    }

    pub(crate) fn axis_ref(&mut self, table: &Declared<Axis>) -> Parsed<Axis> {
        let (w, span) = self.word("an axis")?;
        table.resolve(&w, span)
    }

    pub(crate) fn axis_list(&mut self, table: &Declared<Axis>) -> Parsed<Vec<Axis>> {
        self.list("[", "]", |c| c.axis_ref(table))
    }

    /// A table, after its word.
    pub(crate) fn table(&mut self) -> Parsed<Table> {
        let (w, span) = self.word("`rotation` or `values`")?;
        match w.as_str() {
            "rotation" => {
                self.expect("(")?;
                let scale = self.signed_number()?;
                self.expect(")")?;
                Ok(Table::Rotation { frequencies: self.list("[", "]", Cursor::signed_number)?, scale })
            }
            "values" => Ok(Table::Values(self.list("[", "]", Cursor::signed_number)?)),
            _ => Err(Diagnostic::new(span, format!("`{w}` is no kind of table"))
                .with_help("tables are `rotation(scale) [frequencies]` and `values [numbers]`")),
        }
    }
}
