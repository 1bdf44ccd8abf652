//! What: small changes of PTX text, each of which a person could make by mistake.
//! Why here: planting bugs by hand finds what one thinks of; these are made at every place where they apply.
//! Pre: PTX as NVRTC writes it (one instruction per line), with line information, and its CUDA source.
//! Post: one text per operator and place, with a name of the place that does not move when lines do.

use std::collections::BTreeMap;

/// A changed copy.
#[derive(Default)]
pub(crate) struct Mutant {
    /// The operator.
    pub(crate) op: &'static str,
    /// The `//@` name of the source line that the instruction came from.
    pub(crate) place: String,
    /// Which one of the instructions of that operator and place.
    pub(crate) index: usize,
    /// The 1-based line of the PTX.
    pub(crate) line: usize,
    /// The instruction before and after.
    pub(crate) before: String,
    pub(crate) after: String,
    /// The whole text.
    pub(crate) ptx: String,
}

/// An instruction taken apart.
pub(crate) struct Inst<'a> {
    guard: &'a str,
    op: &'a str,
    rest: &'a str,
}

impl<'a> Inst<'a> {
    fn new(line: &'a str) -> Option<Inst<'a>> {
        let mut s = line.trim();
        if !s.ends_with(';') || s.starts_with('.') || s.starts_with("//") || s.starts_with('{') {
            return None;
        }
        let mut guard = "";
        if s.starts_with('@') {
            let (g, r) = s.split_once(char::is_whitespace)?;
            (guard, s) = (g, r.trim());
        }
        let s = s.strip_suffix(';')?;
        let (op, rest) = s.split_once(char::is_whitespace).unwrap_or((s, ""));
        Some(Inst { guard, op, rest: rest.trim() })
    }

    fn has(&self, part: &str) -> bool {
        self.op.split('.').any(|p| p == part)
    }

    fn starts(&self, any: &[&str]) -> bool {
        any.iter().any(|p| self.op.starts_with(p))
    }

    fn with(&self, op: &str, rest: &str) -> String {
        format!("{} {op} {rest};", self.guard).trim().to_owned()
    }

    /// Operands, with vectors and addresses whole.
    fn operands(&self) -> Vec<&'a str> {
        let (mut out, mut depth, mut from) = (vec![], 0, 0);
        for (i, c) in self.rest.char_indices() {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    out.push(self.rest[from..i].trim());
                    from = i + 1;
                }
                _ => {}
            }
        }
        out.push(self.rest[from..].trim());
        out
    }

    /// The instruction with an operand that a scratch register holds, computed first.
    fn computed(&self, operand: usize, how: &str, by: &str) -> Option<String> {
        let mut ops = self.operands();
        let old = *ops.get(operand)?;
        ops[operand] = "%mutated";
        let new = self.with(self.op, &ops.join(", "));
        Some(format!("{{ .reg .b32 %mutated; {how} %mutated, {old}, {by}; {new} }}"))
    }

    /// The instruction with the address in brackets moved.
    fn moved(&self, bytes: i64) -> Option<String> {
        let (open, close) = (self.rest.find('[')?, self.rest.find(']')?);
        let (head, address, tail) = (&self.rest[..open], &self.rest[open + 1..close], &self.rest[close..]);
        let (base, offset) = match address.rsplit_once('+') {
            Some((b, o)) => (b, o.parse::<i64>().ok()?),
            None => (address, 0),
        };
        Some(self.with(self.op, &format!("{head}[{base}+{}{tail}", offset + bytes)))
    }

    /// Bytes of an element of a load, store or atomic.
    fn width(&self) -> Option<i64> {
        let ty = self.op.rsplit('.').next()?;
        ty.get(1..)?.parse::<i64>().ok().map(|bits| bits / 8)
    }

    /// Bytes that a lane accesses at once.
    fn access(&self) -> Option<i64> {
        let n = if self.has("v2") {
            2
        } else if self.has("v4") {
            4
        } else {
            1
        };
        Some(n * self.width()?)
    }

    fn memory(&self) -> bool {
        self.starts(&["ld.", "st.", "atom.", "red."]) && !self.has("param") && !self.has("async")
    }

    fn weak(&self) -> bool {
        !["acquire", "release", "relaxed", "volatile"].iter().any(|m| self.has(m))
    }
}

/// An operator: the new text of the instruction, empty to drop it; `None` where it does not apply.
pub(crate) type Rule = fn(&Inst<'_>) -> Option<String>;

fn drop_if(yes: bool) -> Option<String> {
    yes.then(String::new)
}

fn swap(i: &Inst<'_>, from: &str, to: &str) -> Option<String> {
    i.has(from).then(|| {
        let parts: Vec<&str> = i.op.split('.').map(|p| if p == from { to } else { p }).collect();
        i.with(&parts.join("."), i.rest)
    })
}

/// Every operator, by name.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("drop_bar", |i| drop_if(i.starts(&["bar.sync", "barrier.sync"]))),
    ("drop_bar_arrive", |i| drop_if(i.starts(&["bar.arrive"]))),
    ("drop_warpsync", |i| drop_if(i.starts(&["bar.warp.sync"]))),
    ("drop_fence", |i| drop_if(i.starts(&["fence.acq_rel", "fence.sc", "membar"]))),
    ("drop_proxy_fence", |i| drop_if(i.starts(&["fence.proxy"]))),
    ("drop_init_fence", |i| drop_if(i.starts(&["fence.mbarrier_init"]))),
    ("drop_cluster_arrive", |i| drop_if(i.starts(&["barrier.cluster.arrive"]))),
    ("drop_cluster_wait", |i| drop_if(i.starts(&["barrier.cluster.wait"]))),
    ("drop_grid_wait", |i| drop_if(i.op == "griddepcontrol.wait")),
    ("drop_launch_dependents", |i| drop_if(i.op == "griddepcontrol.launch_dependents")),
    ("drop_setmaxnreg", |i| drop_if(i.starts(&["setmaxnreg"]))),
    ("drop_init", |i| drop_if(i.starts(&["mbarrier.init"]))),
    ("drop_arrive", |i| drop_if(i.starts(&["mbarrier.arrive", "cp.async.mbarrier"]))),
    ("drop_commit", |i| drop_if(i.has("commit_group"))),
    ("drop_wait", |i| drop_if(i.has("wait_group") || i.has("wait_all"))),
    ("drop_copy", |i| {
        let copies = i.starts(&[
            "cp.async.ca",
            "cp.async.cg",
            "cp.async.bulk.g",
            "cp.async.bulk.s",
            "cp.reduce",
            "st.async",
        ]);
        drop_if(copies)
    }),
    ("drop_signal", |i| {
        let strong = i.starts(&["st.", "red."]) && !i.weak() && !i.has("async");
        drop_if(strong)
    }),
    ("drop_store", |i| drop_if(i.starts(&["st.shared", "st.global"]) && i.weak())),
    ("weaken_acquire", |i| {
        if i.starts(&["mbarrier.test_wait", "mbarrier.try_wait"]) && i.weak() {
            return Some(i.with(&i.op.replacen(".shared", ".relaxed.cta.shared", 1), i.rest));
        }
        if i.starts(&["barrier", "fence"]) { None } else { swap(i, "acquire", "relaxed") }
    }),
    ("weaken_release", |i| {
        if i.starts(&["mbarrier.arrive"]) && i.weak() {
            return Some(i.with(&i.op.replacen(".shared", ".relaxed.cta.shared", 1), i.rest));
        }
        if i.starts(&["fence"]) { None } else { swap(i, "release", "relaxed") }
    }),
    ("to_weak", |i| {
        if i.weak() || !i.starts(&["ld.", "st."]) {
            return None;
        }
        let strong = ["acquire", "release", "relaxed", "volatile", "gpu", "sys"];
        let parts: Vec<&str> = i.op.split('.').filter(|p| !strong.contains(p)).collect();
        Some(i.with(&parts.join("."), i.rest))
    }),
    ("scope_cta", |i| {
        if i.starts(&["membar.gl"]) {
            return Some(i.with("membar.cta", i.rest));
        }
        if i.starts(&["atom.global.", "red.global."]) {
            return Some(i.with(&i.op.replacen(".global.", ".relaxed.cta.global.", 1), i.rest));
        }
        if i.starts(&["mbarrier"]) {
            return swap(i, "cluster", "cta").filter(|_| !i.starts(&["mbarrier.init"]));
        }
        if i.starts(&["barrier", "fence.mbarrier", "cp."]) { None } else { swap(i, "gpu", "cta") }
    }),
    ("flip_parity", |i| i.has("parity").then(|| i.computed(2, "xor.b32", "1")).flatten()),
    ("raise_wait", |i| {
        let n = i.has("wait_group").then(|| i.rest.parse::<u32>().ok()).flatten()?;
        Some(i.with(i.op, &(n + 1).to_string()))
    }),
    ("no_expect", |i| {
        let ops = i.operands();
        i.has("expect_tx").then(|| i.with(&i.op.replace(".expect_tx", ""), &ops[..2].join(", ")))
    }),
    ("expect_less", |i| i.has("expect_tx").then(|| i.computed(2, "sub.u32", "16")).flatten()),
    ("expect_more", |i| i.has("expect_tx").then(|| i.computed(2, "add.u32", "16")).flatten()),
    ("init_more", |i| i.starts(&["mbarrier.init"]).then(|| i.computed(1, "add.u32", "1")).flatten()),
    ("init_less", |i| i.starts(&["mbarrier.init"]).then(|| i.computed(1, "sub.u32", "1")).flatten()),
    ("counted_arrive", |i| swap(i, "noinc", "").map(|s| s.replace("..", "."))),
    ("to_nc", |i| {
        let plain = i.starts(&["ld.global."]) && i.weak() && !i.has("nc");
        plain.then(|| i.with(&i.op.replacen("global", "global.nc", 1), i.rest))
    }),
    ("divergent_bar", |i| {
        let aligned = i.starts(&["bar.sync", "barrier.cluster"]) && i.guard.is_empty();
        let odd = ".reg .pred %odd; .reg .b32 %lane; mov.u32 %lane, %tid.x; and.b32 %lane, %lane, 1; \
                   setp.ne.u32 %odd, %lane, 0;";
        aligned.then(|| format!("{{ {odd} @%odd {} }}", i.with(i.op, i.rest)))
    }),
    ("bar_more", |i| {
        let counted = i.starts(&["bar.sync", "bar.arrive"]) && i.operands().len() == 2;
        counted.then(|| i.computed(1, "add.u32", "32")).flatten()
    }),
    ("bar_less", |i| {
        let counted = i.starts(&["bar.sync", "bar.arrive"]) && i.operands().len() == 2;
        counted.then(|| i.computed(1, "sub.u32", "32")).flatten()
    }),
    ("bar_id", |i| {
        let barrier = i.starts(&["bar.sync", "bar.arrive"]);
        barrier.then(|| i.computed(0, "add.u32", "8")).flatten()
    }),
    ("off_by_one", |i| {
        let integer = ["s32", "u32", "s64", "u64"].iter().any(|t| i.has(t));
        if !i.starts(&["setp."]) || !integer {
            return None;
        }
        [("lt", "le"), ("le", "lt"), ("gt", "ge"), ("ge", "gt")].iter().find_map(|(a, b)| swap(i, a, b))
    }),
    ("shift_shared", |i| {
        let shared = i.memory() && i.has("shared");
        shared.then(|| i.moved(i.width()?)).flatten()
    }),
    ("misalign", |i| {
        let copies = i.starts(&["cp.async.ca", "cp.async.cg", "cp.async.bulk.g", "cp.async.bulk.s"]);
        if copies {
            return i.moved(4);
        }
        (i.memory() && i.access()? > 1).then(|| i.moved(i.access()? / 2)).flatten()
    }),
    ("own_vote", |i| {
        let ops = i.operands();
        i.starts(&["bar.red.or"]).then(|| i.with("mov.pred", &format!("{}, {}", ops[0], ops[2])))
    }),
    ("unguard", |i| drop_if(i.op == "bra" && !i.guard.is_empty())),
    ("stay_home", |i| {
        let ops = i.operands();
        i.starts(&["mapa"]).then(|| i.with("mov.u32", &ops[..2].join(", ")))
    }),
];

/// The `//@` names of source lines, by line.
fn names(source: &str) -> BTreeMap<usize, &str> {
    let named = source.lines().enumerate().filter_map(|(l, s)| Some((l + 1, s.rsplit_once("//@")?.1.trim())));
    named.collect()
}

/// The number under which the PTX knows the kernel's own file; headers have another ending.
fn own_file(ptx: &str) -> usize {
    let files = ptx.lines().filter_map(|l| l.trim().strip_prefix(".file"));
    let mut own =
        files.filter(|l| l.ends_with(".cu\"")).filter_map(|l| l.split_whitespace().next()?.parse().ok());
    own.next_back().unwrap_or(1)
}

/// The place that a `.loc` names: where the code was inlined, if that line has a name, or else the line itself.
fn place(line: &str, names: &BTreeMap<usize, &str>, own: usize) -> Option<String> {
    let rest = line.trim().strip_prefix(".loc")?;
    let at = |s: &str| -> Option<(usize, usize)> {
        let mut n = s.split_whitespace();
        Some((n.next()?.parse().ok()?, n.next()?.parse().ok()?))
    };
    let inner = at(rest)?;
    let outer = rest.split_once("inlined_at").and_then(|(_, r)| at(r)).unwrap_or(inner);
    let named = |(f, l): (usize, usize)| if f == own { names.get(&l).map(|n| (*n).to_owned()) } else { None };
    // Line 0 marks what the compiler moved out of a loop or made up.
    let bare = || if outer.1 == 0 { "moved".to_owned() } else { format!("line{}", outer.1) };
    named(inner).or_else(|| named(outer)).or_else(|| Some(bare()))
}

/// All mutants of a text, in order.
pub(crate) fn mutants(ptx: &str, source: &str) -> Vec<Mutant> {
    let (names, own) = (names(source), own_file(ptx));
    let lines: Vec<&str> = ptx.lines().collect();
    let mut out: Vec<Mutant> = vec![];
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut here = String::from("start");
    for (n, line) in lines.iter().enumerate() {
        if let Some(p) = place(line, &names, own) {
            here = p;
            continue;
        }
        let Some(inst) = Inst::new(line) else { continue };
        for (op, rule) in RULES {
            let Some(after) = rule(&inst) else { continue };
            if *op == "unguard" && !lines[n..].iter().any(|l| l.trim().strip_suffix(':') == Some(inst.rest)) {
                // Back to the loop's head: that is no guard.
                continue;
            }
            let index = counts.entry((*op, here.clone())).or_default();
            let mut text: Vec<&str> = lines.clone();
            text[n] = &after;
            out.push(Mutant {
                op,
                place: here.clone(),
                index: *index,
                line: n + 1,
                before: line.trim().to_owned(),
                after: after.clone(),
                ptx: text.join("\n"),
            });
            *index += 1;
        }
    }
    out
}
