//! What: the choice between the back ends of a decode step, a graph of launches or a persistent kernel, by time.
//! Why here: which one is faster depends on the model, the batch and the device; only a measurement says it, and where time
//! comes from is the caller's, so that the choice can be tested without a device.
//! Pre: both are compiled from one plan, so that they compute the same bits.
//! Post: never the one that took longer; what cannot be measured is not chosen over the graph. The state of the session is as
//! at the start.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tilewright_frontend::hf::{Phase, lengths};
use tilewright_ir::step::BufferKind;
use tilewright_runtime::exec::Executable;

use crate::compiler::{CompiledPhase, named};
use crate::persistent::scheduled_for;
use crate::spec::Mode;
use crate::{Error, Module};

/// One step, done once and waited for.
pub type Work<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

type Source = dyn Fn(Mode, Work<'_>) -> Result<f64, Error> + Send + Sync;

/// Says how many microseconds a step took that it does once, in a mode.
#[derive(Clone)]
pub struct StepTimer(Arc<Source>);

impl StepTimer {
    /// A source of times.
    pub fn new(source: impl Fn(Mode, Work<'_>) -> Result<f64, Error> + Send + Sync + 'static) -> StepTimer {
        StepTimer(Arc::new(source))
    }

    /// The clock on the wall: what a token takes, with all that a host does for it.
    pub fn wall() -> StepTimer {
        StepTimer::new(|_, work| {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
    }
}

impl fmt::Debug for StepTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepTimer")
    }
}

/// What was measured, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The mode to take.
    pub mode: Mode,
    /// Microseconds of a step as a graph, half of the steps took less.
    pub graph: f64,
    /// The same of the persistent kernel, if it could be measured.
    pub megakernel: Option<f64>,
    /// Why it could not.
    pub reason: Option<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.graph;
        match (self.megakernel, &self.reason) {
            (Some(mega), _) => {
                let (won, best, other, rest) = if self.mode == Mode::Megakernel {
                    ("megakernel", mega, "graph", graph)
                } else {
                    ("graph", graph, "megakernel", mega)
                };
                let less = 100.0 * (1.0 - best / rest);
                write!(f, "auto: {won}, {best:.1} us a step; {other} takes {rest:.1} us ({less:.1} % less)")
            }
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("it was not measured");
                write!(f, "auto: graph, {graph:.1} us a step; megakernel: {reason}")
            }
        }
    }
}

/// Rounds in which nothing counts yet, and rounds that count. In each, both are measured, and who is first changes.
const WARM: usize = 3;
const ROUNDS: usize = 15;

fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().filter(|t| t.is_finite() && *t > 0.0)
}

/// Measures and chooses. A failure of the graph is one of the whole choice; whatever keeps the persistent kernel from being
/// measured decides against it.
pub fn choose(time: &mut dyn FnMut(Mode) -> Result<f64, Error>) -> Result<Verdict, Error> {
    let (mut graph, mut mega) = (Vec::new(), Vec::new());
    let mut reason = None;
    for round in 0..WARM + ROUNDS {
        let order =
            if round % 2 == 0 { [Mode::Graph, Mode::Megakernel] } else { [Mode::Megakernel, Mode::Graph] };
        for mode in order {
            if mode == Mode::Megakernel && reason.is_some() {
                continue;
            }
            match (mode, time(mode)) {
                (Mode::Graph, found) => graph.push(found?),
                (_, Ok(found)) => mega.push(found),
                (_, Err(error)) => reason = Some(error.to_string()),
            }
        }
    }
    let settled = |samples: Vec<f64>| median(samples.into_iter().skip(WARM).collect());
    let graph = settled(graph).ok_or_else(|| Error::Bug("times of a graph that are no times".into()))?;
    let mega = if reason.is_none() { settled(mega) } else { None };
    let mode = if mega.is_some_and(|m| m < graph) { Mode::Megakernel } else { Mode::Graph };
    Ok(Verdict { mode, graph, megakernel: mega, reason })
}

/// Lets the decode phase of a module, which is a graph, compete with the same phase as a persistent kernel; the module has
/// the faster one afterwards.
pub(crate) fn settle(
    module: &mut Module,
    rival: Result<CompiledPhase, Error>,
    timer: &StepTimer,
) -> Result<Verdict, Error> {
    let name = Phase::Decode.name();
    let graph = module.executable(name)?;
    let prepared = rival.and_then(|phase| {
        let tables = scheduled_for(module, &phase)?.tables;
        let kernel = phase.kernels.first().ok_or_else(|| Error::Bug("a phase without its kernel".into()))?;
        let step = &phase.planned.compiled.step;
        let executable = module.session().prepare_persistent(step, &tables, kernel)?;
        Ok((phase, executable))
    });
    let verdict = {
        let mut time = |mode: Mode| {
            let executable: &Executable = match (mode, &prepared) {
                (Mode::Graph, _) => &graph,
                (_, Ok((_, executable))) => executable,
                (_, Err(error)) => return Err(Error::input(error.to_string())),
            };
            let (symbols, inputs) = sample_step(module, executable)?;
            let symbols: Vec<(&str, i64)> = symbols.iter().map(|(n, v)| (n.as_str(), *v)).collect();
            let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
            let run = mode.exec();
            (timer.0)(mode, &mut || Ok(executable.run_for(run, &symbols, &inputs, &[]).map(|_| ())?))
        };
        choose(&mut time)
    };
    module.session().reset_states()?;
    let verdict = verdict?;
    if let (Mode::Megakernel, Ok((phase, executable))) = (verdict.mode, prepared) {
        module.replace(phase, Arc::new(executable));
    }
    Ok(verdict)
}

/// A step in the middle of the context: symbols and inputs; what is no length is zero.
type Sample = (Vec<(String, i64)>, Vec<(String, Vec<u8>)>);

fn sample_step(module: &Module, executable: &Executable) -> Result<Sample, Error> {
    let name = Phase::Decode.name();
    let phase = module.phase(name).ok_or_else(|| Error::Bug("a phase that went away".into()))?;
    let past = module.model().map_or(0, |m| m.max_context / 2).saturating_sub(1);
    let batch = module.model().map_or(1, |m| m.batch);
    let sequences = vec![(past, 1); usize::try_from(batch).unwrap_or(usize::MAX)];
    let known = lengths(&phase.planned.graph, &sequences);
    let values = known.symbols;
    let symbols = named(&phase.planned.graph, &values);
    let step = executable.step();
    let size = |e: tilewright_ir::Extent| match e {
        tilewright_ir::Extent::Const(n) => n,
        tilewright_ir::Extent::Sym(s) => {
            values.iter().find(|(v, _)| *v == s).map_or(step.symbols[s].min, |(_, n)| *n)
        }
    };
    let inputs = step.buffers.values().filter(|b| b.kind == BufferKind::Input).map(|b| {
        if let Some((_, values)) = known.inputs.iter().find(|(name, _)| *name == b.name) {
            // Lengths are at most 2^31.
            return (b.name.clone(), values.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect());
        }
        let elements = b.dims.iter().map(|&d| size(d)).product::<u64>();
        (b.name.clone(), vec![0; elements as usize * b.dtype.bytes()])
    });
    Ok((symbols, inputs.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times by mode and call, with `noise` on every third.
    fn measured(graph: f64, mega: f64, noise: f64) -> Verdict {
        let mut calls = 0;
        choose(&mut |mode| {
            calls += 1;
            let extra = if calls % 3 == 0 { noise } else { 0.0 };
            Ok(extra + if mode == Mode::Graph { graph } else { mega })
        })
        .expect("times")
    }

    #[test]
    fn the_slower_one_is_never_taken() {
        // A fixed sequence that covers ties and both sides, with outliers of both.
        for n in 1..200u32 {
            let (graph, mega) = (f64::from(n * 37 % 101 + 1), f64::from(n * 53 % 103 + 1));
            for noise in [0.0, 1000.0] {
                let found = measured(graph, mega, noise);
                assert_eq!((found.graph, found.megakernel), (graph, Some(mega)));
                assert_eq!(found.mode == Mode::Megakernel, mega < graph, "{graph} {mega}");
            }
        }
        let text = measured(1000.0, 900.0, 0.0).to_string();
        assert!(text.contains("megakernel, 900.0 us") && text.contains("1000.0 us (10.0 % less)"), "{text}");
        let text = measured(900.0, 1000.0, 0.0).to_string();
        assert!(text.contains("graph, 900.0 us") && text.contains("10.0 % less"), "{text}");
    }

    #[test]
    fn what_cannot_be_measured_is_not_taken() {
        let mut calls = 0;
        let found = choose(&mut |mode| {
            calls += 1;
            if mode == Mode::Graph { Ok(5.0) } else { Err(Error::input("there is no room")) }
        });
        let found = found.expect("a graph");
        assert_eq!((found.mode, found.megakernel), (Mode::Graph, None));
        assert!(found.to_string().contains("there is no room"));
        assert_eq!(calls, 1 + WARM + ROUNDS, "it is tried once");
        for strange in [f64::NAN, 0.0, -1.0] {
            let found = measured(5.0, strange, 0.0);
            assert_eq!((found.mode, found.megakernel), (Mode::Graph, None), "{strange}");
        }
        assert!(choose(&mut |_| Err(Error::input("no graph"))).is_err());
        // The first rounds do not count.
        let mut calls = [0; 2];
        let found = choose(&mut |mode| {
            let n = &mut calls[usize::from(mode == Mode::Graph)];
            *n += 1;
            Ok(if mode == Mode::Graph {
                10.0
            } else if *n <= WARM {
                1.0
            } else {
                20.0
            })
        });
        assert_eq!(found.expect("times").mode, Mode::Graph);
    }
}
