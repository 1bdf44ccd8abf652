//! Which buffers a kernel may read at any time.
//!
//! Pre: a step and the programs of its kernels, whose parameters are the arguments of its launches.
//! Post: a parameter is constant if every launch binds it to what no launch ever writes: inputs, weights and tables.
//! Only such a buffer may be read before the launches before are done, and through the cache that is not coherent.

use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::tile::TileProgram;

/// Marks the constant parameters of all programs that the step launches, and no others: what was one may be written since
/// steps were joined.
pub fn mark(programs: &mut [TileProgram], step: &Step) {
    for program in programs {
        let launches: Vec<_> = step.launches.iter().filter(|l| l.kernel == program.name).collect();
        if launches.is_empty() {
            continue;
        }
        for (n, data) in program.params.values_mut().enumerate() {
            let fixed = |kind: &BufferKind| {
                matches!(kind, BufferKind::Input | BufferKind::Weight(_) | BufferKind::Table(_))
            };
            let bound = launches.iter().map(|l| l.args.get(n).map(|&b| &step.buffers[b].kind));
            data.constant = !data.written && bound.into_iter().all(|k| k.is_some_and(fixed));
        }
    }
}
