//! What: any bytes as PTX: parsed, and run with a small budget where they parse.
//! Why here: the fuzz target and an ordinary test share it, so that the test keeps the target honest.
//! Pre: none.
//! Post: returns; a panic, an abort or a hang is the fault that is looked for.

use tilewright_emulator::{Launch, Memory, Options, Profile, Program, PtxError, Sanitize, launch};

/// How far an input came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reached {
    /// It does not parse; every error names a line of the text.
    Refused,
    /// It parses.
    Parsed,
    /// An entry was launched and did not end well.
    Faulted,
    /// An entry ran to its end.
    Ran,
}

/// Parses the bytes and runs every entry, without checks, and with all of them in a schedule that the text picks.
pub(crate) fn any_bytes(data: &[u8]) -> Reached {
    let text = String::from_utf8_lossy(data);
    let program = match Program::parse(&text) {
        Ok(p) => p,
        Err(PtxError { line, .. }) => {
            assert!(line as usize <= text.lines().count() + 1, "line {line} is behind the end");
            return Reached::Refused;
        }
    };
    let mut reached = Reached::Parsed;
    let seed = data.iter().fold(0u64, |h, b| h.rotate_left(5) ^ u64::from(*b));
    for entry in program.entries() {
        for (sanitize, seed) in [(Sanitize::default(), None), (Sanitize::ALL, Some(seed))] {
            let mut memory = Memory::new(1 << 20);
            let Ok(buffer) = memory.alloc("buffer", 4096) else { return reached };
            let Some(params) = program.params(entry) else { return reached };
            let size = params.last().map_or(0, |p| p.offset + p.size);
            // Pointers where a parameter is as wide as one, a small number elsewhere.
            let mut bytes = vec![0u8; size.min(1 << 16) as usize];
            for p in &params {
                let value = if p.size == 8 { buffer } else { 33 };
                let at = p.offset as usize;
                for (slot, b) in bytes.iter_mut().skip(at).take(p.size as usize).zip(value.to_le_bytes()) {
                    *slot = b;
                }
            }
            let l = Launch {
                entry,
                grid: [2, 1, 1],
                block: [40, 1, 1],
                shared_bytes: 64,
                cluster: [1; 3],
                params: &bytes,
            };
            let options = Options {
                instruction_budget: 3000,
                threads: 1,
                counters: seed.is_none(),
                sanitize,
                seed,
                ..Options::default()
            };
            let ended = launch(&program, &memory, &Profile::default(), &l, &options).is_ok();
            reached = reached.max(if ended { Reached::Ran } else { Reached::Faulted });
        }
    }
    reached
}
