//! The head of a file test, its commands, and the comparison with what is expected.

mod eval;
mod parse;
mod pass;
mod print;
mod source;
mod verify;

/// What the head of a file says.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    pub(crate) checks: Vec<String>,
    pub(crate) check_nots: Vec<String>,
    pub(crate) errors: Vec<String>,
    /// Directives of the form `; key: name = values`.
    pub(crate) settings: Vec<Setting>,
}

/// `; key: name = values`.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// The output of a command, or why it failed. The text is that of the whole file.
type Command = fn(&str, &Head, &str) -> Result<String, String>;

fn command(name: &str) -> Option<Command> {
    Some(match name {
        "parse" => parse::run,
        "print" => print::run,
        "verify" => verify::run,
        "eval" => eval::run,
        "pass" => pass::run,
        "source" => source::run,
        _ => return None,
    })
}

fn head(text: &str) -> Result<Head, String> {
    let mut out = Head::default();
    for line in text.lines().map_while(|l| l.strip_prefix(';')) {
        if line.starts_with(';') || line.trim().is_empty() {
            continue;
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test ") {
            if !out.command.is_empty() {
                return Err("two `; test` lines".to_owned());
            }
            out.command = rest.split_whitespace().map(str::to_owned).collect();
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match key {
            "check" => out.checks.push(value.to_owned()),
            "check-not" => out.check_nots.push(value.to_owned()),
            "error" => out.errors.push(value.to_owned()),
            "symbol" | "input" | "weight" => {
                let (name, values) = value.split_once('=').ok_or_else(|| format!("`{line}` has no `=`"))?;
                let values = values
                    .split_whitespace()
                    .map(|x| x.parse::<f64>().map_err(|_| format!("`{line}`: `{x}` is no number")))
                    .collect::<Result<_, _>>()?;
                out.settings.push(Setting { key: key.to_owned(), name: name.trim().to_owned(), values });
            }
            _ => return Err(format!("unknown directive `; {line}`; remarks begin with `;;`")),
        }
    }
    if out.command.is_empty() {
        return Err("there is no `; test` line".to_owned());
    }
    if out.checks.is_empty() && out.check_nots.is_empty() && out.errors.is_empty() {
        return Err("the file asserts nothing: give it a `; check:` or an `; error:`".to_owned());
    }
    let checked = !out.checks.is_empty() || !out.check_nots.is_empty();
    if !out.errors.is_empty() && checked {
        return Err("both checks and errors".to_owned());
    }
    Ok(out)
}

fn in_order(what: &str, output: &str, wanted: &[String]) -> Result<(), String> {
    let mut lines = output.lines();
    for text in wanted {
        if !lines.any(|l| l.contains(text.as_str())) {
            return Err(format!("the {what} does not have `{text}` (in this order):\n{output}"));
        }
    }
    Ok(())
}

/// Runs one file; the error says what is wrong.
pub(crate) fn run(name: &str, text: &str) -> Result<(), String> {
    let head = head(text)?;
    let command =
        command(&head.command[0]).ok_or_else(|| format!("unknown command `{}`", head.command[0]))?;
    match (command(name, &head, text), head.errors.is_empty()) {
        (Ok(output), true) => {
            in_order("output", &output, &head.checks)?;
            for text in &head.check_nots {
                if output.contains(text.as_str()) {
                    return Err(format!("the output has `{text}`:\n{output}"));
                }
            }
            Ok(())
        }
        (Err(message), false) => in_order("message", &message, &head.errors),
        (Ok(output), false) => Err(format!("it succeeded and should not:\n{output}")),
        (Err(message), true) => Err(format!("it failed:\n{message}")),
    }
}
