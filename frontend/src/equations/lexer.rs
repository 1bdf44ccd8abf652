//! Tokens of the equation language.
//!
//! Why here: line ends separate statements, but not inside brackets and not where a line plainly goes on; deciding
//! that on tokens keeps the parser free of whitespace.
//!
//! Pre: any text. Post: tokens with byte spans, ended by exactly one [`Tok::End`]; or a diagnostic that points at the
//! first character that belongs to no token.

use tilewright_ir::diag::{Diagnostic, Span};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok {
    /// A name or keyword.
    Name(String),
    /// A literal without a fractional part or exponent.
    Int(u64),
    /// Any other literal.
    Float(f64),
    /// An operator or bracket.
    Sym(&'static str),
    /// `;` or a line end that separates statements.
    Sep,
    /// The end of the text.
    End,
}

impl Tok {
    /// How the token is named in messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Tok::Name(n) => format!("`{n}`"),
            Tok::Int(n) => format!("`{n}`"),
            Tok::Float(x) => format!("`{x}`"),
            Tok::Sym(s) => format!("`{s}`"),
            Tok::Sep => "the end of the statement".to_owned(),
            Tok::End => "the end of the text".to_owned(),
        }
    }
}

/// Symbols, longest first so that the first match is the right one.
const SYMBOLS: [&str; 25] = [
    "..=", "**", "//", "<=", ">=", "==", "!=", ":=", "..", "+", "-", "*", "/", "%", "<", ">", "=", ":", ",",
    "(", ")", "[", "]", "{", "}",
];

/// Symbols after which a statement cannot end.
fn continues(sym: &str) -> bool {
    !matches!(sym, ")" | "]" | "}")
}

/// Splits the text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<(Tok, Span)>, Diagnostic> {
    let mut raw: Vec<(Tok, Span)> = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, Vec::new());
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                at += 1;
                // Inside parentheses and brackets a line end is only space; inside braces it separates.
                if open.last().is_none_or(|&c| c == '{') {
                    raw.push((Tok::Sep, Span::new(start, at)));
                }
            }
            b';' => {
                at += 1;
                raw.push((Tok::Sep, Span::new(start, at)));
            }
            b' ' | b'\t' | b'\r' => at += 1,
            b'#' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            c if c.is_ascii_alphabetic() || c == b'_' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                raw.push((Tok::Name(text[start..at].to_owned()), Span::new(start, at)));
            }
            c if c.is_ascii_digit() || (c == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)) => {
                at = number_end(bytes, at);
                raw.push((number(&text[start..at], Span::new(start, at))?, Span::new(start, at)));
            }
            _ => {
                let rest = &text[at..];
                let Some(sym) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) else {
                    let c = rest.chars().next().unwrap_or(' ');
                    let span = Span::new(at, at + c.len_utf8());
                    let message = format!("unexpected character `{}`", c.escape_debug());
                    return Err(match c {
                        '&' | '|' | '!' => Diagnostic::new(span, message)
                            .with_help("logic is written `and`, `or`, `not`; inequality `!=`"),
                        '^' => Diagnostic::new(span, message).with_help("powers are written `x ** 2`"),
                        _ => Diagnostic::new(span, message),
                    });
                };
                at += sym.len();
                match sym {
                    "(" | "[" | "{" => open.push(sym.chars().next().unwrap_or('(')),
                    ")" | "]" | "}" => drop(open.pop()),
                    _ => {}
                }
                raw.push((Tok::Sym(sym), Span::new(start, at)));
            }
        }
    }
    raw.push((Tok::End, Span::new(bytes.len(), bytes.len())));
    Ok(join_lines(raw, text))
}

/// Drops separators that come from a line end in the middle of an expression, and repeated ones.
fn join_lines(raw: Vec<(Tok, Span)>, text: &str) -> Vec<(Tok, Span)> {
    let mut out: Vec<(Tok, Span)> = Vec::with_capacity(raw.len());
    for (k, (tok, span)) in raw.iter().enumerate() {
        if *tok == Tok::Sep && text.as_bytes()[span.start] == b'\n' {
            let before = match out.last() {
                None | Some((Tok::Sep, _)) => true,
                Some((Tok::Sym(s), _)) => continues(s),
                _ => false,
            };
            // Blank and comment lines leave several separators in a row; what follows the last one decides.
            let next = raw[k + 1..].iter().map(|t| &t.0).find(|t| **t != Tok::Sep);
            let after = match next {
                Some(Tok::Sym(s)) => !matches!(*s, "}"),
                Some(Tok::Name(n)) => matches!(n.as_str(), "where" | "and" | "or"),
                _ => false,
            };
            if before || after {
                continue;
            }
        }
        out.push((tok.clone(), *span));
    }
    out
}

fn number_end(bytes: &[u8], mut at: usize) -> usize {
    let digits = |at: &mut usize| {
        while *at < bytes.len() && (bytes[*at].is_ascii_digit() || bytes[*at] == b'_') {
            *at += 1;
        }
    };
    digits(&mut at);
    // `1..4` is a range, not `1.` followed by `.4`.
    if bytes.get(at) == Some(&b'.') && bytes.get(at + 1) != Some(&b'.') {
        at += 1;
        digits(&mut at);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let mut after = at + 1;
        if matches!(bytes.get(after), Some(b'+' | b'-')) {
            after += 1;
        }
        if bytes.get(after).is_some_and(u8::is_ascii_digit) {
            at = after;
            digits(&mut at);
        }
    }
    at
}

fn number(text: &str, span: Span) -> Result<Tok, Diagnostic> {
    let plain = text.replace('_', "");
    if plain.bytes().all(|c| c.is_ascii_digit()) {
        return plain
            .parse()
            .map(Tok::Int)
            .map_err(|_| Diagnostic::new(span, format!("the number {text} does not fit in 64 bits")));
    }
    match plain.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(Tok::Float(x)),
        Ok(_) => {
            Err(Diagnostic::new(span, format!("the number {text} is too large for f64; infinity is `inf`")))
        }
        Err(_) => Err(Diagnostic::new(span, format!("`{text}` is not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Tok> {
        tokens(text).expect("lexes").into_iter().map(|t| t.0).collect()
    }

    #[test]
    fn line_ends_separate_statements_only_where_a_statement_can_end() {
        let joined = kinds("O[i] = a[i] +\n\n # more\n b[i]\n  * 2");
        assert!(!joined.contains(&Tok::Sep), "{joined:?}");
        let parts = kinds("A[i] = x[i]\nB[i] = y[i]");
        assert_eq!(parts.iter().filter(|t| **t == Tok::Sep).count(), 1);
        assert!(!kinds("f(a,\n b)").contains(&Tok::Sep));
    }

    #[test]
    fn numbers_and_ranges() {
        assert_eq!(kinds("1..4")[..3], [Tok::Int(1), Tok::Sym(".."), Tok::Int(4)]);
        assert_eq!(kinds("1.5e-3")[0], Tok::Float(1.5e-3));
        assert_eq!(kinds(".5")[0], Tok::Float(0.5));
        assert_eq!(kinds("2e")[..2], [Tok::Int(2), Tok::Name("e".into())]);
        assert!(tokens("99999999999999999999").is_err());
        assert_eq!(kinds("1.7e308")[0], Tok::Float(1.7e308));
        assert!(tokens("1e309").is_err());
        assert!(tokens("a $ b").is_err());
    }
}
