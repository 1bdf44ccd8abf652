//! What: one product by `wmma`, as PTX and as a plain product.
//! Why here: every shape, type, layout and space is the same kernel with other words in it.
//! Pre: none.
//! Post: a form can also say what is not so, to show that this is noticed.

use crate::common::{Arg, Machine, Rng};
use half::{bf16, f16};
use tilewright_emulator::{Counters, LaunchError};

/// Bytes of an element.
pub(crate) fn size(ty: &str) -> usize {
    match ty {
        "s8" | "u8" => 1,
        "f16" | "bf16" => 2,
        "f64" => 8,
        _ => 4,
    }
}

pub(crate) fn encode(ty: &str, v: f64) -> Vec<u8> {
    match ty {
        "s8" => vec![v as i8 as u8],
        "u8" => vec![v as u8],
        "f16" => f16::from_f64(v).to_le_bytes().into(),
        "bf16" => bf16::from_f64(v).to_le_bytes().into(),
        "s32" => (v as i32).to_le_bytes().into(),
        "f64" => v.to_le_bytes().into(),
        "tf32" => ((v as f32).to_bits() & !0x1fff).to_le_bytes().into(),
        _ => (v as f32).to_le_bytes().into(),
    }
}

pub(crate) fn decode(ty: &str, b: &[u8]) -> f64 {
    match ty {
        "s8" => f64::from(b[0] as i8),
        "u8" => f64::from(b[0]),
        "f16" => f16::from_le_bytes(b.try_into().unwrap()).to_f64(),
        "bf16" => bf16::from_le_bytes(b.try_into().unwrap()).to_f64(),
        "s32" => f64::from(i32::from_le_bytes(b.try_into().unwrap())),
        "f64" => f64::from_le_bytes(b.try_into().unwrap()),
        _ => f64::from(f32::from_le_bytes(b.try_into().unwrap())),
    }
}

/// One product: what the instructions say. Matrices are A, B, C and D.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) shape: (usize, usize, usize),
    pub(crate) types: [&'static str; 4],
    /// In memory.
    pub(crate) layouts: [&'static str; 4],
    /// What the loads, the product (A and B) and the store say.
    pub(crate) said: [&'static str; 4],
    pub(crate) product: [&'static str; 2],
    pub(crate) space: &'static str,
    pub(crate) more: &'static str,
    /// Elements between the end of a line and the next.
    pub(crate) pad: usize,
    /// Two registers of a fragment that change places before the product.
    pub(crate) exchange: Option<(usize, usize, usize)>,
}

impl Form {
    pub(crate) fn name(&self) -> String {
        format!("m{}n{}k{}", self.shape.0, self.shape.1, self.shape.2)
    }
    /// Rows and columns.
    pub(crate) fn dims(&self, i: usize) -> (usize, usize) {
        let (m, n, k) = self.shape;
        [(m, k), (k, n), (m, n), (m, n)][i]
    }
    pub(crate) fn stride(&self, i: usize) -> usize {
        let (r, c) = self.dims(i);
        self.pad + if self.layouts[i] == "row" { c } else { r }
    }
    pub(crate) fn bytes(&self, i: usize) -> usize {
        let (r, c) = self.dims(i);
        let lines = if self.layouts[i] == "row" { r } else { c };
        lines * self.stride(i) * size(self.types[i])
    }
    pub(crate) fn at(&self, i: usize, (r, c): (usize, usize)) -> usize {
        let s = self.stride(i);
        size(self.types[i]) * if self.layouts[i] == "row" { r * s + c } else { c * s + r }
    }
    /// Registers of a fragment, from the tables of the ISA.
    pub(crate) fn registers(&self, i: usize) -> usize {
        let (m, n, _) = self.shape;
        match (self.types[i], i) {
            ("f16", 0 | 1) | ("f32" | "s32", _) => 8,
            ("f64", 0 | 1) => 1,
            ("f64", _) => 2,
            ("f16" | "tf32", _) => 4,
            ("bf16", _) => [m, n][i] / 4,
            _ => [m, n][i] / 8,
        }
    }
    pub(crate) fn fragment(&self, i: usize, exchanged: bool) -> String {
        let r = if self.types[i] == "f64" { "%fd" } else { "%r" };
        let mut all: Vec<String> = (0..self.registers(i)).map(|j| format!("{r}{}", 10 * i + j)).collect();
        if let (true, Some((f, x, y))) = (exchanged, self.exchange)
            && f == i
        {
            all.swap(x, y);
        }
        format!("{{{}}}", all.join(", "))
    }
    pub(crate) fn mma_types(&self) -> String {
        let [a, b, c, d] = self.types;
        if a == "f16" { format!(".{d}.{c}") } else { format!(".{d}.{a}.{b}.{c}") }
    }

    pub(crate) fn ptx(&self) -> String {
        let name = self.name();
        let shared = self.space.contains("shared") || self.space == "generic";
        let mut text = String::from(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, \
             .param .u64 d)\n{\n.reg .pred %p<4>;\n.reg .b32 %r<60>;\n.reg .f64 %fd<40>;\n.reg .b64 %rd<40>;\n",
        );
        if shared {
            (0..4).for_each(|i| {
                text += &format!(".shared .align 32 .b8 s{i}[{}];\n", self.bytes(i));
            });
        }
        for (i, p) in ["a", "b", "c", "d"].iter().enumerate() {
            text += &format!("ld.param.u64 %rd{i}, [{p}];\ncvta.to.global.u64 %rd{i}, %rd{i};\n");
        }
        text += "mov.u32 %r50, %tid.x;\n";
        // One byte per lane and turn, so that any size goes.
        let copy = |i: usize, out: bool| {
            let (ld, st) = if out { ("shared", "global") } else { ("global", "shared") };
            let (from, to) = if out { ("%rd31", "%rd30") } else { ("%rd30", "%rd31") };
            format!(
                "mov.u32 %r51, %r50;\nL{i}:\ncvt.u64.u32 %rd29, %r51;\nmov.u64 %rd31, s{i};\nadd.u64 %rd31, %rd31, %rd29;\n\
                 add.u64 %rd30, %rd{i}, %rd29;\nld.{ld}.u8 %r52, [{from}];\nst.{st}.u8 [{to}], %r52;\nadd.u32 %r51, %r51, 32;\n\
                 setp.lt.u32 %p1, %r51, {};\n@%p1 bra L{i};\n",
                self.bytes(i)
            )
        };
        let mut place: Vec<String> = (0..4).map(|i| format!("%rd{i}")).collect();
        if shared {
            // D too, for what lies between its lines.
            (0..3).for_each(|i| text += &copy(i, false));
            text += &copy(3, false).replace("L3", "L9");
            text += "bar.sync 0;\n";
            for (i, p) in place.iter_mut().enumerate() {
                *p = format!("%rd{}", 10 + i);
                let cvta =
                    if self.space == "generic" { format!("cvta.shared.u64 {p}, {p};\n") } else { "".into() };
                text += &format!("mov.u64 {p}, s{i};\n{cvta}");
            }
        }
        let space = if self.space == "generic" || self.space == "generic global" {
            String::new()
        } else {
            format!(".{}", self.space)
        };
        let stride = |i: usize| {
            if self.pad == 0 && self.layouts[i] == self.said[i] {
                String::new()
            } else {
                format!(", {}", self.stride(i))
            }
        };
        for (i, m) in ["a", "b", "c"].iter().enumerate() {
            text += &format!(
                "wmma.load.{m}.sync.aligned.{}.{name}{space}.{} {}, [{}]{};\n",
                self.said[i],
                self.types[i],
                self.fragment(i, false),
                place[i],
                stride(i)
            );
        }
        text += &format!(
            "wmma.mma.sync.aligned.{}.{}.{name}{}{} {}, {}, {}, {};\n",
            self.product[0],
            self.product[1],
            self.mma_types(),
            self.more,
            self.fragment(3, true),
            self.fragment(0, true),
            self.fragment(1, true),
            self.fragment(2, true)
        );
        text += &format!(
            "wmma.store.d.sync.aligned.{}.{name}{space}.{} [{}], {}{};\n",
            self.said[3],
            self.types[3],
            place[3],
            self.fragment(3, false),
            stride(3)
        );
        if shared {
            text += "bar.sync 0;\n";
            text += &copy(3, true);
        }
        text + "ret;\n}\n"
    }

    /// Runs it on these values; D as it lies in memory.
    pub(crate) fn run(
        &self,
        x: &[Vec<f64>; 3],
        seed: Option<u64>,
    ) -> Result<(Vec<u8>, Counters), LaunchError> {
        let mut m = Machine::new(&self.ptx());
        m.options.seed = seed;
        let mut at = [0; 4];
        for i in 0..4 {
            let mut bytes = vec![0xa5u8; self.bytes(i)];
            let (rows, cols) = self.dims(i);
            if i < 3 {
                for r in 0..rows {
                    for c in 0..cols {
                        let (o, v) = (self.at(i, (r, c)), encode(self.types[i], x[i][r * cols + c]));
                        bytes[o..o + v.len()].copy_from_slice(&v);
                    }
                }
            }
            at[i] = m.put(["a", "b", "c", "d"][i], &bytes);
        }
        let counters = m.try_run("k", 1, 32, &at.map(Arg::Ptr))?;
        Ok((m.get(at[3], self.bytes(3)), counters))
    }

    /// Elements of D that are further from the product than `bound` (relative to the sum of magnitudes), and bytes
    /// between its lines that changed.
    pub(crate) fn wrong(&self, x: &[Vec<f64>; 3], d: &[u8], bound: f64) -> usize {
        let (m, n, k) = self.shape;
        // What the elements became in memory.
        let y: Vec<Vec<f64>> = (0..3)
            .map(|i| x[i].iter().map(|v| decode(self.types[i], &encode(self.types[i], *v))).collect())
            .collect();
        let mut between = vec![true; d.len()];
        let mut bad = 0;
        for r in 0..m {
            for c in 0..n {
                let terms = (0..k).map(|i| y[0][r * k + i] * y[1][i * n + c]).chain([y[2][r * n + c]]);
                let mut want: f64 = terms.clone().sum();
                if self.more == ".satfinite" {
                    want = want.clamp(f64::from(i32::MIN), f64::from(i32::MAX));
                } else if self.types[3] == "s32" {
                    want = f64::from(want as i64 as i32);
                }
                let o = self.at(3, (r, c));
                let w = size(self.types[3]);
                between[o..o + w].fill(false);
                let got = decode(self.types[3], &d[o..o + w]);
                let scale: f64 = terms.map(f64::abs).sum();
                // A NaN is wrong too.
                bad += usize::from((got - want).abs() > bound * scale || got.is_nan());
            }
        }
        bad + d.iter().zip(between).filter(|(v, b)| *b && **v != 0xa5).count()
    }
}

pub(crate) fn values(f: &Form, g: &mut Rng, small: bool) -> [Vec<f64>; 3] {
    std::array::from_fn(|i| {
        let (r, c) = f.dims(i);
        (0..r * c)
            .map(|_| match (f.types[i], small) {
                ("u8", false) => g.below(256) as f64,
                ("s8", false) => g.below(256) as f64 - 128.0,
                // Near the ends, where a sum saturates or wraps.
                ("s32", false) => f64::from(
                    [i32::MAX.wrapping_sub(g.below(2000) as i32), g.u32() as i32, i32::MIN]
                        [g.below(3) as usize],
                ),
                (_, false) => g.f64(-2.0, 2.0),
                ("u8", true) => g.below(9) as f64,
                (_, true) => g.below(9) as f64 - 4.0,
            })
            .collect()
    })
}

pub(crate) const SPACES: [&str; 4] = ["global", "shared", "generic", "generic global"];

/// Every shape and type with one layout.
pub(crate) fn kinds() -> Vec<Form> {
    let mut out = vec![];
    let form = |shape, types, more| Form {
        shape,
        types,
        layouts: ["row", "col", "row", "row"],
        said: ["row", "col", "row", "row"],
        product: ["row", "col"],
        space: "global",
        more,
        pad: 0,
        exchange: None,
    };
    for shape in [(16, 16, 16), (32, 8, 16), (8, 32, 16)] {
        for (c, d) in [("f32", "f32"), ("f16", "f16"), ("f32", "f16"), ("f16", "f32")] {
            out.push(form(shape, ["f16", "f16", c, d], ""));
        }
        out.push(form(shape, ["bf16", "bf16", "f32", "f32"], ""));
        for (a, b) in [("s8", "s8"), ("u8", "u8"), ("s8", "u8"), ("u8", "s8")] {
            out.push(form(shape, [a, b, "s32", "s32"], ""));
            out.push(form(shape, [a, b, "s32", "s32"], ".satfinite"));
        }
    }
    out.push(form((16, 16, 8), ["tf32", "tf32", "f32", "f32"], ""));
    out.push(form((8, 8, 4), ["f64"; 4], ""));
    out.push(form((8, 8, 4), ["f64"; 4], ".rn"));
    out
}

/// Every combination of layouts of a form.
pub(crate) fn layouts(f: &Form) -> Vec<Form> {
    (0..16)
        .map(|bits| {
            let l = std::array::from_fn(|i| if bits >> i & 1 == 0 { "row" } else { "col" });
            Form { layouts: l, said: l, product: [l[0], l[1]], ..f.clone() }
        })
        .collect()
}

/// What a result may be off by, relative to the sum of the magnitudes of its terms.
pub(crate) fn bound(f: &Form) -> f64 {
    match (f.types[0], f.types[3]) {
        (_, "s32") => 0.0,
        (_, "f64") => 1e-14,
        (_, "f16") => 2f64.powi(-10),
        _ => 1e-5,
    }
}
