//! What: tokens to a syntax tree: modules, functions and variables; bodies are in `body`.
//! Why here: the grammar of PTX in one place, free of what instructions mean.
//! Pre: tokens from the lexer.
//! Post: a `Module`; every index and every recursion is bounded, so no input can panic.

use super::ast::*;
use super::lexer::{Tok, Token, lex};
use crate::error::PtxError;
use crate::types::Ty;

/// Parses a module.
pub(crate) fn parse(text: &str) -> Result<Module<'_>, PtxError> {
    let tokens = lex(text)?;
    let mut p = Parser { text, tokens, i: 0 };
    let mut m = Module::default();
    p.module(&mut m)?;
    Ok(m)
}

/// A cursor over the tokens.
pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token<'a>>,
    pub(super) i: usize,
}

/// The largest array that we accept: far above what a device could hold.
const MAX_BYTES: u64 = 1 << 40;

impl<'a> Parser<'a> {
    pub(super) fn token(&self) -> Token<'a> {
        self.tokens[self.i.min(self.tokens.len() - 1)]
    }
    pub(super) fn peek(&self) -> Tok<'a> {
        self.token().tok
    }
    pub(super) fn pos(&self) -> Pos {
        self.token().pos
    }
    pub(super) fn next(&mut self) -> Tok<'a> {
        let t = self.peek();
        if self.i + 1 < self.tokens.len() {
            self.i += 1;
        }
        t
    }
    pub(super) fn line_text(&self, at: usize) -> &'a str {
        let rest = self.text.get(at..).unwrap_or("");
        let end = rest.find(['\n', ';']).unwrap_or(rest.len());
        rest.get(..end).unwrap_or("").trim()
    }
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T, PtxError> {
        let t = self.token();
        Err(PtxError {
            line: t.pos.line,
            column: t.pos.column,
            instruction: self.line_text(t.at).chars().take(120).collect(),
            message: message.into(),
        })
    }
    pub(super) fn is(&self, c: u8) -> bool {
        self.peek() == Tok::Punct(c)
    }
    pub(super) fn eat(&mut self, c: u8) -> bool {
        let yes = self.is(c);
        if yes {
            self.next();
        }
        yes
    }
    pub(super) fn expect(&mut self, c: u8) -> Result<(), PtxError> {
        if self.eat(c) { Ok(()) } else { self.fail(format!("expected `{}`", c as char)) }
    }
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, PtxError> {
        match self.peek() {
            Tok::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.fail(format!("expected {what}")),
        }
    }
    pub(super) fn int(&mut self, what: &str) -> Result<u64, PtxError> {
        match self.peek() {
            Tok::Int(v) => {
                self.next();
                Ok(v)
            }
            _ => self.fail(format!("expected {what}")),
        }
    }

    fn module(&mut self, m: &mut Module<'a>) -> Result<(), PtxError> {
        let mut pos = self.pos();
        loop {
            let word = match self.peek() {
                Tok::End => return Ok(()),
                Tok::Word(w) => w,
                Tok::Punct(b';') => {
                    self.next();
                    continue;
                }
                _ => return self.fail("expected a directive"),
            };
            match word {
                ".version" => {
                    self.next();
                    self.next();
                }
                ".target" => {
                    self.next();
                    self.word("a target")?;
                    while self.eat(b',') {
                        self.word("a target")?;
                    }
                }
                ".address_size" => {
                    self.next();
                    if self.int("an address size")? != 64 {
                        return self
                            .fail("only 64-bit addresses are supported: compile for .address_size 64");
                    }
                }
                ".file" => {
                    self.next();
                    let n = self.int("a file number")? as u32;
                    if let Tok::Str(s) = self.next() {
                        m.files.push((n, s.to_owned()));
                    }
                    while self.eat(b',') {
                        self.int("a number")?;
                    }
                }
                ".section" => {
                    self.next();
                    self.word("a section name")?;
                    self.skip_braces()?;
                }
                ".pragma" | ".alias" => self.skip_to_semicolon()?,
                ".visible" | ".weak" | ".common" => {
                    pos = self.pos();
                    self.next();
                }
                ".extern" => {
                    pos = self.pos();
                    self.next();
                }
                ".entry" | ".func" => {
                    self.next();
                    let f = self.func(word == ".entry", pos)?;
                    m.funcs.push(f);
                }
                ".global" | ".const" | ".shared" | ".local" => {
                    self.vars(&mut m.vars)?;
                }
                _ => return self.fail("a directive that this machine does not know"),
            }
        }
    }

    fn skip_braces(&mut self) -> Result<(), PtxError> {
        self.expect(b'{')?;
        let mut depth = 1u32;
        while depth > 0 {
            match self.next() {
                Tok::Punct(b'{') => depth += 1,
                Tok::Punct(b'}') => depth -= 1,
                Tok::End => return self.fail("a section does not end"),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn skip_to_semicolon(&mut self) -> Result<(), PtxError> {
        loop {
            match self.next() {
                Tok::Punct(b';') => return Ok(()),
                Tok::End => return self.fail("expected `;`"),
                _ => {}
            }
        }
    }

    fn func(&mut self, entry: bool, pos: Pos) -> Result<Func<'a>, PtxError> {
        let mut f = Func {
            entry,
            name: "",
            rets: vec![],
            params: vec![],
            body: None,
            reqntid: None,
            maxntid: None,
            cluster: None,
            maxnreg: None,
            pos,
        };
        while let Tok::Word(".attribute") = self.peek() {
            self.next();
            self.skip_parens()?;
        }
        if self.is(b'(') {
            f.rets = self.params()?;
        }
        f.name = self.word("a function name")?;
        if self.is(b'(') {
            f.params = self.params()?;
        }
        loop {
            match self.peek() {
                Tok::Punct(b'{') => {
                    self.next();
                    f.body = Some(self.body()?);
                    return Ok(f);
                }
                Tok::Punct(b';') => {
                    self.next();
                    return Ok(f);
                }
                Tok::Word(d @ (".maxntid" | ".reqntid" | ".reqnctapercluster")) => {
                    self.next();
                    let mut v = [1u32; 3];
                    v[0] = self.int("a number of threads")? as u32;
                    for slot in v.iter_mut().skip(1) {
                        if self.eat(b',') {
                            *slot = self.int("a number of threads")? as u32;
                        }
                    }
                    match d {
                        ".maxntid" => f.maxntid = Some(v),
                        ".reqntid" => f.reqntid = Some(v),
                        _ => f.cluster = Some(v),
                    }
                }
                Tok::Word(".maxnreg") => {
                    self.next();
                    f.maxnreg = Some(self.int("a number of registers")? as u32);
                }
                Tok::Word(".minnctapersm" | ".maxnctapersm" | ".maxclusterrank" | ".abi_preserve") => {
                    self.next();
                    self.int("a number")?;
                }
                Tok::Word(".noreturn" | ".explicitcluster" | ".blocksareclusters") => {
                    self.next();
                }
                Tok::Word(".pragma") => self.skip_to_semicolon()?,
                _ => return self.fail("expected a function body"),
            }
        }
    }

    fn skip_parens(&mut self) -> Result<(), PtxError> {
        self.expect(b'(')?;
        loop {
            match self.next() {
                Tok::Punct(b')') => return Ok(()),
                Tok::End => return self.fail("expected `)`"),
                _ => {}
            }
        }
    }

    pub(super) fn params(&mut self) -> Result<Vec<Var<'a>>, PtxError> {
        self.expect(b'(')?;
        let mut out = vec![];
        while !self.eat(b')') {
            let pos = self.pos();
            let space = self.word("`.param`")?;
            if space != ".param" {
                return self
                    .fail("parameters must be in `.param` space (register parameters are not supported)");
            }
            let v = self.var_type(VarSpace::Param, pos)?;
            let v = self.var_name(&v)?;
            out.push(v);
            if !self.is(b')') {
                self.expect(b',')?;
            }
        }
        Ok(out)
    }

    /// The part of a declaration between its space and its name.
    fn var_type(&mut self, space: VarSpace, pos: Pos) -> Result<Var<'a>, PtxError> {
        let mut v = Var { name: "", space, ty: Ty::Pred, align: 0, bytes: 0, init: vec![], pos };
        let mut lanes = 1u64;
        while let Tok::Word(w) = self.peek() {
            let Some(d) = w.strip_prefix('.') else { break };
            self.next();
            match d {
                "align" => {
                    let a = self.int("an alignment")?;
                    if !a.is_power_of_two() || a > 1 << 20 {
                        return self.fail("an alignment must be a power of two");
                    }
                    v.align = a as u32;
                }
                "ptr" | "global" | "const" | "shared" | "local" | "unified" | "managed" => {}
                "attribute" => self.skip_parens()?,
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "v8" => lanes = 8,
                // These name opaque handles; each is a 64-bit value.
                "texref" | "samplerref" | "surfref" => v.ty = Ty::B64,
                _ => match Ty::parse(d) {
                    Some(t) if t != Ty::Pred => v.ty = t,
                    _ => return self.fail(format!("`.{d}` is not a type of variables")),
                },
            }
        }
        if v.ty == Ty::Pred {
            return self.fail("a declaration without a type");
        }
        v.bytes = u64::from(v.ty.bits() / 8) * lanes;
        if v.align == 0 {
            v.align = v.bytes as u32;
        } else if space == VarSpace::Param && !matches!(v.ty, Ty::B8) {
            // `.ptr .align` speaks of the pointee, not of the parameter.
            v.align = v.align.max(v.bytes as u32).min(v.bytes.next_power_of_two() as u32);
        }
        Ok(v)
    }

    fn var_name(&mut self, like: &Var<'a>) -> Result<Var<'a>, PtxError> {
        let mut v = like.clone();
        v.pos = self.pos();
        v.name = self.word("a name")?;
        if v.name.starts_with('.') {
            return self.fail("expected a name");
        }
        while self.eat(b'[') {
            if self.eat(b']') {
                v.bytes = 0;
                continue;
            }
            let n = self.int("an array length")?;
            v.bytes = v.bytes.saturating_mul(n);
            if v.bytes > MAX_BYTES {
                return self.fail("an array too large for any device");
            }
            self.expect(b']')?;
        }
        if self.eat(b'=') {
            self.init(&mut v.init, 0)?;
            let unit = u64::from(v.ty.bits() / 8);
            let given = v.init.len() as u64 * unit;
            if v.bytes == 0 {
                v.bytes = given;
            }
            if given > v.bytes {
                return self.fail("more initialisers than the array holds");
            }
        }
        Ok(v)
    }

    pub(super) fn vars(&mut self, out: &mut Vec<Var<'a>>) -> Result<(), PtxError> {
        let pos = self.pos();
        let space = match self.word("a state space")? {
            ".global" => VarSpace::Global,
            ".const" => VarSpace::Const,
            ".shared" => VarSpace::Shared,
            ".param" => VarSpace::Param,
            _ => VarSpace::Local,
        };
        let like = self.var_type(space, pos)?;
        loop {
            let v = self.var_name(&like)?;
            out.push(v);
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b';')
    }

    fn init(&mut self, out: &mut Vec<Init<'a>>, depth: u32) -> Result<(), PtxError> {
        if depth > 16 {
            return self.fail("initialisers nested too deeply");
        }
        if self.eat(b'{') {
            while !self.eat(b'}') {
                self.init(out, depth + 1)?;
                if !self.is(b'}') {
                    self.expect(b',')?;
                }
            }
            return Ok(());
        }
        let neg = self.eat(b'-');
        match self.next() {
            Tok::Int(v) => out.push(Init::Int(if neg { v.wrapping_neg() } else { v })),
            Tok::F32(v) => out.push(Init::F32(if neg { v ^ 1 << 31 } else { v })),
            Tok::F64(v) => out.push(Init::F64(if neg { v ^ 1 << 63 } else { v })),
            Tok::Word("generic") => {
                self.expect(b'(')?;
                let name = self.word("a symbol")?;
                self.expect(b')')?;
                let offset = self.offset()?;
                out.push(Init::Symbol { name, offset });
            }
            Tok::Word(name) => {
                let offset = self.offset()?;
                out.push(Init::Symbol { name, offset });
            }
            _ => return self.fail("expected an initialiser"),
        }
        Ok(())
    }

    /// An optional `+ n` or `- n`.
    pub(super) fn offset(&mut self) -> Result<i64, PtxError> {
        let sign = if self.eat(b'+') {
            if self.eat(b'-') { -1 } else { 1 }
        } else if self.eat(b'-') {
            -1
        } else {
            return Ok(0);
        };
        Ok((self.int("an offset")? as i64).wrapping_mul(sign))
    }
}
