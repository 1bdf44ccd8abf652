//! Contractions by fused multiply-adds: operands in shared memory, a rectangle of the result per thread.
//!
//! What: loops over the contracted axes; in the innermost a short vector of each row is fetched (at once where it is
//! contiguous) and multiplied. Sums run over contracted positions in order.

use tilewright_ir::tile::{AxisBit, Layout};
use tilewright_ir::{Axis, DType, Tile};

use super::expr::Ty;
use super::tiles::{name, packed, value_type};
use super::{Emitter, sum};
use crate::CodegenError;
use crate::bits::{axis_bits, reg_of, weighted};
use crate::layout::dot::Dot;
use crate::layout::shared::SharedMap;

/// One operand.
struct Rows {
    tile: Tile,
    /// Free bits that are register bits of the result.
    steps: Vec<AxisBit>,
    map: SharedMap,
    pointer: String,
}

impl Emitter<'_> {
    /// Emits the sums; the result already holds what is added to.
    pub(super) fn rows_dot(&mut self, dot: Dot<'_>) -> Result<(), CodegenError> {
        let layout = self.layout(dot.out)?;
        let dtype = self.p.tiles[dot.out].dtype;
        if packed(dtype) || matches!(dtype, DType::Bool | DType::I8 | DType::U8) {
            return Err(CodegenError::OperandType {
                program: self.p.name.clone(),
                out: dot.out,
                tile: dot.out,
                got: dtype,
                need: DType::F32,
            });
        }
        let value = value_type(dtype);
        let g = dot.groups(self.p);
        self.open("{");
        let a = self.rows(dot.a, &g.m, &layout)?;
        let b = self.rows(dot.b, &g.n, &layout)?;
        let wide: Vec<Axis> = dot.over.iter().copied().filter(|&x| self.p.axes[x].block > 1).collect();
        let inner = wide.last().copied();
        let vector = inner.map_or(1, |x| self.p.axes[x].block.min(4)) as usize;
        for &axis in &wide {
            let (block, q) = (self.p.axes[axis].block, format!("q{}", axis.as_u32()));
            let step = if Some(axis) == inner { vector } else { 1 };
            let unroll = if Some(axis) == inner && block as usize / vector <= 4 {
                "#pragma unroll"
            } else {
                "#pragma unroll 1"
            };
            self.line(unroll);
            self.open(format!("for (int {q} = 0; {q} < {block}; {q} += {step}) {{"));
        }
        self.fetch_rows(&a, "x", "m", &wide, vector, value)?;
        self.fetch_rows(&b, "y", "n", &wide, vector, value)?;
        self.open_unrolled("q", vector);
        self.open_unrolled("m", 1 << a.steps.len());
        self.open_unrolled("n", 1 << b.steps.len());
        let place = |steps: &[AxisBit]| -> Vec<(usize, i64)> {
            steps
                .iter()
                .enumerate()
                .map(|(n, &bit)| (n, reg_of(&layout, bit).map_or(0, |q| 1i64 << q)))
                .collect()
        };
        let t = name(dot.out);
        self.line(format!(
            "const int c = {};",
            sum([weighted("m", &place(&a.steps)), weighted("n", &place(&b.steps))])
        ));
        self.line(format!("{t}[c] = tw_fma(x[m][q], y[n][q], {t}[c]);"));
        for _ in 0..3 + wide.len() + 1 {
            self.close();
        }
        Ok(())
    }

    fn rows(&mut self, tile: Tile, free: &[AxisBit], layout: &Layout) -> Result<Rows, CodegenError> {
        let (map, offset) = self.shared(tile)?;
        let weight = |b: AxisBit| if free.contains(&b) { map.weight(b) * map.element as i64 } else { 0 };
        let thread = self.thread(layout, weight);
        let pointer = self.fresh("s");
        let address = sum([Some(format!("smem + {offset}")), thread]);
        self.line(format!("const unsigned char* {pointer} = {address};"));
        let steps = layout.regs.iter().copied().filter(|b| free.contains(b)).collect();
        Ok(Rows { tile, steps, map, pointer })
    }

    /// Fetches `vector` contracted positions of each row of a thread.
    fn fetch_rows(
        &mut self,
        rows: &Rows,
        to: &str,
        var: &str,
        over: &[Axis],
        vector: usize,
        value: Ty,
    ) -> Result<(), CodegenError> {
        let dtype = self.p.tiles[rows.tile].dtype;
        let element = rows.map.element as i64;
        let bytes = |bit: AxisBit| rows.map.weight(bit) * element;
        let pairs: Vec<(usize, i64)> = rows.steps.iter().enumerate().map(|(n, &b)| (n, bytes(b))).collect();
        // As a whole, or bit by bit where there are gaps within the axis.
        let along = |axis: Axis, var: &str, bits: u8| -> Option<String> {
            if let Some(step) = rows.map.even(self.p, axis) {
                return Some(format!("{var} * {}", step * element));
            }
            weighted(
                var,
                &(0..bits).map(|bit| (usize::from(bit), bytes(AxisBit { axis, bit }))).collect::<Vec<_>>(),
            )
        };
        let mut parts = vec![Some(rows.pointer.clone()), weighted(var, &pairs)];
        parts.extend(
            over.iter().map(|&axis| along(axis, &format!("q{}", axis.as_u32()), axis_bits(self.p, axis))),
        );
        let within = over.last().and_then(|&axis| along(axis, "q", vector.ilog2() as u8));
        let count = 1usize << rows.steps.len();
        self.line(format!("{} {to}[{count}][{vector}];", value.c()));
        self.open_unrolled(var, count);
        let address = sum(parts);
        let size = vector as i64 * element;
        // The stride of everything else must keep the vector aligned.
        let whole = element <= 4 && size >= 4 && self.aligned(rows, over.last().copied(), vector);
        if whole {
            let words = (size / 4) as usize;
            self.line(format!("u32 v[{words}];"));
            self.line(format!("tw_fetch(v, {address});"));
        }
        self.open_unrolled("q", vector);
        let at = sum([Some(address), within]);
        let code = match (whole, dtype) {
            (true, DType::F32) => "__uint_as_float(v[q])".to_owned(),
            (true, DType::I32) => "(int)v[q]".to_owned(),
            (true, DType::F16 | DType::Bf16) => {
                format!("tw_{}(v[q >> 1], q & 1)", super::tiles::suffix(dtype))
            }
            (true, DType::I8) => "(int)(signed char)(v[q >> 2] >> ((q & 3) * 8))".to_owned(),
            (true, _) => "(int)((v[q >> 2] >> ((q & 3) * 8)) & 0xffu)".to_owned(),
            (false, DType::F16 | DType::Bf16) => {
                format!("tw_{}(*(const u16*)({at}), 0)", super::tiles::suffix(dtype))
            }
            (false, _) => format!("*(const {}*)({at})", super::kernel::memory_type(dtype)),
        };
        self.line(format!("{to}[{var}][q] = ({}){code};", value.c()));
        self.close();
        self.close();
        Ok(())
    }

    /// Whether `vector` positions along an axis follow one another, and everything else keeps them aligned.
    fn aligned(&self, rows: &Rows, inner: Option<Axis>, vector: usize) -> bool {
        let low = vector.ilog2() as u8;
        self.p.tiles[rows.tile].axes.iter().all(|&axis| {
            (0..axis_bits(self.p, axis)).all(|bit| {
                let weight = rows.map.weight(AxisBit { axis, bit });
                if Some(axis) == inner && bit < low {
                    weight == 1 << bit
                } else {
                    weight % vector as i64 == 0
                }
            })
        })
    }
}
