//! Places of entities in a text.
//!
//! What: where a text defines what a message speaks of, such as ``@f: v3 `y` `` or `tile @k store to b1`.
//! Why here: verifiers see documents, which have no places, since most of them never were a text; those who wrote one want a
//! line and a column. Names are unique within their scope, so a name is enough to find them.
//! Pre: a text that was parsed. Post: a span of the text: of the entity, or of the smallest thing around it that is found.

use super::lexer::{Kind, Token, lex};
use crate::diag::{Diagnostic, Span};
use crate::verify::Violation;

/// Words that may stand in front of what they define.
const DEFINING: [&str; 11] =
    ["axis", "axes", "buffer", "symbol", "global", "value", "local", "kernel", "loop", "param", "store"];

/// The diagnostic of what is broken, in a text that holds a document of this level.
pub fn diagnose(text: &str, level: &str, violations: &[Violation]) -> Diagnostic {
    // What is about a whole list names its entries in the message.
    let quoted = |v: &Violation| v.message.split('`').skip(1).step_by(2).find_map(|name| locate(text, name));
    let mut all = violations.iter().map(|v| (v.to_string(), locate(text, &v.at).or_else(|| quoted(v))));
    let Some((first, place)) = all.next() else {
        return Diagnostic::general(format!("this {level} breaks nothing"));
    };
    let mut message = format!("this {level} breaks {first}");
    let mut labels = Vec::new();
    for (further, place) in all {
        match place {
            Some(place) => labels.push((place, further)),
            None => message += &format!("\n{further}"),
        }
    }
    let out = match place {
        Some(place) => Diagnostic::new(place, message),
        None => Diagnostic::general(message),
    };
    labels.into_iter().fold(out, |d, (place, message)| d.with_label(place, message))
}

/// Where a text defines what `at` names, from the outside in.
pub fn locate(text: &str, at: &str) -> Option<Span> {
    let tokens = lex(text).ok()?;
    let mut scope = 0..tokens.len();
    let mut found = None;
    let words: Vec<&str> = at.split([' ', ':']).filter(|w| !w.is_empty()).collect();
    let mut n = 0;
    while n < words.len() {
        let (word, next) = (words[n], words.get(n + 1).copied());
        n += 1;
        let place = if let Some(name) = word.strip_prefix('@') {
            header(&tokens, &scope, name)
        } else if let (Some(number), "launch" | "call") = (next.and_then(|w| w.parse::<usize>().ok()), word) {
            // Such as `launch 3 of ...`: what comes after says the same again.
            n = words.len();
            (scope.clone()).filter(|&t| is(&tokens[t], word)).nth(number)
        } else if word == "store" {
            let target = words.get(n + 1).copied().unwrap_or_default();
            n = words.len();
            let to = |t: &usize| is(&tokens[*t], "store") && tokens.get(t + 1).is_some_and(|x| is(x, target));
            scope.clone().find(to)
        } else {
            // A name in quotes is how the text calls the entity before it.
            definition(text, &tokens, &scope, word.trim_matches('`'))
        };
        if let Some(t) = place {
            found = Some(tokens[t].span);
            if word.starts_with('@') {
                scope = t..end(&tokens, t, scope.end);
            }
        }
    }
    found
}

fn is(token: &Token, word: &str) -> bool {
    matches!(&token.kind, Kind::Word(w) | Kind::Text(w) if w == word)
}

/// `graph @name`, `plan @name` and the like.
fn header(tokens: &[Token], scope: &std::ops::Range<usize>, name: &str) -> Option<usize> {
    scope.clone().find(|&t| {
        let introduced = t > 1
            && tokens[t - 1].kind == Kind::Mark("@")
            && ["graph", "plan", "tile", "kernel"].iter().any(|w| is(&tokens[t - 2], w));
        introduced && is(&tokens[t], name)
    })
}

/// The end of what begins with the header at `t`: where the next of its kind begins.
fn end(tokens: &[Token], t: usize, most: usize) -> usize {
    let kind = t.checked_sub(2).map(|k| &tokens[k].kind);
    (t + 1..most)
        .find(|&n| Some(&tokens[n].kind) == kind && tokens[n + 1].kind == Kind::Mark("@"))
        .unwrap_or(most)
}

/// Where a name is defined: an operation that makes it, else a declaration, else the first time it is mentioned.
fn definition(text: &str, tokens: &[Token], scope: &std::ops::Range<usize>, name: &str) -> Option<usize> {
    let mentions: Vec<usize> = scope.clone().filter(|&t| is(&tokens[t], name)).collect();
    let starts_line = |t: usize| {
        let before = &text[..tokens[t].span.start];
        before.rsplit('\n').next().is_some_and(|line| line.trim().is_empty())
    };
    let follows = |t: usize, mark| tokens.get(t + 1).is_some_and(|n| n.kind == Kind::Mark(mark));
    let made = |t: &&usize| starts_line(**t) && follows(**t, "=");
    let declared = |t: &&usize| {
        starts_line(**t) || follows(**t, ":") || (**t > 0 && DEFINING.iter().any(|w| is(&tokens[**t - 1], w)))
    };
    mentions.iter().find(made).or_else(|| mentions.iter().find(declared)).or(mentions.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::position;

    const TEXT: &str = "graph @f(x: f32[i=4] input) {\n    y[i]: f32 = x[i] + 1\n    return y\n}\n\
        graph @g(x: f32[i=4] input) {\n    y[i]: f32 = x[i] + 2\n    return y\n}\ncall @f(x) -> (y)\ncall @g(x) -> (y)\n";

    fn place(at: &str) -> Option<(usize, usize)> {
        locate(TEXT, at).map(|s| position(TEXT, s.start)).map(|p| (p.line, p.column))
    }

    #[test]
    fn entities_are_found_in_their_own_scope() {
        assert_eq!(place("@f: v1 `y`"), Some((2, 5)));
        assert_eq!(place("@g: v1 `y`"), Some((6, 5)));
        assert_eq!(place("@g: v0 `x`"), Some((5, 10)));
        // What has no text of its own is where the thing around it is.
        assert_eq!(place("@g: v9"), Some((5, 8)));
        assert_eq!(place("call 1 of @g"), Some((10, 1)));
        assert_eq!(place("nothing"), None);
        let tile = "tile @k warps 4 {\n    buffer b0 \"x y\": f32[4] written\n    tile1[]: f32\n    tile1 = 3\n    store b0[0] = tile1\n}\n";
        let line = |at| locate(tile, at).map(|s| position(tile, s.start).line);
        assert_eq!(line("tile @k tile1"), Some(4));
        assert_eq!(line("tile @k b0 `x y`"), Some(2));
        assert_eq!(line("tile @k store to b0"), Some(5));
    }

    #[test]
    fn arbitrary_places_are_no_panic() {
        for at in ["", "@", "@f: `", "launch 99", "launch", "call -1 of @", "store", "store of", "``` @ @@ é"]
        {
            for text in ["", "@", "graph @", TEXT, "é", "\"open"] {
                let _ = locate(text, at);
            }
        }
    }
}
