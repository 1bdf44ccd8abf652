//! What: which parts of an equation a law changed.
//! Why here: text, terminals and pages show the same parts, each in its own way.
//! Pre: the texts of a term before and after.
//! Post: pieces that put together give the side; what is not marked stands on both sides in the same order. Words are
//! never cut.

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

/// A part of a side, and whether the other side lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'t> {
    /// The text.
    pub text: &'t str,
    /// Whether it is marked.
    pub changed: bool,
}

impl Marks {
    /// The pieces as one text. Of a side that is longer than `width`, the middles of its longest pieces are left out; the
    /// second result says so.
    pub fn show(self, pieces: &[Piece<'_>], width: Option<usize>) -> (String, bool) {
        let (open, close) = match self {
            Marks::None => ("", ""),
            Marks::Arrows => (">>", "<<"),
            Marks::Terminal => ("\u{1b}[1;4m", "\u{1b}[0m"),
        };
        let lengths: Vec<usize> = pieces.iter().map(|p| p.text.chars().count()).collect();
        let most = width.filter(|w| lengths.iter().sum::<usize>() > *w).map(|w| longest(&lengths, w));
        let mut out = String::new();
        for (p, &n) in pieces.iter().zip(&lengths) {
            let text = match most {
                Some(most) if n > most => shortened(p.text, most),
                _ => p.text.to_owned(),
            };
            if p.changed {
                out.extend([open, &text, close]);
            } else {
                out += &text;
            }
        }
        (out, most.is_some())
    }
}

/// Characters of the ends of a piece that are always shown.
const ENDS: usize = 24;

/// The longest that pieces may be, so that all of them together are about so wide.
fn longest(lengths: &[usize], width: usize) -> usize {
    let total = |most: usize| lengths.iter().map(|&n| n.min(most)).sum::<usize>();
    (ENDS..=width).rev().find(|&most| total(most) <= width).unwrap_or(ENDS)
}

/// The beginning and the end of a text.
fn shortened(text: &str, most: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    let side = most.saturating_sub(5) / 2;
    let ends = [&all[..side], &all[all.len() - side..]].map(|c| c.iter().collect::<String>());
    format!("{} ... {}", ends[0], ends[1])
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

/// Words in a row that both sides have.
#[derive(Clone, Copy)]
struct Common {
    a: usize,
    b: usize,
    len: usize,
}

/// The most that a table of common words may hold; longer sides are compared at their ends only.
const TABLE: usize = 16 << 20;

/// Whether it is a name or a number.
fn named(word: &str) -> bool {
    word.starts_with(char::is_alphanumeric)
}

/// What a common word is worth: brackets and operators are everywhere, names say what is the same.
fn weight(word: &str) -> u32 {
    if named(word) { 4 } else { 1 }
}

/// The common sequence of words that is worth most, in runs.
fn common(a: &[&str], b: &[&str]) -> Vec<Common> {
    let most = a.len().min(b.len());
    let head = (0..most).take_while(|&n| a[n] == b[n]).count();
    let tail = (0..most - head).take_while(|&n| a[a.len() - 1 - n] == b[b.len() - 1 - n]).count();
    let (rows, columns) = (a.len() - head - tail, b.len() - head - tail);
    let mut pairs: Vec<(usize, usize)> = (0..head).map(|n| (n, n)).collect();
    if rows.saturating_mul(columns) <= TABLE {
        let wide = columns + 1;
        let mut best = vec![0u32; (rows + 1) * wide];
        for i in (0..rows).rev() {
            for j in (0..columns).rev() {
                best[i * wide + j] = if a[head + i] == b[head + j] {
                    best[(i + 1) * wide + j + 1] + weight(a[head + i])
                } else {
                    best[(i + 1) * wide + j].max(best[i * wide + j + 1])
                };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < rows && j < columns {
            if a[head + i] == b[head + j] {
                pairs.push((head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if best[(i + 1) * wide + j] >= best[i * wide + j + 1] {
                i += 1;
            } else {
                j += 1;
            }
        }
    }
    pairs.extend((0..tail).map(|n| (a.len() - tail + n, b.len() - tail + n)));
    let mut runs: Vec<Common> = Vec::new();
    for (x, y) in pairs {
        match runs.last_mut() {
            Some(r) if r.a + r.len == x && r.b + r.len == y => r.len += 1,
            _ => runs.push(Common { a: x, b: y, len: 1 }),
        }
    }
    runs
}

/// Words that a run in the midst of changes must have to be worth leaving unmarked.
const WORTH: usize = 3;

/// Whether brackets open and close in it.
fn balanced(words: &[&str]) -> bool {
    let mut open = 0;
    words.iter().all(|w| {
        open += match *w {
            "(" | "[" => 1,
            ")" | "]" => -1,
            _ => 0,
        };
        open >= 0
    }) && open == 0
}

/// Both sides in pieces.
pub fn changed<'t>(before: &'t str, after: &'t str) -> [Vec<Piece<'t>>; 2] {
    let (a, b) = (words(before), words(after));
    let mut runs = common(&a, &b);
    runs.retain(|r| {
        let words = &a[r.a..r.a + r.len];
        let (first, last) = (r.a == 0 && r.b == 0, r.a + r.len == a.len() && r.b + r.len == b.len());
        let names = words.iter().filter(|w| named(w)).count();
        first && last || names >= WORTH || ((first || last) && balanced(words))
    });
    let side = |text: &'t str, words: &[&str], at: fn(&Common) -> usize| {
        let mut starts = vec![0];
        starts.extend(words.iter().scan(0, |sum, w| {
            *sum += w.len();
            Some(*sum)
        }));
        let mut out: Vec<Piece<'t>> = Vec::new();
        let mut done = 0;
        for r in &runs {
            push(&mut out, &text[starts[done]..starts[at(r)]], true);
            done = at(r) + r.len;
            push(&mut out, &text[starts[at(r)]..starts[done]], false);
        }
        push(&mut out, &text[starts[done]..], true);
        out
    };
    [side(before, &a, |r| r.a), side(after, &b, |r| r.b)]
}

/// Adds a piece; blanks at the ends of what changed are not marked.
fn push<'t>(out: &mut Vec<Piece<'t>>, text: &'t str, changed: bool) {
    let inner = if changed { text.trim() } else { "" };
    let start = if inner.is_empty() { text.len() } else { text.len() - text.trim_start().len() };
    let pieces = [(&text[..start], false), (inner, true), (&text[start + inner.len()..], false)];
    out.extend(
        pieces.into_iter().filter(|(t, _)| !t.is_empty()).map(|(text, changed)| Piece { text, changed }),
    );
}

#[cfg(test)]
mod tests {
    use super::{Marks, changed};

    fn shown(before: &str, after: &str) -> [String; 2] {
        changed(before, after).map(|side| Marks::Arrows.show(&side, None).0)
    }

    #[test]
    fn what_one_side_lacks_is_marked_in_whole_words() {
        assert_eq!(
            shown("sum[j](p[i,j] * inv(l[i]) * v[j,e])", "inv(l[i]) * sum[j](p[i,j] * v[j,e])"),
            ["sum[j](p[i,j] >>* inv(l[i])<< * v[j,e])", ">>inv(l[i]) *<< sum[j](p[i,j] * v[j,e])"]
        );
        assert_eq!(shown("a * sum10(b)", "a * sum1(b)"), ["a * >>sum10<<(b)", "a * >>sum1<<(b)"]);
        assert_eq!(shown("f(a) + b", "f(a) + b"), ["f(a) + b", "f(a) + b"]);
        assert_eq!(
            shown("max[c](x)", "max[c.o](max[c.i](x))"),
            [">>max[c](x)<<", ">>max[c.o](max[c.i](x))<<"]
        );
        assert_eq!(shown("a", "a * inv(b)"), ["a", "a >>* inv(b)<<"]);
        assert_eq!(shown("", "x"), ["", ">>x<<"]);
    }

    #[test]
    fn the_pieces_are_the_whole_and_the_rest_is_common() {
        // Every pair of short texts over a few pieces.
        let pieces = ["a", "(", ")", "b", " ", "é", ""];
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            texts = texts.iter().flat_map(|t| pieces.iter().map(move |p| format!("{t}{p}"))).collect();
        }
        for a in &texts {
            for b in &texts {
                let sides = changed(a, b);
                let [x, y] = [0, 1].map(|n| sides[n].iter().map(|p| p.text).collect::<String>());
                assert_eq!((&x, &y), (a, b));
                let kept = |n: usize| -> String {
                    sides[n]
                        .iter()
                        .filter(|p| !p.changed)
                        .flat_map(|p| p.text.chars())
                        .filter(|c| *c != ' ')
                        .collect()
                };
                assert_eq!(kept(0), kept(1), "{a} and {b}");
                assert_eq!(a == b, sides.iter().flatten().all(|p| !p.changed) && a == b);
            }
        }
    }

    #[test]
    fn long_sides_keep_their_ends_and_their_marks() {
        let long = format!("{} + x", vec!["abc"; 500].join(" + "));
        let after = long.replace("+ x", "+ y");
        let [side, _] = changed(&long, &after);
        let (text, cut) = Marks::Arrows.show(&side, Some(100));
        assert!(cut && text.chars().count() <= 110, "{text}");
        assert!(text.starts_with("abc + abc") && text.ends_with(">>x<<") && text.contains(" ... "), "{text}");
        let (text, cut) = Marks::None.show(&side, None);
        assert!(!cut && text == long);
        assert_eq!(Marks::None.show(&side, Some(10_000)), (long.clone(), false));
    }
}
