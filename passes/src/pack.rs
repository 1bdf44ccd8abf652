//! Weights in the order in which contractions read them.
//!
//! What: a large weight whose trailing dimensions are contracted is a matrix of rows; it is packed in blocks of
//! [`ROWS`] rows and [`ROW_BYTES`] of columns, the blocks of a band of rows one after the other. So what a thread block
//! needs at a time, some bands of rows and a run of columns, is a few contiguous pieces, each a multiple of a kilobyte;
//! and 8 rows of a block are 512 bytes that the 32 lanes of a warp read as 16 contiguous bytes each, in the very
//! distribution that tensor cores take operands in, whichever operand the weight is.
//! Why here: all kernels of all phases that read a weight must agree on it, and one copy serves them all. Meaning does
//! not change, so nothing else of a program does.
//! Pre: programs whose constants are marked, and their steps. Post: `T16` and `S9`; the parameters of a kernel and all
//! buffers that its launches bind to them have the same packing.

use std::collections::{BTreeMap, BTreeSet};

use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::tile::{Op, Role, TileProgram};
use tilewright_ir::{Axis, DType, Ex, Expr, Packing, Param, Tile};

/// Rows of a block: those of one instruction of tensor cores.
pub const ROWS: u64 = 16;
/// Bytes of a row of a block: two sectors, and what four lanes read.
pub const ROW_BYTES: u64 = 64;
/// Weights of fewer bytes stay as they are: they are read once, and no copy is made of them.
pub const LEAST: u64 = 64 << 10;

/// A phase of a model: its step and its programs.
pub type Phase<'a> = (&'a mut Step, &'a mut [TileProgram]);

/// Packs the weights of phases that share them.
pub fn pack(phases: &mut [Phase<'_>]) {
    let packings = choose(phases);
    for (step, programs) in phases {
        for buffer in step.buffers.values_mut() {
            if let BufferKind::Weight(name) = &buffer.kind {
                buffer.packing = packings.get(&(name.clone(), buffer.dtype)).cloned();
            }
        }
        for program in programs.iter_mut() {
            let Some(launch) = step.launches.iter().find(|l| l.kernel == program.name) else { continue };
            for (data, &buffer) in program.params.values_mut().zip(&launch.args) {
                data.packing.clone_from(&step.buffers[buffer].packing);
            }
        }
    }
}

/// A tensor as a phase sees it: its name and the type in which it is read.
type Name = (String, DType);

/// The packing of each tensor that has one.
fn choose(phases: &[Phase<'_>]) -> BTreeMap<Name, Packing> {
    // What each tensor is wished to be; `None` where two wishes differ.
    let mut wishes: BTreeMap<Name, Option<Packing>> = BTreeMap::new();
    // Tensors that take turns as one parameter.
    let mut together: Vec<BTreeSet<Name>> = Vec::new();
    for (step, programs) in phases {
        for program in programs.iter() {
            let bound: Vec<_> = step.launches.iter().filter(|l| l.kernel == program.name).collect();
            for (n, param) in program.params.keys().enumerate() {
                let mut names = BTreeSet::new();
                let mut others = false;
                for launch in &bound {
                    let data = launch.args.get(n).map(|&b| &step.buffers[b]);
                    match data.map(|d| (&d.kind, d.dtype)) {
                        Some((BufferKind::Weight(name), dtype)) => {
                            names.insert((name.clone(), dtype));
                        }
                        _ => others = true,
                    }
                }
                let wish = wish(program, param);
                for name in &names {
                    let mut merge = |wish: Option<Packing>| {
                        wishes
                            .entry(name.clone())
                            .and_modify(|have| {
                                if *have != wish {
                                    *have = None
                                }
                            })
                            .or_insert(wish);
                    };
                    if others {
                        merge(None);
                    } else if let Some(wish) = &wish {
                        merge(wish.clone());
                    }
                }
                together.push(names);
            }
        }
    }
    // Who takes turns with a tensor that is not packed is not packed either.
    loop {
        let before = wishes.values().flatten().count();
        for names in &together {
            let mut all: Vec<Option<Packing>> =
                names.iter().map(|n| wishes.get(n).cloned().flatten()).collect();
            all.dedup();
            if all.len() > 1 {
                for name in names {
                    wishes.insert(name.clone(), None);
                }
            }
        }
        if wishes.values().flatten().count() == before {
            break;
        }
    }
    wishes.into_iter().filter_map(|(name, packing)| Some((name, packing?))).collect()
}

/// What a program wishes a parameter to be: nothing if it does not contract it, else a packing or none.
fn wish(program: &TileProgram, param: Param) -> Option<Option<Packing>> {
    let mut ops: Vec<&Op> = Vec::new();
    visit(&program.body, &mut |op| ops.push(op));
    let data = &program.params[param];
    let dims: Vec<u64> = data.dims.iter().map(|d| d.as_const()).collect::<Option<_>>()?;
    let elements: u64 = dims.iter().product();
    let mut found: Option<Option<Packing>> = None;
    for op in &ops {
        let Op::Load { out, param: p, index, .. } = op else { continue };
        if *p != param {
            continue;
        }
        let contracted = contracted(program, &ops, *out);
        let summed = |e: &Ex| matches!(&**e, Expr::Pos(a) if contracted.contains(a));
        let trailing = index.iter().rev().take_while(|e| summed(e)).count();
        if trailing == 0 {
            continue;
        }
        let columns: u64 = dims[dims.len() - trailing..].iter().product();
        let rows = elements / columns.max(1);
        let bytes = data.dtype.bytes() as u64;
        let large = rows >= ROWS && elements * bytes >= LEAST;
        let wish = large.then(|| Packing::blocks(rows, columns, ROWS, ROW_BYTES / bytes)).flatten();
        match &found {
            None => found = Some(wish),
            Some(have) if *have != wish => found = Some(None),
            Some(_) => {}
        }
    }
    found
}

/// The axes over which a loaded tile is contracted: those that the sums which read it first are over, and loops that add
/// up what these make of it; not what they keep.
fn contracted(program: &TileProgram, ops: &[&Op], loaded: Tile) -> BTreeSet<Axis> {
    let mut reach = BTreeSet::from([loaded]);
    let (mut gone, mut kept): (BTreeSet<Axis>, BTreeSet<Axis>) = Default::default();
    loop {
        let before = reach.len();
        for op in ops {
            match op {
                Op::Map { out, expr } => {
                    let mut reads = false;
                    expr.visit(&mut |e| reads |= matches!(e, Expr::Tile(t) if reach.contains(t)));
                    if reads {
                        reach.insert(*out);
                    }
                }
                Op::Convert { out, src } if reach.contains(src) => {
                    reach.insert(*out);
                }
                Op::Loop { carried, .. } => {
                    for c in carried {
                        if [c.initial, c.inside, c.next].iter().any(|t| reach.contains(t)) {
                            reach.extend([c.inside, c.after]);
                        }
                    }
                }
                Op::Reduce { axes, src, .. } if reach.contains(src) => {
                    gone.extend(axes);
                    kept.extend(program.tiles[*src].axes.iter().filter(|a| !axes.contains(a)));
                }
                Op::Dot { a, b, over, .. } => {
                    for tile in [a, b].into_iter().filter(|t| reach.contains(t)) {
                        gone.extend(over);
                        kept.extend(program.tiles[*tile].axes.iter().filter(|a| !over.contains(a)));
                    }
                }
                _ => {}
            }
        }
        if reach.len() == before {
            break;
        }
    }
    let loops = program.axes.iter().filter(|(_, a)| a.role == Role::Loop).map(|(a, _)| a);
    gone.extend(loops.filter(|a| !kept.contains(a)));
    gone
}

fn visit<'a>(body: &'a [Op], f: &mut impl FnMut(&'a Op)) {
    for op in body {
        f(op);
        if let Op::Loop { body, .. } = op {
            visit(body, f);
        }
    }
}

/// Bytes of a step's packed weights as they are in memory, and without padding.
pub fn padding(step: &Step) -> (u64, u64) {
    let packed = step.buffers.values().filter_map(|b| Some((b, b.packing.as_ref()?)));
    packed.fold((0, 0), |(all, own), (b, packing)| {
        let size = b.dtype.bytes() as u64;
        let elements = b.dims.iter().map(|d| d.as_const().unwrap_or(0)).product::<u64>();
        (all + size * packing.elements().unwrap_or(0), own + size * elements)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_ir::text::{Document, parse};
    use tilewright_ir::verify::{verify_step, verify_tile};

    /// A kernel that sums over `k`, or the only position along `g` if `k` is none.
    fn program(name: &str, w: &str, axes: &str, index: &str, over: &str) -> TileProgram {
        let text = format!(
            "tile @{name} warps 1 {{\n{axes}\n buffer p0 w: {w} constant\n buffer p1 y: f32[512] written\n \
             tile0[n,k]: bf16\n tile1[n]: f32\n tile0 = load p0[{index}]\n tile1 = reduce sum[{over}] tile0\n \
             store p1[n] = tile1\n}}\n"
        );
        let Document::Tile(file) = parse(&text).unwrap_or_else(|d| panic!("{d:?}\n{text}")) else {
            panic!("no program")
        };
        file.programs[0].clone()
    }

    /// A step in which each program runs once on each of its tensors.
    fn step(views: &[(&str, &str, &str)]) -> Step {
        let mut text = String::from("step arena 0 {\n");
        for (n, (_, name, dims)) in views.iter().enumerate() {
            text += &format!(" buffer w{n}: {dims} weight \"{name}\"\n buffer y{n}: f32[512] output\n");
        }
        for (n, (kernel, ..)) in views.iter().enumerate() {
            text += &format!(" launch \"{kernel}\" in \"r\" (w{n}, y{n} written) over [512/16]\n");
        }
        let Document::Step(step) = parse(&(text + "}\n")).expect("a step") else { panic!("no step") };
        step
    }

    const AXES: &str = "axis n=512 block 16 grid\naxis k=64 block 64 resident";

    fn packed(step: &Step) -> Vec<Option<String>> {
        step.buffers
            .values()
            .filter(|b| matches!(b.kind, BufferKind::Weight(_)))
            .map(|b| b.packing.as_ref().map(ToString::to_string))
            .collect()
    }

    fn run(programs: &mut [TileProgram], step: &mut Step) -> Vec<Option<String>> {
        pack(&mut [(step, programs)]);
        verify_step(step).expect("a step");
        for p in programs.iter() {
            verify_tile(p, &step.symbols).expect("a program");
            let launch = step.launches.iter().find(|l| l.kernel == p.name).expect("a launch");
            assert_eq!(p.params.values().next().unwrap().packing, step.buffers[launch.args[0]].packing);
        }
        packed(step)
    }

    #[test]
    fn what_is_contracted_last_is_packed_whatever_its_axes() {
        let want = || Some("[1024:32, 32:2, 64:16, 1:32]".to_owned());
        let matrix = program("a", "bf16[512, 64]", AXES, "n,k", "k");
        let split = "axis n=512 block 16 grid\naxis k=32 block 32 resident\naxis j=2 block 1 loop";
        let heads = program("b", "bf16[512, 2, 32]", split, "n,j,k", "k");
        // A loop over part of a row contracts, too.
        let mut heads = heads;
        let j = heads.axes.keys().next_back().unwrap();
        let body = std::mem::take(&mut heads.body);
        heads.body = vec![Op::Loop { axis: j, range: Default::default(), carried: vec![], body }];
        let mut programs = [matrix, heads];
        let mut step = step(&[("a", "x", "bf16[512, 64]"), ("b", "x", "bf16[512, 2, 32]")]);
        assert_eq!(run(&mut programs, &mut step), [want(), want()]);
        assert_eq!(padding(&step), (1 << 17, 1 << 17));
    }

    #[test]
    fn what_is_not_read_in_rows_is_not_packed() {
        for (w, axes, index, over) in [
            // Too small, columns that are not whole blocks, another dimension contracted.
            ("bf16[496, 64]", AXES, "n,k", "k"),
            ("bf16[512, 72]", "axis n=512 block 16 grid\naxis k=72 block 128 resident", "n,k", "k"),
            ("bf16[64, 512]", AXES, "k,n", "k"),
        ] {
            let mut programs = [program("a", w, axes, index, over)];
            assert_eq!(run(&mut programs, &mut step(&[("a", "x", w)])), [None], "{w} {index}");
        }
    }

    #[test]
    fn whoever_disagrees_keeps_all_from_it() {
        let shape = "bf16[512, 64]";
        let rows = || program("a", shape, AXES, "n,k", "k");
        // Another kernel contracts the rows of the same tensor.
        let columns = program("b", "bf16[64, 512]", AXES, "k,n", "k");
        let split = "axis n=512 block 16 grid\naxis k=32 block 32 resident\naxis j=2 block 1 grid";
        let narrow = program("b", "bf16[1024, 32]", split, "2 * n + j,k", "k");
        // No opinion is none.
        let mut step1 = step(&[("a", "x", shape), ("b", "x", "bf16[64, 512]")]);
        assert!(run(&mut [rows(), columns], &mut step1).iter().all(Option::is_some));
        // A matrix of other columns is another opinion, also for who takes turns with it.
        let mut step2 = step(&[("a", "x", shape), ("b", "x", "bf16[1024, 32]"), ("a", "z", shape)]);
        assert_eq!(run(&mut [rows(), narrow], &mut step2), [None, None, None]);
    }
}
