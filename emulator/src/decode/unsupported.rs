//! What: what is said of instructions that this machine does not run.
//! Why here: those that PTX has and that have a way around say which; the rest are unknown.
//! Pre: an instruction's name that no decoder takes.
//! Post: one sentence that names the instruction.

/// Why an instruction is refused, and what to write instead.
pub(super) fn unsupported(name: &str) -> String {
    match name {
        "alloca" | "stacksave" | "stackrestore" => format!(
            "`{name}` is not supported, because the stack of a thread has a fixed size here: give the array a constant \
             size (no alloca and no arrays of variable length in the source)"
        ),
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" => format!(
            "the scalar video instruction `{name}` is not supported: extract the bytes or halves with bfe or prmt and \
             use the ordinary instruction"
        ),
        "vadd2" | "vsub2" | "vavrg2" | "vmin2" | "vmax2" | "vset2" | "vadd4" | "vsub4" | "vavrg4"
        | "vmin4" | "vmax4" | "vset4" => format!(
            "the SIMD video instruction `{name}` is not supported (vabsdiff2 and vabsdiff4 are): use ordinary \
             instructions on the bytes or halves"
        ),
        _ => format!("unknown instruction `{name}`"),
    }
}
