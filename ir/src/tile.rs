//! The tile level: programs of one thread block over tiles.
//!
//! A tile is a dense array over some of the program's axes; along each axis it spans the axis' *block* (a power of
//! two). Positions are absolute: `Pos(a)` inside a program is the position along the whole axis, i.e. the offset of
//! the current block plus the position in the block. Positions at or beyond the extent exist in ragged blocks: what is
//! loaded there is the fill, what is stored there is masked, and what is reduced there must have been masked before.
//!
//! A tile lists only axes whose block is above 1. The position along an axis of block 1 is uniform over the thread block,
//! so `Pos` of such an axis may appear in any expression whatever the axes of the tile.
//!
//! Grid axes are fixed for the block (decoded from the linear block index, last axis fastest); loop axes advance with
//! [`Op::Loop`]; resident axes have a single block at offset 0 that covers the extent.

use cranelift_entity::PrimaryMap;

use crate::{Axis, Binary, DType, Ex, Expr, Extent, Packing, Param, Reduction, Tile};

/// A program for one thread block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TileProgram {
    /// Its name; the entry point of the kernel.
    pub name: String,
    /// Warps of the block: a power of two.
    pub warps: u32,
    /// Axes.
    pub axes: PrimaryMap<Axis, TileAxis>,
    /// Buffers: those in global memory in the order of the kernel's arguments, then areas of the block.
    pub params: PrimaryMap<Param, BufferParam>,
    /// Tiles.
    pub tiles: PrimaryMap<Tile, TileData>,
    /// The program.
    pub body: Vec<Op>,
}

/// An axis of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct TileAxis {
    /// Its name, for readers.
    pub name: String,
    /// Its extent.
    pub extent: Extent,
    /// How many positions a tile spans: a power of two.
    pub block: u32,
    /// How its blocks are visited.
    pub role: Role,
    /// Loops over it cover one run of its blocks: of `n` blocks `ceil(n / r)`, counted from the position along this grid
    /// axis times that, where `r` is the extent of the grid axis.
    pub runs: Option<Axis>,
}

/// How the blocks of an axis are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One block of the axis per thread block.
    Grid,
    /// By a loop.
    Loop,
    /// One block covers the extent.
    Resident,
}

/// A buffer: dense, and row-major unless it is packed. In global memory, or an area that each thread block has for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferParam {
    /// Its name, for readers.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its extents.
    pub dims: Vec<Extent>,
    /// Whether the program writes it in global memory. A program never reads what it writes there.
    pub written: bool,
    /// Whether nothing writes it while the step runs (weights, tables and inputs): it may be read before the launches
    /// before this one are done.
    pub constant: bool,
    /// The order of its elements in memory; `None` is row-major. It changes no meaning, only addresses.
    pub packing: Option<Packing>,
    /// The area of the thread block that it is, if it is in no global memory: shared memory that the block stores to and
    /// loads from. Several buffers may be one area with other extents. At first it holds nothing.
    pub area: Option<u32>,
}

/// A tile.
#[derive(Clone, Debug, PartialEq)]
pub struct TileData {
    /// The type of its elements in registers or shared memory.
    pub dtype: DType,
    /// Its axes; empty for a scalar that every thread holds.
    pub axes: Vec<Axis>,
    /// Where its elements live; set by the layout pass.
    pub place: Place,
    /// Whether its load runs ahead; set by the stream pass.
    pub ring: Option<Ring>,
}

/// How the load of a tile in a loop runs ahead of the loop: iteration `n` finds its elements in stage `n / span % stages`
/// of a ring in shared memory, to which they were copied while the iterations before were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ring {
    /// Stages: a power of two.
    pub stages: u32,
    /// How many iterations a stage is for: a power of two.
    pub span: u32,
    /// Who copies.
    pub copier: Copier,
}

/// Who copies the elements of a tile to its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Copier {
    /// Each thread copies the vectors that it reads itself.
    Threads,
    /// One warp copies rows that are contiguous in memory, each as a whole, and a barrier counts their bytes. Rows in
    /// shared memory are followed by `pad` bytes.
    Bulk {
        /// Bytes after each row.
        pad: u32,
    },
}

/// Where the elements of a tile live.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Place {
    /// Not decided yet.
    #[default]
    Unassigned,
    /// In registers, distributed over the threads.
    Registers(Layout),
    /// In shared memory: row-major in the given order of axes (last is contiguous), with gaps.
    Shared {
        /// The order of axes.
        order: Vec<Axis>,
        /// Elements that are left out now and then, so that what is accessed together is in different banks.
        pads: Vec<Pad>,
    },
}

/// A gap of `by` elements after every so many, gaps not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    /// After how many elements: a power of two.
    pub every: u32,
    /// How many are left out.
    pub by: u32,
}

/// A bit of a position within a tile: bit `bit` of the position along `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisBit {
    /// The axis.
    pub axis: Axis,
    /// The bit, 0 is the lowest.
    pub bit: u8,
}

/// A distribution of a tile over registers, lanes and warps. Bit `n` of the register number (lane, warp) is the given
/// bit of a position, or nothing: then the elements are replicated along it. Each bit of each axis' block appears
/// exactly once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Register bits; never replicated.
    pub regs: Vec<AxisBit>,
    /// The five lane bits.
    pub lanes: Vec<Option<AxisBit>>,
    /// The warp bits.
    pub warps: Vec<Option<AxisBit>>,
}

/// How a contraction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DotKind {
    /// Tensor cores: 16-bit operands of this type, f32 accumulator.
    Mma(DType),
    /// The same with operands in vectors: of 32 neighbouring contracted positions a lane takes 8 that are neighbours
    /// themselves, so that it can read both operands from rows in memory, 16 bytes at a time. Which of the instruction's
    /// positions is which of the tile's does not matter as long as both operands agree. There may be fewer rows than the
    /// instruction has. Chosen by the layout pass.
    Vectors(DType),
    /// Fused multiply-adds in the accumulator's type, operands in shared memory.
    Fma,
}

impl DotKind {
    /// The type of operands of tensor cores.
    pub fn matrix(self) -> Option<DType> {
        match self {
            DotKind::Mma(dtype) | DotKind::Vectors(dtype) => Some(dtype),
            DotKind::Fma => None,
        }
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `out = buffer[index]` where the mask holds, else `fill`.
    Load {
        /// The tile.
        out: Tile,
        /// The buffer.
        param: Param,
        /// One integer expression per dimension, over positions, sizes and tiles (gathers).
        index: Vec<Ex>,
        /// Where memory may be touched; `None` is everywhere.
        mask: Option<Ex>,
        /// The value elsewhere.
        fill: f64,
    },
    /// `buffer[index] = tile` where the mask holds.
    Store {
        /// The buffer.
        param: Param,
        /// One integer expression per dimension.
        index: Vec<Ex>,
        /// Where memory may be touched.
        mask: Option<Ex>,
        /// What is stored, rounded to the buffer's type.
        value: Tile,
    },
    /// An elementwise expression over tiles, positions, sizes and literals; tiles with fewer axes are broadcast.
    Map {
        /// The tile.
        out: Tile,
        /// The expression, rounded to the tile's type.
        expr: Ex,
    },
    /// A reduction over axes of a tile.
    Reduce {
        /// The tile, without the reduced axes.
        out: Tile,
        /// The operation.
        op: Reduction,
        /// The axes.
        axes: Vec<Axis>,
        /// The source.
        src: Tile,
    },
    /// `out[m, n] = acc[m, n] + sum[k] a[m, k] * b[n, k]`; `m`, `n` and `k` are groups of axes: `k` are `over`, `m` the
    /// other axes of `a`, `n` the other axes of `b`.
    Dot {
        /// The tile.
        out: Tile,
        /// Left operand.
        a: Tile,
        /// Right operand.
        b: Tile,
        /// The accumulator that is added to, if any; it may share storage with `out`.
        acc: Option<Tile>,
        /// The contracted axes.
        over: Vec<Axis>,
        /// How.
        kind: DotKind,
    },
    /// The same tile at another place.
    Convert {
        /// The tile.
        out: Tile,
        /// The source.
        src: Tile,
    },
    /// A loop over the blocks of an axis within a range, in order. `carried` are (initial, inside, next, after): `inside` holds
    /// `initial` in the first iteration and `next` of the iteration before in the others; `after` holds the last
    /// `next` (or `initial` when the extent is 0).
    Loop {
        /// The axis.
        axis: Axis,
        /// The positions that it is about.
        range: Range,
        /// Carried tiles.
        carried: Vec<Carried>,
        /// The operations of one iteration.
        body: Vec<Op>,
    },
}

/// The positions that a loop is about, where those are not all: from the first, up to and without the second. Blocks
/// that hold none of them for any position of the thread block along other axes are left out, but one is visited wherever
/// the axis has a position: what a loop leaves behind is that of a block at least. Runs are runs of the blocks that are
/// left.
///
/// A bound is an integer expression of sums, differences, products with literals, `max` and `min` over positions along
/// axes of the grid and of loops around this one, sizes, and tiles without axes. What it is for the whole thread block
/// is said by interval arithmetic ([`extreme`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// The first position.
    pub from: Option<Ex>,
    /// The position behind the last.
    pub to: Option<Ex>,
}

impl Range {
    /// Whether the loop is about all positions.
    pub fn is_whole(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// The bounds that there are.
    pub fn exprs(&self) -> impl Iterator<Item = &Ex> {
        self.from.iter().chain(&self.to)
    }
}

/// What is needed to evaluate a bound: numbers in the evaluator, text in code generation.
pub trait Bounds {
    /// A value of a bound.
    type T;
    /// What can go wrong.
    type E;
    /// An integer.
    fn literal(&mut self, x: i64) -> Result<Self::T, Self::E>;
    /// The least or the greatest position of the current block of an axis.
    fn position(&mut self, axis: Axis, high: bool) -> Result<Self::T, Self::E>;
    /// An extent.
    fn size(&mut self, extent: Extent) -> Result<Self::T, Self::E>;
    /// The number that a tile without axes holds.
    fn tile(&mut self, tile: Tile) -> Result<Self::T, Self::E>;
    /// A sum, a difference, a product, a maximum or a minimum.
    fn join(&mut self, op: Binary, a: Self::T, b: Self::T) -> Result<Self::T, Self::E>;
    /// What any other expression is.
    fn other(&mut self, e: &Ex) -> Result<Self::T, Self::E>;
}

/// The least value of a bound over the positions of a thread block, or the greatest, by interval arithmetic: not above
/// (below) any value that it has.
pub fn extreme<B: Bounds>(b: &mut B, e: &Ex, high: bool) -> Result<B::T, B::E> {
    match &**e {
        Expr::Num(n) if n.0.fract() == 0.0 && n.0.abs() < 1e15 => b.literal(n.0 as i64),
        Expr::Pos(a) => b.position(*a, high),
        Expr::Size(extent) => b.size(*extent),
        Expr::Tile(t) => b.tile(*t),
        Expr::Binary(op @ (Binary::Add | Binary::Max | Binary::Min), x, y) => {
            let (x, y) = (extreme(b, x, high)?, extreme(b, y, high)?);
            b.join(*op, x, y)
        }
        Expr::Binary(Binary::Sub, x, y) => {
            let (x, y) = (extreme(b, x, high)?, extreme(b, y, !high)?);
            b.join(Binary::Sub, x, y)
        }
        Expr::Binary(Binary::Mul, x, y) => {
            let (x, factor) = match (&**x, &**y) {
                (_, Expr::Num(n)) => (x, n),
                (Expr::Num(n), _) => (y, n),
                _ => return b.other(e),
            };
            let value = extreme(b, x, high == (factor.0 >= 0.0))?;
            let factor = extreme(b, &Ex::new(Expr::Num(*factor)), high)?;
            b.join(Binary::Mul, value, factor)
        }
        _ => b.other(e),
    }
}

/// A tile that is carried around a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Before the loop.
    pub initial: Tile,
    /// At the start of an iteration.
    pub inside: Tile,
    /// At the end of an iteration.
    pub next: Tile,
    /// After the loop.
    pub after: Tile,
}

impl TileProgram {
    /// The buffers that are arguments of the kernel: those in global memory, which come first.
    pub fn arguments(&self) -> impl Iterator<Item = (Param, &BufferParam)> + '_ {
        self.params.iter().filter(|(_, p)| p.area.is_none())
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.warps * 32
    }

    /// The grid axes in order: the last is the fastest in the linear block index.
    pub fn grid(&self) -> impl Iterator<Item = (Axis, &TileAxis)> + '_ {
        self.axes.iter().filter(|(_, a)| a.role == Role::Grid)
    }

    /// Elements of a tile.
    pub fn elements(&self, tile: Tile) -> u64 {
        self.tiles[tile].axes.iter().map(|&a| u64::from(self.axes[a].block)).product()
    }
}
