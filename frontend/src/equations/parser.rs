//! Text to syntax tree.
//!
//! Why here: one recursive-descent parser whose functions mirror the grammar in GRAMMAR.md, rule by rule.
//!
//! Pre: any text. Post: statements in source order, or the first syntax error with its span. Nesting is limited so
//! that no input can exhaust the stack.

use tilewright_ir::Binary;
use tilewright_ir::diag::{Diagnostic, Span};

use super::ast::{AxisDecl, Call, Decl, Definition, FnDef, Kind, MAX_DEPTH, Name, Node, Size, Slot, Stmt};
use super::lexer::{Tok, tokens};

type Parse<T> = Result<T, Diagnostic>;

/// Deepest nesting of brackets; each level takes a dozen stack frames.
const MAX_NESTING: usize = 64;

/// Longest text; far beyond any hand-written equation, and a bound on everything that follows.
const MAX_TEXT: usize = 1 << 20;

/// Reductions that may be written as a prefix: `sum[d] a[d] * b[d]`. Only primitives, since `mean[d]` may be an array.
const PREFIX: [&str; 3] = ["sum", "max", "min"];

struct Parser {
    toks: Vec<(Tok, Span)>,
    at: usize,
    depth: usize,
}

/// Parses a text of statements.
pub(super) fn parse(text: &str) -> Parse<Vec<Stmt>> {
    if text.len() > MAX_TEXT {
        return Err(Diagnostic::new(Span::new(0, 0), format!("the text is longer than {MAX_TEXT} bytes")));
    }
    let mut p = Parser { toks: tokens(text)?, at: 0, depth: 0 };
    let mut out = Vec::new();
    loop {
        while p.eat_sep() {}
        if *p.peek() == Tok::End {
            return Ok(out);
        }
        p.statement(&mut out)?;
        if *p.peek() != Tok::End && !p.eat_sep() {
            return Err(p.unexpected("an operator, `;` or a new line"));
        }
    }
}

impl Parser {
    fn peek(&self) -> &Tok {
        &self.toks[self.at].0
    }

    fn peek_second(&self) -> &Tok {
        &self.toks[(self.at + 1).min(self.toks.len() - 1)].0
    }

    fn span(&self) -> Span {
        self.toks[self.at].1
    }

    fn last_end(&self) -> usize {
        self.toks[self.at.saturating_sub(1)].1.end
    }

    fn bump(&mut self) -> (Tok, Span) {
        let t = self.toks[self.at].clone();
        if self.at + 1 < self.toks.len() {
            self.at += 1;
        }
        t
    }

    fn eat_sep(&mut self) -> bool {
        let hit = *self.peek() == Tok::Sep;
        if hit {
            self.bump();
        }
        hit
    }

    fn is(&self, sym: &str) -> bool {
        matches!(self.peek(), Tok::Sym(s) if *s == sym)
    }

    fn eat(&mut self, sym: &str) -> bool {
        let hit = self.is(sym);
        if hit {
            self.bump();
        }
        hit
    }

    fn expect(&mut self, sym: &str) -> Parse<Span> {
        let span = self.span();
        if self.eat(sym) { Ok(span) } else { Err(self.unexpected(&format!("`{sym}`"))) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Tok::Name(n) if n == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let hit = self.is_word(word);
        if hit {
            self.bump();
        }
        hit
    }

    fn unexpected(&self, wanted: &str) -> Diagnostic {
        Diagnostic::new(self.span(), format!("expected {wanted}, found {}", self.peek().describe()))
    }

    fn name(&mut self, what: &str) -> Parse<Name> {
        match self.peek().clone() {
            Tok::Name(text) if !is_keyword(&text) => {
                let (_, span) = self.bump();
                Ok(Name { text, span })
            }
            Tok::Name(text) => {
                Err(Diagnostic::new(self.span(), format!("`{text}` is a keyword and cannot name {what}")))
            }
            _ => Err(self.unexpected(what)),
        }
    }

    fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth >= MAX_NESTING {
            let message = format!("the expression is nested deeper than {MAX_NESTING} levels");
            return Err(Diagnostic::new(self.span(), message)
                .with_help("name parts of it in statements of their own"));
        }
        self.depth += 1;
        let r = f(self);
        self.depth -= 1;
        r
    }

    // Statements.

    fn statement(&mut self, out: &mut Vec<Stmt>) -> Parse<()> {
        if self.is_word("fn") {
            out.push(Stmt::Fn(self.fn_def()?));
            return Ok(());
        }
        // `axis` is no keyword: it declares axes only where another name follows.
        if self.is_word("axis") && matches!(self.peek_second(), Tok::Name(_)) {
            self.bump();
            let mut axes = vec![self.axis_decl()?];
            while self.eat(",") {
                axes.push(self.axis_decl()?);
            }
            out.push(Stmt::Axes(axes));
            return Ok(());
        }
        let name = self.name("a statement: a declaration `X: f32[i=4]` or a definition `O[i] = ...`")?;
        if self.eat_word("in") {
            let (min, max) = self.range()?;
            out.push(Stmt::Range(name, min, max));
        } else if self.eat(":") {
            let decl = self.decl(name)?;
            let init = if self.eat("=") { Some(self.expr()?) } else { None };
            let (name, axes) = (decl.name.clone(), decl.axes.clone().unwrap_or_default());
            out.push(Stmt::Decl(decl));
            if let Some(body) = init {
                let axes = axes.into_iter().map(|a| a.name).collect();
                out.push(Stmt::Define(Definition { name, axes, body }));
            }
        } else {
            let axes = if self.eat("[") { self.names("]", "an axis")? } else { Vec::new() };
            if !self.is("=") {
                return Err(self.unexpected(&format!("`=` after `{}`", name.text)));
            }
            self.bump();
            let body = self.expr()?;
            out.push(Stmt::Define(Definition { name, axes, body }));
        }
        Ok(())
    }

    fn integer(&mut self, what: &str) -> Parse<u64> {
        match *self.peek() {
            Tok::Int(n) => {
                self.bump();
                Ok(n)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    fn range(&mut self) -> Parse<(u64, u64)> {
        let start = self.span();
        let min = self.integer("the smallest value of the symbol")?;
        if !self.eat("..") && !self.eat("..=") {
            return Err(self.unexpected("`..` and the largest value"));
        }
        let max = self.integer("the largest value of the symbol")?;
        if max < min {
            let span = Span::new(start.start, self.last_end());
            return Err(Diagnostic::new(span, format!("the range {min}..{max} is empty")));
        }
        Ok((min, max))
    }

    fn decl(&mut self, name: Name) -> Parse<Decl> {
        let mut dtype = None;
        let constant = self.eat_word("const");
        if let Tok::Name(text) = self.peek().clone() {
            let span = self.span();
            dtype = Some(text.parse().map_err(|e| Diagnostic::new(span, format!("{e}")))?);
            self.bump();
        } else if !constant && !self.is("[") {
            return Err(self.unexpected("a dtype or `[`"));
        }
        let axes = if self.eat("[") {
            let mut axes = Vec::new();
            while !self.eat("]") {
                axes.push(self.axis_decl()?);
                if !self.is("]") {
                    self.expect(",")?;
                }
            }
            Some(axes)
        } else {
            None
        };
        Ok(Decl { name, constant, dtype, axes })
    }

    fn axis_decl(&mut self) -> Parse<AxisDecl> {
        let name = self.name("an axis")?;
        if !self.eat("=") {
            return Ok(AxisDecl { name, size: None });
        }
        let span = self.span();
        let size = match self.peek().clone() {
            Tok::Int(n) => {
                self.bump();
                Size::Const(n)
            }
            _ => Size::Sym(self.name("an extent: a number or a symbol")?.text),
        };
        Ok(AxisDecl { name, size: Some((size, span)) })
    }

    fn names(&mut self, close: &'static str, what: &str) -> Parse<Vec<Name>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            out.push(self.name(what)?);
            if !self.is(close) {
                self.expect(",")?;
            }
        }
        Ok(out)
    }

    fn fn_def(&mut self) -> Parse<FnDef> {
        self.bump();
        let name = self.name("a function")?;
        let axes = if self.eat("[") { self.names("]", "an axis parameter")? } else { Vec::new() };
        self.expect("(")?;
        let mut params = Vec::new();
        while !self.eat(")") {
            let param = self.name("a parameter")?;
            let default = if self.eat("=") { Some(self.expr()?) } else { None };
            params.push((param, default));
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        self.expect("=")?;
        let body = self.expr()?;
        let mut properties = Vec::new();
        if self.eat_word("where") {
            loop {
                properties.push(self.property()?);
                if !self.eat(",") {
                    break;
                }
            }
        }
        Ok(FnDef { name, axes, params, body, properties })
    }

    fn property(&mut self) -> Parse<(Node, Node)> {
        // Sums bind tighter than the equality sign, so both sides are read at that level.
        let left = self.nested(Self::additive)?;
        if !self.eat("=") && !self.eat("==") {
            return Err(self.unexpected("`=` of a property such as `f(a+b) = f(a)*f(b)`"));
        }
        let right = self.nested(Self::additive)?;
        Ok((left, right))
    }

    // Expressions, loosest binding first.

    fn expr(&mut self) -> Parse<Node> {
        let node = self.nested(Self::disjunction)?;
        self.checked(node)
    }

    /// The node, unless it makes a tree too deep to walk (a long chain of operators leans to the left).
    fn checked(&self, node: Node) -> Parse<Node> {
        if node.depth <= MAX_DEPTH {
            return Ok(node);
        }
        let message = format!("the expression has more than {MAX_DEPTH} levels");
        Err(Diagnostic::new(node.span, message).with_help("group it with parentheses or name parts of it"))
    }

    fn infix(&mut self, ops: &[(&'static str, Binary)], next: fn(&mut Self) -> Parse<Node>) -> Parse<Node> {
        let mut left = next(self)?;
        'more: loop {
            for &(sym, op) in ops {
                let hit =
                    if sym.starts_with(char::is_alphabetic) { self.eat_word(sym) } else { self.eat(sym) };
                if hit {
                    let right = next(self)?;
                    let span = left.span.to(right.span);
                    left =
                        self.checked(Node::new(Kind::Binary(op, Box::new(left), Box::new(right)), span))?;
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn disjunction(&mut self) -> Parse<Node> {
        self.infix(&[("or", Binary::Or)], Self::conjunction)
    }

    fn conjunction(&mut self) -> Parse<Node> {
        self.infix(&[("and", Binary::And)], Self::negation)
    }

    fn negation(&mut self) -> Parse<Node> {
        let start = self.span();
        if self.eat_word("not") {
            let x = self.nested(Self::negation)?;
            let span = start.to(x.span);
            return Ok(Node::new(Kind::Not(Box::new(x)), span));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parse<Node> {
        const OPS: [(&str, Binary); 6] = [
            ("<=", Binary::Le),
            (">=", Binary::Ge),
            ("==", Binary::Eq),
            ("!=", Binary::Ne),
            ("<", Binary::Lt),
            (">", Binary::Gt),
        ];
        let left = self.additive()?;
        for (sym, op) in OPS {
            if self.eat(sym) {
                let right = self.additive()?;
                if OPS.iter().any(|(s, _)| self.is(s)) {
                    return Err(Diagnostic::new(self.span(), "comparisons do not chain")
                        .with_help("write `a < b and b < c`"));
                }
                let span = left.span.to(right.span);
                return Ok(Node::new(Kind::Binary(op, Box::new(left), Box::new(right)), span));
            }
        }
        Ok(left)
    }

    fn additive(&mut self) -> Parse<Node> {
        self.infix(&[("+", Binary::Add), ("-", Binary::Sub)], Self::product)
    }

    fn product(&mut self) -> Parse<Node> {
        const OPS: [(&str, Binary); 4] =
            [("*", Binary::Mul), ("//", Binary::FloorDiv), ("/", Binary::Div), ("%", Binary::Mod)];
        self.infix(&OPS, Self::unary)
    }

    fn unary(&mut self) -> Parse<Node> {
        let start = self.span();
        if self.eat("-") {
            let x = self.nested(Self::unary)?;
            let span = start.to(x.span);
            return Ok(Node::new(Kind::Neg(Box::new(x)), span));
        }
        if self.eat("+") {
            return self.nested(Self::unary);
        }
        let base = self.atom()?;
        if self.eat("**") {
            let exponent = self.nested(Self::unary)?;
            let span = base.span.to(exponent.span);
            return Ok(Node::new(Kind::Power(Box::new(base), Box::new(exponent)), span));
        }
        Ok(base)
    }

    fn atom(&mut self) -> Parse<Node> {
        let span = self.span();
        match self.peek().clone() {
            Tok::Int(n) => {
                self.bump();
                Ok(Node::new(Kind::Num(n as f64, true), span))
            }
            Tok::Float(x) => {
                self.bump();
                Ok(Node::new(Kind::Num(x, false), span))
            }
            Tok::Sym("(") => {
                self.bump();
                let mut inner = self.expr()?;
                self.expect(")")?;
                inner.span = Span::new(span.start, self.last_end());
                Ok(inner)
            }
            Tok::Sym("{") => self.nested(Self::block),
            Tok::Name(n) if n == "inf" => {
                self.bump();
                Ok(Node::new(Kind::Num(f64::INFINITY, false), span))
            }
            // `where` starts a property only where an expression has ended, never here.
            Tok::Name(n) if n == "where" => {
                self.bump();
                let callee = Name { text: n, span };
                if !self.is("(") {
                    return Err(self.unexpected("`(condition, then, otherwise)` after `where`"));
                }
                self.call(callee, None)
            }
            Tok::Name(_) => self.named(),
            _ => Err(self.unexpected("an expression")),
        }
    }

    /// A name, an access or a call.
    fn named(&mut self) -> Parse<Node> {
        let name = self.name("an expression")?;
        if self.is("(") {
            return self.call(name, None);
        }
        if !self.is("[") {
            let span = name.span;
            return Ok(Node::new(Kind::Name(name.text), span));
        }
        self.bump();
        let mut slots = Vec::new();
        while !self.eat("]") {
            slots.push(self.slot()?);
            if !self.is("]") {
                self.expect(",")?;
            }
        }
        let span = Span::new(name.span.start, self.last_end());
        let prefix = PREFIX.contains(&name.text.as_str());
        if !self.is("(") && !prefix {
            return Ok(Node::new(Kind::Index(name, slots), span));
        }
        let mut axes = Vec::new();
        for slot in &slots {
            axes.push(slot.plain().ok_or_else(|| {
                Diagnostic::new(slot.index.span, format!("`{}[...]` takes names of axes", name.text))
            })?);
        }
        if self.is("(") {
            return self.call(name, Some(axes));
        }
        let body = self.nested(Self::product)?;
        let span = Span::new(name.span.start, self.last_end());
        let call = Call { callee: name, axes: Some(axes), args: vec![body], named: Vec::new() };
        Ok(Node::new(Kind::Call(call), span))
    }

    fn slot(&mut self) -> Parse<Slot> {
        let axis = match (self.peek(), self.peek_second()) {
            (Tok::Name(_), Tok::Sym(":=")) => {
                let name = self.name("an axis")?;
                self.bump();
                Some(name)
            }
            _ => None,
        };
        Ok(Slot { axis, index: self.expr()? })
    }

    fn call(&mut self, callee: Name, axes: Option<Vec<Name>>) -> Parse<Node> {
        self.expect("(")?;
        let (mut args, mut named) = (Vec::new(), Vec::new());
        while !self.eat(")") {
            if let (Tok::Name(_), Tok::Sym("=")) = (self.peek(), self.peek_second()) {
                let name = self.name("a parameter")?;
                self.bump();
                named.push((name, self.expr()?));
            } else if named.is_empty() {
                args.push(self.expr()?);
            } else {
                return Err(self.unexpected("`name = value`, as after another named argument"));
            }
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        let span = Span::new(callee.span.start, self.last_end());
        Ok(Node::new(Kind::Call(Call { callee, axes, args, named }), span))
    }

    fn block(&mut self) -> Parse<Node> {
        let start = self.expect("{")?;
        let mut lets = Vec::new();
        loop {
            while self.eat_sep() {}
            if let (Tok::Name(_), Tok::Sym("=")) = (self.peek(), self.peek_second()) {
                let name = self.name("a local name")?;
                self.bump();
                lets.push((name, self.expr()?));
                if !self.eat_sep() {
                    return Err(self.unexpected("`;` after a local definition"));
                }
                continue;
            }
            let result = self.expr()?;
            while self.eat_sep() {}
            self.expect("}")?;
            let span = Span::new(start.start, self.last_end());
            return Ok(Node::new(Kind::Block(lets, Box::new(result)), span));
        }
    }
}

/// Words that cannot name anything.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(word, "fn" | "in" | "and" | "or" | "not" | "inf" | "where")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_take_a_product_without_parentheses() {
        let with = parse("O[i] = (sum[d](a[i,d] * b[d])) + c[i]").expect("parses");
        let without = parse("O[i] = sum[d] a[i,d] * b[d] + c[i]").expect("parses");
        let shape = |s: &[Stmt]| match &s[0] {
            Stmt::Define(d) => match &d.body.kind {
                Kind::Binary(Binary::Add, l, _) => matches!(&l.kind, Kind::Call(c) if c.callee.text == "sum"),
                _ => false,
            },
            _ => false,
        };
        assert!(shape(&with) && shape(&without));
    }

    #[test]
    fn malformed_texts_are_diagnosed_at_the_right_place() {
        for (text, at) in [
            ("O[i] = ", 7),
            ("O[i] = a[i", 10),
            ("O[i] a[i]", 5),
            ("O[i] = a[i] b[i]", 12),
            ("Q: f33[i]", 3),
            ("s in 5..2", 5),
            ("O[i] = 0 < a[i] < 2", 16),
            ("fn f(x = 3", 10),
            ("O[i] = sum[i+1](a[i])", 11),
            ("inf = 3", 0),
        ] {
            let e = parse(text).expect_err(text);
            assert_eq!(e.span.map(|s| s.start), Some(at), "{text}: {e:?}");
        }
    }

    #[test]
    fn nesting_and_long_chains_end_in_a_diagnostic() {
        let deep = format!("O = {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(parse(&deep).is_err());
        let chain = format!("O = 1{}", "+1".repeat(5000));
        assert!(parse(&chain).is_err());
        let minus = format!("O = {}1", "-".repeat(5000));
        assert!(parse(&minus).is_err());
    }
}
