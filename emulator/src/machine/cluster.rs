//! What: the barrier of a cluster, and addresses in its shared memory.
//! Why here: arrival and waiting are separate instructions, so a lane remembers which phase it arrived at.
//! Pre: one host thread runs all blocks of a cluster.
//! Post: a phase is over when every thread of the cluster that has not exited has arrived.

use super::context::Context;
use super::space;
use super::warp::Warp;
use crate::inst::Inst;

/// The barrier of a cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterBarrier {
    /// Threads that have not exited.
    pub(crate) live: u32,
    arrived: u32,
    pub(crate) phase: u32,
}

impl ClusterBarrier {
    pub(crate) fn new(threads: u32) -> ClusterBarrier {
        ClusterBarrier { live: threads, arrived: 0, phase: 0 }
    }

    /// Threads that the phase lacks.
    pub(crate) fn lacks(&self) -> u32 {
        self.live.saturating_sub(self.arrived)
    }
}

fn settle(cx: &mut Context<'_>) {
    let b = &mut cx.cluster;
    if b.arrived >= b.live && b.arrived > 0 {
        b.phase += 1;
        b.arrived = 0;
        cx.effects += 1;
        if let Some(w) = &mut cx.watch {
            w.complete_cluster();
        }
    }
}

/// Lanes arrive; gives back lanes that had arrived already in this phase.
pub(crate) fn arrive(w: &mut Warp, cx: &mut Context<'_>, lanes: u32, orders: bool) -> u32 {
    let target = cx.cluster.phase + 1;
    let mut twice = 0;
    for l in (0..32).filter(|l| lanes >> l & 1 != 0) {
        if w.cluster_phase[l] == target {
            twice |= 1 << l;
        }
        w.cluster_phase[l] = target;
    }
    cx.now += 1;
    if let Some(x) = &mut cx.watch {
        x.arrive_cluster(w.id, lanes, orders, cx.now);
    }
    cx.cluster.arrived += (lanes & !twice).count_ones();
    settle(cx);
    twice
}

/// The first lane that waits without having arrived since its last wait.
pub(crate) fn uninvited(w: &Warp, lanes: u32) -> Option<u32> {
    (0..32).find(|l| lanes >> l & 1 != 0 && w.cluster_phase[*l as usize] == w.cluster_waited[*l as usize])
}

/// Lanes have waited.
pub(crate) fn waited(w: &mut Warp, lanes: u32) {
    for l in (0..32).filter(|l| lanes >> l & 1 != 0) {
        w.cluster_waited[l] = w.cluster_phase[l];
    }
}

/// The phase that lanes wait for, if it is not over.
pub(crate) fn wait(w: &Warp, cx: &Context<'_>, lanes: u32) -> Option<u32> {
    let targets = (0..32).filter(|l| lanes >> l & 1 != 0).map(|l| w.cluster_phase[l]);
    targets.max().filter(|t| *t > cx.cluster.phase)
}

/// Threads have exited.
pub(crate) fn exit(cx: &mut Context<'_>, lanes: u32) {
    cx.cluster.live = cx.cluster.live.saturating_sub(lanes.count_ones());
    settle(cx);
}

/// `mapa`.
pub(crate) fn map(
    w: &mut Warp,
    cx: &Context<'_>,
    i: &Inst,
    wide: bool,
    generic: bool,
    exec: u32,
) -> Option<u32> {
    let ranks = *w.regs.row::<u32>(i.b);
    let low = (1u64 << space::RANK_SHIFT) - 1;
    let base = if generic { space::SHARED_BASE } else { 0 };
    let blocks = cx.peers.len().max(1) as u32;
    if let Some(l) = (0..32).find(|l| exec >> l & 1 != 0 && ranks[*l as usize] >= blocks) {
        return Some(l);
    }
    let to =
        |a: u64, rank: u32| base + (a.wrapping_sub(base) & low | u64::from(rank + 1) << space::RANK_SHIFT);
    if wide {
        let a = *w.regs.row::<u64>(i.a);
        let v: [u64; 32] = std::array::from_fn(|l| to(a[l], ranks[l]));
        w.regs.store::<u64>(i.d, &v, exec);
    } else {
        let a = *w.regs.row::<u32>(i.a);
        let v: [u32; 32] = std::array::from_fn(|l| to(u64::from(a[l]), ranks[l]) as u32);
        w.regs.store::<u32>(i.d, &v, exec);
    }
    None
}

/// `getctarank`.
pub(crate) fn rank(w: &mut Warp, cx: &Context<'_>, i: &Inst, wide: bool, generic: bool, exec: u32) {
    let base = if generic { space::SHARED_BASE } else { 0 };
    let of = |a: u64| match a.wrapping_sub(base) >> space::RANK_SHIFT {
        0 => cx.rank,
        r => (r - 1) as u32,
    };
    let v: [u32; 32] =
        if wide { w.regs.row::<u64>(i.a).map(of) } else { w.regs.row::<u32>(i.a).map(|a| of(u64::from(a))) };
    w.regs.store::<u32>(i.d, &v, exec);
}
