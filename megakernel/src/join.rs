//! One step behind another: what the second takes from the first stays where it is.
//!
//! Why here: whoever repeats steps on the device needs more than the step itself, for example the choice of the next
//! token; and that comes from equations like everything else.

use std::collections::HashMap;

use cranelift_entity::EntityRef;
use tilewright_ir::Buffer;
use tilewright_ir::step::{BufferKind, Launch, Step};

use crate::MegaError;

/// Appends `second` to `first`. An input of the second is the buffer of the first that `wire` names, where there is one, and
/// else becomes an input of that name; `rename` changes all other names of the second. Symbols of the second must be the
/// first ones of the first.
pub fn join(
    first: &Step,
    second: &Step,
    wire: &dyn Fn(&str) -> String,
    rename: &dyn Fn(&str) -> String,
) -> Result<Step, MegaError> {
    let bad = |what: String| MegaError::Mismatch { kernel: "a step that is appended".to_owned(), what };
    let differ = second.symbols.values().zip(first.symbols.values()).any(|(a, b)| a != b);
    if differ || second.symbols.len() > first.symbols.len() {
        return Err(bad("it has symbols of its own".to_owned()));
    }
    let mut out = first.clone();
    let start = first.arena_bytes.next_multiple_of(256);
    let mut places: HashMap<Buffer, Buffer> = HashMap::new();
    for (b, data) in &second.buffers {
        let input = data.kind == BufferKind::Input;
        let name = if input { wire(&data.name) } else { rename(&data.name) };
        if input && let Some((there, known)) = first.buffers.iter().find(|(_, d)| d.name == name) {
            if (known.dtype, &known.dims) != (data.dtype, &data.dims) {
                return Err(bad(format!("`{name}` is no {}{:?}", data.dtype, data.dims)));
            }
            places.insert(b, there);
            continue;
        }
        let mut data = data.clone();
        data.name = name;
        if let BufferKind::Arena(at) = &mut data.kind {
            *at += start;
        }
        if first.buffers.values().any(|d| d.name == data.name) {
            return Err(bad(format!("both steps have a buffer `{}`", data.name)));
        }
        places.insert(b, out.buffers.push(data));
    }
    out.arena_bytes = if second.arena_bytes > 0 { start + second.arena_bytes } else { first.arena_bytes };
    for launch in &second.launches {
        out.launches.push(Launch {
            kernel: rename(&launch.kernel),
            region: rename(&launch.region),
            // Every buffer has its place.
            args: launch.args.iter().map(|b| places.get(b).copied().unwrap_or(Buffer::new(0))).collect(),
            ..launch.clone()
        });
    }
    Ok(out)
}
