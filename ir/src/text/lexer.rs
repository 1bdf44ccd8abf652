//! Tokens of the text form.
//!
//! Post: tokens cover the text in order; the last one is [`Kind::End`].

use crate::diag::{Diagnostic, Span};

/// A token and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// An identifier or a word of the language.
    Word(String),
    /// A number as it is written.
    Number(String),
    /// The contents of a string.
    Text(String),
    /// Punctuation.
    Mark(&'static str),
    End,
}

impl Kind {
    /// How the token is spoken of.
    pub(crate) fn describe(&self) -> String {
        match self {
            Kind::Word(w) => format!("`{w}`"),
            Kind::Number(n) => format!("`{n}`"),
            Kind::Text(_) => "a string".to_owned(),
            Kind::Mark(m) => format!("`{m}`"),
            Kind::End => "the end of the text".to_owned(),
        }
    }
}

/// Longer marks come before their prefixes.
const MARKS: [&str; 32] = [
    "..=", "->", "=>", "==", "!=", "<=", ">=", "//", "(", ")", "[", "]", "{", "}", ",", ":", "<", ">", "=",
    "+", "-", "*", "/", "%", "@", "|", "&", "^", "~", "?", "!", "#",
];

/// Cuts a text into tokens.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, Diagnostic> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        if byte == b';' {
            at = text[at..].find('\n').map_or(bytes.len(), |n| at + n);
            continue;
        }
        let kind = if byte.is_ascii_alphabetic() || byte == b'_' {
            while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'_' | b'.'))
            {
                // Two dots are a range.
                if text[at..].starts_with("..") {
                    break;
                }
                at += 1;
            }
            Kind::Word(text[start..at].to_owned())
        } else if byte.is_ascii_digit() {
            at = number_end(bytes, at);
            Kind::Number(text[start..at].to_owned())
        } else if byte == b'"' {
            let (contents, end) = string(text, start)?;
            at = end;
            Kind::Text(contents)
        } else if let Some(mark) = MARKS.iter().find(|m| text[at..].starts_with(**m)) {
            at += mark.len();
            Kind::Mark(mark)
        } else {
            let c = text[at..].chars().next().unwrap_or(' ');
            let span = Span::new(at, at + c.len_utf8());
            return Err(Diagnostic::new(span, format!("the character {c:?} means nothing here"))
                .with_help("comments start with `;`, names that are no identifiers stand in quotes"));
        };
        out.push(Token { kind, span: Span::new(start, at) });
    }
    out.push(Token { kind: Kind::End, span: Span::at(text.len()) });
    Ok(out)
}

/// The end of a number: digits, a fraction, an exponent; or hexadecimal digits after `0x`.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    if bytes[start] == b'0' && bytes.get(start + 1) == Some(&b'x') {
        let mut at = start + 2;
        while bytes.get(at).is_some_and(u8::is_ascii_hexdigit) {
            at += 1;
        }
        return at;
    }
    let mut at = digits(start);
    if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// The contents of the string that starts at a quote, and its end.
fn string(text: &str, start: usize) -> Result<(String, usize), Diagnostic> {
    let mut out = String::new();
    let mut chars = text[start + 1..].char_indices();
    let place = |i: usize| start + 1 + i;
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((out, place(i) + 1)),
            '\n' => break,
            '\\' => {
                let escape = chars.next().map(|(_, c)| c);
                match escape {
                    Some('"') => out.push('"'),
                    Some('\\') => out.push('\\'),
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('u') => {
                        let rest = &text[place(i) + 2..];
                        let hex = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(h, _)| h);
                        let c = hex
                            .filter(|h| h.len() <= 6)
                            .and_then(|h| u32::from_str_radix(h, 16).ok())
                            .and_then(char::from_u32);
                        let (Some(hex), Some(c)) = (hex, c) else {
                            let span = Span::new(place(i), place(i) + 2);
                            return Err(Diagnostic::new(span, "this escape is no character")
                                .with_help("write \\u{1f} with the number of a character"));
                        };
                        out.push(c);
                        // The digits and both braces are skipped.
                        chars.by_ref().take(hex.len() + 2).for_each(drop);
                    }
                    _ => {
                        let span = Span::new(place(i), place(i) + 1);
                        return Err(Diagnostic::new(span, "unknown escape in a string")
                            .with_help("the escapes are \\\" \\\\ \\n \\r \\t \\u{…}"));
                    }
                }
            }
            c => out.push(c),
        }
    }
    Err(Diagnostic::new(Span::new(start, start + 1), "this string has no end on its line")
        .with_help("close it with `\"`; a line break is written \\n"))
}
