//! What: waits that give up after some time, in both schedules.
//! Why here: such a wait must end when nothing else can happen, and must not when something can.
//! Pre: none.
//! Post: time goes on by itself only where all blocks wait and the kernel asks for it.

use crate::common::{Arg, Machine};
use tilewright_emulator::{Options, Sanitize};

const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";

/// Two blocks: the second polls a word for which the first perhaps adds one after `work` turns of a loop. It gives up
/// after a millisecond, and traps after two if it has not left by then. It says how that ended: 1 for the word, 2 for time.
fn kernel(first: &str, late: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 a, .param .u64 b) {{
.reg .pred %p<9>; .reg .b32 %r<40>; .reg .b64 %rd<40>;
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 0;
@!%p1 bra WAITS;
{first}
ret;
WAITS: mov.u64 %rd3, 0;
mov.u32 %r9, bar; mbarrier.init.shared.b64 [%r9], 1;
AGAIN: ld.relaxed.gpu.global.u32 %r2, [%rd1]; setp.ne.u32 %p2, %r2, 0; mov.u32 %r3, 1; @%p2 bra DONE;
mov.u64 %rd4, %globaltimer; setp.eq.u64 %p3, %rd3, 0; selp.b64 %rd3, %rd4, %rd3, %p3;
sub.u64 %rd5, %rd4, %rd3; setp.gt.u64 %p4, %rd5, 2000000; @%p4 trap;
setp.gt.u64 %p5, %rd5, 1000000; mov.u32 %r3, 2; {late}
bra AGAIN;
DONE: st.global.u32 [%rd2], %r3;
ret; }}"
    )
}

const SIGNALS: &str = "mov.u32 %r5, 0;
LOOP: add.u32 %r5, %r5, 1; setp.lt.u32 %p6, %r5, 3000000; @%p6 bra LOOP;
red.release.gpu.global.add.u32 [%rd1], 1;";
const LEAVES: &str = "@%p5 bra DONE;";

fn schedules() -> Vec<Options> {
    let base = Options { cooperative: true, ..Options::default() };
    let all = Options { sanitize: Sanitize::ALL, ..base.clone() };
    vec![
        Options { threads: 1, ..base.clone() },
        Options { threads: 2, ..base.clone() },
        all.clone(),
        Options { seed: Some(1), ..all.clone() },
        Options { seed: Some(2), ..all },
    ]
}

fn run(ptx: &str, options: &Options) -> Result<u32, String> {
    let mut m = Machine::new(ptx);
    let (word, out) = (m.zeros::<u32>("word", 1), m.zeros::<u32>("out", 1));
    m.options = options.clone();
    m.report("k", 2, 1, &[Arg::Ptr(word), Arg::Ptr(out)]).map_err(|e| e.to_string())?;
    Ok(m.get::<u32>(out, 1)[0])
}

#[test]
fn a_wait_ends_by_itself_only_where_nothing_else_happens() {
    for o in schedules() {
        assert_eq!(run(&kernel(SIGNALS, LEAVES), &o), Ok(1), "{o:?}");
        assert_eq!(run(&kernel("", LEAVES), &o), Ok(2), "{o:?}");
    }
}

#[test]
fn who_does_not_leave_in_time_traps() {
    for o in schedules() {
        let error = run(&kernel("", ""), &o).unwrap_err();
        assert!(error.contains("trapped"), "{error}");
    }
}

#[test]
fn a_wait_that_only_looks_at_the_time_is_a_deadlock() {
    let endless = kernel("", "").replace("@%p4 trap;", "");
    for o in schedules() {
        let error = run(&endless, &o).unwrap_err();
        assert!(error.contains("deadlock") && error.contains("word"), "{error}");
    }
}

/// A wait for an mbarrier is limited in time by itself, and may be followed by a look at the clock.
#[test]
fn a_wait_for_an_mbarrier_gives_up_now_and_then() {
    let wait = "mbarrier.try_wait.parity.shared.b64 %p2, [%r9], 0;";
    let with = |late: &str| {
        let ptx = kernel("", late).replace("setp.ne.u32 %p2, %r2, 0;", wait);
        assert!(ptx.contains(wait));
        ptx
    };
    for o in schedules() {
        assert_eq!(run(&with(LEAVES), &o), Ok(2), "{o:?}");
        assert!(run(&with(""), &o).unwrap_err().contains("trapped"));
    }
}

/// Some lanes leave out a part of each turn, so that they and the others come back to the same place one after the other
/// with nothing done in between: that is no loop that goes on forever.
#[test]
fn lanes_that_count_side_by_side_are_no_deadlock() {
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o) {
        .reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<2>; ld.param.u64 %rd1, [o]; mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 6; mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0;
        ROUND: mov.u32 %r5, 0;
        TURN: @%p1 bra AFTER; add.u32 %r2, %r2, 1;
        AFTER: add.u32 %r3, %r3, 1; add.u32 %r5, %r5, 1; setp.ne.u32 %p2, %r5, 8; @%p2 bra TURN;
        shfl.sync.bfly.b32 %r6, %r3, 1, 31, -1;
        add.u32 %r4, %r4, 1; setp.ne.u32 %p3, %r4, 200; @%p3 bra ROUND;
        add.u32 %r7, %r2, %r6; @%p1 bra END; st.global.u32 [%rd1], %r7; END: ret; }";
    for seed in 0..20 {
        let mut m = Machine::new(ptx);
        let o = m.zeros::<u32>("o", 1);
        m.options = Options { seed: Some(seed), ..m.options };
        m.run("k", 1, 32, &[Arg::Ptr(o)]);
        assert_eq!(m.get::<u32>(o, 1), [3200], "seed {seed}");
    }
}
