//! The text form of all four levels: printing and parsing.
//!
//! A file holds one level: a graph module, plans, tile programs, or a step; the last three with the symbols that they
//! mention. `parse(print(d)) == d` for every verified document, entity numbers included.
//!
//! ```text
//! ; a comment to the end of the line; line breaks mean nothing
//! symbol kv: 1..=4096
//! global x: bf16[32, kv] input              ; input | weight "name" | table ... | state | temp
//! graph @scale(x: bf16[h=32, j=kv] input) { ; axes are declared where they are first named, or in `axes`
//!     axes k=7
//!     m[h]: f32 = max[j](x[h,j])
//!     v2[h,j]: bf16 = x[h,j] * inv(m[h])     ; a value without a name goes by its number
//!     return v2
//! }
//! call @scale(x) -> (y)
//! output y
//! ```
//!
//! Things are referred to by name where the name is an identifier that occurs once, else by entity number (`ax3`, `v7`,
//! `s0`, `g2`, `fn1`); names that are no identifiers are declared in quotes.
//!
//! Expressions, loosest first: `or`; `and`; comparisons `< <= > >= == !=` (not chained); `+ -`; `* / // %`; prefix `-`;
//! then literals (`1`, `0.5`, `inf`, `nan`), positions (`i`), reads (`q[h, i + 1]`), `f(x)`, `max(a, b)`, `min(a, b)`,
//! `where(c, a, b)`, casts (`bf16(x)`), `size(kv)`, reductions (`sum[i,j](x)`), locals (`t3`) and tiles (`tile3`).

mod cursor;
mod lexer;
mod locate;
mod names;
mod parse_expr;
mod parse_graph;
mod parse_plan;
mod parse_step;
mod parse_tile;
mod print_expr;
mod print_graph;
mod print_plan;
mod print_step;
mod print_tile;

use cranelift_entity::PrimaryMap;

use crate::diag::{Diagnostic, Span};
use crate::graph::Module;
use crate::plan::Plan;
use crate::step::Step;
use crate::tile::TileProgram;
use crate::{Sym, SymData};

use cursor::Cursor;
use lexer::Kind;

pub use locate::{diagnose, locate};
pub use print_expr::number;

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A graph module.
    Graph(Module),
    /// Plans.
    Plan(PlanFile),
    /// Tile programs.
    Tile(TileFile),
    /// A step.
    Step(Step),
}

/// Plans and the symbols that they mention.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanFile {
    /// The symbols of the module.
    pub symbols: PrimaryMap<Sym, SymData>,
    /// The plans.
    pub plans: Vec<Plan>,
}

/// Tile programs and the symbols that they mention.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TileFile {
    /// The symbols of the module.
    pub symbols: PrimaryMap<Sym, SymData>,
    /// The programs.
    pub programs: Vec<TileProgram>,
}

impl Document {
    /// What the level is called.
    pub fn level(&self) -> &'static str {
        match self {
            Document::Graph(_) => "graph",
            Document::Plan(_) => "plan",
            Document::Tile(_) => "tile",
            Document::Step(_) => "step",
        }
    }
}

/// Reads a document. The text alone says which level it holds; an empty one is an empty graph module.
pub fn parse(text: &str) -> Result<Document, Diagnostic> {
    let mut c = Cursor::new(lexer::lex(text)?);
    while c.take_word("symbol") {
        c.symbol()?;
    }
    let Kind::Word(w) = c.peek().clone() else {
        return match c.peek() {
            Kind::End => Ok(Document::Graph(parse_graph::module(&mut c)?)),
            _ => Err(c.unexpected("`symbol`, `global`, `graph`, `plan`, `tile` or `step`")),
        };
    };
    let document = match w.as_str() {
        "plan" => {
            let mut plans = Vec::new();
            while c.take_word("plan") {
                plans.push(parse_plan::plan(&mut c)?);
            }
            Document::Plan(PlanFile { symbols: c.symbols.clone(), plans })
        }
        "tile" => {
            let mut programs = Vec::new();
            while c.take_word("tile") {
                programs.push(parse_tile::program(&mut c)?);
            }
            Document::Tile(TileFile { symbols: c.symbols.clone(), programs })
        }
        "step" => {
            c.next();
            Document::Step(parse_step::step(&mut c)?)
        }
        _ => Document::Graph(parse_graph::module(&mut c)?),
    };
    match c.peek() {
        Kind::End => Ok(document),
        _ => Err(c
            .unexpected(&format!("the end of the text or another {}", document.level()))
            .with_help("a file holds one level only, its symbols first")),
    }
}

fn wrong_level(text: &str, wanted: &str, found: &Document) -> Diagnostic {
    Diagnostic::new(
        Span::new(0, text.len().min(1)),
        format!("this text holds a {}, not a {wanted}", found.level()),
    )
}

/// Reads a graph module.
pub fn parse_module(text: &str) -> Result<Module, Diagnostic> {
    match parse(text)? {
        Document::Graph(m) => Ok(m),
        other => Err(wrong_level(text, "graph", &other)),
    }
}

/// Reads plans and their symbols.
pub fn parse_plans(text: &str) -> Result<PlanFile, Diagnostic> {
    match parse(text)? {
        Document::Plan(p) => Ok(p),
        other => Err(wrong_level(text, "plan", &other)),
    }
}

/// Reads tile programs and their symbols.
pub fn parse_tiles(text: &str) -> Result<TileFile, Diagnostic> {
    match parse(text)? {
        Document::Tile(t) => Ok(t),
        other => Err(wrong_level(text, "tile", &other)),
    }
}

/// Reads a step.
pub fn parse_step(text: &str) -> Result<Step, Diagnostic> {
    match parse(text)? {
        Document::Step(s) => Ok(s),
        other => Err(wrong_level(text, "step", &other)),
    }
}

/// The text of a document.
pub fn print(document: &Document) -> String {
    match document {
        Document::Graph(module) => print_module(module),
        Document::Plan(file) => {
            let mut out = print_graph::symbols(&file.symbols);
            for plan in &file.plans {
                separate(&mut out);
                out.push_str(&print_plan(plan, &file.symbols));
            }
            out
        }
        Document::Tile(file) => {
            let mut out = print_graph::symbols(&file.symbols);
            for program in &file.programs {
                separate(&mut out);
                out.push_str(&print_tile(program, &file.symbols));
            }
            out
        }
        Document::Step(step) => print_step(step),
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

/// The text of a graph module.
pub fn print_module(module: &Module) -> String {
    print_graph::module(module)
}

/// The text of a graph function of a module with the given symbols.
pub fn print_function(function: &crate::graph::Function, symbols: &PrimaryMap<Sym, SymData>) -> String {
    print_graph::function(function, &names::symbol_refs(symbols), None)
}

/// The text of a plan of a module with the given symbols.
pub fn print_plan(plan: &Plan, symbols: &PrimaryMap<Sym, SymData>) -> String {
    print_plan::plan(plan, symbols)
}

/// The text of one kernel of a plan.
pub fn print_kernel(
    plan: &Plan,
    kernel: &crate::plan::KernelPlan,
    symbols: &PrimaryMap<Sym, SymData>,
) -> String {
    print_plan::one_kernel(plan, kernel, symbols)
}

/// The text of a tile program of a module with the given symbols.
pub fn print_tile(program: &TileProgram, symbols: &PrimaryMap<Sym, SymData>) -> String {
    print_tile::program(program, symbols)
}

/// The text of a step.
pub fn print_step(step: &Step) -> String {
    print_step::step(step)
}

/// The text of an expression over a function's axes and values.
pub fn print_expr(
    ex: &crate::Expr,
    function: &crate::graph::Function,
    symbols: &PrimaryMap<Sym, SymData>,
) -> String {
    let names = names::Names {
        axes: names::axis_refs(&function.axes),
        values: names::value_refs(&function.values),
        symbols: names::symbol_refs(symbols),
    };
    print_expr::expr(ex, &names)
}
