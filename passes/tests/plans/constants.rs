//! Which parameters of kernels are constant, by what the launches of a step bind to them.

use tilewright_ir::step::{BufferData, BufferKind, Launch, Step};
use tilewright_ir::tile::{BufferParam, TileProgram};
use tilewright_ir::{Buffer, DType};
use tilewright_passes::constants::mark;

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
