//! The mode `auto`: both back ends are timed, and the faster one stays. Where time comes from is made up here.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::goldens;
use tilewright::auto::StepTimer;
use tilewright::generate::{Request, generate};
use tilewright::runtime::testing::nvrtc;
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
