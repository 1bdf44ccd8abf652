//! The programs of a chain as one program.
//!
//! What: what one kernel of a chain stores for the next becomes an area of the block, with the block's rows in place of all
//! rows; the bodies stand one after the other.
//! Why here: each kernel is lowered by itself, with blocks of its own; only the rows and what is kept bind them.
//!
//! Pre: programs of the kernels of a chain, lowered with the same blocks along its rows, which are the first axes of each as
//! the kernel's grid has them. Post: one program with the grid of the rows; buffers in global memory first.

use std::collections::BTreeMap;

use cranelift_entity::{EntityRef, PrimaryMap};
use indexmap::IndexMap;
use tilewright_ir::chain::Chain;
use tilewright_ir::expr::build as ex;
use tilewright_ir::tile::{BufferParam, Carried, Op, Range, TileProgram};
use tilewright_ir::{Axis, Binary, Ex, Expr, Extent, Param, Tile, Value};

use crate::PassError;

/// A lowered kernel of a chain.
pub struct Part {
    /// The axes of the kernel's grid.
    pub grid: Vec<Axis>,
    /// Its program.
    pub program: TileProgram,
    /// The value behind each buffer.
    pub params: Vec<Value>,
}

/// Joins programs. `rows` are the axes that are dealt out, with their blocks. The values are those of the arguments.
pub fn chain(
    parts: Vec<Part>,
    chain: &Chain,
    rows: &BTreeMap<Axis, u32>,
) -> Result<(TileProgram, Vec<Value>), PassError> {
    let Some(last) = parts.last() else { return Err(PassError::Bug("a chain of no kernels".into())) };
    let mut out = TileProgram { name: last.program.name.clone(), ..TileProgram::default() };
    out.warps = parts.iter().map(|p| p.program.warps).max().unwrap_or(1);
    if parts.iter().any(|p| p.program.warps != out.warps) {
        return Err(PassError::Bug(format!("the kernels of `{}` have different numbers of warps", out.name)));
    }
    let mut places: BTreeMap<Axis, Axis> = BTreeMap::new();
    for &row in rows.keys() {
        let own = parts[0].grid.iter().position(|&a| a == row).map(Axis::new);
        let own = own.ok_or_else(|| PassError::Bug("a kernel of a chain lacks one of its rows".into()))?;
        places.insert(row, out.axes.push(parts[0].program.axes[own].clone()));
    }
    let mut buffers: IndexMap<(Value, Vec<Extent>), BufferParam> = IndexMap::new();
    let mut areas: IndexMap<(Value, Vec<Extent>), BufferParam> = IndexMap::new();
    let mut moves: Vec<Move> = Vec::new();
    for part in &parts {
        let own = |row: &Axis| part.grid.iter().position(|a| a == row).map(Axis::new);
        let dealt: BTreeMap<Axis, (Axis, u32)> =
            rows.iter().filter_map(|(row, &block)| Some((own(row)?, (places[row], block)))).collect();
        let mut m = Move::default();
        for (a, data) in part.program.axes.iter() {
            let to = match dealt.get(&a) {
                Some(&(to, block)) if data.block == block => to,
                Some(_) => {
                    return Err(PassError::Bug(format!(
                        "`{}` has other rows than its chain",
                        part.program.name
                    )));
                }
                None => {
                    let mut data = data.clone();
                    while out.axes.values().any(|other| other.name == data.name) {
                        data.name.push('_');
                    }
                    data.runs = None;
                    out.axes.push(data)
                }
            };
            m.axes.push(to);
        }
        for data in part.program.tiles.values() {
            let mut data = data.clone();
            data.axes.iter_mut().for_each(|a| *a = m.axes[*a]);
            m.tiles.push(out.tiles.push(data));
        }
        let index = first_indices(&part.program);
        for ((p, data), &v) in part.program.params.iter().zip(&part.params) {
            let mut data = data.clone();
            let mut local = BTreeMap::new();
            if chain.kept.contains(&v) {
                for (d, e) in index.get(&p).into_iter().flatten().enumerate() {
                    if let Expr::Pos(a) = &**e
                        && let Some(&(_, block)) = dealt.get(a)
                    {
                        data.dims[d] = Extent::Const(u64::from(block));
                        local.insert(d, block);
                    }
                }
                data.written = false;
                // One number for each value, however it is seen.
                data.area = chain.kept.iter().position(|&k| k == v).map(|n| n as u32);
            }
            let known = if data.area.is_some() { &mut areas } else { &mut buffers };
            let key = (v, data.dims.clone());
            let at = known.entry(key.clone()).or_insert_with(|| data.clone());
            at.written |= data.written;
            m.params.push((key, data.area.is_some()));
            m.local.push(local);
        }
        moves.push(m);
    }
    let first_area = buffers.len();
    let values = buffers.keys().map(|(v, _)| *v).collect();
    let number = |(key, area): &(_, bool)| {
        let at =
            if *area { areas.get_index_of(key).map(|n| n + first_area) } else { buffers.get_index_of(key) };
        at.map(Param::new)
    };
    for (part, m) in parts.iter().zip(&moves) {
        let params = m.params.iter().map(number).collect::<Option<Vec<_>>>();
        let params = params.ok_or_else(|| PassError::Bug("a buffer of a chain is lost".into()))?;
        let ops = part.program.body.iter().map(|op| m.op(op, &params));
        out.body.extend(ops);
    }
    out.params = buffers.into_values().chain(areas.into_values()).collect();
    Ok((out, values))
}

/// The indices of the first access of each buffer.
fn first_indices(program: &TileProgram) -> BTreeMap<Param, Vec<Ex>> {
    fn of(body: &[Op], out: &mut BTreeMap<Param, Vec<Ex>>) {
        for op in body {
            match op {
                Op::Load { param, index, .. } | Op::Store { param, index, .. } => {
                    out.entry(*param).or_insert_with(|| index.clone());
                }
                Op::Loop { body, .. } => of(body, out),
                _ => {}
            }
        }
    }
    let mut out = BTreeMap::new();
    of(&program.body, &mut out);
    out
}

/// Where what a program speaks of is in the one program.
#[derive(Default)]
struct Move {
    axes: PrimaryMap<Axis, Axis>,
    tiles: PrimaryMap<Tile, Tile>,
    params: Vec<((Value, Vec<Extent>), bool)>,
    /// For each buffer the dimensions that hold the rows of the block only, and how many.
    local: Vec<BTreeMap<usize, u32>>,
}

impl Move {
    fn axes(&self, axes: &[Axis]) -> Vec<Axis> {
        axes.iter().map(|&a| self.axes[a]).collect()
    }

    fn expr(&self, e: &Ex) -> Ex {
        match &**e {
            Expr::Pos(a) => ex::pos(self.axes[*a]),
            Expr::Tile(t) => ex::tile(self.tiles[*t]),
            other => Ex::new(other.map_children(|c| self.expr(c))),
        }
    }

    /// Indices of a buffer, with positions along rows counted from the first of the block.
    fn index(&self, param: Param, index: &[Ex]) -> Vec<Ex> {
        let local = &self.local[param.index()];
        let one = |(d, e): (usize, &Ex)| match local.get(&d) {
            None => self.expr(e),
            Some(1) => ex::num(0.0),
            Some(&block) => ex::binary(Binary::Mod, self.expr(e), ex::num(f64::from(block))),
        };
        index.iter().enumerate().map(one).collect()
    }

    fn op(&self, op: &Op, params: &[Param]) -> Op {
        let mask = |m: &Option<Ex>| m.as_ref().map(|e| self.expr(e));
        match op {
            Op::Load { out, param, index, mask: m, fill } => Op::Load {
                out: self.tiles[*out],
                param: params[param.index()],
                index: self.index(*param, index),
                mask: mask(m),
                fill: *fill,
            },
            Op::Store { param, index, mask: m, value } => Op::Store {
                param: params[param.index()],
                index: self.index(*param, index),
                mask: mask(m),
                value: self.tiles[*value],
            },
            Op::Map { out, expr } => Op::Map { out: self.tiles[*out], expr: self.expr(expr) },
            Op::Reduce { out, op, axes, src } => {
                Op::Reduce { out: self.tiles[*out], op: *op, axes: self.axes(axes), src: self.tiles[*src] }
            }
            Op::Dot { out, a, b, acc, over, kind } => Op::Dot {
                out: self.tiles[*out],
                a: self.tiles[*a],
                b: self.tiles[*b],
                acc: acc.map(|t| self.tiles[t]),
                over: self.axes(over),
                kind: *kind,
            },
            Op::Convert { out, src } => Op::Convert { out: self.tiles[*out], src: self.tiles[*src] },
            Op::Loop { axis, range, carried, body } => Op::Loop {
                axis: self.axes[*axis],
                range: Range { from: mask(&range.from), to: mask(&range.to) },
                carried: carried
                    .iter()
                    .map(|c| Carried {
                        initial: self.tiles[c.initial],
                        inside: self.tiles[c.inside],
                        next: self.tiles[c.next],
                        after: self.tiles[c.after],
                    })
                    .collect(),
                body: body.iter().map(|op| self.op(op, params)).collect(),
            },
        }
    }
}
