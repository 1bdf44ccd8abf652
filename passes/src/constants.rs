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

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::step::{BufferData, Launch};
    use tilewright_ir::tile::BufferParam;
    use tilewright_ir::{Buffer, DType};

    /// A step with one kernel of two parameters, launched with these pairs of buffers.
    fn step(kinds: &[BufferKind], launches: &[[u32; 2]]) -> (TileProgram, Step) {
        let mut program = TileProgram { name: "k".into(), warps: 1, ..TileProgram::default() };
        for written in [false, true] {
            let param = BufferParam {
                name: "p".into(),
                dtype: DType::F32,
                dims: vec![],
                written,
                constant: false,
                packing: None,
                area: None,
            };
            program.params.push(param);
        }
        let mut step = Step::default();
        for kind in kinds {
            let data = BufferData {
                name: String::new(),
                dtype: DType::F32,
                dims: vec![],
                kind: kind.clone(),
                packing: None,
            };
            step.buffers.push(data);
        }
        for args in launches {
            step.launches.push(Launch {
                kernel: "k".into(),
                region: String::new(),
                args: args.map(Buffer::from_u32).to_vec(),
                writes: vec![false, true],
                grid: vec![],
                beside: false,
            });
        }
        (program, step)
    }

    #[test]
    fn constant_is_what_no_launch_binds_to_something_written() {
        use BufferKind::{Arena, Input, Output, State, Weight};
        let weight = || Weight("w".into());
        let kinds = [weight(), Input, State, Arena(0), Output];
        for (launches, constant) in [
            (&[[0, 4]][..], true),
            (&[[0, 4], [1, 4]], true),
            (&[[0, 4], [2, 4]], false),
            (&[[3, 4], [0, 4]], false),
        ] {
            let (program, step) = step(&kinds, launches);
            let mut programs = [program];
            mark(&mut programs, &step);
            let found: Vec<bool> = programs[0].params.values().map(|p| p.constant).collect();
            assert_eq!(found, [constant, false], "{launches:?}");
        }
    }
}
