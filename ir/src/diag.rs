//! Diagnostics with positions in a source text.
//!
//! Why here: every parser of the workspace (textual IR, equations, configuration) reports in the same shape, and the
//! binary alone decides how it is drawn. Nothing here knows a terminal or a drawing library.
//!
//! Pre: spans are byte ranges of the text that was parsed; a span outside the text is clamped, never a panic.
//! Post: [`Diagnostic::render`] is a plain-text form that is good enough without a terminal.

use std::fmt;

/// A byte range `start..end` of a source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range `start..end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end: end.max(start) }
    }

    /// The empty range at `at`.
    pub fn at(at: usize) -> Span {
        Span { start: at, end: at }
    }

    /// The smallest range that covers both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether it covers nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A line and a column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The line and column of a byte offset. Offsets beyond the text give the position after its last character; an offset
/// inside a character gives that character.
pub fn position(text: &str, offset: usize) -> Position {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Position {
        line: before.bytes().filter(|&b| b == b'\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// A further place that explains a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is to be seen there.
    pub message: String,
}

/// What is wrong with a text, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What is wrong; one sentence that names the thing.
    pub message: String,
    /// Where, if it has a place.
    pub span: Option<Span>,
    /// Further places.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A diagnostic at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), span: Some(span), labels: Vec::new(), help: None }
    }

    /// A diagnostic without a place.
    pub fn general(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), span: None, labels: Vec::new(), help: None }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// The same with a further place.
    #[must_use]
    pub fn with_label(mut self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, message: message.into() });
        self
    }

    /// The line and column of the diagnostic in its text.
    pub fn position(&self, text: &str) -> Option<Position> {
        self.span.map(|s| position(text, s.start))
    }

    /// A plain-text form: the position, the message, the line with a marker under the span, labels and help.
    pub fn render(&self, name: &str, text: &str) -> String {
        let mut out = String::new();
        match self.span {
            Some(span) => {
                out.push_str(&format!("{name}:{}: {}\n", position(text, span.start), self.message));
                out.push_str(&excerpt(text, span));
            }
            None => out.push_str(&format!("{name}: {}\n", self.message)),
        }
        for label in &self.labels {
            out.push_str(&format!("{name}:{}: {}\n", position(text, label.span.start), label.message));
            out.push_str(&excerpt(text, label.span));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("help: {help}\n"));
        }
        out
    }
}

/// The line that holds the start of a span, with carets under the part of the span that lies in it.
fn excerpt(text: &str, span: Span) -> String {
    let at = position(text, span.start);
    let line = text.split('\n').nth(at.line - 1).unwrap_or("").trim_end_matches('\r');
    let width = line.chars().count();
    let start = (at.column - 1).min(width);
    let end = position(text, span.end);
    let stop = if end.line == at.line { (end.column - 1).min(width) } else { width };
    // Tabs are kept in the padding so that the marker stays under its text.
    let pad: String = line.chars().take(start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    format!("  {line}\n  {pad}{}\n", "^".repeat(stop.saturating_sub(start).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "ab\ncdé f\n\ng";
        assert_eq!(position(text, 0), Position { line: 1, column: 1 });
        assert_eq!(position(text, 2), Position { line: 1, column: 3 });
        assert_eq!(position(text, 3), Position { line: 2, column: 1 });
        // The offset in the middle of the two-byte character gives the character.
        assert_eq!(position(text, 6), Position { line: 2, column: 3 });
        assert_eq!(position(text, 7), Position { line: 2, column: 4 });
        assert_eq!(position(text, 10), Position { line: 3, column: 1 });
        assert_eq!(position(text, 999), Position { line: 4, column: 2 });
        assert_eq!(position("", 5), Position { line: 1, column: 1 });
    }

    #[test]
    fn rendering_points_at_the_span() {
        let text = "one\ntwo three\n";
        let d = Diagnostic::new(Span::new(8, 13), "no such thing").with_help("try another");
        assert_eq!(
            d.render("f.tw", text),
            "f.tw:2:5: no such thing\n  two three\n      ^^^^^\nhelp: try another\n"
        );
        // A span over several lines, one at the end of the text and one beyond it are all drawable.
        for span in [Span::new(2, 9), Span::at(text.len()), Span::new(100, 200)] {
            assert!(Diagnostic::new(span, "x").render("f", text).contains('^'));
        }
    }
}
