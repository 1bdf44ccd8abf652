//! What: what the runtime does for kernels: `printf`, `assert`, and refusals with a reason.
//! Why here: these read strings and arguments from the kernel's memory, through the same checks as its loads.
//! Pre: at least one lane executes it.
//! Post: lanes print in their order; a failed assertion or a refusal is a fault of the first lane.
#![allow(unsafe_code)] // Bytes behind a place that was checked.

use super::context::{Context, RawFault, Step};
use super::place::{Access, Ask, each_place};
use super::warp::Warp;
use crate::error::FaultKind;
use crate::inst::{Host, Inst, NONE, Space};
use crate::printf::{self, Line, Source};

/// The memory of one lane.
struct Lane<'w, 'c, 'r> {
    w: &'w mut Warp,
    cx: &'c mut Context<'r>,
    lane: u32,
    pc: u32,
    /// The pointer to the arguments of the call at hand.
    args: u64,
}

impl Lane<'_, '_, '_> {
    fn read(&mut self, space: Space, at: u64, bytes: u64) -> Step<u64> {
        let mut v = [0u8; 8];
        let ask = Ask { space, bytes, exec: 1 << self.lane, pc: self.pc, access: Access::LOAD };
        let lane = self.lane as usize;
        each_place(self.w, self.cx, &[at; 32], ask, |_, _, p, _| {
            for (i, b) in v.iter_mut().enumerate().take(bytes as usize) {
                // SAFETY: the place holds `bytes` bytes for this lane.
                *b = unsafe { p.ptr.add(p.off[lane] as usize + i).read() };
            }
        })?;
        Ok(u64::from_le_bytes(v))
    }

    fn write(&mut self, at: u64, value: u32) -> Step<()> {
        let ask =
            Ask { space: Space::Local, bytes: 4, exec: 1 << self.lane, pc: self.pc, access: Access::STORE };
        let lane = self.lane as usize;
        each_place(self.w, self.cx, &[at; 32], ask, |_, _, p, _| {
            for (i, b) in value.to_le_bytes().into_iter().enumerate() {
                // SAFETY: the place holds 4 bytes for this lane.
                unsafe { p.ptr.add(p.off[lane] as usize + i).write(b) };
            }
        })
    }

    fn text(&mut self, slot: u64) -> Step<String> {
        let at = self.read(Space::Local, slot, 8)?;
        Ok(String::from_utf8_lossy(&self.string(at)?).into_owned())
    }
}

impl Source for Lane<'_, '_, '_> {
    type Error = Box<RawFault>;
    fn word(&mut self, offset: u64, bytes: u64) -> Step<u64> {
        self.read(Space::Generic, self.args.wrapping_add(offset), bytes)
    }
    fn string(&mut self, address: u64) -> Step<Vec<u8>> {
        let mut out = vec![];
        while out.len() < printf::LONGEST {
            match self.read(Space::Generic, address.wrapping_add(out.len() as u64), 1)? as u8 {
                0 => break,
                c => out.push(c),
            }
        }
        Ok(out)
    }
}

/// Runs it for the lanes of `exec`.
#[cold]
#[inline(never)]
pub(crate) fn run(
    w: &mut Warp,
    cx: &mut Context<'_>,
    inst: &Inst,
    what: &Host,
    exec: u32,
    pc: u32,
) -> Step<()> {
    let first = exec.trailing_zeros();
    match what {
        Host::Fail(why) => {
            let mut what = why.clone();
            if inst.a != NONE {
                let p = w.regs.row::<u64>(inst.a)[first as usize % 32];
                what = format!("{why} ({p:#x})");
            }
            Err(Box::new(RawFault { kind: FaultKind::BadOperand { what }, lane: first, pc }))
        }
        Host::Assert([expression, file, line, function]) => {
            let mut l = Lane { w, cx, lane: first, pc, args: 0 };
            let kind = FaultKind::Assert {
                expression: l.text(*expression)?,
                file: l.text(*file)?,
                line: l.read(Space::Local, *line, 4)? as u32,
                function: l.text(*function)?,
            };
            Err(Box::new(RawFault { kind, lane: first, pc }))
        }
        Host::Print { format, args, result } => {
            for lane in (0..32).filter(|l| exec >> l & 1 != 0) {
                let thread = w.id * 32 + lane;
                let mut l = Lane { w, cx, lane, pc, args: 0 };
                l.args = l.read(Space::Local, *args, 8)?;
                let at = l.read(Space::Local, *format, 8)?;
                let format = l.string(at)?;
                let (text, count) = printf::format(&format, &mut l)?;
                if let Some(at) = result {
                    l.write(*at, count)?;
                }
                let t = &mut cx.tally;
                if t.printed_bytes + text.len() <= printf::MOST {
                    t.printed_bytes += text.len();
                    t.printed.push(Line { block: cx.uid, thread, text });
                }
            }
            Ok(())
        }
    }
}
