//! Options for the run-time compiler, and what its log says about a kernel's resources.
//!
//! Why here: the options are part of the meaning of the text that this crate writes (no implicit contraction).
//! Post: unknown lines of a log are ignored; missing numbers stay 0.

pub use tilewright_ir::artifact::Resources;

/// The options for an architecture such as `sm_80` or `sm_90a`.
pub fn nvrtc_options(arch: &str) -> Vec<String> {
    vec![
        format!("--gpu-architecture={arch}"),
        "--std=c++17".to_owned(),
        // Results must not depend on what the compiler fuses: the source says where a product is added unrounded.
        "--fmad=false".to_owned(),
        "--extra-device-vectorization".to_owned(),
        "-default-device".to_owned(),
        "--ptxas-options=-v".to_owned(),
    ]
}

/// Reads the part of a compiler log that concerns the kernel `name`, and the functions that it calls: those stand behind
/// it. Spills are those of all of them.
pub fn read_log(log: &str, name: &str) -> Resources {
    let mut out = Resources::default();
    let mut here = true;
    for line in log.lines() {
        if let Some(entry) = quoted_after(line, "Compiling entry function") {
            here = entry == name;
            continue;
        }
        if is_advisory(line) {
            out.advisories.push(line.trim().to_owned());
            continue;
        }
        if !here {
            continue;
        }
        if let Some(n) = number_before(line, " bytes stack frame") {
            out.stack_bytes = out.stack_bytes.max(n);
        }
        let stores = number_before(line, " bytes spill stores");
        let loads = number_before(line, " bytes spill loads");
        if stores.is_some() || loads.is_some() {
            out.spill_bytes += stores.unwrap_or(0) + loads.unwrap_or(0);
        }
        if let Some(n) = number_before(line, " registers") {
            out.registers = n;
        }
        if let Some(n) = number_before(line, " bytes smem") {
            out.static_shared_bytes = n;
        }
    }
    out
}

/// Whether a line carries a performance advisory: a code of the C75xx family.
fn is_advisory(line: &str) -> bool {
    line.match_indices("C75").any(|(at, _)| {
        let code = &line.as_bytes()[at + 1..];
        let digits = code.iter().take_while(|c| c.is_ascii_digit()).count();
        let starts = at == 0 || !line.as_bytes()[at - 1].is_ascii_alphanumeric();
        starts && digits == 4
    })
}

/// The text between the first pair of single quotes after `key`.
fn quoted_after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.split_once(key)?.1;
    let (_, rest) = rest.split_once('\'')?;
    Some(rest.split_once('\'')?.0)
}

/// The number that ends right before the first occurrence of `key`.
fn number_before(line: &str, key: &str) -> Option<u32> {
    let before = &line[..line.find(key)?];
    let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before[before.len() - digits..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'other' for 'sm_80'
ptxas info    : Function properties for other
ptxas         .     64 bytes stack frame, 1 bytes spill stores, 1 bytes spill loads
ptxas info    : Used 99 registers, used 1 barriers, 512 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'mine' for 'sm_80'
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized
ptxas info    : Function properties for mine
ptxas         .     8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 22 registers, used 0 barriers, 64 bytes smem, 376 bytes cmem[0], 88 bytes cmem[2]
ptxas info    : Compile time = 12.521 ms
";

    #[test]
    fn numbers_of_the_named_kernel() {
        let r = read_log(LOG, "mine");
        assert_eq!((r.registers, r.spill_bytes, r.stack_bytes, r.static_shared_bytes), (22, 28, 8, 64));
        assert_eq!(r.advisories.len(), 1);
        assert!(r.advisories[0].contains("C7510"));
        assert_eq!(read_log(LOG, "other").registers, 99);
    }

    #[test]
    fn functions_that_are_called_spill_too() {
        let log = format!(
            "{LOG}ptxas info    : Function properties for called
ptxas         .     32 bytes stack frame, 100 bytes spill stores, 200 bytes spill loads
"
        );
        let r = read_log(&log, "mine");
        assert_eq!((r.registers, r.spill_bytes, r.stack_bytes), (22, 328, 32));
        assert_eq!(read_log(&log, "other").spill_bytes, 2);
    }

    #[test]
    fn odd_logs_do_not_panic() {
        for log in [
            "",
            "C75",
            "C7510",
            " bytes smem",
            "99999999999999 registers",
            "Compiling entry function '",
            "é registers",
        ] {
            let _ = read_log(log, "k");
        }
        assert!(read_log("abC7510", "k").advisories.is_empty());
    }
}
