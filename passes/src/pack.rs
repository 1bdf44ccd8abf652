//! Weights in the order in which contractions read them.
//!
//! What: a large weight whose trailing dimensions are contracted is a matrix of rows; it is packed in blocks of
//! [`ROWS`] rows and [`ROW_BYTES`] of columns, the blocks of a band of rows one after the other. So what a thread block
//! needs at a time, a band of rows and a run of columns, is one contiguous piece, followed by the next one. Where whoever
//! uses each weight least often, and so waits for it most, takes other rows at a time (both halves of what is rotated, or
//! all rows that are normalised together), the bands are of these rows.
//! 8 rows of a block are 512 bytes that the 32 lanes of a warp read as 16 contiguous bytes each, in the very
//! distribution that tensor cores take operands in, whichever operand the weight is. Where rows are those of heads, and
//! a head or a half of it is no whole number of blocks, blocks are of as few rows as it takes: one that reached into the
//! next head would be taken in parts. Rows that end within a sector lie in pairs, 16 bytes of one row beside 16 of the
//! other: so sectors are whole, and what lanes read of two rows still meets different banks.
//! Why here: all kernels of all phases that read a weight must agree on it, and one copy serves them all. Meaning does
//! not change, so nothing else of a program does.
//! Pre: programs whose constants are marked, and their steps. Post: `T16` and `S9`; the parameters of a kernel and all
//! buffers that its launches bind to them have the same packing.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::PrimaryMap;
use tilewright_ir::packing::Digit;
use tilewright_ir::step::{BufferKind, Step};
use tilewright_ir::tile::{Op, Role, TileProgram};
use tilewright_ir::{Axis, DType, Ex, Expr, Extent, Packing, Param, Sym, SymData, Tile};

/// The most rows of a block: those of one instruction of tensor cores.
pub const ROWS: u64 = 16;
/// Bytes of a row of a block: two sectors, and what four lanes read.
pub const ROW_BYTES: u64 = 64;
/// Bytes of a row in a pair of rows, which make a sector together.
const HALF_SECTOR: u64 = 16;
/// Weights of fewer bytes stay as they are: they are read once, and no copy is made of them.
pub const LEAST: u64 = 64 << 10;

/// Whether a weight whose rows are those of some dimensions, with so many columns of so many bytes, is packed where its
/// columns are contracted.
pub fn is_packed(rows: &[u64], columns: u64, bytes: u64) -> bool {
    Blocks::of_large(rows, columns, bytes).is_some()
}

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

/// What a program wishes a tensor to be.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    /// The matrix in blocks.
    base: Blocks,
    /// Bands of what is needed at a time, if that is something else, and how often the program uses each weight.
    bands: (u64, Option<Packing>),
}

/// A matrix, and its blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Blocks {
    rows: u64,
    columns: u64,
    /// Rows of a block.
    low: u64,
    /// Columns of a block.
    width: u64,
}

impl Blocks {
    /// The blocks of a matrix of elements of so many bytes whose rows are those of some dimensions: no dimension ends
    /// within one. `None` if the columns are no whole number of them.
    fn of(dims: &[u64], columns: u64, bytes: u64) -> Option<Blocks> {
        let within_sector = |n: u64| n % (2 * HALF_SECTOR) == HALF_SECTOR;
        let (rows, row) = if within_sector(columns * bytes) { (2, HALF_SECTOR) } else { (ROWS, ROW_BYTES) };
        let (mut low, width) = (rows, row / bytes);
        let mut below = 1u64;
        for n in dims.iter().skip(1).rev() {
            below *= n;
            while !below.is_multiple_of(low) && !low.is_multiple_of(below) {
                low /= 2;
            }
        }
        let blocks = Blocks { rows: dims.iter().product(), columns, low, width };
        let rows = blocks.packing().map(|_| blocks);
        rows.filter(|_| low > 1 || row == ROW_BYTES)
    }

    /// The same of columns of so many bytes, if there is enough of them to be worth it.
    fn of_large(dims: &[u64], columns: u64, bytes: u64) -> Option<Blocks> {
        let rows: u64 = dims.iter().product();
        let large = rows >= ROWS && rows * columns * bytes >= LEAST;
        large.then(|| Blocks::of(dims, columns, bytes)).flatten()
    }

    fn packing(self) -> Option<Packing> {
        Packing::blocks(self.rows, self.columns, self.low, self.width)
    }
}

/// Two wishes: the matrix must be the same, its blocks suit both, and its bands are those of whoever uses it least often.
fn merge(have: Option<Wish>, wish: Option<Wish>) -> Option<Wish> {
    let (have, wish) = (have?, wish?);
    let low = have.base.low.min(wish.base.low);
    let base = Blocks { low, ..have.base };
    if base != (Blocks { low, ..wish.base }) {
        return None;
    }
    // Bands of larger blocks would not suit both.
    let bands = |w: Wish| (w.bands.0, w.bands.1.filter(|_| w.base.low == low));
    let (have, wish) = (bands(have), bands(wish));
    let bands = match have.0.cmp(&wish.0) {
        std::cmp::Ordering::Less => have,
        std::cmp::Ordering::Greater => wish,
        std::cmp::Ordering::Equal if have == wish => have,
        std::cmp::Ordering::Equal => (have.0, None),
    };
    Some(Wish { base, bands })
}

/// The packing of each tensor that has one.
fn choose(phases: &[Phase<'_>]) -> BTreeMap<Name, Packing> {
    // What each tensor is wished to be; `None` where two wishes differ.
    let mut wishes: BTreeMap<Name, Option<Wish>> = BTreeMap::new();
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
                let wish = wish(program, param, &step.symbols);
                for name in &names {
                    let mut add = |wish: Option<Wish>| {
                        wishes
                            .entry(name.clone())
                            .and_modify(|have| *have = merge(have.take(), wish.clone()))
                            .or_insert(wish);
                    };
                    if others {
                        add(None);
                    } else if let Some(wish) = &wish {
                        add(wish.clone());
                    }
                }
                together.push(names);
            }
        }
    }
    // Who takes turns with a tensor that is not packed is not packed either, and who takes turns has equal bands.
    loop {
        let before = wishes.clone();
        for names in &together {
            let all = names.iter().map(|n| wishes.get(n).cloned().flatten());
            let Some(Some(one)) = all.reduce(merge) else {
                for name in names {
                    wishes.insert(name.clone(), None);
                }
                continue;
            };
            for name in names {
                wishes.insert(name.clone(), Some(one.clone()));
            }
        }
        if wishes == before {
            break;
        }
    }
    let chosen = |wish: Wish| wish.bands.1.or_else(|| wish.base.packing());
    wishes.into_iter().filter_map(|(name, wish)| Some((name, chosen(wish?)?))).collect()
}

/// What a program wishes a parameter to be: nothing if it does not contract it, else a packing or none.
fn wish(program: &TileProgram, param: Param, symbols: &PrimaryMap<Sym, SymData>) -> Option<Option<Wish>> {
    let mut ops: Vec<&Op> = Vec::new();
    visit(&program.body, &mut |op| ops.push(op));
    let data = &program.params[param];
    let dims: Vec<u64> = data.dims.iter().map(|d| d.as_const()).collect::<Option<_>>()?;
    let mut found: Option<Option<Wish>> = None;
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
        let (outer, inner) = dims.split_at(dims.len() - trailing);
        let bytes = data.dtype.bytes() as u64;
        let base = Blocks::of_large(outer, inner.iter().product(), bytes);
        let wish = base.map(|base| {
            let uses = program.axes.iter().filter(|(a, _)| !index.iter().any(|e| e.free_axes().contains(a)));
            let most = |e: Extent| match e {
                Extent::Const(n) => n,
                Extent::Sym(s) => symbols[s].max,
            };
            let uses = uses.map(|(_, a)| most(a.extent).max(1)).fold(1, u64::saturating_mul);
            // Pairs of rows are long already.
            let whole = base.width * bytes == ROW_BYTES;
            let bands = whole.then(|| bands(program, index, &dims, outer.len(), base)).flatten();
            Wish { base, bands: (uses, bands) }
        });
        found = Some(match found {
            None => wish,
            Some(have) => merge(have, wish),
        });
    }
    found
}

/// The packing in which the rows and columns that a load takes at a time are one piece, and those that a loop over columns
/// takes next are behind it; `None` if the rows are a band anyway, or are no whole number of such pieces. Within a piece
/// blocks are as everywhere.
fn bands(program: &TileProgram, index: &[Ex], dims: &[u64], outer: usize, base: Blocks) -> Option<Packing> {
    let Blocks { columns, low, width, .. } = base;
    // How many positions of each dimension are taken at a time; of columns that no block divides, as many as do.
    let block = |(d, (e, &n)): (usize, (&Ex, &u64))| match &**e {
        Expr::Pos(a) => {
            let b = u64::from(program.axes[*a].block).min(n);
            let whole = 1 << b.max(1).trailing_zeros().min(n.max(1).trailing_zeros());
            let b = if d >= outer && !n.is_multiple_of(b.max(1)) { whole } else { b };
            Some(b).filter(|&b| b > 0 && n.is_multiple_of(b))
        }
        _ => None,
    };
    let blocks: Vec<u64> = index.iter().zip(dims).enumerate().map(block).collect::<Option<_>>()?;
    let (row_blocks, column_blocks) = blocks.split_at(outer);
    let taken: u64 = row_blocks.iter().product();
    // Columns: whole dimensions but for one that is cut, which all those before it take one position of.
    let whole = column_blocks.iter().zip(&dims[outer..]).rev().take_while(|(b, n)| b == n).count();
    let cut = column_blocks.len() - whole;
    let run: u64 = column_blocks.iter().product();
    let one_run = column_blocks[..cut.saturating_sub(1)].iter().all(|&b| b == 1);
    let last = *row_blocks.last()?;
    if taken <= low || !one_run || !run.is_multiple_of(width) || !last.is_multiple_of(low) {
        return None;
    }
    let mut digits = Vec::new();
    let mut inner = Vec::new();
    let mut step = columns;
    for (&n, &b) in dims[..outer].iter().zip(row_blocks).rev() {
        digits.push(Digit { step: step * b, count: n / b });
        let low = if inner.is_empty() { low } else { 1 };
        inner.push(Digit { step: step * low, count: b / low });
        step *= n;
    }
    digits.reverse();
    digits.push(Digit { step: run, count: columns / run });
    inner.reverse();
    digits.extend(inner);
    digits.push(Digit { step: width, count: run / width });
    digits.push(Digit { step: columns, count: low });
    digits.push(Digit { step: 1, count: width });
    digits.retain(|d| d.count > 1);
    Some(Packing { digits })
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
