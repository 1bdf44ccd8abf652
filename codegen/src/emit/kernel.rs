//! The frame of a kernel or of a device function: signature, block index, parameter block, shared memory.
//!
//! Why here: the calling convention is agreed with the runtime; it is stated in one place.

use tilewright_ir::tile::Role;
use tilewright_ir::{DType, Extent};

use super::prelude::{PRELUDE, RING_PRELUDE};
use super::{BodyOptions, BodySource, Emitter, Inlining, KernelSource};
use crate::CodegenError;

/// Static shared memory needs no opt-in up to this size.
const STATIC_LIMIT: u64 = 48 * 1024;

/// The C type of an element in global memory.
pub(super) fn memory_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::U8 => "unsigned char",
        DType::I8 => "signed char",
        DType::I32 => "int",
        DType::I64 => "i64",
        DType::F16 | DType::Bf16 => "u16",
        DType::F32 => "float",
        DType::F64 => "double",
    }
}

impl Emitter<'_> {
    /// Writes the kernel.
    pub(super) fn kernel(mut self) -> Result<KernelSource, CodegenError> {
        let p = self.p;
        self.body(&p.body)?;
        let body = std::mem::take(&mut self.text);
        self.grid();
        let grid = std::mem::take(&mut self.text);
        let threads = p.threads();
        let dynamic = self.arena.bytes > STATIC_LIMIT;
        let mut params: Vec<String> = p
            .arguments()
            .map(|(param, data)| {
                let ty = memory_type(data.dtype);
                let n = param.as_u32();
                if data.written {
                    format!("{ty}* p{n}")
                } else if data.constant {
                    format!("const {ty}* __restrict__ p{n}")
                } else {
                    format!("const {ty}* p{n}")
                }
            })
            .collect();
        params.push("const int* __restrict__ sy".to_owned());
        let mut text = String::from(PRELUDE);
        if !self.ahead.is_empty() {
            text.push_str(RING_PRELUDE);
        }
        text.push('\n');
        for (param, data) in p.params.iter() {
            let name: String = data.name.chars().filter(|c| c.is_ascii_graphic() && *c != '\\').collect();
            text.push_str(&format!("// {param}: {} {name}\n", data.dtype));
        }
        // One block at least: else the compiler would rather spill a few registers than miss a step of occupancy.
        text.push_str(&format!(
            "extern \"C\" __global__ void __launch_bounds__({threads}, 1) {}({}) {{\n",
            p.name,
            params.join(", ")
        ));
        if self.arena.bytes > 0 {
            text.push_str(&if dynamic {
                "    extern __shared__ __align__(128) unsigned char smem[];\n".to_owned()
            } else {
                format!("    __shared__ __align__(128) unsigned char smem[{}];\n", self.arena.bytes)
            });
        }
        self.rest(&mut text, &grid, &body);
        Ok(KernelSource {
            name: p.name.clone(),
            cuda: text,
            threads,
            shared_bytes: if dynamic { self.arena.bytes as u32 } else { 0 },
        })
    }

    /// Writes a device function. One that is not part of its caller is visible, so that the compiler leaves its parameters
    /// as they are: checks of the PTX know them by their numbers.
    pub(super) fn function(
        mut self,
        options: &BodyOptions<'_>,
        inlining: Inlining,
    ) -> Result<BodySource, CodegenError> {
        let p = self.p;
        self.part = inlining == Inlining::Always;
        self.body(&p.body)?;
        self.even()?;
        let body = std::mem::take(&mut self.text);
        self.grid();
        let grid = std::mem::take(&mut self.text);
        let params = self.typed_params();
        let named = params.iter().enumerate().map(|(n, ty)| format!("{ty} p{n}, ")).collect::<String>();
        let mut text = format!(
            "// {}\n{} void {}({named}const int* sy, unsigned index{}) {{\n",
            readable(&p.name),
            match inlining {
                Inlining::Never => "extern \"C\" __device__ __noinline__ __attribute__((used))",
                Inlining::Always => "static __device__ __forceinline__",
            },
            options.name,
            if self.feeds.is_empty() { "" } else { ", u32 at" },
        );
        if self.arena.bytes > 0 || !self.feeds.is_empty() {
            text.push_str("    extern __shared__ __align__(128) unsigned char smem[];\n");
        }
        self.rest(&mut text, &grid, &body);
        Ok(BodySource {
            name: options.name.to_owned(),
            cuda: text,
            feeder: None,
            params,
            threads: p.threads(),
            // Bounded by what a block may have.
            shared_bytes: self.arena.bytes as u32,
        })
    }

    /// The C types of the buffers.
    pub(super) fn typed_params(&self) -> Vec<String> {
        let of = |data: &tilewright_ir::tile::BufferParam| {
            format!("{}{}*", if data.written { "" } else { "const " }, memory_type(data.dtype))
        };
        self.p.arguments().map(|(_, data)| of(data)).collect()
    }

    /// Everything behind the declaration of shared memory.
    fn rest(&self, text: &mut String, grid: &str, body: &str) {
        let p = self.p;
        text.push_str("    const int lane = threadIdx.x & 31;\n");
        if self.p.warps > 1 {
            text.push_str("    const int warp = threadIdx.x >> 5;\n");
        }
        for (param, data) in p.params.iter() {
            let Some(at) = data.area.and_then(|area| self.arena.area(area)) else { continue };
            let ty = memory_type(data.dtype);
            text.push_str(&format!("    {ty}* const p{} = ({ty}*)(smem + {at});\n", param.as_u32()));
        }
        for sym in &self.used {
            text.push_str(&format!("    const int s{0} = sy[{0}];\n", sym.as_u32()));
        }
        if self.form.is_none() {
            text.push_str("    tw_let_next_start();\n");
        }
        text.push_str(grid);
        text.push_str(&self.head);
        if !self.inits.is_empty() {
            text.push_str("    if (threadIdx.x == 0) {\n");
            text.push_str(&self.inits);
            text.push_str("        tw_barrier_fence();\n    }\n    __syncthreads();\n");
        }
        text.push_str(&self.early);
        text.push_str(&self.ahead);
        if self.form.is_none() || self.part {
            text.push_str("    tw_await_previous();\n");
        }
        text.push_str(body);
        text.push_str("}\n");
    }

    /// The number of blocks of an axis.
    pub(super) fn blocks(&mut self, extent: Extent, block: u32) -> String {
        match extent {
            Extent::Const(n) => n.div_ceil(u64::from(block)).to_string(),
            Extent::Sym(s) => {
                let s = self.sym(s);
                if block == 1 { s } else { format!("(({s} + {}) >> {})", block - 1, block.trailing_zeros()) }
            }
        }
    }

    /// Decodes the block index: the last grid axis is the fastest.
    pub(super) fn grid(&mut self) {
        let p = self.p;
        let axes: Vec<_> = p.axes.iter().filter(|(_, a)| a.role == Role::Grid).collect();
        if axes.is_empty() {
            return;
        }
        let index = if self.form.is_some() { "index" } else { "blockIdx.x" };
        self.line(format!("unsigned block = {index};"));
        // The launch may be as large as the largest extents need.
        if axes.iter().any(|(_, data)| data.extent.as_const().is_none()) {
            let counts: Vec<String> =
                axes.iter().map(|(_, data)| self.blocks(data.extent, data.block)).collect();
            self.open(format!("if (block >= (unsigned){}) {{", counts.join(" * (unsigned)")));
            if self.form.is_none() || self.part {
                self.line("tw_await_previous();");
            }
            self.line("return;");
            self.close();
        }
        for (n, (axis, data)) in axes.iter().enumerate().rev() {
            let name = format!("g{}", axis.as_u32());
            let times = if data.block == 1 { String::new() } else { format!(" * {}", data.block) };
            if n == 0 {
                self.line(format!("const int {name} = (int)block{times}; // {}", readable(&data.name)));
            } else {
                let count = self.blocks(data.extent, data.block);
                self.line(format!(
                    "const int {name} = (int)(block % (unsigned){count}){times}; // {}",
                    readable(&data.name)
                ));
                self.line(format!("block /= (unsigned){count};"));
            }
        }
    }
}

/// A name that is safe in a comment.
pub(super) fn readable(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() && *c != '\\').collect()
}
