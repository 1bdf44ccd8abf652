//! The warps of the persistent kernel that copy and those that compute: where they part, and how they meet.
//!
//! Why here: the entry is one text for kernels with and without a warp that copies; what differs is in one place.
//! Post: without pages the text has one role, and all threads of the block meet.

use std::fmt::Write as _;

use tilewright_codegen::PagePlan;

/// What differs where one warp does nothing but copy: it stands behind the threads that compute, and those meet by
/// themselves.
pub(crate) struct Roles<'a> {
    /// The pages, if one warp copies.
    pub(crate) plan: Option<&'a PagePlan>,
    /// The threads that compute.
    pub(crate) threads: u32,
    /// The first byte of the barriers of tasks' own rings, and how many there are.
    pub(crate) bars: (u32, u32),
}

impl Roles<'_> {
    /// The first threads, which read pages; others have nothing to do with them.
    pub(crate) fn readers(&self) -> u32 {
        self.plan.map_or(0, |p| 32 * p.warps)
    }

    /// The threads that compute meet.
    pub(crate) fn meet(&self) -> String {
        self.plan.map_or("__syncthreads();".to_owned(), |_| format!("tw_meet<{}>();", self.threads))
    }

    /// They meet, and learn whether something holds for one of them.
    pub(crate) fn meet_or(&self, what: &str) -> String {
        self.plan
            .map_or(format!("__syncthreads_or({what})"), |_| format!("tw_meet_or<{}>({what})", self.threads))
    }

    /// An address in shared memory.
    pub(crate) fn at(byte: u32) -> String {
        format!("(u32)__cvta_generic_to_shared(smem) + {byte}")
    }

    /// Barriers before anything else, and what waits for copies look at.
    pub(crate) fn start(&self, patience: u32) -> String {
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
                "        #pragma unroll 1\n        for (int n = 0; n < {0}; ++n) tw_barrier_init({1} + 8 * n, {5});\n        #pragma unroll 1\n        for (int n = 0; n < {0}; ++n) \
                 tw_barrier_init({2} + 8 * n, {3});\n        ((u32*)(smem + {4}))[0] = 0;\n        ((u32*)(smem + {4}))[1] = 0;\n",
                p.count,
                Self::at(p.bars),
                Self::at(p.empty()),
                p.warps,
                p.flag(),
                p.fillers(),
            );
        }
        let fence = if inits.is_empty() { "" } else { "        tw_barrier_fence();\n" };
        format!(
            "    extern __shared__ __align__(128) unsigned char smem[];\n    if (threadIdx.x == 0) {{\n        u64* patience = \
             (u64*)(smem + {patience});\n        patience[0] = tw_span(control + 10);\n        patience[1] = (u64)(host + 16 + 8 * \
             blockIdx.x);\n{inits}{fence}    }}\n    __syncthreads();\n"
        )
    }

    /// What the copying warp does: it goes through the same records and waits for nothing but pages.
    pub(crate) fn loader(&self, cases: &str, slots: usize) -> String {
        let Some(p) = self.plan else { return String::new() };
        let (full, empty, flag) = (Self::at(p.bars), Self::at(p.empty()), Self::at(p.flag()));
        let (count, all) = (p.count, !p.bulk);
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
                if (!(at >> 30 & 1) && more.w != 0) at = tw_leave_out<{count}, {all}>(at, more.w, {full}, {empty}, {flag});
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
    pub(crate) fn leave_out(&self) -> String {
        let Some(p) = self.plan else { return String::new() };
        format!(
            "            const u32 tail = threadIdx.x < {3} ? __ldg((const u32*)record + 7) : 0;\n            for (u32 n = {0} - tail; n < {0}; n += 32) {{\n\
             \x20               tw_pass({1}, {2}, n, min({0} - n, 32u), tw_place(__ldg((const u32*)record + 6), step) >> 31);\n\
             \x20           }}\n",
            p.count,
            Self::at(p.bars),
            Self::at(p.empty()),
            self.readers(),
        )
    }
}

/// What the roles need besides.
pub(crate) const ROLES: &str = r#"
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
template <int COUNT, bool ALL> TW u32 tw_leave_out(u32 at, u32 tail, u32 full, u32 empty, u32 flag) {
    for (u32 first = COUNT - tail; first < COUNT; first += 32) {
        const u32 count = min(COUNT - first, 32u);
        if (!tw_pages_free(full, empty, first, count, at >> 31, flag)) return (at & 1u << 31) | first | 1u << 30;
        tw_no_copies<ALL>(full, first, count);
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
