//! What only code shows: loads that may be served from a cache which is not kept coherent, and the instructions of the
//! protocol.
//!
//! What: in each device function, addresses are followed from its parameters through arithmetic to the loads. The
//! compiler is free to turn any load of memory that it believes constant into one past the coherent caches, so this is
//! looked at in the PTX and not in the source.
//! Post: how many such loads there are, all of them of buffers that nothing in the step writes.

use std::collections::HashMap;

use tilewright_ir::artifact::Repeat;
use tilewright_ir::step::Step;
use tilewright_ir::tile::TileProgram;

use super::Violation;
use crate::emit::{KERNEL, function};
use crate::graph::kinds;
use crate::region::{Place, places};

/// Parameters of the entry that nothing writes while the kernel runs: queues, records, addresses.
const ENTRY_CONSTANTS: u64 = 0b111;

/// The statements of a function: of an entry, or of a device function.
fn statements(ptx: &str, name: &str) -> Option<Vec<String>> {
    let head = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix(".visible").map_or(line, str::trim_start);
        let rest = rest.strip_prefix(".entry").or_else(|| rest.strip_prefix(".func"))?.trim_start();
        // What it returns.
        let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
        rest.trim().strip_suffix('(').or_else(|| rest.trim().strip_suffix("()")).map(str::to_owned)
    };
    let start = ptx.lines().position(|l| head(l).as_deref() == Some(name))?;
    let mut text = String::new();
    let mut open = false;
    for line in ptx.lines().skip(start + 1) {
        open |= line.starts_with('{');
        if line.starts_with('}') {
            break;
        }
        if open {
            text.push_str(line.split("//").next().unwrap_or_default());
            text.push(' ');
        }
    }
    Some(text.split(';').map(|s| s.trim().to_owned()).collect())
}

/// The registers in a text.
fn registers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "%_.$".contains(c)))
        .filter(|t| t.starts_with('%') && t.len() > 1)
}

/// The operation and its operands, without braces, declarations and predicates.
fn instruction(statement: &str) -> Option<(&str, &str)> {
    let mut rest = statement.trim_start_matches(['{', '}', ' ', '\t']);
    // Labels.
    while let Some((label, tail)) = rest.split_once(':') {
        if !label.trim().starts_with('$') {
            break;
        }
        rest = tail.trim_start_matches(['{', '}', ' ', '\t']);
    }
    if let Some(tail) = rest.strip_prefix('@') {
        rest = tail.split_once(char::is_whitespace)?.1.trim_start();
    }
    let (op, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    (!op.is_empty() && !op.starts_with('.')).then_some((op, operands))
}

/// A load past the coherent caches, or a copy that does not wait for a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Noncoherent,
    Ahead,
}

/// The parameters from which each access of a kind gets its address, as bits.
fn addresses(statements: &[String], what: &str, which: Access) -> Result<Vec<u64>, Violation> {
    let mut from: HashMap<&str, u64> = HashMap::new();
    loop {
        let mut changed = false;
        for (op, operands) in statements.iter().filter_map(|s| instruction(s)) {
            let mut all = registers(operands);
            let Some(target) = all.next() else { continue };
            let found = if op.starts_with("ld.param") {
                let number = operands.rsplit("_param_").next().and_then(|t| t.split(']').next());
                number.and_then(|n| n.parse::<u32>().ok()).filter(|&n| n < 64).map_or(0, |n| 1u64 << n)
            } else if ["ld", "st", "red", "atom", "bar", "call"]
                .contains(&op.split('.').next().unwrap_or_default())
            {
                // What memory holds is no address of ours.
                0
            } else {
                all.map(|r| from.get(r).copied().unwrap_or(0)).fold(0, |a, b| a | b)
            };
            let known = from.entry(target).or_default();
            changed |= *known | found != *known;
            *known |= found;
        }
        if !changed {
            break;
        }
    }
    let mut out = Vec::new();
    for (op, operands) in statements.iter().filter_map(|s| instruction(s)) {
        let (wanted, place) = match which {
            Access::Noncoherent => (op.starts_with("ld.") && op.split('.').any(|part| part == "nc"), 1),
            // Where to, where from, and perhaps the barrier.
            Access::Ahead => (op.starts_with("cp.async.") && op.contains(".global"), 2),
        };
        if !wanted {
            continue;
        }
        let address = operands.split('[').nth(place).and_then(|a| registers(a).next());
        match address.and_then(|a| from.get(a)).copied().unwrap_or(0) {
            0 => {
                return Err(Violation::Code(format!("{what} has a load of unknown memory: {op} {operands}")));
            }
            set => out.push(set),
        }
    }
    Ok(out)
}

/// Checks the code of the kernel; gives the number of loads past the coherent caches.
pub fn loads(
    step: &Step,
    programs: &[TileProgram],
    repeat: Option<&Repeat>,
    ptx: &str,
) -> Result<usize, Violation> {
    let code = |what: String| Violation::Code(what);
    let kinds = kinds(step, programs).map_err(|e| code(e.to_string()))?;
    let places = places(step);
    let writer_of = |place: Place| {
        step.launches.iter().find(|l| {
            let mut args = l.args.iter().zip(&l.writes);
            args.any(|(a, &written)| written && places[a.as_u32() as usize].meets(place))
        })
    };
    let mut count = 0;
    for (kind, program) in programs.iter().enumerate().filter(|(n, _)| kinds.contains(&(*n as u32))) {
        let name = function(kind as u32);
        let body = statements(ptx, &name).ok_or_else(|| code(format!("there is no function `{name}`")))?;
        let params = program.params.len();
        let mut used = 0;
        // What is copied ahead is copied at any time, as if nothing wrote it.
        if let Some(feeder) = statements(ptx, &format!("{name}_feed")) {
            for set in addresses(&feeder, &name, Access::Ahead)? {
                count += 1;
                used |= set;
                if set >> params & 1 != 0 || set & ((1u64 << params) - 1) == 0 {
                    return Err(code(format!("`{name}_feed` copies its parameter block")));
                }
            }
        }
        for set in addresses(&body, &name, Access::Noncoherent)? {
            count += 1;
            used |= set;
            // Behind the buffers come the parameter block and the index of the block, which is an offset.
            if set >> params & 1 != 0 || set & ((1u64 << params) - 1) == 0 {
                return Err(code(format!("`{name}` loads its parameter block past the coherent caches")));
            }
        }
        for launch in step.launches.iter().zip(&kinds).filter(|(_, k)| **k == kind as u32).map(|(l, _)| l) {
            for param in (0..params).filter(|p| used >> p & 1 != 0) {
                let buffer = launch.args[param].as_u32() as usize;
                let own = repeat.is_some_and(|r| r.args().contains(&launch.args[param]));
                let writer = writer_of(places[buffer]).map(|w| w.kernel.clone());
                if let Some(writer) = writer.or(own.then(|| "the end of a step".to_owned())) {
                    let buffer = step.buffers[launch.args[param]].name.clone();
                    return Err(Violation::Stale { function: name, param, buffer, writer });
                }
            }
        }
    }
    let entry = statements(ptx, KERNEL).ok_or_else(|| code(format!("there is no entry `{KERNEL}`")))?;
    for set in addresses(&entry, KERNEL, Access::Noncoherent)? {
        count += 1;
        if set & !ENTRY_CONSTANTS != 0 {
            return Err(code(
                "counters, control words or parameters are loaded past the coherent caches".into(),
            ));
        }
    }
    protocol(&entry)?;
    Ok(count)
}

/// The instructions without which no wait orders anything.
fn protocol(entry: &[String]) -> Result<(), Violation> {
    let ops: Vec<&str> = entry.iter().filter_map(|s| instruction(s)).map(|(op, _)| op).collect();
    let scope = |op: &str| op.split('.').any(|part| part == "gpu" || part == "sys");
    let signals: Vec<&&str> =
        ops.iter().filter(|op| op.starts_with("red.") || op.starts_with("atom.")).collect();
    if let Some(op) =
        signals.iter().find(|op| !(op.contains(".release") || op.contains(".acq_rel")) || !scope(op))
    {
        return Err(Violation::Code(format!("a signal is `{op}`, which releases nothing to other SMs")));
    }
    if signals.is_empty() {
        return Err(Violation::Code("nothing signals".into()));
    }
    let poll = ops.iter().position(|op| op.starts_with("ld.relaxed") || op.starts_with("ld.acquire"));
    let fence = |op: &str| (op.starts_with("fence.acq_rel") || op.starts_with("fence.sc")) && scope(op);
    let barrier = |op: &str| op.starts_with("bar.") || op.starts_with("barrier.");
    match poll {
        None => Err(Violation::Code("nothing polls a counter".into())),
        Some(_) if !ops.iter().any(|op| fence(op)) => {
            Err(Violation::Code("nothing acquires after a wait: there is no fence for other SMs".into()))
        }
        Some(_) if ops.iter().filter(|op| barrier(op)).count() < 2 => {
            Err(Violation::Code("a wait or a signal is without its barrier".into()))
        }
        Some(_) => Ok(()),
    }
}
