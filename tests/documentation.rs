//! What the documents say is true of the code: commands that they show are accepted, equations that they show derive, the
//! law table is the code's, the example of the Rust API is the tested one, and paths that they name exist.

#[path = "../src/cli/args.rs"]
#[allow(dead_code, reason = "arguments are parsed here and not used")]
mod args;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use tilewright::Compiler;
use tilewright::passes::algebra::laws::LAWS;

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "passes/src/algebra/laws/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let open = format!("\n```{language}\n");
    text.split(open.as_str()).skip(1).map(|rest| rest.split("\n```").next().unwrap_or(rest)).collect()
}

/// The commands of a shell script, as words: quotes, comments, continued lines.
fn commands(script: &str) -> Vec<Vec<String>> {
    let (mut out, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    let mut chars = script.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') if chars.peek() == Some(&'\n') => {
                chars.next();
            }
            (None, '#') if word.is_none() => while chars.next_if(|&c| c != '\n').is_some() {},
            (None, ' ' | '\n') => {
                words.extend(word.take());
                if c == '\n' && !words.is_empty() {
                    out.push(std::mem::take(&mut words));
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "an open quote in:\n{script}");
    out
}

/// The calls of our program in the documents, each with its place and its arguments from the program's name on.
fn calls() -> Vec<(&'static str, Vec<String>)> {
    let mut out = Vec::new();
    for document in DOCUMENTS {
        for block in blocks(&read(document), "sh") {
            for words in commands(block) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let arguments = match &words[..] {
                    ["tilewright", rest @ ..] => rest,
                    ["cargo", "run", "--release", "--", rest @ ..] => rest,
                    _ => continue,
                };
                let call = ["tilewright"].iter().chain(arguments).map(|&w| w.to_owned()).collect();
                out.push((document, call));
            }
        }
    }
    out
}

#[test]
fn commands_are_accepted() {
    let calls = calls();
    for (document, call) in &calls {
        if let Err(e) = Cli::try_parse_from(call) {
            panic!("{document}: `{}`\n{e}", call.join(" "));
        }
    }
    // The tour leaves nothing out.
    let shown: BTreeSet<&str> = calls.iter().map(|(_, call)| call[1].as_str()).collect();
    let all = Cli::command();
    let all: BTreeSet<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(shown, all);
}

/// Where a call that prints what was derived is followed by what it prints, it prints that: the lines that are shown, in
/// their order, with others where there are dots.
#[test]
fn what_the_tour_shows_is_printed() {
    tilewright::runtime::testing::nvrtc();
    let text = read("README.md");
    let mut shown = 0;
    for block in text.split("```sh\n").skip(1) {
        let Some((call, rest)) = block.split_once("```\n\n```text\n") else { continue };
        let [words] = &commands(call)[..] else { continue };
        let derives =
            words.iter().any(|w| w == "explain") || words.ends_with(&["--emit".into(), "plan".into()]);
        if call.contains("```") || !derives {
            continue;
        }
        let (expected, _) = rest.split_once("```").expect("the end of the block");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tilewright"))
            .args(&words[1..])
            .env("NO_COLOR", "1")
            .output()
            .expect("it runs");
        let printed = String::from_utf8(output.stdout).expect("text");
        let mut lines = printed.lines();
        for line in expected.lines().filter(|l| !l.trim().is_empty() && l.trim() != "...") {
            assert!(
                lines.any(|l| l == line),
                "{words:?} does not print, after the lines before it:\n{line}\n{printed}"
            );
        }
        shown += 1;
    }
    assert_eq!(shown, 2, "calls with their output in the tour");
}

#[test]
fn equations_derive() {
    let mut count = 0;
    for (document, call) in calls() {
        let text = match Cli::try_parse_from(&call).map(|cli| cli.command) {
            // What takes arrays takes types and extents from them.
            Ok(Command::Jit(jit)) if jit.inputs.is_empty() => jit.equations,
            Ok(Command::Explain(explain)) => match explain.source.equations {
                Some(text) => text,
                None => continue,
            },
            Ok(Command::Compile(compile)) => match compile.source.equations {
                Some(text) => text,
                None => continue,
            },
            _ => continue,
        };
        count += 1;
        if let Err(e) = Compiler::equations(&text).plan() {
            panic!("{document}: `{text}`: {e}");
        }
    }
    assert!(count > 1, "there are equations in the documents");
}

#[test]
fn the_law_table_is_that_of_the_code() {
    let path = "passes/src/algebra/laws/README.md";
    let text = read(path);
    let (_, rest) = text.split_once("<!-- laws:").expect("the mark before the table");
    let (table, _) = rest.split_once("<!-- end of laws -->").expect("the mark after the table");
    let table = table.split_once("-->\n").expect("the end of the mark").1;
    let mut expected = "| Law | Equation | Conditions |\n| --- | --- | --- |\n".to_owned();
    for law in LAWS {
        expected += &format!("| `{}` | `{}` | {} |\n", law.name, law.statement, law.conditions);
    }
    assert!(table == expected, "the table of {path} must be:\n\n{expected}");
}

#[test]
fn the_example_of_the_api_is_the_tested_one() {
    let library = read("src/lib.rs");
    let documentation: String = library
        .lines()
        .map_while(|l| l.strip_prefix("//!"))
        .map(|l| l.strip_prefix(' ').unwrap_or(l))
        .filter(|l| !l.starts_with("# ") && *l != "#")
        .map(|l| format!("{l}\n"))
        .collect();
    let tested = documentation.split("```").nth(1).expect("an example in src/lib.rs").trim();
    let readme = read("README.md");
    let shown = blocks(&readme, "rust");
    assert!(shown.iter().any(|b| b.trim() == tested), "README.md must show:\n\n{tested}");
}

#[test]
fn what_is_named_exists() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(document).parent().map_or(PathBuf::new(), Path::to_owned);
        // Links, relative to the document; code has none.
        let prose: String = text.split("```").step_by(2).flat_map(|t| t.split('`').step_by(2)).collect();
        for rest in prose.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{document} links to `{target}`");
            }
        }
        // Paths from the root, in backquotes.
        for quoted in text.split('`').skip(1).step_by(2) {
            let known =
                ["ir/", "frontend/", "passes/", "codegen/", "emulator/", "runtime/", "src/", "tests/"];
            let path = known.iter().any(|k| quoted.starts_with(k));
            if path && !quoted.contains(|c: char| c.is_whitespace() || c == '*') && !quoted.contains("NAME") {
                assert!(root().join(quoted).exists(), "{document} names `{quoted}`");
            }
        }
    }
}
