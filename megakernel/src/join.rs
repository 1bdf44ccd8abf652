//! One step behind another: what the second takes from the first stays where it is.
//!
//! Why here: whoever repeats steps on the device needs more than the step itself, for example the choice of the next
//! token; and that comes from equations like everything else.

use std::collections::HashMap;

use cranelift_entity::EntityRef;
use tilewright_ir::Buffer;
use tilewright_ir::step::{BufferKind, Launch, Step};

use crate::MegaError;

/// Appends `second` to `first`. `wires` name inputs of the second and the buffers of the first that they are; `rename` changes
/// all other names of the second.
pub fn join(
    first: &Step,
    second: &Step,
    wires: &[(&str, &str)],
    rename: &dyn Fn(&str) -> String,
) -> Result<Step, MegaError> {
    let bad = |what: String| MegaError::Mismatch { kernel: "a step that is appended".to_owned(), what };
    if !second.symbols.is_empty() {
        return Err(bad("it has symbols".to_owned()));
    }
    let mut out = first.clone();
    let start = first.arena_bytes.next_multiple_of(256);
    let mut places: HashMap<Buffer, Buffer> = HashMap::new();
    for (b, data) in &second.buffers {
        let wire = wires.iter().find(|(input, _)| data.kind == BufferKind::Input && *input == data.name);
        if let Some((_, name)) = wire {
            let found = first.buffers.iter().find(|(_, d)| d.name == *name);
            let (there, known) = found.ok_or_else(|| bad(format!("there is no buffer `{name}`")))?;
            if (known.dtype, &known.dims) != (data.dtype, &data.dims) {
                return Err(bad(format!("`{name}` is no {}{:?}", data.dtype, data.dims)));
            }
            places.insert(b, there);
            continue;
        }
        let mut data = data.clone();
        data.name = rename(&data.name);
        match &mut data.kind {
            BufferKind::Arena(at) => *at += start,
            BufferKind::Input => return Err(bad(format!("nothing gives it `{}`", data.name))),
            _ => {}
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
