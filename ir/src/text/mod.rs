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

mod names;
mod print_expr;
mod print_graph;
mod print_plan;
mod print_step;
mod print_tile;

use cranelift_entity::PrimaryMap;

use crate::graph::Module;
use crate::plan::Plan;
use crate::step::Step;
use crate::tile::TileProgram;
use crate::{Sym, SymData};

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
