//! `tilewright laws`: what derivations are made of.

use serde_json::{Value, json};
use tilewright::passes::algebra::laws::LAWS;

use crate::cli::ui::Ui;

/// Prints the law table in the order in which laws are tried.
pub(crate) fn run(ui: &Ui) {
    let laws: Vec<Value> = LAWS
        .iter()
        .map(|l| json!({ "name": l.name, "law": l.statement, "conditions": l.conditions }))
        .collect();
    ui.result(&json!({ "laws": laws }), || {
        let shown = LAWS.iter().map(|l| {
            format!(
                "{}\n{}\n{}",
                l.name,
                wrap("    ", "    ", l.statement),
                wrap("    where ", "          ", l.conditions)
            )
        });
        shown.collect::<Vec<_>>().join("\n\n")
    });
}

/// Words in lines of at most 100 characters.
fn wrap(first: &str, rest: &str, text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![first.to_owned()];
    // The laws of a row are apart by two spaces, which stay.
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |l| l.chars().count());
        if line + word.chars().count() + 1 > WIDTH {
            lines.push(rest.to_owned());
        }
        if let Some(line) = lines.last_mut() {
            if line != first && line != rest {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn long_conditions_are_wrapped_between_words() {
        let words: Vec<String> = (0..60).map(|n| format!("word{n}")).collect();
        let text = wrap("    where ", "          ", &words.join(" "));
        assert!(text.lines().count() > 3 && text.lines().all(|l| l.chars().count() <= 100), "{text}");
        assert_eq!(text.split_whitespace().skip(1).collect::<Vec<_>>(), words);
    }
}
