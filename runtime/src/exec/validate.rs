//! What: whether a step contradicts itself.
//! Why here: a wrong address on a GPU has no other witness, so what the executor relies on is checked once more, even
//! though the verifier of steps did so before.
//! Pre: any step.
//! Post: arguments exist, constants are not written, temporaries lie in the arena.

use tilewright_ir::step::{BufferKind, Step};

use super::{ExecError, bind};

/// That a step does not contradict itself.
pub(super) fn check(step: &Step, maxima: &[i32]) -> Result<(), ExecError> {
    let bad = |message: String| Err(ExecError::BadStep(message));
    let mut names: Vec<&str> = step.buffers.values().map(|b| b.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
        return bad(format!("two buffers are called `{}`", pair[0]));
    }
    for (b, buffer) in &step.buffers {
        // A temporary that nothing uses has no place.
        let used = || step.launches.iter().any(|l| l.args.contains(&b));
        if let BufferKind::Arena(offset) = buffer.kind
            && used()
        {
            let end = bind::bytes(buffer, maxima)?.checked_add(offset);
            if end.is_none_or(|end| end > step.arena_bytes) {
                return bad(format!("`{}` lies beyond the end of the arena", buffer.name));
            }
        }
    }
    for launch in &step.launches {
        if launch.args.len() != launch.writes.len() {
            return bad(format!("launch of `{}`: as many `writes` as `args` are needed", launch.kernel));
        }
        for (&arg, &written) in launch.args.iter().zip(&launch.writes) {
            let Some(buffer) = step.buffers.get(arg) else {
                return bad(format!("launch of `{}`: there is no buffer {arg}", launch.kernel));
            };
            let constant =
                matches!(buffer.kind, BufferKind::Input | BufferKind::Weight(_) | BufferKind::Table(_));
            if written && constant {
                return bad(format!(
                    "launch of `{}` writes `{}`, which is constant",
                    launch.kernel, buffer.name
                ));
            }
        }
    }
    Ok(())
}
