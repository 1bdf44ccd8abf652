//! The text of the persistent kernel: a loop over records, one case per kind of task, and the protocol of counters.
//!
//! Why here: the text and the records are two halves of one agreement; see `README.md` for why the protocol is right.
//! Post: header-free source; equal programs give equal text. Nothing in it depends on the schedule.

use std::fmt::Write as _;

use cranelift_entity::PrimaryMap;
use tilewright_codegen::{BodyOptions, PagePlan, prelude};
use tilewright_ir::artifact::{Control, KernelSource, Repeat};
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Extent, Sym, SymData};

use crate::MegaError;
use crate::pages::Bodies;
use crate::record::{ADVANCE, NO_KIND};

/// The entry point.
pub const KERNEL: &str = "tw_persistent";

/// Everything around the tasks. The counters lie 32 bytes apart.
const PROTOCOL: &str = r#"
// The protocol. A counter only goes up. Whoever waits polls it without ordering, and orders once, when all are there.
TW u32 tw_peek(const u32* p) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(p)) : "memory");
    return v;
}
TW u32 tw_peek_host(const u32* p) {
    u32 v;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(p)) : "memory");
    return v;
}
TW u64 tw_time() {
    u64 t;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t) :: "memory");
    return t;
}
TW void tw_acquire() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
TW void tw_signal(u32* p) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" :: "l"(__cvta_generic_to_global(p)) : "memory");
}
// Control words: whether to stop, steps before this launch, steps of this launch, whether a stop token came, steps that
// are done, stop tokens, whether to write down times; from word 16 on, 8 words for each block, where it was when it was told to stop; then stop tokens
// and tokens.
TW bool tw_wait(const uint4* record, u32 sizes, u32 epoch, const u32* counters, u32* control, u32 at) {
    const u32 waits = sizes & 0xffffu;
    const uint2* wait = (const uint2*)(record + 2);
    for (u32 n = 0; n < waits; ++n) {
        const uint2 w = __ldg(wait + n);
        const u32 target = (epoch - (w.y >> 31)) * (w.y & 0x7fffffffu);
        while ((int)(tw_peek(counters + 8 * w.x) - target) < 0) {
            if (tw_peek_host(control) != 0) {
                u32* dump = control + 16 + 8 * blockIdx.x;
                dump[0] = 1; dump[1] = epoch; dump[2] = at; dump[3] = w.x; dump[4] = target;
                dump[5] = tw_peek(counters + 8 * w.x);
                return true;
            }
        }
        // The step before may have been the last. Nobody signals in the one after it, so this comes before other waits.
        if (w.y >> 31) {
            tw_acquire();
            if (tw_peek(control + 3) != 0) return true;
        }
    }
    tw_acquire();
    return false;
}
"#;

/// The device function of a kind of task.
pub(crate) fn function(kind: u32) -> String {
    format!("tw_task{kind}")
}

/// The blocks of a grid, as C.
fn blocks(program: &TileProgram) -> String {
    let mut factors = Vec::new();
    for (_, axis) in program.grid() {
        let block = u64::from(axis.block.max(1));
        factors.push(match axis.extent {
            Extent::Const(n) => format!("{}u", n.div_ceil(block)),
            Extent::Sym(s) => format!("(((unsigned)sy[{}] + {}u) / {block}u)", s.as_u32(), block - 1),
        });
    }
    if factors.is_empty() { "1u".to_owned() } else { factors.join(" * ") }
}

/// The end of a step: the chosen tokens become the next ones, and symbols go on.
fn advance(repeat: &Repeat) -> String {
    let n = repeat.sequences;
    let symbols: String = repeat.symbols.iter().map(|s| format!(" sy[{}] += 1;", s.as_u32())).collect();
    format!(
        r#"            case {ADVANCE:#x}: {{
                if (threadIdx.x == 0) {{
                    const u32 known = tw_peek(control + 5);
                    const u32* stops = control + 16 + 8 * gridDim.x;
                    u32* tokens = control + 16 + 8 * gridDim.x + {} + step * {n};
                    const int* next = (const int*)__ldg(a);
                    int* ids = (int*)__ldg(a + 1);
                    u32 last = 0;
                    for (u32 s = 0; s < {n}; ++s) {{
                        u32 v[1];
                        tw_read(v, next + s);
                        ids[s] = (int)v[0];
                        tokens[s] = v[0];
                        for (u32 k = 0; k < known; ++k) {{
                            if (tw_peek(stops + k) == v[0]) {{ ++last; break; }}
                        }}
                    }}
                   {symbols}
                    control[4] = step + 1;
                    if (last == {n}) control[3] = 1;
                }}
                break;
            }}
"#,
        Control::STOPS
    )
}

/// What differs where one warp does nothing but copy: it stands behind the threads that compute, and those meet by
/// themselves.
struct Roles<'a> {
    plan: Option<&'a PagePlan>,
    threads: u32,
    bars: (u32, u32),
}

impl Roles<'_> {
    fn meet(&self) -> String {
        self.plan.map_or("__syncthreads();".to_owned(), |_| format!("tw_meet<{}>();", self.threads))
    }

    fn meet_or(&self, what: &str) -> String {
        self.plan
            .map_or(format!("__syncthreads_or({what})"), |_| format!("tw_meet_or<{}>({what})", self.threads))
    }

    fn at(byte: u32) -> String {
        format!("(u32)__cvta_generic_to_shared(smem) + {byte}")
    }

    /// Barriers before anything else.
    fn start(&self) -> String {
        let (bars, count) = self.bars;
        let mut inits = String::new();
        // Writing to a string does not fail.
        if count > 0 {
            let _ = writeln!(
                inits,
                "        #pragma unroll 1\n        for (int n = 0; n < {count}; ++n) tw_barrier_init({} + 8 * n, 1);",
                Self::at(bars)
            );
        }
        if let Some(p) = self.plan {
            let _ = write!(
                inits,
                "        #pragma unroll 1\n        for (int n = 0; n < {0}; ++n) tw_barrier_init({1} + 8 * n, 1);\n        #pragma unroll 1\n        for (int n = 0; n < {0}; ++n) \
                 tw_barrier_init({2} + 8 * n, {3});\n        ((u32*)(smem + {4}))[0] = 0;\n        ((u32*)(smem + {4}))[1] = 0;\n",
                p.count,
                Self::at(p.bars),
                Self::at(p.empty()),
                p.warps,
                p.flag(),
            );
        }
        if inits.is_empty() {
            return String::new();
        }
        format!(
            "    extern __shared__ __align__(128) unsigned char smem[];\n    if (threadIdx.x == 0) {{\n{inits}        \
             tw_barrier_fence();\n    }}\n    __syncthreads();\n"
        )
    }

    /// What the copying warp does: it goes through the same records and waits for nothing but pages.
    fn loader(&self, cases: &str, slots: usize) -> String {
        let Some(p) = self.plan else { return String::new() };
        let (full, empty, flag) = (Self::at(p.bars), Self::at(p.empty()), Self::at(p.flag()));
        let count = p.count;
        format!(
            r#"    if (threadIdx.x >= {}) {{
        u32 at = 0;
        for (u32 step = 0; step < steps; ++step) {{
            for (u32 n = 0; n < count; ++n) {{
                const uint4* record = (const uint4*)records + 8 * (start + n);
                const uint4 task = __ldg(record);
                const uint4 more = __ldg(record + 1);
                const u64* a = args + {slots} * task.y;
                at = tw_place(more.z, step);
                switch (task.x) {{
{cases}                default: break;
                }}
                if (!(at >> 30 & 1) && more.w != 0) at = tw_leave_out<{count}>(at, more.w, {full}, {empty}, {flag});
                if (at >> 30 & 1) {{
                    // Nothing may be on its way into the memory of a block that is gone.
                    tw_drain<{count}>(at, {full});
                    return;
                }}
            }}
        }}
        return;
    }}
"#,
            self.threads
        )
    }

    /// At the end of a record: pages left out behind it are free at once.
    fn leave_out(&self) -> String {
        let Some(p) = self.plan else { return String::new() };
        format!(
            "            const u32 tail = __ldg((const u32*)record + 7);\n            for (u32 n = {0} - tail; n < {0}; n += 32) {{\n\
             \x20               tw_pass({1}, {2}, n, min({0} - n, 32u), tw_place(__ldg((const u32*)record + 6), step) >> 31);\n\
             \x20           }}\n",
            p.count,
            Self::at(p.bars),
            Self::at(p.empty()),
        )
    }
}

/// What the roles need besides.
const ROLES: &str = r#"
// The threads that compute meet.
template <int THREADS> TW void tw_meet() { asm volatile("bar.sync 2, %0;" :: "n"(THREADS) : "memory"); }
template <int THREADS> TW bool tw_meet_or(bool mine) {
    u32 any;
    asm volatile("{ .reg .pred p, q; setp.ne.u32 p, %1, 0; bar.red.or.pred q, 2, %2, p; selp.u32 %0, 1, 0, q; }"
        : "=r"(any) : "r"((u32)mine), "n"(THREADS) : "memory");
    return any != 0;
}
// The place of a record in the ring of pages: the page, the parity of its lap in the first step, and whether steps change that.
TW u32 tw_place(u32 word, u32 step) {
    return (word & 0xffffu) | ((word >> 16 ^ (word >> 17 & step)) & 1u) << 31;
}
// The last pages of a lap are not used.
template <int COUNT> TW u32 tw_leave_out(u32 at, u32 tail, u32 full, u32 empty, u32 flag) {
    for (u32 first = COUNT - tail; first < COUNT; first += 32) {
        const u32 count = min(COUNT - first, 32u);
        if (!tw_pages_free(full, empty, first, count, at >> 31, flag)) return (at & 1u << 31) | first | 1u << 30;
        if (tw_own(first) < count) tw_arrive(full + 8 * (first + tw_own(first)), 1);
    }
    return at;
}
// Waits for all copies that are on their way: pages before the place are those of its lap, the others of the one before.
template <int COUNT> TW void tw_drain(u32 at, u32 full) {
    const u32 lap = at >> 31;
    for (u32 page = threadIdx.x & 31; page < COUNT; page += 32) {
        tw_await(full + 8 * page, page < (at & 0xffffu) ? lap : lap ^ 1);
    }
}
"#;

/// Writes the kernel. With `repeat` it may do several steps in one launch.
pub fn source(
    step: &Step,
    programs: &[TileProgram],
    bodies: &Bodies,
    symbols: &PrimaryMap<Sym, SymData>,
    repeat: Option<&Repeat>,
) -> Result<KernelSource, MegaError> {
    let own = repeat.map_or(0, |_| 2);
    let slots = step.launches.iter().map(|l| l.args.len()).max().unwrap_or(0).max(1).max(own);
    let roles = Roles { plan: bodies.pages.as_ref(), threads: bodies.threads, bars: bodies.bars };
    let threads = bodies.threads;
    let mut text = prelude();
    text.push_str(PROTOCOL);
    if roles.plan.is_some() {
        text.push_str(ROLES);
    }
    let (mut cases, mut feeds) = (String::new(), String::new());
    for (n, (program, body)) in programs.iter().zip(&bodies.bodies).enumerate() {
        let Some(body) = body else { continue };
        let name = function(n as u32);
        let options = BodyOptions {
            name: &name,
            constant: &bodies.constants[n],
            bars: bodies.bars.0,
            pages: bodies.pages,
        };
        let source = body.emit(symbols, &options)?;
        text.push('\n');
        text.push_str(&source.cuda);
        let args: String =
            source.params.iter().enumerate().map(|(i, ty)| format!("({ty})__ldg(a + {i}), ")).collect();
        let readable = program.name.chars().filter(char::is_ascii_graphic).collect::<String>();
        if let Some((feeder, code)) = &source.feeder {
            text.push('\n');
            text.push_str(code);
            // Writing to a string does not fail.
            let _ = writeln!(
                feeds,
                "                case {n}: at = {feeder}({args}sy, task.z, at); break; // {readable}"
            );
        }
        let guard = if source.threads < threads {
            format!("if (threadIdx.x < {}) ", source.threads)
        } else {
            String::new()
        };
        let place =
            if source.feeder.is_some() { ", tw_place(__ldg((const u32*)record + 6), step)" } else { "" };
        let _ = write!(
            cases,
            "            case {n}: {{ // {readable}\n\
             \x20               const unsigned blocks = {};\n\
             \x20               for (unsigned b = task.z; b < task.z + task.w && b < blocks; ++b) {{\n\
             \x20                   // Shared memory is used again.\n\
             \x20                   if (b > task.z) {}\n\
             \x20                   {guard}{}({args}sy, b{place});\n\
             \x20               }}\n\
             \x20               break;\n\
             \x20           }}\n",
            blocks(program),
            roles.meet(),
            source.name,
        );
    }
    if let Some(repeat) = repeat {
        cases.push_str(&advance(repeat));
    }
    let all = threads + if roles.plan.is_some() { 32 } else { 0 };
    let counted = roles.plan.map_or("0".to_owned(), |p| format!("tw_counted({})", Roles::at(p.counted())));
    let told = roles.plan.map_or(String::new(), |p| {
        format!("tw_let_go<{}>({}, {}); ", p.count, Roles::at(p.empty()), Roles::at(p.flag()))
    });
    let _ = write!(
        text,
        r#"
extern "C" __global__ void __launch_bounds__({all}, 1) {KERNEL}(
    const u32* queues, const u32* records, const u64* args, u32* counters, u32* control, int* sy, u64* timeline) {{
    const u32 before = tw_peek(control + 1);
    const u32 steps = tw_peek(control + 2);
    const bool timed = threadIdx.x == 0 && tw_peek(control + 6) != 0;
    const u32 start = __ldg(queues + 2 * blockIdx.x);
    const u32 count = __ldg(queues + 2 * blockIdx.x + 1);
{start}{loader}    for (u32 step = 0; step < steps; ++step) {{
        for (u32 at = 0; at < count; ++at) {{
            const uint4* record = (const uint4*)records + 8 * (start + at);
            const uint4 task = __ldg(record);
            const u32 sizes = __ldg((const u32*)record + 4);
            u64* times = timeline + 4 * (start + at);
            if (timed) times[0] = tw_time();
            bool stop = false;
            if (threadIdx.x == 0 && (sizes & 0xffffu) != 0) {{
                stop = tw_wait(record, sizes, before + step + 1, counters, control, at);
            }}
            if ({stopped}) {{ {told}return; }}
            if (timed) {{ times[1] = tw_time(); times[3] = {counted}; }}
            const u64* a = args + {slots} * task.y;
            switch (task.x) {{
{cases}            default: break; // {NO_KIND:#x}: waits and signals only
            }}
            {meet}
            if (timed) times[2] = tw_time();
            if (threadIdx.x == 0) {{
                const u32 signals = sizes >> 16;
                for (u32 n = 0; n < signals; ++n) {{
                    tw_signal(counters + 8 * __ldg((const u32*)record + 20 + n));
                }}
            }}
{tail}        }}
    }}
}}
"#,
        start = roles.start(),
        loader = roles.loader(&feeds, slots),
        stopped = roles.meet_or("stop"),
        meet = roles.meet(),
        tail = roles.leave_out(),
    );
    Ok(KernelSource { name: KERNEL.to_owned(), cuda: text, threads: all, shared_bytes: bodies.shared })
}
