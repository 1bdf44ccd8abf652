//! What: the bodies of functions: statements, instructions and operands.
//! Why here: the half of the grammar in which instructions live.
//! Pre: a cursor behind the opening brace.
//! Post: statements in order, scopes as `Open` and `Close`.

use super::ast::*;
use super::lexer::Tok;
use super::parser::Parser;
use crate::error::PtxError;
use crate::types::Ty;

/// The largest register range that we accept: far above what a kernel could use.
const MAX_REGS: u64 = 1 << 20;

impl<'a> Parser<'a> {
    pub(super) fn body(&mut self) -> Result<Vec<Stmt<'a>>, PtxError> {
        let mut out = vec![];
        let mut depth = 0u32;
        loop {
            let pos = self.pos();
            match self.peek() {
                Tok::End => return self.fail("a function body does not end"),
                Tok::Punct(b'{') => {
                    self.next();
                    depth += 1;
                    out.push(Stmt::Open);
                }
                Tok::Punct(b'}') => {
                    self.next();
                    if depth == 0 {
                        return Ok(out);
                    }
                    depth -= 1;
                    out.push(Stmt::Close);
                }
                Tok::Punct(b';') => {
                    self.next();
                }
                Tok::Word(".reg") => {
                    self.next();
                    self.regs(&mut out)?;
                }
                Tok::Word(".loc") => {
                    self.next();
                    let mut file = self.int("a file number")? as u32;
                    let mut line = self.int("a line")? as u32;
                    self.int("a column")?;
                    while self.eat(b',') {
                        if self.word("`function_name` or `inlined_at`")? == "inlined_at" {
                            // The caller's line says more than that of an inlined function.
                            file = self.int("a file number")? as u32;
                            line = self.int("a line")? as u32;
                            self.int("a column")?;
                            continue;
                        }
                        while let Tok::Word(_) | Tok::Int(_) | Tok::Punct(b'+') = self.peek() {
                            // The attributes of `.loc` are words and numbers on the same line.
                            if self.pos().line != pos.line {
                                break;
                            }
                            self.next();
                        }
                    }
                    out.push(Stmt::Loc { file, line });
                }
                Tok::Word(".shared" | ".local" | ".param" | ".global" | ".const") => {
                    let mut v = vec![];
                    self.vars(&mut v)?;
                    out.extend(v.into_iter().map(Stmt::Var));
                }
                Tok::Word(".extern") => {
                    self.next();
                    let mut v = vec![];
                    self.vars(&mut v)?;
                    out.extend(v.into_iter().map(Stmt::Var));
                }
                Tok::Word(".pragma") => self.skip_to_semicolon()?,
                Tok::Word(".callprototype") => {
                    self.next();
                    let rets = if self.is(b'(') { self.params()? } else { vec![] };
                    self.word("`_`")?;
                    let params = if self.is(b'(') { self.params()? } else { vec![] };
                    self.skip_to_semicolon()?;
                    out.push(Stmt::Prototype { rets, params });
                }
                Tok::Word(".branchtargets" | ".calltargets") => {
                    self.next();
                    let mut targets = vec![];
                    loop {
                        targets.push(self.word("a label or a function")?);
                        if !self.eat(b',') {
                            break;
                        }
                    }
                    self.expect(b';')?;
                    out.push(Stmt::Targets(targets));
                }
                Tok::Word(w) if w.starts_with('.') => {
                    return self.fail("a directive that this machine does not know");
                }
                _ => {
                    if let Some(label) = self.label() {
                        out.push(Stmt::Label(label, pos));
                    } else {
                        let inst = self.inst()?;
                        out.push(Stmt::Inst(inst));
                    }
                }
            }
        }
    }

    fn label(&mut self) -> Option<&'a str> {
        let Tok::Word(w) = self.peek() else { return None };
        if self.tokens.get(self.i + 1).map(|t| t.tok) == Some(Tok::Punct(b':')) {
            self.i += 2;
            return Some(w);
        }
        None
    }

    fn regs(&mut self, out: &mut Vec<Stmt<'a>>) -> Result<(), PtxError> {
        let mut word = self.word("a type")?;
        if matches!(word, ".v2" | ".v4") {
            return self.fail("vector registers are not supported: declare scalars");
        }
        if word == ".align" {
            self.int("an alignment")?;
            word = self.word("a type")?;
        }
        let Some(ty) = word.strip_prefix('.').and_then(Ty::parse) else {
            return self.fail("not a register type");
        };
        loop {
            let pos = self.pos();
            let name = self.word("a register name")?;
            let mut count = None;
            if self.eat(b'<') {
                let n = self.int("a number of registers")?;
                if n > MAX_REGS {
                    return self.fail("too many registers");
                }
                count = Some(n as u32);
                self.expect(b'>')?;
            }
            out.push(Stmt::Regs { ty, name, count, pos });
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b';')
    }

    fn inst(&mut self) -> Result<RawInst<'a>, PtxError> {
        let start = self.token();
        let mut guard = None;
        if self.eat(b'@') {
            let neg = self.eat(b'!');
            guard = Some((self.word("a predicate")?, neg));
        }
        let op_token = self.token();
        let op = self.word("an instruction")?;
        let mut operands = vec![];
        if !self.is(b';') {
            loop {
                operands.push(self.operand(0)?);
                if !self.eat(b',') {
                    // `call (ret), f, (args)` and friends separate by commas only; anything else ends here.
                    break;
                }
            }
        }
        let end = self.token().at;
        self.expect(b';')?;
        let text = self.text.get(start.at..end).unwrap_or("").trim();
        Ok(RawInst { guard, op, operands, pos: op_token.pos, text })
    }

    fn operand(&mut self, depth: u32) -> Result<Operand<'a>, PtxError> {
        if depth > 8 {
            return self.fail("operands nested too deeply");
        }
        let first = match self.peek() {
            Tok::Word(w) => {
                self.next();
                if matches!(self.peek(), Tok::Punct(b'+')) {
                    let off = self.offset()?;
                    Operand::SymbolOffset(w, off)
                } else {
                    Operand::Word(w)
                }
            }
            Tok::Int(v) => {
                self.next();
                Operand::Int(i128::from(v))
            }
            Tok::F32(v) => {
                self.next();
                Operand::F32(v)
            }
            Tok::F64(v) => {
                self.next();
                Operand::F64(v)
            }
            Tok::Punct(b'-') => {
                self.next();
                match self.next() {
                    Tok::Int(v) => Operand::Int(-i128::from(v)),
                    Tok::F32(v) => Operand::F32(v ^ 1 << 31),
                    Tok::F64(v) => Operand::F64(v ^ 1 << 63),
                    _ => return self.fail("expected a number after `-`"),
                }
            }
            Tok::Punct(b'!') => {
                self.next();
                Operand::Not(Box::new(self.operand(depth + 1)?))
            }
            Tok::Punct(b'{') => {
                self.next();
                Operand::Vec(self.list(b'}', depth)?)
            }
            Tok::Punct(b'(') => {
                self.next();
                Operand::List(self.list(b')', depth)?)
            }
            Tok::Punct(b'[') => {
                self.next();
                let (base, offset) = match self.peek() {
                    Tok::Word(w) => {
                        self.next();
                        (Some(w), self.offset()?)
                    }
                    Tok::Int(v) => {
                        self.next();
                        (None, v as i64)
                    }
                    _ => return self.fail("expected an address"),
                };
                let rest = if self.eat(b',') { self.list(b']', depth)? } else { vec![] };
                if rest.is_empty() {
                    self.expect(b']')?;
                }
                Operand::Addr { base, offset, rest }
            }
            _ => return self.fail("expected an operand"),
        };
        if self.eat(b'|') {
            let second = self.operand(depth + 1)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn list(&mut self, close: u8, depth: u32) -> Result<Vec<Operand<'a>>, PtxError> {
        let mut out = vec![];
        while !self.eat(close) {
            out.push(self.operand(depth + 1)?);
            if !self.is(close) {
                self.expect(b',')?;
            }
        }
        Ok(out)
    }
}
