//! Conversions: every operand is brought to where its operation reads it.
//!
//! What: rewrites the program with places on all tiles. A conversion is made once per tile and place, in the scope that
//! defines the tile, right before the operation of that scope that needs it first. All contractions that read a tile from
//! shared memory read it from one place, which is chosen for all of them and for the store.
//! Pre: layouts are assigned. Post: see [`super`].

use std::collections::HashMap;

use tilewright_ir::tile::{AxisBit, Carried, DotKind, Layout, Op, Place, TileProgram};
use tilewright_ir::{Axis, Ex, Expr, Tile};

use super::assign::Assignment;
use super::banks::{self, Use};
use super::dot::Dot;
use super::visit;
use crate::CodegenError;
use crate::access::tiles_of;
use crate::bits::{compatible, group_bits, local, reduced, scattered, slice};

/// One nesting level: what it defines, what was converted in it, and its operations so far.
#[derive(Default)]
struct Scope {
    defined: Vec<Tile>,
    converted: Vec<(Tile, Place, Tile)>,
    ops: Vec<Op>,
}

struct Rewriter<'a> {
    out: TileProgram,
    assignment: &'a Assignment,
    /// How contractions read tiles from shared memory.
    uses: HashMap<Tile, Vec<Use>>,
    scopes: Vec<Scope>,
}

/// The program with places and conversions.
pub(super) fn rewrite(program: &TileProgram, assignment: &Assignment) -> Result<TileProgram, CodegenError> {
    let mut out = program.clone();
    out.body = vec![];
    for (tile, data) in out.tiles.iter_mut() {
        let layout = assignment.layouts.get(&tile).ok_or_else(|| CodegenError::Malformed {
            program: program.name.clone(),
            what: format!("{tile} is never defined"),
        })?;
        data.place = Place::Registers(layout.clone());
    }
    let mut r = Rewriter { out, assignment, uses: HashMap::new(), scopes: vec![] };
    visit(&program.body, &mut |op| {
        if let Op::Dot { out, a, b, acc, over, kind } = op {
            r.note(Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind });
        }
    });
    r.out.body = r.body(&program.body, vec![]);
    Ok(r.out)
}

impl Rewriter<'_> {
    fn body(&mut self, body: &[Op], defined: Vec<Tile>) -> Vec<Op> {
        self.scopes.push(Scope { defined, ..Scope::default() });
        for op in body {
            self.op(op);
        }
        self.scopes.pop().map(|s| s.ops).unwrap_or_default()
    }

    fn push(&mut self, op: Op, defines: &[Tile]) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.defined.extend_from_slice(defines);
            scope.ops.push(op);
        }
    }

    fn axes(&self, tile: Tile) -> Vec<Axis> {
        self.out.tiles[tile].axes.clone()
    }

    fn fresh(&mut self, like: Tile, place: Place) -> Tile {
        let mut data = self.out.tiles[like].clone();
        data.place = place;
        self.out.tiles.push(data)
    }

    /// The tile at the given place.
    fn at(&mut self, tile: Tile, place: Place) -> Tile {
        if self.out.tiles[tile].place == place {
            return tile;
        }
        // Every tile is defined in some scope; the checks before made sure.
        let level = self.scopes.iter().rposition(|s| s.defined.contains(&tile)).unwrap_or(0);
        let found = self.scopes[level].converted.iter().find(|(t, p, _)| *t == tile && *p == place);
        if let Some((_, _, converted)) = found {
            return *converted;
        }
        let new = self.fresh(tile, place.clone());
        self.scopes[level].converted.push((tile, place, new));
        self.scopes[level].ops.push(Op::Convert { out: new, src: tile });
        new
    }

    /// Expressions with their tiles where an operation distributed like `domain` reads them.
    fn operands<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Ex>, domain: &Layout) -> Vec<Ex> {
        let mut moved: HashMap<Tile, Tile> = HashMap::new();
        exprs
            .into_iter()
            .map(|e| {
                for tile in tiles_of(e) {
                    let axes = self.axes(tile);
                    if !compatible(self.assignment.of(tile), &axes, domain) {
                        let to = self.at(tile, Place::Registers(slice(domain, &axes)));
                        moved.insert(tile, to);
                    }
                }
                replace(e, &moved)
            })
            .collect()
    }

    /// Defines `out` by an operation that makes it in `made`.
    fn define(&mut self, out: Tile, made: &Layout, op: impl FnOnce(Tile) -> Op) {
        if self.assignment.of(out) == made {
            self.push(op(out), &[out]);
        } else {
            let raw = self.fresh(out, Place::Registers(made.clone()));
            self.push(op(raw), &[raw]);
            self.push(Op::Convert { out, src: raw }, &[out]);
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Load { out, param, index, mask, fill } => {
                let domain = self.assignment.of(*out).clone();
                let mut moved = self.operands(index.iter().chain(mask), &domain);
                let mask = mask.as_ref().and_then(|_| moved.pop());
                self.push(Op::Load { out: *out, param: *param, index: moved, mask, fill: *fill }, &[*out]);
            }
            Op::Store { param, index, mask, value } => {
                let domain = self.assignment.of(*value).clone();
                let mut moved = self.operands(index.iter().chain(mask), &domain);
                let mask = mask.as_ref().and_then(|_| moved.pop());
                self.push(Op::Store { param: *param, index: moved, mask, value: *value }, &[]);
            }
            Op::Map { out, expr } => {
                let domain = self.assignment.of(*out).clone();
                for expr in self.operands([expr], &domain) {
                    self.push(Op::Map { out: *out, expr }, &[*out]);
                }
            }
            Op::Reduce { out, op, axes, src } => {
                let (source, axes_out) = (self.assignment.of(*src), self.axes(*out));
                let spread = scattered(source, &axes_out);
                let made =
                    if *self.assignment.of(*out) == spread { spread } else { reduced(source, &axes_out) };
                self.define(*out, &made, |out| Op::Reduce { out, op: *op, axes: axes.clone(), src: *src });
            }
            Op::Dot { out, a, b, acc, over, kind } => {
                self.dot(Dot { out: *out, a: *a, b: *b, acc: *acc, over, kind: *kind });
            }
            Op::Convert { .. } => self.push(op.clone(), &[]),
            Op::Loop { axis, range, carried, body } => {
                let inside = carried.iter().map(|c| c.inside).collect();
                let body = self.body(body, inside);
                let after: Vec<Tile> = carried.iter().map(|c: &Carried| c.after).collect();
                self.push(
                    Op::Loop { axis: *axis, range: range.clone(), carried: carried.clone(), body },
                    &after,
                );
            }
        }
    }

    fn dot(&mut self, dot: Dot<'_>) {
        let made = self.assignment.result(dot.out).clone();
        let acc = dot.acc.map(|t| self.at(t, Place::Registers(made.clone())));
        let [a, b] = self.reads(dot).map(|(tile, read)| match read {
            Read::Registers(layout) => self.at(tile, Place::Registers(layout)),
            Read::Shared(_) => self.in_shared(tile),
        });
        let (over, kind) = (dot.over.to_vec(), dot.kind);
        self.define(dot.out, &made, |out| Op::Dot { out, a, b, acc, over, kind });
    }

    /// How a contraction reads its operands: of tensor cores in registers, if each thread already holds its fragment, else
    /// as matrices in shared memory; fused multiply-adds read along rows.
    fn reads(&self, dot: Dot<'_>) -> [(Tile, Read); 2] {
        let made = self.assignment.result(dot.out);
        let g = dot.groups(&self.out);
        match dot.kind {
            DotKind::Vectors(_) => {
                let (fa, fb) = dot.fragments(&self.out, made);
                [(dot.a, Read::Registers(fa)), (dot.b, Read::Registers(fb))]
            }
            DotKind::Mma(_) => {
                let (fa, fb) = dot.fragments(&self.out, made);
                let read = |tile: Tile, free: &[AxisBit], fragment: Layout| {
                    let have = self.assignment.of(tile);
                    let at_hand = have.lanes == fragment.lanes && local(have, &fragment);
                    let matrix = Use::Matrix { free: free.to_vec(), contracted: g.k.clone() };
                    (tile, if at_hand { Read::Registers(fragment) } else { Read::Shared(matrix) })
                };
                [read(dot.a, &g.m, fa), read(dot.b, &g.n, fb)]
            }
            DotKind::Fma => [dot.a, dot.b].map(|tile| {
                let mut reading = slice(made, &self.axes(tile));
                reading.regs.extend(group_bits(&self.out, dot.over));
                let vector = 4 * self.out.tiles[tile].dtype.bytes();
                (tile, Read::Shared(Use::Layout(reading, vector)))
            }),
        }
    }

    fn note(&mut self, dot: Dot<'_>) {
        for (tile, read) in self.reads(dot) {
            if let Read::Shared(access) = read {
                let uses = self.uses.entry(tile).or_default();
                if !uses.contains(&access) {
                    uses.push(access);
                }
            }
        }
    }

    fn in_shared(&mut self, tile: Tile) -> Tile {
        let stored = Use::Layout(self.assignment.of(tile).clone(), 16);
        let uses: Vec<Use> = self.uses.get(&tile).into_iter().flatten().cloned().chain([stored]).collect();
        let place = banks::choose(&self.out, &self.axes(tile), self.out.tiles[tile].dtype, &uses);
        self.at(tile, place)
    }
}

/// How a contraction reads an operand.
enum Read {
    Registers(Layout),
    Shared(Use),
}

fn replace(e: &Ex, moved: &HashMap<Tile, Tile>) -> Ex {
    match &**e {
        Expr::Tile(t) => moved.get(t).map_or_else(|| e.clone(), |&to| Ex::new(Expr::Tile(to))),
        _ if moved.is_empty() || e.children().is_empty() => e.clone(),
        _ => Ex::new(e.map_children(|c| replace(c, moved))),
    }
}
