//! What: errors as people and programs see them.
//! Why here: libraries return typed errors; only here they become text with source excerpts, or JSON.
//! Pre: none.
//! Post: text on stderr; with `--format json` also one object on stdout.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::json;
use tilewright::Error;

use super::ui::Ui;

/// Prints an error.
pub(crate) fn print(ui: &Ui, error: &Error) {
    let theme = if ui.color() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
    let report = Report::new(error);
    let mut text = String::new();
    match handler.render_report(&mut text, &report) {
        Ok(()) => ui.note(text.trim_end()),
        Err(_) => ui.note(&format!("error: {error}")),
    }
    if ui.json() {
        print_json(ui, error);
    }
}

/// Prints the JSON object of an error.
pub(crate) fn print_json(ui: &Ui, error: &Error) {
    let mut object = json!({
        "code": error.exit_code(),
        "kind": error.kind(),
        "message": error.to_string(),
        "help": error.help(),
    });
    if let Error::Text { name, text, diagnostic } = error
        && let Some(span) = diagnostic.span
    {
        let at = tilewright_ir::diag::position(text, span.start);
        object["where"] = json!({ "source": name, "line": at.line, "column": at.column });
    }
    ui.print_json(&json!({ "error": object }));
}

/// An error with its source text, as the drawing library wants it.
struct Report<'a> {
    error: &'a Error,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
}

impl<'a> Report<'a> {
    fn new(error: &'a Error) -> Report<'a> {
        let mut report = Report { error, source: None, labels: Vec::new() };
        if let Error::Text { name, text, diagnostic } = error {
            report.source = Some(NamedSource::new(name, text.to_string()));
            let clamp = |span: tilewright_ir::diag::Span| {
                let start = span.start.min(text.len());
                start..span.end.clamp(start, text.len())
            };
            if let Some(span) = diagnostic.span {
                report.labels.push(LabeledSpan::at(clamp(span), "here"));
            }
            for label in &diagnostic.labels {
                report.labels.push(LabeledSpan::at(clamp(label.span), label.message.clone()));
            }
        }
        report
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            // The place is drawn, so that it need not be said.
            Error::Text { diagnostic, .. } => f.write_str(&diagnostic.message),
            other => other.fmt(f),
        }
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.error.kind()))
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.error.help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as Box<_>)
    }
}
