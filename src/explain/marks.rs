//! What: which part of an equation a law changed.
//! Why here: text, terminals and pages show the same part, each in its own way.
//! Pre: the texts of a term before and after.
//! Post: three pieces per side that put together give the side; the middle ones are what differs, in whole words and with
//! their brackets closed where the rest allows it.

/// How the changed part is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Not at all.
    None,
    /// `>>like this<<`.
    Arrows,
    /// Underlined, for terminals.
    Terminal,
}

impl Marks {
    /// The three pieces as one text.
    pub fn show(self, [before, changed, after]: [&str; 3]) -> String {
        let (open, close) = match self {
            Marks::None => ("", ""),
            Marks::Arrows => (">>", "<<"),
            Marks::Terminal => ("\u{1b}[1;4m", "\u{1b}[0m"),
        };
        if changed.is_empty() {
            return format!("{before}{after}");
        }
        format!("{before}{open}{changed}{close}{after}")
    }
}

/// Names and numbers whole, everything else by the character.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '\'');
    while let Some(first) = rest.chars().next() {
        let end = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (head, tail) = rest.split_at(end);
        out.push(head);
        rest = tail;
    }
    out
}

/// Whether a piece closes brackets that it did not open, and whether it opens some that it does not close.
fn torn(piece: &[&str]) -> (bool, bool) {
    let (mut open, mut least) = (0, 0);
    for w in piece {
        open += match *w {
            "(" | "[" => 1,
            ")" | "]" => -1,
            _ => 0,
        };
        least = least.min(open);
    }
    (least < 0, open > least)
}

/// Cuts both sides into what is common before, what differs, and what is common after.
pub fn changed<'t>(before: &'t str, after: &'t str) -> [[&'t str; 3]; 2] {
    let (a, b) = (words(before), words(after));
    let most = a.len().min(b.len());
    let mut head = (0..most).take_while(|&n| a[n] == b[n]).count();
    let mut tail = (0..most - head).take_while(|&n| a[a.len() - 1 - n] == b[b.len() - 1 - n]).count();
    // Grow the middle until no bracket in it is torn from its partner: to the left for what it closes, to the right for
    // what it opens.
    loop {
        let ((a_left, a_right), (b_left, b_right)) =
            (torn(&a[head..a.len() - tail]), torn(&b[head..b.len() - tail]));
        // Brackets belong to the name in front of them.
        let named = |w: &[&str]| {
            head > 0
                && w.get(head).is_some_and(|w| matches!(*w, "(" | "["))
                && head < w.len() - tail
                && w[head - 1].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '\'' | ']'))
        };
        if ((a_left || b_left) && head > 0) || named(&a) || named(&b) {
            head -= 1;
        } else if (a_right || b_right) && tail > 0 {
            tail -= 1;
        } else {
            break;
        }
    }
    let cut = |text: &'t str, words: &[&str]| -> [&'t str; 3] {
        let start: usize = words[..head].iter().map(|w| w.len()).sum();
        let end = text.len() - words[words.len() - tail..].iter().map(|w| w.len()).sum::<usize>();
        let (first, rest) = text.split_at(start);
        let (middle, last) = rest.split_at(end - start);
        // Blanks at the edges are not what changed.
        let trimmed = middle.trim_start();
        let (first, middle) = (&text[..first.len() + middle.len() - trimmed.len()], trimmed);
        let kept = middle.trim_end();
        let last = &text[text.len() - last.len() - (middle.len() - kept.len())..];
        [first, kept, last]
    };
    [cut(before, &a), cut(after, &b)]
}

#[cfg(test)]
mod tests {
    use super::{Marks, changed};

    fn shown(before: &str, after: &str) -> [String; 2] {
        changed(before, after).map(|side| Marks::Arrows.show(side))
    }

    #[test]
    fn the_changed_part_is_marked_in_whole_words_with_its_brackets() {
        assert_eq!(
            shown("max[c.o](max[c.i](x))", "max[c.o](max(y, x))"),
            ["max[c.o](>>max[c.i](x)<<)", "max[c.o](>>max(y, x)<<)"]
        );
        assert_eq!(
            shown("a + sum[c](x)", "a + sum[c.o](sum[c.i](x))"),
            ["a + >>sum[c](x)<<", "a + >>sum[c.o](sum[c.i](x))<<"]
        );
        assert_eq!(shown("a * sum10(b)", "a * sum1(b)"), ["a * >>sum10<<(b)", "a * >>sum1<<(b)"]);
        assert_eq!(shown("f(a) + b", "f(a) + b"), ["f(a) + b", "f(a) + b"]);
        assert_eq!(shown("a", "a * inv(b)"), ["a", "a >>* inv(b)<<"]);
        assert_eq!(shown("", "x"), ["", ">>x<<"]);
    }

    #[test]
    fn the_pieces_are_the_whole_and_the_marked_brackets_match() {
        // Every pair of short texts over a few pieces.
        let pieces = ["a", "(", ")", "[", "]", " ", "é", ""];
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            texts = texts.iter().flat_map(|t| pieces.iter().map(move |p| format!("{t}{p}"))).collect();
        }
        for a in &texts {
            for b in &texts {
                let [x, y] = changed(a, b);
                assert_eq!((x.concat(), y.concat()), (a.clone(), b.clone()));
            }
        }
    }
}
