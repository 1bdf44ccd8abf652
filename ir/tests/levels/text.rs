//! The text form: what is printed parses to the same, and no text makes the parser panic.

use crate::common::{Rng, levels, seed};
use tilewright_ir::diag::position;
use tilewright_ir::eval::{F64, Symbols, eval_function};
use tilewright_ir::text::{Document, number, parse, parse_module, print};
use tilewright_ir::verify::verify;

#[test]
fn what_is_printed_parses_to_the_same() {
    let seed = seed();
    for n in 0..4000 {
        let document = levels::document(&mut Rng(seed.wrapping_add(n)));
        let text = print(&document);
        let back = parse(&text).unwrap_or_else(|e| panic!("document {n}:\n{}", e.render("printed", &text)));
        assert_eq!(back, document, "document {n}:\n{text}\n{}", print(&back));
        assert_eq!(print(&back), text, "document {n}");
    }
}

#[test]
fn numbers_keep_their_bits() {
    let seed = seed();
    let mut rng = Rng(seed);
    for _ in 0..20_000 {
        let x = levels::number(&mut rng);
        let text = format!("graph @f() {{ v0[]: f64 = {} }}", number(x));
        let m = parse_module(&text).unwrap_or_else(|e| panic!("{}", e.render("f", &text)));
        let wanted = tilewright_ir::expr::build::num(x);
        let f = m.functions.values().next().expect("one function");
        let v = f.values.values().next().expect("one value");
        assert_eq!(v.def, tilewright_ir::graph::Def::Equation(wanted), "{text}");
    }
}

/// Texts cut short, with characters and words replaced, doubled and swapped: parsed or refused, with a place in the text.
#[test]
fn mutated_texts_do_not_panic() {
    let seed = seed();
    let words = [
        "(", ")", "[", "]", "{", "}", "-", "sum[", "where(", "v99", "ax99", "\"", "0x", "1e999", "..=", "é",
        ";", "-> ",
    ];
    let mut refused = 0;
    for n in 0..3000 {
        let mut rng = Rng(seed.wrapping_add(n));
        let mut text = print(&levels::document(&mut rng));
        for _ in 0..1 + rng.below(3) {
            let mut chars: Vec<char> = text.chars().collect();
            let at = rng.below(chars.len() + 1);
            match rng.below(5) {
                0 => chars.truncate(at),
                1 if at < chars.len() => drop(chars.remove(at)),
                2 => {
                    let word = *rng.pick(&words);
                    chars.splice(at..at, word.chars());
                }
                3 => {
                    let to = (at + rng.below(20)).min(chars.len());
                    let piece: Vec<char> = chars[at..to].to_vec();
                    chars.splice(at..at, piece);
                }
                _ => {
                    let to = (at + rng.below(20)).min(chars.len());
                    chars.drain(at..to);
                }
            }
            text = chars.into_iter().collect();
        }
        match parse(&text) {
            Ok(d) => assert_eq!(parse(&print(&d)).ok(), Some(d)),
            Err(e) => {
                refused += 1;
                let span = e.span.unwrap_or_else(|| panic!("no place: {e}"));
                assert!(span.start <= text.len() && span.end <= text.len() && !e.message.is_empty(), "{e:?}");
                let _ = (position(&text, span.start), e.render("f", &text));
            }
        }
    }
    assert!(refused > 500, "only {refused} texts were refused");
}

#[test]
fn deep_nesting_is_an_error_and_long_chains_are_not() {
    let wrap = |e: &str| format!("graph @f() {{ v0[]: f64 = {e} }}");
    let on_small_stack = |text: String| {
        std::thread::Builder::new().stack_size(2 << 20).spawn(move || parse(&text)).unwrap().join().unwrap()
    };
    for (open, close) in [("(", ")"), ("exp(", ")"), ("where(1, 1, ", ")"), ("max(1, ", ")"), ("1 * (", ")")]
    {
        let text = wrap(&format!("{}1{}", open.repeat(100_000), close.repeat(100_000)));
        assert!(on_small_stack(text).unwrap_err().message.contains("nested"));
        let text = wrap(&format!("{}1{}", open.repeat(40), close.repeat(40)));
        assert!(matches!(on_small_stack(text), Ok(Document::Graph(_))), "{open}");
    }
    assert!(on_small_stack(wrap(&format!("{}x", "-".repeat(100_000)))).is_err());
    assert!(
        on_small_stack(format!("tile @t warps 1 {{ axis i=1 block 1 loop {}", "loop i { ".repeat(100_000)))
            .is_err()
    );
    // What is accepted can be walked by everything on a small stack; longer chains are refused.
    let walk = |text: String| {
        let run = move || {
            let document = parse(&text).ok()?;
            let again = parse(&print(&document)).ok()?;
            let Document::Graph(m) = &again else { return None };
            let f = m.functions.values().next()?;
            let verified = verify(&again).is_ok();
            let value = eval_function(&F64, f, &Symbols::new(), vec![]).ok()?;
            Some((again == document, verified, value.results[0].data[0]))
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap()
    };
    let chain = |n: usize| wrap(&format!("1{}", " + 1".repeat(n))).replace(" }", " return v0 }");
    assert_eq!(walk(chain(500)), Some((true, true, 501.0)));
    let signs = wrap(&format!("{}exp(0)", "-".repeat(500))).replace(" }", " return v0 }");
    assert_eq!(walk(signs), Some((true, true, 1.0)));
    assert_eq!(walk(chain(600)), None);
    assert!(parse(&chain(100_000)).unwrap_err().message.contains("operations within each other"));
}

#[test]
fn messages_name_the_thing_and_the_place() {
    let cases = [
        ("symbol kv: 1..=4\nglobal x: f33[kv] input", "2:11", "unknown dtype `f33`"),
        ("symbol kv: 5..=4", "1:12", "the range of `kv` is empty"),
        ("graph @f(x: f32[i=3] input) {\n  y[i]: f32 = x[j]\n}", "2:17", "there is no axis `j`"),
        ("graph @f(x: f32[i=3] input) {\n  y[i]: f32 = xx[i]\n}", "2:15", "there is no value `xx`"),
        ("graph @f(x: f32[i=3] input) { y[i]: f32 = x }", "1:43", "`x` is a tensor"),
        ("graph @f(x: f32[i=3] input) { y[i]: f32 = i < 2 < 3 }", "1:49", "comparisons do not chain"),
        (
            "graph @f(x: f32[i=3] input) { y[i]: f32 = softmax(x[i]) }",
            "1:43",
            "there is no function `softmax`",
        ),
        (
            "graph @f(x: f32[i=3] input) { y[i]: f32 = exp(x[i], 2) }",
            "1:43",
            "`exp` takes 1 argument, found 2",
        ),
        ("graph @f(x: f32[i=3, i=4] input) { }", "1:22", "axis `i` is declared twice"),
        ("graph @f(sum: f32[] input) { }", "1:10", "`sum` cannot name a value"),
        ("graph @f() { v1[]: f32 = 1 }", "1:14", "the next value is v0"),
        ("graph @f() {", "1:13", "expected a definition"),
        ("plan @f() { temps 0 }\nsymbol k: 1..=2", "2:1", "expected the end of the text or another plan"),
        ("step arena 99999999999999999999 { }", "1:12", "expected the bytes of the arena"),
        ("tile @t warps 1 { tile0 = load p0[] }", "1:19", "there is no tile `tile0`"),
        ("global \"x: f32[] input", "1:8", "this string has no end"),
        ("global x$: f32[] input", "1:9", "the character '$' means nothing here"),
    ];
    for (text, at, message) in cases {
        let e = parse(text).expect_err(text);
        assert!(e.message.starts_with(message), "{text}: {}", e.message);
        assert_eq!(e.position(text).expect("a place").to_string(), at, "{text}: {}", e.message);
    }
    let e = parse("graph @f(keys: f32[i=3] input) { y[i]: f32 = key[i] }").unwrap_err();
    assert_eq!(e.help.as_deref(), Some("did you mean `keys`?"));
}

/// The sample of the module documentation means what it says.
#[test]
fn a_module_reads_like_the_documentation() {
    let text = "symbol kv: 1..=4096
global x: bf16[32, kv] input ; a comment
global y: bf16[32, kv] temp
graph @scale(x: bf16[h=32, j=kv] input) {
    axes k=7
    m[h]: f32 = max[j](x[h,j])
    v2[h,j]: bf16 = x[h,j] * inv(m[h])
    return v2
}
call @scale(x) -> (y)
output y
";
    let m = parse_module(text).unwrap_or_else(|e| panic!("{}", e.render("f", text)));
    assert_eq!(m.functions.len(), 1);
    let printed = print(&Document::Graph(m));
    let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeeze(&printed), squeeze(&text.replace("; a comment", "")));
}

proptest::proptest! {
    /// Any text at all is parsed or refused.
    #[test]
    fn arbitrary_texts_do_not_panic(text in "\\PC{0,60}", words in "[a-z0-9@\\[\\]{}(),:;=.+*/<>\"_ -]{0,200}") {
        for text in [&text, &words, &format!("graph @f(x: f32[i=3] input) {{ y[i]: f32 = {words}"), &format!("tile @t warps 1 {{ {words}")] {
            if let Ok(document) = parse(text) {
                proptest::prop_assert_eq!(parse(&print(&document)).ok(), Some(document));
            }
        }
    }
}
