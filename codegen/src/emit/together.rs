//! Several tile programs as one kernel, whose blocks are those of all of them.
//!
//! Why here: programs that share a launch stay programs of their own on every level above; how they become one entry point
//! is part of the calling convention.
//!
//! Pre: programs that do not touch what another of them writes. Post: a block has the threads of the largest, and those that
//! a program has no use for leave; the buffers of
//! the programs one after the other, then the parameter block; blocks of earlier programs first, blocks beyond the last do
//! nothing; what each block computes is bit for bit what the kernel of its program does.

use cranelift_entity::PrimaryMap;
use tilewright_ir::artifact::KernelSource;
use tilewright_ir::tile::{Role, TileProgram};
use tilewright_ir::{Extent, Sym, SymData};

use super::kernel::readable;
use super::prelude::{BODY_PRELUDE, PRELUDE, RING_PRELUDE};
use super::{BodyOptions, Emitter, Inlining, arena};
use crate::{CodegenError, Target, assign_layouts, stream_loads};

/// Writes one kernel for the programs of one launch.
pub fn emit_together(
    name: &str,
    programs: &[&TileProgram],
    symbols: &PrimaryMap<Sym, SymData>,
    target: Target,
) -> Result<KernelSource, CodegenError> {
    let threads = programs.iter().map(|p| p.threads()).max().unwrap_or(0);
    let mut text = [PRELUDE, BODY_PRELUDE, RING_PRELUDE].concat();
    let mut params: Vec<String> = Vec::new();
    let mut calls = String::new();
    let mut shared_bytes = 0;
    for (n, program) in programs.iter().enumerate() {
        let constant: Vec<bool> = program.arguments().map(|(_, p)| p.constant).collect();
        let function = format!("part{n}");
        let options = BodyOptions { name: &function, constant: &constant, bars: 0, pages: None };
        let placed = stream_loads(&assign_layouts(program)?, target)?;
        let arena = arena::plan(&placed, target.program_limit())?;
        let body =
            Emitter::new(&placed, symbols, &arena, Some(options)).function(&options, Inlining::Always)?;
        shared_bytes = shared_bytes.max(body.shared_bytes);
        text.push('\n');
        text.push_str(&body.cuda);
        let first = params.len();
        for ((at, ty), constant) in (first..).zip(&body.params).zip(constant) {
            params.push(format!("{ty} {}p{at}", if constant { "__restrict__ " } else { "" }));
        }
        let arguments: String = (first..params.len()).map(|at| format!("p{at}, ")).collect();
        // Their barriers are those of the threads that they have.
        let some = if program.threads() < threads {
            format!("if (threadIdx.x < {}) ", program.threads())
        } else {
            String::new()
        };
        let call = format!("{some}{function}({arguments}sy, block); // {}", readable(&program.name));
        let blocks = blocks(program);
        calls.push_str(&format!(
            "    const unsigned n{n} = {blocks};\n    if (block < n{n}) {{\n        {call}\n        return;\n    }}\n    block -= n{n};\n"
        ));
    }
    params.push("const int* __restrict__ sy".to_owned());
    text.push_str(&format!(
        "\nextern \"C\" __global__ void __launch_bounds__({threads}, 1) {name}({}) {{\n    tw_let_next_start();\n    unsigned block = blockIdx.x;\n{calls}    tw_await_previous();\n}}\n",
        params.join(", ")
    ));
    Ok(KernelSource { name: name.to_owned(), cuda: text, threads, shared_bytes })
}

/// The number of blocks of a program.
fn blocks(program: &TileProgram) -> String {
    let axes = program.axes.values().filter(|a| a.role == Role::Grid);
    let counts: Vec<String> = axes
        .map(|a| match a.extent {
            Extent::Const(n) => format!("{}u", n.div_ceil(u64::from(a.block))),
            Extent::Sym(s) if a.block == 1 => format!("(unsigned)sy[{}]", s.as_u32()),
            Extent::Sym(s) => {
                format!("((unsigned)(sy[{}] + {}) >> {})", s.as_u32(), a.block - 1, a.block.trailing_zeros())
            }
        })
        .collect();
    if counts.is_empty() { "1u".to_owned() } else { counts.join(" * ") }
}
