//! What: stdout for results, stderr for everything else.
//! Why here: no command writes to a stream itself, so none can break the contract of `--format json`.
//! Pre: none.
//! Post: progress is drawn on terminals only; a reader that goes away ends the program quietly.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tilewright::Event;
use tilewright::explain::Marks;

use super::args::Format;

/// The two streams.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    format: Format,
    color: bool,
    terminal: bool,
    underline: bool,
}

impl Ui {
    /// For a format; `no_color` forbids colours, which only terminals get anyway.
    pub(crate) fn new(format: Format, no_color: bool) -> Ui {
        let terminal = io::stderr().is_terminal();
        let underline = io::stdout().is_terminal() && !no_color;
        Ui { format, color: terminal && !no_color, terminal, underline }
    }

    /// Whether results are JSON.
    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether the result is a page.
    pub(crate) fn html(&self) -> bool {
        self.format == Format::Html
    }

    /// How parts of a result are marked: on a terminal by its means, elsewhere with arrows.
    pub(crate) fn marks(&self) -> Marks {
        if self.underline { Marks::Terminal } else { Marks::Arrows }
    }

    /// Whether stderr is coloured.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// Prints a result for people, with a newline.
    pub(crate) fn print(&self, text: &str) {
        self.write(text.as_bytes());
        if !text.ends_with('\n') {
            self.write(b"\n");
        }
    }

    /// Prints a part of a result for people, at once and as it is.
    pub(crate) fn piece(&self, text: &str) {
        if !text.is_empty() {
            self.write(text.as_bytes());
        }
    }

    /// Prints the one JSON object.
    pub(crate) fn print_json(&self, value: &serde_json::Value) {
        self.print(&format!("{value:#}"));
    }

    /// Prints `value` as JSON or what `text` makes of it.
    pub(crate) fn result(&self, value: &serde_json::Value, text: impl FnOnce() -> String) {
        if self.json() { self.print_json(value) } else { self.print(&text()) }
    }

    /// A message on stderr.
    pub(crate) fn note(&self, text: &str) {
        // A closed stderr is nobody's loss.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A bar for events, invisible when stderr is no terminal.
    pub(crate) fn progress(&self) -> Bar {
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if self.terminal {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Bar { bar }
    }

    fn write(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.note(&format!("cannot write to stdout: {error}"));
            }
            std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 3 });
        }
    }
}

/// A progress bar that is cleared when it goes.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// Shows an event.
    pub(crate) fn show(&self, event: &Event) {
        let template = match event.total {
            Some(_) if event.bytes => "{spinner} {msg} {bar:30} {bytes}/{total_bytes}",
            Some(_) => "{spinner} {msg} {bar:30} {pos}/{len}",
            None => "{spinner} {msg}",
        };
        // The templates are constants, so a failure would show in any test on a terminal; the default style will do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_message(event.stage.clone());
        if let Some(total) = event.total {
            self.bar.set_length(total);
            self.bar.set_position(event.done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
