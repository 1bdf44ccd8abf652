//! The mode `auto`: both back ends are timed, and the faster one stays. Where time comes from is made up here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::goldens;
use tilewright::auto::StepTimer;
use tilewright::bench::record::{Chosen, Row, Status, Suite};
use tilewright::bench::{self, AUTO, Settings};
use tilewright::generate::{Request, generate};
use tilewright::runtime::testing::{nvrtc, toolchain};
use tilewright::spec::Mode;
use tilewright::{Compiler, DeviceSpec, Module};

fn module(mode: Mode, timer: Option<StepTimer>) -> Module {
    nvrtc();
    let compiler = Compiler::model(&goldens()[0])
        .device("emulator:tiny3".parse::<DeviceSpec>().expect("a device"))
        .mode(mode);
    timer.into_iter().fold(compiler, Compiler::step_timer).compile().expect("a golden compiles")
}

fn tokens(module: &Module) -> Vec<u64> {
    let request = Request { prompt: &[3, 9, 4], tokens: 5, ignore_eos: true, check: false, sampling: None };
    generate(module, &request, |_| ()).expect("it runs").tokens
}

#[test]
fn the_faster_one_is_taken_and_says_so() {
    let expected = tokens(&module(Mode::Launch, None));
    for (graph, mega, winner) in
        [(10.0, 9.0, Mode::Megakernel), (9.0, 10.0, Mode::Graph), (9.0, 9.0, Mode::Graph)]
    {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let timer = StepTimer::new(move |mode, work| {
            // Both are really run.
            work()?;
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(if mode == Mode::Megakernel { mega } else { graph })
        });
        let module = module(Mode::Auto, Some(timer));
        assert!(steps.load(Ordering::SeqCst) >= 20);
        assert_eq!(module.mode("decode"), winner);
        assert_eq!(module.phase("decode").expect("a phase").persistent, winner == Mode::Megakernel);
        let note = module.notes().iter().find(|n| n.starts_with("auto: ")).expect("it says who won");
        assert!(note.contains(&format!("auto: {}, 9.0 us", winner.name())), "{note}");
        assert_eq!(tokens(&module), expected);
    }
}

#[test]
fn without_a_clock_it_is_a_graph() {
    let module = module(Mode::Auto, None);
    assert_eq!(module.mode("decode"), Mode::Graph);
    assert!(!module.notes().iter().any(|n| n.starts_with("auto: ")));
    // A time that cannot be had is no reason to take the other.
    let timer = StepTimer::new(|mode, _| match mode {
        Mode::Megakernel => Err(tilewright::Error::input("no time")),
        _ => Ok(5.0),
    });
    let module = self::module(Mode::Auto, Some(timer));
    assert_eq!(module.mode("decode"), Mode::Graph);
    assert!(module.notes().iter().any(|n| n.contains("megakernel: no time")), "{:?}", module.notes());
}

/// The rows of the benchmark for the emulator whose names contain a text, in the mode `auto`.
fn benchmarked(suite: Suite, filter: &str, timer: Option<StepTimer>) -> Vec<Row> {
    nvrtc();
    let settings = Settings {
        toolchain: toolchain(),
        device: "emulator:tiny3".parse().expect("a device"),
        target: None,
        suites: vec![suite],
        modes: vec![AUTO.to_owned()],
        filter: Some(filter.to_owned()),
        quick: false,
        seconds: None,
        seed: 1,
        session: None,
        profile: None,
        timer,
        listener: Default::default(),
    };
    let results = bench::run(&settings, |_| ()).expect("it runs");
    assert!(!results.rows.is_empty());
    for row in &results.rows {
        assert_eq!((row.status, row.mode.as_str()), (Status::Ok, AUTO), "{row:?}");
    }
    results.rows
}

#[test]
fn the_benchmark_takes_what_is_faster() {
    let times = |graph: f64, mega: f64| {
        StepTimer::new(move |mode, work| {
            work()?;
            Ok(if mode == Mode::Megakernel { mega } else { graph })
        })
    };
    let launches = |rows: &[Row]| rows[0].kernels.expect("kernels").launches;
    let chosen = |mode: Mode, graph_us, megakernel_us, reason: Option<&str>| {
        Some(Chosen { mode: mode.name().into(), graph_us, megakernel_us, reason: reason.map(Into::into) })
    };
    let decode = "Qwen3-0.6B small decode b1";
    let faster = benchmarked(Suite::Steps, decode, Some(times(10.0, 9.0)));
    assert_eq!(faster[0].chosen, chosen(Mode::Megakernel, Some(10.0), Some(9.0), None));
    assert_eq!(launches(&faster), 1, "a persistent kernel is one");
    let slower = benchmarked(Suite::Steps, decode, Some(times(9.0, 10.0)));
    assert_eq!(slower[0].chosen, chosen(Mode::Graph, Some(9.0), Some(10.0), None));
    assert!(launches(&slower) > 1);
    // Without a clock, and where there is no choice.
    let plain = benchmarked(Suite::Steps, decode, None);
    assert_eq!(plain[0].chosen, chosen(Mode::Graph, None, None, Some("the device has no clock")));
    assert_eq!(plain[0].counts, slower[0].counts, "the same launches");
    for (suite, filter) in [(Suite::Steps, "Qwen3-0.6B small prefill"), (Suite::Kernels, "linear m1 ")] {
        let rows = benchmarked(suite, filter, Some(times(10.0, 9.0)));
        assert!(rows.iter().all(|r| r.chosen.as_ref().is_some_and(|c| c.mode == "launch")), "{rows:?}");
    }
}
