//! What: what each SM did when, in one step of a persistent kernel, and the two pictures of it.
//! Why here: the kernel writes times by record; what a record is, tables and step know.
//! Pre: a module with a persistent decode step.
//! Post: spans by SM in the order of time. Times are nanoseconds on a GPU; the emulator's are steps of its own clock, which
//! count instructions and say nothing of speed.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};
use tilewright_frontend::hf::Phase;
use tilewright_megakernel::{ADVANCE, NO_KIND, Record, WORDS};
use tilewright_runtime::device::DeviceKind;

use crate::generate::Conversation;
use crate::persistent::scheduled;
use crate::{Error, Module};

/// One task on one SM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The SM, by its block.
    pub sm: u32,
    /// Its place in the queue.
    pub record: u32,
    /// The kernel.
    pub kernel: String,
    /// The part of the program.
    pub region: String,
    /// The blocks of the launch: the first, and the one after the last.
    pub blocks: (u32, u32),
    /// When the block came to it.
    pub came: u64,
    /// When its waits were over.
    pub started: u64,
    /// When it was done.
    pub done: u64,
}

/// The spans of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// SMs.
    pub sms: u32,
    /// Spans, SM by SM; times begin at 0.
    pub spans: Vec<Span>,
    /// What times count.
    pub unit: &'static str,
    /// What the host did meanwhile: a name, the start and the length in nanoseconds of its own clock.
    pub host: Vec<(&'static str, u64, u64)>,
    /// Bytes that a warp of their own copies for tasks, and those of them whose copies were issued before the waits of their
    /// task were over.
    pub copied: (u64, u64),
}

/// Feeds tokens, and writes down the times of the step of the last one.
pub fn timeline(module: &Module, ids: &[u64]) -> Result<Timeline, Error> {
    let phase = Phase::Decode;
    let mut host = Host::new();
    let scheduled = scheduled(module, phase.name())?;
    let (tables, bodies) = (&scheduled.tables, &scheduled.bodies);
    let launches = module.phase(phase.name()).map(|p| &p.planned.compiled.step.launches);
    let launches = launches.ok_or_else(|| Error::Bug("a phase that went away".into()))?;
    host.done("tasks and queues");
    let mut conversation = Conversation::new(module)?;
    host.done("buffers and weights");
    let Some((&last, before)) = ids.split_last() else {
        return Err(Error::input("no token ids were given: at least one is needed"));
    };
    if !before.is_empty() {
        conversation.feed(before, phase)?;
    }
    host.done("tokens before");
    let mut times = Vec::new();
    conversation.feed_with(&[last], phase, |executable, symbols, inputs| {
        let (result, found) = executable.run_timed(symbols, inputs)?;
        times = found;
        Ok(result)
    })?;
    host.done("the step, with its times");
    let start = times.iter().map(|t| t[0]).min().unwrap_or(0);
    let mut spans = Vec::new();
    let mut copied = (0, 0);
    for (sm, &(first, count)) in tables.queues.iter().enumerate() {
        // Stages of all records so far.
        let mut stages = 0;
        for record in 0..count {
            let n = (first + record) as usize;
            let words = tables.records.get(n * WORDS..(n + 1) * WORDS).and_then(Record::read);
            let (Some(r), Some(t)) = (words, times.get(n)) else { continue };
            let launch = launches.get(r.launch as usize).filter(|_| r.kind != NO_KIND && r.kind != ADVANCE);
            if launch.is_some() {
                for s in bodies.stages(r.kind, u64::from(r.first)) {
                    let ahead = t[3].saturating_sub(stages).min(s.count);
                    copied = (copied.0 + s.count * s.bytes, copied.1 + ahead * s.bytes);
                    stages += s.count;
                }
            }
            let other = if r.kind == ADVANCE { "end of the step" } else { "waits and signals" };
            spans.push(Span {
                sm: sm as u32,
                record,
                kernel: launch.map_or_else(|| other.to_owned(), |l| l.kernel.clone()),
                region: launch.map_or_else(String::new, |l| l.region.clone()),
                blocks: (r.first, r.first + r.count),
                came: t[0].saturating_sub(start),
                started: t[1].saturating_sub(start),
                done: t[2].saturating_sub(start),
            });
        }
    }
    let unit = if module.device().kind() == DeviceKind::Emulator { "emulated instructions" } else { "ns" };
    Ok(Timeline { sms: tables.blocks, spans, unit, host: host.spans, copied })
}

/// A clock of the host.
struct Host {
    start: Instant,
    last: u64,
    spans: Vec<(&'static str, u64, u64)>,
}

impl Host {
    fn new() -> Host {
        Host { start: Instant::now(), last: 0, spans: Vec::new() }
    }

    /// Something that began where the one before ended is over.
    fn done(&mut self, what: &'static str) {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spans.push((what, self.last, now - self.last));
        self.last = now;
    }
}

impl Timeline {
    /// From the first record to the end of the last.
    pub fn length(&self) -> u64 {
        self.spans.iter().map(|s| s.done).max().unwrap_or(0)
    }

    /// The part of what is copied ahead whose copies were issued before the waits of their task were over.
    pub fn ahead(&self) -> Option<f64> {
        (self.copied.0 > 0).then(|| self.copied.1 as f64 / self.copied.0 as f64)
    }

    /// The part of all SMs' time in which tasks ran.
    pub fn busy(&self) -> f64 {
        let work: u64 = self.spans.iter().map(|s| s.done.saturating_sub(s.started)).sum();
        work as f64 / (self.length().max(1) as f64 * f64::from(self.sms.max(1)))
    }

    /// A trace that Perfetto and Chrome open. Times in it are microseconds, of which a unit is a thousandth.
    pub fn trace(&self) -> Value {
        let us = |t: u64| t as f64 / 1000.0;
        let mut events = vec![json!({
            "name": "process_name", "ph": "M", "pid": 0,
            "args": { "name": format!("one step; times in {}", self.unit) },
        })];
        events.push(json!({
            "name": "process_name", "ph": "M", "pid": 1, "args": { "name": "host; a clock of its own, in ns" },
        }));
        for &(name, from, length) in &self.host {
            events.push(json!({
                "name": name, "cat": "host", "ph": "X", "pid": 1, "tid": 0, "ts": us(from), "dur": us(length),
            }));
        }
        for sm in 0..self.sms {
            let name = format!("SM {sm}");
            events.push(
                json!({ "name": "thread_name", "ph": "M", "pid": 0, "tid": sm, "args": { "name": name } }),
            );
        }
        for s in &self.spans {
            if s.started > s.came {
                events.push(json!({
                    "name": "wait", "cat": "wait", "ph": "X", "pid": 0, "tid": s.sm,
                    "ts": us(s.came), "dur": us(s.started - s.came), "args": { "for": s.kernel },
                }));
            }
            events.push(json!({
                "name": s.kernel, "cat": "task", "ph": "X", "pid": 0, "tid": s.sm,
                "ts": us(s.started), "dur": us(s.done.saturating_sub(s.started)),
                "args": { "region": s.region, "record": s.record, "blocks": [s.blocks.0, s.blocks.1] },
            }));
        }
        json!({ "displayTimeUnit": "ns", "traceEvents": events })
    }

    /// One page: a row for each SM, a colour for each kernel, grey where it waits.
    pub fn svg(&self) -> String {
        const WIDTH: f64 = 1200.0;
        const LEFT: f64 = 60.0;
        let row = (900.0 / f64::from(self.sms.max(1))).clamp(4.0, 24.0);
        let mut kernels: Vec<&str> = self.spans.iter().map(|s| s.kernel.as_str()).collect();
        kernels.sort_unstable();
        kernels.dedup();
        let colour = |kernel: &str| {
            let n = kernels.iter().position(|k| *k == kernel).unwrap_or(0);
            format!("hsl({} 60% 50%)", n * 360 / kernels.len().max(1))
        };
        let scale = WIDTH / self.length().max(1) as f64;
        let top = 30.0;
        let height = top + row * f64::from(self.sms) + 30.0 + 18.0 * (kernels.len() + 1) as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"18\">{} SMs, {} {}, \
             busy {:.0}%</text>\n",
            LEFT + WIDTH + 20.0,
            self.sms,
            self.length(),
            self.unit,
            100.0 * self.busy(),
        );
        let mut bar = |sm: u32, from: u64, to: u64, fill: &str, title: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{fill}\"><title>{}</title></rect>",
                LEFT + from as f64 * scale,
                top + f64::from(sm) * row,
                (to.saturating_sub(from) as f64 * scale).max(0.1),
                row * 0.9,
                escape(title),
            );
        };
        for s in &self.spans {
            if s.started > s.came {
                bar(s.sm, s.came, s.started, "#ddd", "wait");
            }
            bar(s.sm, s.started, s.done, &colour(&s.kernel), &format!("{} {}", s.kernel, s.region));
        }
        // As many rows have a name as there is room for.
        let every = (13.0 / row).ceil() as usize;
        for sm in (0..self.sms).step_by(every.max(1)) {
            let y = top + f64::from(sm) * row + row * 0.45 + 4.0;
            let _ =
                writeln!(out, "<text x=\"{}\" y=\"{y:.2}\" text-anchor=\"end\">SM {sm}</text>", LEFT - 8.0);
        }
        let legend = kernels.iter().map(|k| (*k, colour(k))).chain([("waits", "#ddd".to_owned())]);
        for (n, (kernel, colour)) in legend.enumerate() {
            let y = top + row * f64::from(self.sms) + 24.0 + 18.0 * n as f64;
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{:.2}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"{y:.2}\">{}</text>",
                y - 10.0,
                colour,
                LEFT + 18.0,
                escape(kernel),
            );
        }
        out.push_str("</svg>\n");
        out
    }
}

/// A text that means itself in XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
