//! Tile programs with places to CUDA C++.
//!
//! What: [`emit`] writes one kernel. Tiles in registers become arrays whose every index is a constant once the loops
//! over registers are unrolled; tiles in shared memory are regions of one arena; positions split into a part of the
//! block, a part of the thread (computed once) and a constant of the register.
//! Pre: the places come from the layout pass. Post: see the crate.

mod arena;
mod arith;
mod convert;
mod elements;
mod expr;
mod fma;
mod kernel;
mod memory;
mod mma;
mod ops;
mod prelude;
mod range;
mod ring;
mod span;
mod task;
mod tiles;
mod together;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use cranelift_entity::PrimaryMap;
pub use task::{BodyOptions, BodySource, PagePlan, TaskBody, prelude};
pub use tilewright_ir::artifact::KernelSource;
use tilewright_ir::tile::{AxisBit, Layout, Place, Role, TileProgram};
use tilewright_ir::{Axis, Param, Sym, SymData, Tile};
pub use together::emit_together;

use crate::access::Access;
use crate::bits::thread_part;
use crate::feed::FeedLoop;
use crate::layout::shared::SharedMap;
use crate::{CodegenError, SHARED_LIMIT, Target, assign_layouts, stream_loads};

/// Bytes of shared memory of a program whose tiles have places.
pub(crate) fn shared_bytes(program: &TileProgram) -> Result<u64, CodegenError> {
    Ok(arena::plan(program, SHARED_LIMIT.into())?.bytes)
}

/// Bytes of the vectors in which the threads of a layout read a tile from memory.
pub(crate) fn vector_bytes(program: &TileProgram, access: Access<'_>, tile: Tile, layout: &Layout) -> usize {
    program.params[access.param].dtype.bytes() << memory::vector_of(program, access, tile, layout).regs.len()
}

/// Writes the kernel of a tile program, for a target's instructions.
pub fn emit(
    program: &TileProgram,
    symbols: &PrimaryMap<Sym, SymData>,
    target: Target,
) -> Result<KernelSource, CodegenError> {
    let placed = stream_loads(&assign_layouts(program)?, target)?;
    let arena = arena::plan(&placed, target.program_limit())?;
    Emitter::new(&placed, symbols, &arena, None).kernel()
}

impl<'a> Emitter<'a> {
    fn new(
        p: &'a TileProgram,
        symbols: &'a PrimaryMap<Sym, SymData>,
        arena: &'a arena::Arena,
        form: Option<BodyOptions<'a>>,
    ) -> Emitter<'a> {
        Emitter {
            p,
            symbols,
            form,
            part: false,
            head: String::new(),
            text: String::new(),
            depth: 1,
            named: HashMap::new(),
            used: BTreeSet::new(),
            counter: 0,
            ops: 0,
            bases: HashMap::new(),
            arena,
            inits: String::new(),
            early: String::new(),
            known: BTreeSet::new(),
            ahead: String::new(),
            flowing: Vec::new(),
            feeds: &[],
            fed: None,
            bar_count: 0,
            turned: Vec::new(),
        }
    }
}

/// Whether a device function becomes part of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inlining {
    Never,
    Always,
}

struct Emitter<'a> {
    p: &'a TileProgram,
    symbols: &'a PrimaryMap<Sym, SymData>,
    /// A device function instead of a kernel.
    form: Option<BodyOptions<'a>>,
    /// A part of a kernel: a device function that may do what a kernel does, because each block runs one only.
    part: bool,
    /// Definitions of thread parts, which stand before the body.
    head: String,
    /// The body.
    text: String,
    depth: usize,
    /// Names of thread parts by their expression.
    named: HashMap<String, String>,
    /// Symbols that are read.
    used: BTreeSet<Sym>,
    counter: usize,
    /// Operations so far, in program order: the key into the arena.
    ops: usize,
    /// Names of the offsets of the loops that are open.
    bases: HashMap<Axis, String>,
    arena: &'a arena::Arena,
    /// Initialisation of barriers.
    inits: String,
    /// Loads that stand before the kernel waits for others, and their tiles.
    early: String,
    known: BTreeSet<Tile>,
    /// Copies that are issued before the kernel waits for others.
    ahead: String,
    /// The rings of the loops that are open.
    flowing: Vec<ring::Rings>,
    /// Loops whose loads another warp issues, and the one that is open.
    feeds: &'a [FeedLoop],
    fed: Option<&'a FeedLoop>,
    /// In a task: barriers of rings so far, and whose they are.
    bar_count: u32,
    turned: Vec<ring::Rings>,
}

impl Emitter<'_> {
    fn malformed<T>(&self, what: String) -> Result<T, CodegenError> {
        Err(CodegenError::Malformed { program: self.p.name.clone(), what })
    }

    fn line(&mut self, text: impl AsRef<str>) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    fn open(&mut self, text: impl AsRef<str>) {
        self.line(text);
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    /// Opens a loop over registers, which the compiler unrolls.
    fn open_unrolled(&mut self, var: &str, count: usize) {
        if count == 1 {
            self.open("{");
            self.line(format!("const int {var} = 0;"));
        } else {
            self.line("#pragma unroll");
            self.open(format!("for (int {var} = 0; {var} < {count}; ++{var}) {{"));
        }
    }

    /// A name that is not used yet.
    fn fresh(&mut self, prefix: &str) -> String {
        self.counter += 1;
        format!("{prefix}{}", self.counter)
    }

    /// A name for a value that depends only on the thread, defined before the body.
    fn per_thread(&mut self, code: String) -> String {
        if code.chars().all(|c| c.is_ascii_alphanumeric()) {
            return code;
        }
        if let Some(name) = self.named.get(&code) {
            return name.clone();
        }
        let name = format!("h{}", self.named.len());
        // Writing to a string does not fail.
        let _ = writeln!(self.head, "    const int {name} = {code};");
        self.named.insert(code, name.clone());
        name
    }

    /// The thread's part of a linear function of positions, named.
    fn thread(&mut self, layout: &Layout, weight: impl Fn(AxisBit) -> i64 + Copy) -> Option<String> {
        thread_part(layout, weight).map(|code| self.per_thread(code))
    }

    /// The offset of the current block along an axis; `None` if it is 0.
    fn base(&self, axis: Axis) -> Option<String> {
        match self.p.axes[axis].role {
            Role::Grid => Some(format!("g{}", axis.as_u32())),
            Role::Loop | Role::Resident => self.bases.get(&axis).cloned(),
        }
    }

    fn sym(&mut self, sym: Sym) -> String {
        self.used.insert(sym);
        format!("s{}", sym.as_u32())
    }

    /// The function that loads from a buffer: past the coherent caches only where nothing writes meanwhile.
    fn loader(&self, param: Param) -> &'static str {
        let constant = match self.form {
            Some(form) => form.constant.get(param.as_u32() as usize).is_some_and(|&c| c),
            None => self.p.params[param].constant,
        };
        if constant { "tw_load" } else { "tw_read" }
    }

    /// The layout of a tile in registers.
    fn layout(&self, tile: Tile) -> Result<Layout, CodegenError> {
        match &self.p.tiles[tile].place {
            Place::Registers(layout) => Ok(layout.clone()),
            _ => self.malformed(format!("{tile} is expected in registers")),
        }
    }

    /// The addresses of a tile in shared memory.
    fn shared(&self, tile: Tile) -> Result<(SharedMap, u64), CodegenError> {
        let data = &self.p.tiles[tile];
        match (SharedMap::of(self.p, &data.place, data.dtype), self.arena.tile(tile)) {
            (Some(map), Some(at)) => Ok((map, at)),
            _ => self.malformed(format!("{tile} is expected in shared memory")),
        }
    }

    fn sync(&mut self) {
        match self.form {
            None => self.line("__syncthreads();"),
            // The caller may have more threads.
            Some(_) => self.line(format!("tw_bar<{}>();", self.p.threads())),
        }
    }
}

/// A sum of the parts that are there, or `0`.
fn sum(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") }
}
