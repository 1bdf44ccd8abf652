//! What: PTX text to a syntax tree.
//! Why here: parsing knows only the grammar; what instructions mean is the decoder's business.
//! Pre: any text at all.
//! Post: a `Module`, or a `PtxError` with line and column; never a panic.

pub(crate) mod ast;
mod body;
mod lexer;
mod parser;

pub(crate) use parser::parse;
