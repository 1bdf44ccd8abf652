//! What: PTX text to tokens.
//! Why here: words of PTX contain dots and double colons, which is easiest to settle once.
//! Pre: any text.
//! Post: tokens that borrow from the text and know their place; bad characters are errors.

use super::ast::Pos;
use crate::error::PtxError;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tok<'a> {
    /// An identifier, directive or opcode, dots included.
    Word(&'a str),
    Int(u64),
    F32(u32),
    F64(u64),
    Str(&'a str),
    Punct(u8),
    End,
}

/// A token, its place and its byte offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) tok: Tok<'a>,
    pub(crate) pos: Pos,
    pub(crate) at: usize,
}

fn error(pos: Pos, text: &str, message: impl Into<String>) -> PtxError {
    PtxError {
        line: pos.line,
        column: pos.column,
        instruction: text.chars().take(80).collect(),
        message: message.into(),
    }
}

/// Number of bytes of a word at the start of `s`.
fn word_len(s: &[u8]) -> usize {
    let mut i = 0;
    while let Some(&c) = s.get(i) {
        let more = c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'.' | b'%');
        if more {
            i += 1;
        } else if c == b':' && s.get(i + 1) == Some(&b':') {
            i += 2;
        } else {
            break;
        }
    }
    i
}

fn number(word: &str) -> Option<Tok<'static>> {
    let body = word.strip_suffix('U').unwrap_or(word);
    let b = body.as_bytes();
    if b.len() > 2 && b[0] == b'0' {
        let rest = body.get(2..)?;
        match b[1] {
            b'f' | b'F' => return u32::from_str_radix(rest, 16).ok().map(Tok::F32),
            b'd' | b'D' => return u64::from_str_radix(rest, 16).ok().map(Tok::F64),
            b'x' | b'X' => return u64::from_str_radix(rest, 16).ok().map(Tok::Int),
            b'b' | b'B' => return u64::from_str_radix(rest, 2).ok().map(Tok::Int),
            _ => {}
        }
    }
    if b.iter().any(|c| matches!(c, b'.' | b'e' | b'E')) {
        return body.parse::<f64>().ok().map(|f| Tok::F64(f.to_bits()));
    }
    if b.len() > 1 && b[0] == b'0' {
        return u64::from_str_radix(body.get(1..)?, 8).ok().map(Tok::Int);
    }
    body.parse::<u64>().ok().map(Tok::Int)
}

/// Splits the text into tokens; the last one is `End`.
pub(crate) fn lex(text: &str) -> Result<Vec<Token<'_>>, PtxError> {
    let s = text.as_bytes();
    let mut out = Vec::with_capacity(s.len() / 4 + 1);
    let (mut i, mut line, mut start) = (0usize, 1u32, 0usize);
    while i < s.len() {
        let c = s[i];
        let pos = Pos { line, column: (i - start) as u32 + 1 };
        match c {
            b'\n' => {
                line += 1;
                i += 1;
                start = i;
            }
            b' ' | b'\t' | b'\r' | 0 => i += 1,
            b'/' if s.get(i + 1) == Some(&b'/') => {
                while i < s.len() && s[i] != b'\n' {
                    i += 1;
                }
            }
            b'/' if s.get(i + 1) == Some(&b'*') => {
                i += 2;
                while i < s.len() && !(s[i] == b'*' && s.get(i + 1) == Some(&b'/')) {
                    if s[i] == b'\n' {
                        line += 1;
                        start = i + 1;
                    }
                    i += 1;
                }
                i = (i + 2).min(s.len());
            }
            b'"' => {
                let from = i + 1;
                i += 1;
                while i < s.len() && s[i] != b'"' && s[i] != b'\n' {
                    i += 1;
                }
                if s.get(i) != Some(&b'"') {
                    return Err(error(pos, "\"", "a string does not end on its line"));
                }
                out.push(Token { tok: Tok::Str(text.get(from..i).unwrap_or("")), pos, at: from });
                i += 1;
            }
            b'0'..=b'9' => {
                let n = word_len(&s[i..]);
                let word = text.get(i..i + n).unwrap_or("");
                let tok = number(word).ok_or_else(|| error(pos, word, "not a number"))?;
                out.push(Token { tok, pos, at: i });
                i += n;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'.' | b'%' => {
                let mut n = word_len(&s[i..]);
                if c == b'.' {
                    // `.reg.b32` is a directive and a type: only opcodes contain dots.
                    n = s[i + 1..i + n].iter().position(|c| *c == b'.').map_or(n, |dot| dot + 1);
                }
                out.push(Token { tok: Tok::Word(text.get(i..i + n).unwrap_or("")), pos, at: i });
                i += n;
            }
            b'{' | b'}' | b'(' | b')' | b'[' | b']' | b'<' | b'>' | b',' | b';' | b':' | b'=' | b'+'
            | b'-' | b'!' | b'|' | b'@' => {
                out.push(Token { tok: Tok::Punct(c), pos, at: i });
                i += 1;
            }
            _ => {
                let ch: String =
                    String::from_utf8_lossy(&s[i..(i + 4).min(s.len())]).chars().take(1).collect();
                return Err(error(pos, &ch, "a character that PTX does not use"));
            }
        }
    }
    let pos = Pos { line, column: (i - start) as u32 + 1 };
    out.push(Token { tok: Tok::End, pos, at: s.len() });
    Ok(out)
}
