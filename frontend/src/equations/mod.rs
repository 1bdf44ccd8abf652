//! Equations in index notation: a few lines of text to a module.
//!
//! Why here: it is the quickest way to compile an operator, and the sugar of the graph level. The grammar is in
//! `GRAMMAR.md` beside the crate's manifest; [`builder`] offers the same language without text.
//!
//! Pre: any text, the dtypes and dimensions of given arrays, names of outputs. Post: a module whose single function
//! has the used inputs as parameters and the outputs as results; or a diagnostic with a place in the text. No input
//! makes it panic.
//!
//! ```
//! use tilewright_frontend::equations::{Given, parse_equations};
//! let text = "Q: f32[i=33, d=64]; K: f32[j=20, d]; V: f32[j, e=16]
//!             O[i,e] = sum[j](softmax[j](sum[d](Q[i,d] * K[j,d])) * V[j,e])";
//! let module = parse_equations(text, &Given::default(), &[]).unwrap();
//! assert_eq!(module.outputs.len(), 1);
//! ```

mod ast;
pub mod builder;
mod call;
mod dims;
mod expr;
mod lexer;
mod library;
mod lower;
mod parser;
mod property;
mod scope;

use indexmap::IndexMap;
use tilewright_ir::diag::Diagnostic;
use tilewright_ir::graph::Module;
use tilewright_ir::{DType, Sym};

pub use property::{CheckedProperty, Evidence};

/// Arrays that the caller has: their dtypes and dimensions fill in what the text does not declare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// By name.
    pub arrays: IndexMap<String, (DType, Vec<u64>)>,
}

impl Given {
    /// The same with one more array.
    #[must_use]
    pub fn with(mut self, name: &str, dtype: DType, dims: &[u64]) -> Given {
        self.arrays.insert(name.to_owned(), (dtype, dims.to_vec()));
        self
    }
}

/// Parsed equations.
#[derive(Clone, Debug)]
pub struct Equations {
    /// The module.
    pub module: Module,
    /// The values of symbols that the given arrays imply.
    pub symbol_values: Vec<(Sym, u64)>,
    /// The declared properties of functions, each checked.
    pub properties: Vec<CheckedProperty>,
}

/// What a text declares of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The array.
    pub name: String,
    /// The type of its elements, if it is said.
    pub dtype: Option<DType>,
    /// Whether it is the same in every run.
    pub constant: bool,
}

/// The declarations of arrays, in order: what a caller must know to read them from files.
pub fn declarations(text: &str) -> Result<Vec<Declared>, Diagnostic> {
    let declared = |s| match s {
        ast::Stmt::Decl(ast::Decl { name, constant, dtype, .. }) => {
            Some(Declared { name: name.text, dtype, constant })
        }
        _ => None,
    };
    Ok(parser::parse(text)?.into_iter().filter_map(declared).collect())
}

/// Parses equations to a module. Without outputs, the last definition is the output.
pub fn parse_equations(text: &str, given: &Given, outputs: &[String]) -> Result<Module, Diagnostic> {
    parse_equations_checked(text, given, outputs).map(|e| e.module)
}

/// Parses equations to a module, with what is known besides.
pub fn parse_equations_checked(
    text: &str,
    given: &Given,
    outputs: &[String],
) -> Result<Equations, Diagnostic> {
    assemble(&parser::parse(text)?, given, outputs)
}

fn assemble(stmts: &[ast::Stmt], given: &Given, outputs: &[String]) -> Result<Equations, Diagnostic> {
    let properties = property::check(stmts)?;
    let lower::Lowered { module, symbol_values } = lower::lower(stmts, given, outputs)?;
    Ok(Equations { module, symbol_values, properties })
}
