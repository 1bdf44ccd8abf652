//! The order of weights in memory: for which programs which one, and when none.

use tilewright_ir::Extent;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::text::{Document, parse};
use tilewright_ir::tile::{Op, TileProgram};
use tilewright_ir::verify::{verify_step, verify_tile};
use tilewright_passes::pack::{pack, padding};

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
        ("bf16[512, 80]", "axis n=512 block 16 grid\naxis k=80 block 128 resident", "n,k", "k"),
        // Columns that end within a sector, in heads of an odd number of rows.
        (
            "bf16[40, 13, 72]",
            "axis h=40 block 1 grid\naxis n=13 block 16 grid\naxis k=72 block 128 resident",
            "h,n,k",
            "k",
        ),
        ("bf16[64, 512]", AXES, "k,n", "k"),
    ] {
        let mut programs = [program("a", w, axes, index, over)];
        assert_eq!(run(&mut programs, &mut step(&[("a", "x", w)])), [None], "{w} {index}");
    }
}

#[test]
fn rows_that_end_within_a_sector_lie_in_pairs() {
    let axes =
        |k: u32| format!("axis n=512 block 16 grid\naxis k={k} block {} resident", k.next_power_of_two());
    let one = |k: u32| {
        let w = format!("bf16[512, {k}]");
        run(&mut [program("a", &w, &axes(k), "n,k", "k")], &mut step(&[("a", "x", &w)])).remove(0)
    };
    // 16 bytes of one row, 16 of the other.
    assert_eq!(one(72).as_deref(), Some("[144:256, 8:9, 72:2, 1:8]"));
    assert_eq!(one(648).as_deref(), Some("[1296:256, 8:81, 648:2, 1:8]"));
    // Whole sectors, and less than 16 bytes.
    assert_eq!((one(80), one(76)), (None, None));
}

/// Two halves of 64 rows of four heads, of which 16 rows each are taken at a time, and 64 columns.
const HALVES: &str =
    "axis h=4 block 1 grid\naxis z=2 block 2 resident\naxis n=64 block 16 grid\naxis k=256 block 64 loop";

/// A kernel that sums both halves of some rows of a head.
fn of_halves(name: &str, rows: u64, axes: &str) -> TileProgram {
    let shape = format!("bf16[4, 2, {rows}, 256]");
    let text = format!(
        "tile @{name} warps 1 {{\n{axes}\n buffer p0 w: {shape} constant\n buffer p1 y: f32[512] written\n \
         tile0[z,n]: f32\n tile1[z,n]: f32\n tile2[z,n,k]: bf16\n tile3[z,n]: f32\n tile4[z,n]: f32\n \
         tile5[z,n]: f32\n tile0 = 0\n loop k carry [tile0 -> tile1 -> tile4 -> tile5] {{\n \
         tile2 = load p0[h,z,n,k] if n < {rows} else 0\n tile3 = reduce sum[k] tile2\n tile4 = tile1 + tile3\n }}\n \
         store p1[128 * h + 64 * z + n] = tile5 if n < {rows}\n}}\n"
    );
    let Document::Tile(file) = parse(&text).expect("a program") else { panic!("no program") };
    file.programs[0].clone()
}

#[test]
fn bands_are_of_the_rows_that_are_taken_at_a_time() {
    let shape = "bf16[4, 2, 64, 256]";
    let halves = |name: &str, axes: &str| of_halves(name, 64, axes);
    let mut one = step(&[("a", "x", shape)]);
    let found = run(&mut [halves("a", HALVES)], &mut one);
    // Heads, bands, runs of columns; halves, blocks of columns, rows, columns.
    assert_eq!(found, [Some("[32768:4, 4096:4, 64:4, 16384:2, 32:2, 256:16, 1:32]".to_owned())]);
    // All rows of a head.
    let all = HALVES.replace("n=64 block 16 grid", "n=64 block 64 resident");
    let found = run(&mut [halves("a", &all)], &mut step(&[("a", "x", shape)]));
    assert_eq!(found, [Some("[32768:4, 64:4, 16384:2, 4096:4, 32:2, 256:16, 1:32]".to_owned())]);
    // Another kernel takes other rows, and uses each of them more often: for 32 positions of something.
    let many = format!("{all}\naxis i=32 block 1 grid");
    let other = || step(&[("a", "x", shape), ("b", "x", shape)]);
    let both = run(&mut [halves("a", HALVES), halves("b", &many)], &mut other());
    assert_eq!(both[0].as_deref(), Some("[32768:4, 4096:4, 64:4, 16384:2, 32:2, 256:16, 1:32]"));
    assert_eq!(both[0], both[1]);
    // Columns that no block divides: pieces are of as many as do, and a block is several of them.
    let ragged = HALVES.replace("k=256 block 64", "k=288 block 128");
    let program = {
        let mut p = halves("a", &ragged);
        p.params.values_mut().for_each(|p| {
            if p.dims.len() == 4 {
                p.dims[3] = Extent::Const(288);
            }
        });
        p
    };
    let found = run(&mut [program], &mut step(&[("a", "x", "bf16[4, 2, 64, 288]")]));
    assert_eq!(found, [Some("[36864:4, 4608:4, 32:9, 18432:2, 288:16, 1:32]".to_owned())]);
    // Nobody uses them less often.
    let both = run(&mut [halves("a", HALVES), halves("b", &all)], &mut other());
    assert_eq!(both, [Some("[4096:32, 32:8, 256:16, 1:32]".to_owned()), both[0].clone()]);
}

#[test]
fn no_block_reaches_into_the_next_half_of_a_head() {
    let of = |rows: u64, n: &str, more: &str| {
        let axes = HALVES.replace("n=64 block 16 grid", &format!("n={rows} {n}")) + more;
        of_halves(if more.is_empty() { "a" } else { "b" }, rows, &axes)
    };
    let one = |rows: u64, n: &str| {
        let shape = format!("bf16[4, 2, {rows}, 256]");
        run(&mut [of(rows, n, "")], &mut step(&[("a", "x", &shape)])).remove(0).expect("it is packed")
    };
    // Eights of rows divide 40: blocks of both halves are one piece, all of them too, and what is padded is taken in parts.
    assert_eq!(one(40, "block 8 grid"), "[20480:4, 2048:5, 64:4, 10240:2, 32:2, 256:8, 1:32]");
    assert_eq!(one(40, "block 64 resident"), "[20480:4, 64:4, 10240:2, 2048:5, 32:2, 256:8, 1:32]");
    assert_eq!(one(40, "block 16 grid"), "[2048:40, 32:8, 256:8, 1:32]");
    assert_eq!(one(36, "block 16 grid"), "[1024:72, 32:8, 256:4, 1:32]");
    assert_eq!(one(48, "block 16 grid"), "[24576:4, 4096:3, 64:4, 12288:2, 32:2, 256:16, 1:32]");
    // Whoever sees rows alone takes the same blocks.
    let rows =
        program("a", "bf16[320, 256]", "axis n=320 block 16 grid\naxis k=256 block 256 resident", "n,k", "k");
    let both = [("a", "x", "bf16[320, 256]"), ("b", "x", "bf16[4, 2, 40, 256]")];
    let mut programs = [rows, of(40, "block 8 grid", "\naxis i=32 block 1 grid")];
    let found = run(&mut programs, &mut step(&both));
    assert_eq!(found, [Some("[2048:40, 32:8, 256:8, 1:32]".to_owned()), found[0].clone()]);
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
