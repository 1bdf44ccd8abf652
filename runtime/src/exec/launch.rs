//! What: running a step on the caller's own device memory and stream.
//! Why here: a program that has its data on the GPU already must not pay for a way through the host.
//! Pre: addresses that are valid on the session's device; see [`DevicePtr::from_raw`].
//! Post: everything is put on the stream and nothing is waited for (on the emulator it is done). Overlaps that were not
//! declared are refused. A declared alias is written in place when that cannot be seen in the result, and through
//! temporary memory otherwise.

use cranelift_entity::SecondaryMap;
use tilewright_ir::Buffer;
use tilewright_ir::step::{BufferKind, Step};

use super::executable::check_size;
use super::{ExecError, Executable, LaunchRecord, Mode, bind};
use crate::device::{DevicePtr, Stream};

/// Where a buffer of a step is.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The input, output or state.
    pub name: &'a str,
    /// Its address.
    pub at: DevicePtr,
    /// Its bytes.
    pub bytes: u64,
}

/// An output that takes the place of an input.
#[derive(Clone, Copy, Debug)]
pub struct Alias<'a> {
    /// The output.
    pub output: &'a str,
    /// The input, bound to the same address.
    pub input: &'a str,
}

impl Executable {
    /// Puts one run on a stream, with every input and output in memory of the caller. States may be bound too; those
    /// that are not are the session's. Outputs may share the memory of an input where that is declared.
    pub fn launch(
        &self,
        symbols: &[(&str, i64)],
        bindings: &[Binding<'_>],
        aliases: &[Alias<'_>],
        stream: Stream,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        self.launch_as(Mode::Launch, symbols, bindings, aliases, stream)
    }

    /// The same, with the launches put on the device as the mode says. A graph is prepared again when the memory of an
    /// input or output is another than in the run before.
    pub fn launch_as(
        &self,
        mode: Mode,
        symbols: &[(&str, i64)],
        bindings: &[Binding<'_>],
        aliases: &[Alias<'_>],
        stream: Stream,
    ) -> Result<Vec<LaunchRecord>, ExecError> {
        let step = self.step();
        let values = bind::bind(&step.symbols, symbols)?;
        let bound = self.resolve(bindings, &values)?;
        let aliases = resolve_aliases(step, aliases, &bound)?;
        check_overlaps(step, &bound, &aliases)?;

        let mut scratch = self.lock();
        self.turn_to(&mut scratch, stream)?;
        // An output that is written while its input may still be read gets temporary memory first.
        let detour = |b: Buffer| aliases.iter().any(|&(o, i)| o == b && !in_place(step, o, i));
        let pointers =
            self.pointers(&mut scratch, &values, |b| bound[b].filter(|_| !detour(b)).map(|(at, _)| at))?;
        self.earlier()?;
        let records = self.put(mode, &mut scratch, &values, &pointers, stream, None)?;
        for &(output, _) in &aliases {
            if let (true, Some((at, bytes))) = (detour(output), bound[output]) {
                self.session().device().copy(at, pointers[output], bytes, stream)?;
            }
        }
        Ok(records)
    }

    /// The memory that was given for each buffer.
    fn resolve(
        &self,
        bindings: &[Binding<'_>],
        values: &[i32],
    ) -> Result<SecondaryMap<Buffer, Option<(DevicePtr, u64)>>, ExecError> {
        let step = self.step();
        let may = |k: &BufferKind| matches!(k, BufferKind::Input | BufferKind::Output | BufferKind::State);
        let mut bound = SecondaryMap::new();
        for binding in bindings {
            let found = step.buffers.iter().find(|(_, d)| d.name == binding.name && may(&d.kind));
            let Some((b, buffer)) = found else {
                let names = step.buffers.values().filter(|d| may(&d.kind)).map(|d| d.name.as_str());
                return Err(ExecError::UnknownBuffer {
                    what: "input, output or state",
                    name: binding.name.to_owned(),
                    known: names.collect::<Vec<_>>().join(", "),
                });
            };
            check_size(buffer, binding.bytes, values)?;
            bound[b] = Some((binding.at, binding.bytes));
        }
        for (b, buffer) in &step.buffers {
            let what = match buffer.kind {
                BufferKind::Input => "input",
                BufferKind::Output => "output",
                _ => continue,
            };
            if bound[b].is_none() {
                return Err(ExecError::MissingBuffer { what, name: buffer.name.clone() });
            }
        }
        Ok(bound)
    }
}

/// The declared aliases as pairs of output and input.
fn resolve_aliases(
    step: &Step,
    aliases: &[Alias<'_>],
    bound: &SecondaryMap<Buffer, Option<(DevicePtr, u64)>>,
) -> Result<Vec<(Buffer, Buffer)>, ExecError> {
    aliases
        .iter()
        .map(|alias| {
            let bad = |reason: String| ExecError::Alias {
                output: alias.output.to_owned(),
                input: alias.input.to_owned(),
                reason,
            };
            let find = |name: &str, output: bool| {
                let kind =
                    |k: &BufferKind| if output { *k == BufferKind::Output } else { *k == BufferKind::Input };
                let what = if output { "output" } else { "input" };
                let found = step.buffers.iter().find(|(_, d)| d.name == name && kind(&d.kind));
                found.map(|(b, _)| b).ok_or_else(|| bad(format!("there is no {what} `{name}`")))
            };
            let (output, input) = (find(alias.output, true)?, find(alias.input, false)?);
            if bound[output] != bound[input] {
                return Err(bad("they are bound to different memory".to_owned()));
            }
            Ok((output, input))
        })
        .collect()
}

/// That nothing written overlaps anything else, declared aliases aside.
fn check_overlaps(
    step: &Step,
    bound: &SecondaryMap<Buffer, Option<(DevicePtr, u64)>>,
    aliases: &[(Buffer, Buffer)],
) -> Result<(), ExecError> {
    let ranges: Vec<(Buffer, u64, u64)> = step
        .buffers
        .keys()
        .filter_map(|b| bound[b].map(|(at, bytes)| (b, at.raw(), at.raw().saturating_add(bytes))))
        .collect();
    for &(a, from, to) in &ranges {
        if step.buffers[a].kind == BufferKind::Input {
            continue;
        }
        for &(b, other_from, other_to) in &ranges {
            if a != b
                && from < other_to
                && other_from < to
                && !aliases.contains(&(a, b))
                && !aliases.contains(&(b, a))
            {
                return Err(ExecError::Overlap {
                    written: step.buffers[a].name.clone(),
                    other: step.buffers[b].name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether an output may be written where an input is: every launch that reads the input comes before the first that
/// writes the output. (A kernel that does both is not asked whether it would do.)
fn in_place(step: &Step, output: Buffer, input: Buffer) -> bool {
    let groups = step.groups();
    let uses = |b: Buffer| {
        let touches =
            move |g: &std::ops::Range<usize>| step.launches[g.clone()].iter().any(|l| l.args.contains(&b));
        groups.iter().enumerate().filter(move |(_, g)| touches(g)).map(|(i, _)| i)
    };
    let last_read = uses(input).max();
    let first_write = uses(output).min();
    match (last_read, first_write) {
        (Some(read), Some(write)) => read < write,
        _ => true,
    }
}
