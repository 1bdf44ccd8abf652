//! What: everything about a compilation on one page.
//! Why here: a page that can be read, sent and kept without this program, a network or a script.
//! Pre: planned phases.
//! Post: well-formed HTML in which every text of the user is escaped and nothing refers to anything outside of the page.

use std::fmt::Write as _;

use tilewright_codegen::{Target, emit};
use tilewright_ir::plan::KernelPlan;
use tilewright_ir::text::{self, Document, PlanFile, TileFile};

use super::drawing::drawing;
use super::marks::{Piece, changed};
use super::{FunctionReport, amount, bytes, counted, functions, passes, remark, when};
use crate::{Error, Planned, report};

const STYLE: &str = include_str!("page.css");

/// The characters that mean something in HTML, written so that they do not.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in a document, however it is written.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The page. `sizes` are values of symbols that bytes are counted at.
pub fn page(name: &str, planned: &[Planned], sizes: &[(String, u64)]) -> Result<String, Error> {
    let mut body = String::new();
    let mut links = String::new();
    for (n, p) in planned.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(links, "<li><a href=\"#p{n}\">{}</a><ul>", escape(&p.name));
        let _ = writeln!(body, "<section aria-labelledby=\"p{n}\"><h2 id=\"p{n}\">{}</h2>", escape(&p.name));
        for note in report::search_notes(p) {
            let _ = writeln!(body, "<p><strong>Note:</strong> {}</p>", escape(&note));
        }
        let all = functions(p, sizes)?;
        for (f, function) in all.iter().enumerate() {
            let _ = write!(links, "<li><a href=\"#p{n}f{f}\">@{}</a></li>", escape(function.name));
            self::function(&mut body, &format!("p{n}f{f}"), p, f, function)?;
        }
        let _ = writeln!(links, "<li><a href=\"#p{n}levels\">levels</a></li></ul></li>");
        levels(&mut body, &format!("p{n}"), p);
        body.push_str("</section>\n");
    }
    let title = escape(name);
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} - Tilewright</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header><h1>{title}</h1>\n<p class=\"soft\">How its kernels were derived, what was chosen, and what it moves.</p>\n\
         <nav aria-label=\"Contents\"><ul>\n{links}</ul></nav></header>\n\
         <main id=\"main\">\n{body}</main>\n\
         <footer>Made by Tilewright {}. The page is complete in itself.</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    ))
}

/// One function: figures, the kernels in their phases, the choice, and each kernel.
fn function(
    out: &mut String,
    id: &str,
    p: &Planned,
    index: usize,
    f: &FunctionReport<'_>,
) -> Result<(), Error> {
    let calls = if f.calls == 1 { String::new() } else { format!(", called {} times", f.calls) };
    let _ = writeln!(out, "<h3 id=\"{id}\">@{}{calls}</h3>", escape(f.name));
    if !f.sizes.is_empty() {
        let at: Vec<String> = f.sizes.iter().map(|(n, v)| format!("{}={v}", escape(n))).collect();
        let _ = writeln!(out, "<p class=\"soft\">Bytes are counted at {}.</p>", at.join(", "));
    }
    figures(out, f);
    if let Some((func, _)) = p.compiled.plans.get(index) {
        let source = text::print_function(&p.graph.functions[*func], &p.graph.symbols);
        details(out, "Equations: the graph of this function", &source);
    }
    drawing(out, id, f);
    table(
        out,
        "Kernels of the chosen plan",
        &["kernel", "launch", "phase", "reads", "writes", "passes"],
        f.after.kernels.iter().map(|k| {
            let (launch, phase) = when(k);
            let cells = vec![
                k.name.clone(),
                launch,
                phase,
                bytes(k.read_bytes()),
                bytes(k.written_bytes()),
                passes(k),
            ];
            (false, cells)
        }),
    );
    if !f.after.excess.is_empty() {
        table(
            out,
            "Above the floor",
            &["tensor", "bytes", "written by", "read by"],
            f.after.excess.iter().map(|e| {
                (false, vec![e.name.clone(), bytes(e.bytes), e.writers.join(", "), e.readers.join(", ")])
            }),
        );
    }
    if !f.after.boundaries.is_empty() {
        table(
            out,
            "Why these are not fused",
            &["from", "to", "tensor", "bytes", "reason"],
            f.after.boundaries.iter().map(|b| {
                let cells =
                    vec![b.from.clone(), b.to.join(", "), b.name.clone(), bytes(b.bytes), b.reason.clone()];
                (false, cells)
            }),
        );
    }
    table(
        out,
        "Candidates, at typical sizes",
        &["candidate", "kernels", "launches", "phases", "bytes", "estimate", "how"],
        f.choice.candidates.iter().enumerate().map(|(n, c)| {
            let cells = vec![
                c.names.join(", "),
                c.count.kernels.len().to_string(),
                c.cost.launches.to_string(),
                c.count.phases.to_string(),
                bytes(c.cost.bytes),
                format!("{:.1} us", c.cost.seconds * 1e6),
                remark(c),
            ];
            (n == f.choice.chosen, cells)
        }),
    );
    if !f.risks().is_empty() {
        let mut label = super::RISKS.to_owned();
        label[..1].make_ascii_uppercase();
        let _ = writeln!(out, "<p>{}:</p><ul>", escape(&label));
        for r in f.risks() {
            let _ = writeln!(out, "<li><code>{}</code></li>", escape(r));
        }
        out.push_str("</ul>\n");
    }
    let Some((_, plan)) = p.compiled.plans.get(index) else { return Ok(()) };
    for (n, k) in plan.kernels.iter().enumerate() {
        let _ = writeln!(out, "<article class=\"card\"><h4 id=\"{id}k{n}\">{}</h4>", escape(&k.name));
        derivation(out, k, plan.kernels.len() == 1);
        let mut bare = k.clone();
        bare.derivation.clear();
        details(out, "Plan", &text::print_kernel(plan, &bare, &p.graph.symbols));
        if let Some(program) = p.compiled.programs.iter().find(|x| x.name == k.name) {
            let document = Document::Tile(TileFile {
                symbols: p.graph.symbols.clone(),
                programs: vec![program.clone()],
            });
            details(out, "Tile program", &text::print(&document));
            details(out, "CUDA source", &emit(program, &p.compiled.step.symbols, Target::BASE)?.cuda);
        }
        out.push_str("</article>\n");
    }
    Ok(())
}

/// Bars: what is moved without fusion, by the chosen plan, and at least.
fn figures(out: &mut String, f: &FunctionReport<'_>) {
    let most = f.before.bytes.max(f.after.bytes).max(1) as f64;
    out.push_str("<div class=\"bars\">\n");
    for (name, class, moved, detail) in [
        (
            "without fusion",
            "bar old",
            f.before.bytes,
            format!(
                "{}, {}",
                counted(f.before.kernels.len(), "kernel"),
                counted(f.before.phases as usize, "phase")
            ),
        ),
        (
            "chosen",
            "bar",
            f.after.bytes,
            format!(
                "{}, {}, {:.3} x the floor{}",
                counted(f.after.kernels.len(), "kernel"),
                counted(f.after.phases as usize, "phase"),
                f.after.over_floor(),
                f.after
                    .over_source(&f.before)
                    .map(|x| format!(", {} x the multiply-adds of the source", amount(x)))
                    .unwrap_or_default()
            ),
        ),
        ("floor", "bar", f.after.floor, "each operand once".to_owned()),
    ] {
        let _ = writeln!(
            out,
            "<span>{name}</span><span class=\"track\"><span class=\"{class}\" style=\"width:{:.2}%\"></span></span>\
             <span class=\"what\">{}, {}</span>",
            100.0 * moved as f64 / most,
            escape(&bytes(moved)),
            escape(&detail)
        );
    }
    out.push_str("</div>\n");
}

/// A table; rows say whether they are the chosen one. Columns of figures are right-aligned.
fn table(out: &mut String, caption: &str, head: &[&str], rows: impl Iterator<Item = (bool, Vec<String>)>) {
    let figure = |n: usize| {
        matches!(
            head[n],
            "phase"
                | "launch"
                | "launches"
                | "reads"
                | "writes"
                | "bytes"
                | "kernels"
                | "phases"
                | "estimate"
        )
    };
    let class = |n: usize| match head[n] {
        _ if figure(n) => " class=\"n\"",
        "reason" | "how" => " class=\"prose\"",
        _ => "",
    };
    let label = escape(caption);
    let _ = write!(
        out,
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{label}\"><table><caption>{label}</caption><thead><tr>"
    );
    for (n, h) in head.iter().enumerate() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(n), escape(h));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (chosen, cells) in rows {
        out.push_str(if chosen { "<tr class=\"chosen\">" } else { "<tr>" });
        for (n, cell) in cells.iter().enumerate() {
            let (open, close) = if n == 0 { ("<th scope=\"row\"", "</th>") } else { ("<td", "</td>") };
            let chosen = if chosen && n == 0 { " (chosen)" } else { "" };
            let _ = write!(out, "{open}{}>{}{chosen}{close}", class(n), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The laws that led to a kernel, with what each changed.
fn derivation(out: &mut String, k: &KernelPlan, open: bool) {
    if k.derivation.is_empty() {
        out.push_str("<p class=\"soft\">As written: no law was needed.</p>\n");
    } else {
        let mut laws: Vec<&str> = Vec::new();
        for step in &k.derivation {
            if !laws.contains(&step.law.as_str()) {
                laws.push(&step.law);
            }
        }
        let _ = writeln!(
            out,
            "<details{}><summary>Derivation: {} by {}</summary><ol class=\"laws\">",
            if open { " open=\"\"" } else { "" },
            counted(k.derivation.len(), "step"),
            escape(&laws.join(", "))
        );
        for step in &k.derivation {
            let [before, after] = changed(&step.before, &step.after).map(|side| marked(&side));
            let _ = writeln!(
                out,
                "<li><strong>{}</strong><code>{before}</code><code class=\"after\">{after}</code></li>",
                escape(&step.law)
            );
        }
        out.push_str("</ol></details>\n");
    }
    for (what, all) in [("Refined", &k.refinements), ("Boundary", &k.boundaries)] {
        for text in all {
            let _ = writeln!(out, "<p class=\"soft\">{what}: {}</p>", escape(text));
        }
    }
}

/// Pieces of an equation, those that changed marked.
fn marked(side: &[Piece<'_>]) -> String {
    side.iter()
        .map(|p| match escape(p.text) {
            text if p.changed => format!("<mark>{text}</mark>"),
            text => text,
        })
        .collect()
}

/// The levels of the whole phase as text.
fn levels(out: &mut String, id: &str, p: &Planned) {
    let _ = writeln!(out, "<h3 id=\"{id}levels\">Levels of {}</h3>", escape(&p.name));
    details(out, "Graph", &text::print_module(&p.graph));
    let mut plans: Vec<_> = p.compiled.plans.iter().map(|(_, plan)| plan.clone()).collect();
    for kernel in plans.iter_mut().flat_map(|plan| &mut plan.kernels) {
        kernel.derivation.clear();
    }
    details(out, "Plan", &text::print(&Document::Plan(PlanFile { symbols: p.graph.symbols.clone(), plans })));
    details(out, "Step", &text::print_step(&p.compiled.step));
}

/// A text that is shown when it is opened.
fn details(out: &mut String, name: &str, content: &str) {
    let _ = writeln!(
        out,
        "<details><summary>{}</summary><pre tabindex=\"0\">{}</pre></details>",
        escape(name),
        escape(content.trim_end())
    );
}
