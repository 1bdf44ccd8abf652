//! The text of the persistent kernel: a loop over records, one case per kind of task, and the protocol of counters.
//!
//! Why here: the text and the records are two halves of one agreement; see `README.md` for why the protocol is right.
//! Post: header-free source; equal programs give equal text. Nothing in it depends on the schedule.

use std::fmt::Write as _;

use cranelift_entity::PrimaryMap;
use tilewright_codegen::{BodyOptions, prelude};
use tilewright_ir::artifact::{Control, KernelSource, Repeat};
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;
use tilewright_ir::{Extent, Sym, SymData};

use crate::MegaError;
use crate::pages::Bodies;
use crate::record::{ADVANCE, NO_KIND};
use crate::roles::{ROLES, Roles};

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
TW void tw_tell(u32* p, u32 v) {
    asm volatile("st.relaxed.sys.global.u32 [%0], %1;" :: "l"(__cvta_generic_to_global(p)), "r"(v) : "memory");
}
TW u64 tw_span(const u32* p) { return (u64)tw_peek(p + 1) << 32 | tw_peek(p); }
// Control words: whether to stop, steps before this launch, steps of this launch, whether no step follows, steps that
// are done, stop tokens, whether to write down times, whether the host asked that no step follows, how long waits may take;
// from word 16 on stop tokens and tokens.
// Words that the host sees: whether it asks to stop; from word 16 on, 8 words for each block: why it left and where it was.
// Why to leave a wait: 1 where one is told to, 2 where it takes longer than it may. The host's word is far away, so only who
// waits for long looks at it.
TW u32 tw_leave(u64& since, const u32* control, const u32* host) {
    if (tw_peek_host(control) != 0) return 1;
    const u64 now = tw_time();
    if (since == 0) since = now;
    const u64 lasted = now - since;
    if (lasted > tw_span(control + 8)) return 2;
    return lasted > 20000 && tw_peek_host(host) != 0 ? 1 : 0;
}
TW bool tw_wait(const uint4* record, u32 sizes, u32 epoch, const u32* counters, u32* control, u32* host, u32 at) {
    const u32 waits = sizes & 0xffffu;
    const uint2* wait = (const uint2*)(record + 2);
    for (u32 n = 0; n < waits; ++n) {
        const uint2 w = __ldg(wait + n);
        const u32 target = (epoch - (w.y >> 31)) * (w.y & 0x7fffffffu);
        u64 since;
        asm volatile("mov.u64 %0, 0;" : "=l"(since));
        while ((int)(tw_peek(counters + 8 * w.x) - target) < 0) {
            const u32 why = tw_leave(since, control, host);
            if (why != 0) {
                // Nobody goes on alone.
                tw_tell(control, 1);
                u32* dump = host + 16 + 8 * blockIdx.x;
                tw_tell(dump + 1, epoch);
                tw_tell(dump + 2, at);
                tw_tell(dump + 3, w.x);
                tw_tell(dump + 4, target);
                tw_tell(dump + 5, tw_peek(counters + 8 * w.x));
                tw_tell(dump, why);
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

/// The end of a step: the chosen tokens become the next ones, and symbols and positions go on. Where sequences have
/// positions, one that said a stop token, or had none before, has none from then on.
fn advance(repeat: &Repeat) -> String {
    let n = repeat.sequences;
    let (positions, open, close) = match repeat.positions {
        None => ("", "", ""),
        Some(_) => (
            "\n                    int* positions = (int*)__ldg(a + 2);",
            "\n                        u32 place[1];
                        tw_read(place, positions + s);
                        if ((int)place[0] < 0) { ++last; continue; }
                        positions[s] = (int)place[0] + 1;",
            " positions[s] = -1;",
        ),
    };
    let symbols: String = repeat.symbols.iter().map(|s| format!(" sy[{}] += 1;", s.as_u32())).collect();
    format!(
        r#"            case {ADVANCE:#x}: {{
                if (threadIdx.x == 0) {{
                    const u32 known = tw_peek(control + 5);
                    const bool asked = step + 1 < steps && tw_peek_host(host) != 0;
                    const u32* stops = control + {};
                    u32* tokens = control + {} + step * {n};
                    const int* next = (const int*)__ldg(a);
                    int* ids = (int*)__ldg(a + 1);{positions}
                    u32 last = 0;
                    for (u32 s = 0; s < {n}; ++s) {{
                        u32 v[1];
                        tw_read(v, next + s);
                        ids[s] = (int)v[0];
                        tokens[s] = v[0];{open}
                        for (u32 k = 0; k < known; ++k) {{
                            if (tw_peek(stops + k) == v[0]) {{ ++last;{close} break; }}
                        }}
                    }}
                   {symbols}
                    control[4] = step + 1;
                    if (asked) control[7] = 1;
                    if (asked || last == {n}) control[3] = 1;
                }}
                break;
            }}
"#,
        Control::HEAD,
        Control::FIRST_TOKEN
    )
}

/// Writes the kernel. With `repeat` it may do several steps in one launch.
pub fn source(
    step: &Step,
    programs: &[TileProgram],
    bodies: &Bodies,
    symbols: &PrimaryMap<Sym, SymData>,
    repeat: Option<&Repeat>,
) -> Result<KernelSource, MegaError> {
    let own = repeat.map_or(0, |r| r.args().len());
    let slots = step.launches.iter().map(|l| l.args.len()).max().unwrap_or(0).max(1).max(own);
    let roles = Roles { plan: bodies.pages.as_ref(), threads: bodies.threads, bars: bodies.bars };
    let threads = bodies.threads;
    // Behind the barriers of rings: how long a wait for a copy may take, and where to say that one took longer.
    let patience = bodies.bars.0 + 8 * bodies.bars.1;
    let mut text = format!("#define TW_PATIENCE {patience}\n{}", prelude());
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
            bars: bodies.bars_of(n),
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
        let place =
            if source.feeder.is_some() { ", tw_place(__ldg((const u32*)record + 6), step)" } else { "" };
        let guard = if source.threads < threads {
            format!("if (threadIdx.x < {}) ", source.threads)
        } else {
            String::new()
        };
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
        let (empty, flag) = (Roles::at(p.empty()), Roles::at(p.flag()));
        format!("if (threadIdx.x < {}) tw_let_go<{}>({empty}, {flag}); ", roles.readers(), p.count)
    });
    let _ = write!(
        text,
        r#"
extern "C" __global__ void __launch_bounds__({all}, 1) {KERNEL}(
    const u32* queues, const u32* records, const u64* args, u32* counters, u32* control, int* sy, u64* timeline, u32* host) {{
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
                stop = tw_wait(record, sizes, before + step + 1, counters, control, host, at);
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
        start = roles.start(patience),
        loader = roles.loader(&feeds, slots),
        stopped = roles.meet_or("stop"),
        meet = roles.meet(),
        tail = roles.leave_out(),
    );
    Ok(KernelSource { name: KERNEL.to_owned(), cuda: text, threads: all, shared_bytes: bodies.shared })
}
