//! Contractions whose operands come in vectors: that packed and plain weights on either side give the numbers of the
//! interpreter, that rows go from memory to fragments in whole sectors and without bank conflicts, and that each weight
//! is read once.

use crate::common::*;
use tilewright_codegen::{Target, assign_layouts, halve, stream_loads};
use tilewright_emulator as emu;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{Copier, DotKind, Op, Place, Ring, TileProgram};
use tilewright_ir::{DType, Packing};

const KIND: DotKind = DotKind::Mma(DType::Bf16);

/// `o[b, j] = sum[k] x[b, k] * s[k] * w[j, k]`: weights are rows where there are few columns, else columns.
struct Product {
    batch: u64,
    rows: u64,
    columns: u64,
    /// Blocks of the three, and warps.
    blocks: (u32, u32, u32),
    warps: u32,
    packed: bool,
    scaled: bool,
}

impl Product {
    fn program(&self) -> (TileProgram, Symbols) {
        let mut b = Builder::new("vectors", self.warps);
        let (bb, bj, bk) = self.blocks;
        let n = b.axis("b", Const(self.batch), bb, tilewright_ir::tile::Role::Grid);
        let (j, q) = (b.grid("j", self.rows, bj), b.looped("k", self.columns, bk));
        let w = b.buffer("w", DType::Bf16, &[j, q], false);
        let x = b.buffer("x", DType::Bf16, &[n, q], false);
        let s = b.buffer("s", DType::Bf16, &[q], false);
        let o = b.buffer("o", DType::F32, &[n, j], true);
        b.p.params[w].constant = true;
        if self.packed {
            b.p.params[w].packing = Packing::blocks(self.rows, self.columns, 16, 32);
            assert!(b.p.params[w].packing.is_some());
        }
        let swap = bb < 16;
        let zero = b.map(DType::F32, &if swap { [j, n] } else { [n, j] }, ex::num(0.0));
        let after = b.over(q, &[zero], |b, inside| {
            let (mut tx, tw) = (b.load(x, &[n, q]), b.load(w, &[j, q]));
            if self.scaled {
                let ts = b.load(s, &[q]);
                tx = b.map(DType::Bf16, &[n, q], ex::mul(t(tx), t(ts)));
            }
            let (rows, columns) = if swap { (tw, tx) } else { (tx, tw) };
            vec![b.dot(rows, columns, Some(inside[0]), &[q], KIND)]
        });
        b.store(o, &[n, j], after[0]);
        b.finish()
    }
}

type Symbols = cranelift_entity::PrimaryMap<tilewright_ir::Sym, tilewright_ir::SymData>;

/// The kinds of the contractions, and whether a tile is converted in a loop.
fn kinds(p: &TileProgram) -> (Vec<DotKind>, bool) {
    fn walk(body: &[Op], kinds: &mut Vec<DotKind>, converts: &mut bool) {
        for op in body {
            match op {
                Op::Dot { kind, .. } => kinds.push(*kind),
                Op::Convert { .. } => *converts = true,
                Op::Loop { body, .. } => walk(body, kinds, converts),
                _ => {}
            }
        }
    }
    let (mut out, mut converts) = (vec![], false);
    walk(&p.body, &mut out, &mut converts);
    (out, converts)
}

#[test]
fn products_with_weights_on_either_side() {
    let mut rng = Rng::fresh("vectors");
    let mut cases = Vec::new();
    for packed in [false, true] {
        // (batch, rows, columns), blocks, warps: whole, ragged in each, one of each.
        for (size, blocks, warps) in [
            ((8, 64, 256), (8, 16, 128), 1),
            ((5, 40, 96), (8, 16, 128), 1),
            ((3, 33, 32), (8, 32, 64), 2),
            ((16, 64, 160), (16, 64, 32), 4),
            ((13, 70, 64), (16, 32, 32), 1),
            ((64, 128, 64), (64, 64, 32), 4),
            ((1, 1, 32), (8, 16, 32), 1),
        ] {
            for scaled in [false, true] {
                let (batch, rows, columns) = size;
                cases.push(Product { batch, rows, columns, blocks, warps, packed, scaled });
            }
        }
    }
    for case in cases {
        let (p, symbols) = case.program();
        let placed = assign_layouts(&p).unwrap();
        let vectors = case.packed || case.warps == 1;
        assert_eq!(kinds(&placed).0, [if vectors { DotKind::Vectors(DType::Bf16) } else { KIND }]);
        let buffers = random_buffers(&p, &vec![], &mut rng);
        let ran = check_on(&p, &symbols, &vec![], &buffers, 1e-2, case.columns as f64 / 4.0 + 1.0);
        assert_eq!(ran.resources.spill_bytes, 0);
    }
}

#[test]
fn a_skinny_product_streams_its_weights_once() {
    let mut rng = Rng::fresh("skinny");
    for (batch, block) in [(8u64, 8u32), (4, 8), (16, 16)] {
        let (rows, columns) = (64u64, 1024u64);
        let product = Product {
            batch,
            rows,
            columns,
            blocks: (block, 16, 1024 / block),
            warps: 1,
            packed: true,
            scaled: true,
        };
        let (p, symbols) = product.program();
        let placed = assign_layouts(&p).unwrap();
        let (kinds, converts) = kinds(&placed);
        assert_eq!(kinds, [DotKind::Vectors(DType::Bf16)]);
        assert!(!converts, "everything is computed where the instruction reads it");
        assert!(placed.tiles.values().all(|t| matches!(t.place, Place::Registers(_))));
        let streamed = stream_loads(&placed, Target::parse("sm_90a").unwrap()).unwrap();
        let bulk = |r: &Ring| matches!(r.copier, Copier::Bulk { .. });
        assert!(streamed.tiles.values().any(|t| t.ring.as_ref().is_some_and(bulk)));
        let buffers: Vec<Vec<f64>> = random_buffers(&p, &vec![], &mut rng);
        for target in ["sm_80", "sm_90a"] {
            let options = emu::Options { sanitize: emu::Sanitize::ALL, ..emu::Options::default() };
            let ran = run_for(&p, &symbols, &vec![], &buffers, target, &options);
            let c = &ran.counters;
            let w = &c.buffers["w"];
            assert_eq!(w.read_bytes, 2 * rows * columns, "{target}: each weight once");
            assert_eq!(
                (w.read_sectors, w.unique_read_sectors),
                (2 * rows * columns / 32, 2 * rows * columns / 32)
            );
            assert_eq!(c.shared_wavefronts, c.shared_wavefronts_ideal, "{target}: no bank conflicts");
            assert_eq!(ran.resources.spill_bytes, 0);
            if target == "sm_90a" {
                let copies = ran.cuda.matches("tw_copy_bulk(").count();
                assert!(copies >= 2, "weights are copied in bulk");
                // Weights of an iteration, or of several, are one piece.
                let piece = 16 * 2 * 1024 / block;
                let one = [format!("{piece}, bar);"), format!("const u32 all = (int)many * {piece};")];
                assert!(one.iter().any(|t| ran.cuda.contains(t)), "{}", kernel_text(&ran.cuda));
            }
        }
    }
}

/// Blocks of 16 rows become such of 8, 4 and 2: the instruction computes other rows that nobody reads. Whole blocks by the
/// interpreter; halves of them under all checks, also with rows that a block has no more, and bit for bit the same.
#[test]
fn blocks_of_fewer_rows_than_the_instruction_has() {
    let mut rng = Rng::fresh("fewer rows");
    for (batch, rows, columns, blocks, warps) in [
        (8u64, 48u64, 512u64, (8u32, 16u32, 128u32), 1u32),
        (5, 41, 160, (8, 16, 64), 1),
        (2, 33, 96, (8, 32, 32), 1),
        (9, 64, 128, (16, 32, 64), 1),
        (3, 70, 256, (8, 64, 64), 2),
    ] {
        let product = Product { batch, rows, columns, blocks, warps, packed: true, scaled: true };
        let (p, symbols) = product.program();
        let j = p.axes.iter().find(|(_, a)| a.name == "j").expect("rows").0;
        let buffers: Vec<Vec<f64>> = random_buffers(&p, &vec![], &mut rng);
        let whole = check_on(&p, &symbols, &vec![], &buffers, 1e-2, columns as f64 / 4.0 + 1.0);
        let bits = |x: &[Vec<f64>]| x.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        let (mut half, mut sizes) = (p, vec![]);
        while let Some(next) = halve(&half, j).unwrap() {
            half = next;
            sizes.push(half.axes[j].block);
            for (target, seed) in [("sm_80", Some(1)), ("sm_90a", Some(2))] {
                let options = emu::Options { sanitize: emu::Sanitize::ALL, seed, ..emu::Options::default() };
                let ran = run_for(&half, &symbols, &vec![], &buffers, target, &options);
                assert!(bits(&ran.buffers) == bits(&whole.buffers), "{batch} {rows} {columns}: {sizes:?}");
                assert_eq!(ran.resources.spill_bytes, 0);
            }
        }
        // Where weights are columns, a fragment holds 8 of them. Several warps keep whole fragments.
        let least = if blocks.0 >= 16 { 8 } else { [2, 16 * warps][usize::from(warps > 1)] };
        assert_eq!(sizes.last(), Some(&least), "{batch} {rows} {columns}: {sizes:?}");
    }
}

#[test]
fn what_is_not_a_row_is_taken_as_before() {
    // Contracted positions of a plain matrix that are columns of memory.
    let mut b = Builder::new("columns", 4);
    let (i, j, q) = (b.grid("i", 64, 64), b.grid("j", 64, 64), b.looped("k", 64, 32));
    let (w, x) = (b.buffer("w", DType::Bf16, &[q, j], false), b.buffer("x", DType::F32, &[i, q], false));
    let o = b.buffer("o", DType::F32, &[i, j], true);
    let zero = b.map(DType::F32, &[i, j], ex::num(0.0));
    let after = b.over(q, &[zero], |b, inside| {
        let (tx, tw) = (b.load(x, &[i, q]), b.load_at(w, &[j, q], vec![ex::pos(q), ex::pos(j)], None, 0.0));
        let narrow = b.map(DType::Bf16, &[i, q], t(tx));
        vec![b.dot(narrow, tw, Some(inside[0]), &[q], KIND)]
    });
    b.store(o, &[i, j], after[0]);
    let (p, _) = b.finish();
    assert_eq!(kinds(&assign_layouts(&p).unwrap()).0, [KIND]);
}
