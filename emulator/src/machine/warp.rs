//! What: the state of a warp: registers, local memory, and the sets of lanes that run apart ("splits").
//! Why here: divergence is state of its own. Each split has a pc; the lowest pc runs first, so that lanes meet
//! again at the earliest point, and splits that wait are merged when their lanes arrive at the same place.
//! Pre: none.
//! Post: every live lane is in exactly one split.

use super::chaos::Chaos;
use super::context::Context;
use super::poll::Poll;
use crate::inst::NONE;
use crate::lanes::RegFile;
use crate::program::{Kernel, RowValue, Special};
use crate::watch::taint::Taint;
use std::collections::VecDeque;

/// Why a split does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Ready,
    /// At a warp-wide instruction, for the other members of its mask.
    Members(u32),
    /// At a barrier of the block.
    Barrier(u32),
    /// For a phase of the mbarrier at a shared address; `seen` is `Context::phases` when the wait began.
    Mbarrier {
        at: u32,
        seen: u32,
    },
    /// For a value that a loop polls to change.
    Poll,
    /// For a phase of the cluster's barrier.
    Cluster(u32),
    /// For the grid before to end.
    Grid,
    /// For registers of the block's pool.
    Registers(u32),
}

/// Lanes that run together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    pub(crate) pc: u32,
    pub(crate) mask: u32,
    /// Index into `Warp::frames`, `NONE` at the top.
    pub(crate) frame: u32,
    pub(crate) depth: u32,
    /// Raised when a split used up its quantum while others wait, so that lanes that spin let others run.
    pub(crate) penalty: u32,
    pub(crate) wait: Wait,
    /// Passes an aligned barrier without the lanes that cannot come.
    pub(crate) forced: bool,
}

/// A call: where to return, and the caller's own frame. Interned, so that equal call paths have equal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) parent: u32,
    pub(crate) return_pc: u32,
}

/// A warp.
pub(crate) struct Warp {
    pub(crate) id: u32,
    /// Lanes that exist.
    pub(crate) lanes: u32,
    /// Lanes that have exited.
    pub(crate) exited: u32,
    pub(crate) regs: RegFile,
    /// 32 areas of `Context::local_bytes`, 16-byte aligned.
    pub(crate) local: Vec<u128>,
    pub(crate) splits: Vec<Split>,
    pub(crate) frames: Vec<Frame>,
    /// Instructions run so far.
    pub(crate) steps: u64,
    /// Per lane, the phase of the cluster's barrier at which it arrived last.
    pub(crate) cluster_phase: [u32; 32],
    /// Per lane, the phase for which it waited there last.
    pub(crate) cluster_waited: [u32; 32],
    /// Registers of a thread; 0 if they are not known.
    pub(crate) registers: u32,
    /// Whether it changed nothing for long, so that its loops may be polls.
    pub(crate) idle: bool,
    pub(crate) poll: Option<Box<Poll>>,
    /// The leap of time since which none of its waits for an mbarrier has given up.
    pub(crate) leaps: u32,
    /// Commits of copies, per lane: non-bulk, bulk. Kept only when it matters.
    pub(crate) groups: Vec<[VecDeque<u32>; 2]>,
    /// Per lane, when it last issued a bulk copy of a group, and up to when their sources are known to be read.
    pub(crate) bulk: Vec<(u32, u32)>,
    /// Rows without defined data, when that is checked.
    pub(crate) taint: Option<Box<Taint>>,
    /// Whether some row is without.
    pub(crate) tainted: bool,
}

impl Warp {
    pub(crate) fn new(kernel: &Kernel, id: u32, threads: u32) -> Warp {
        let left = threads.saturating_sub(id * 32);
        Warp {
            id,
            lanes: if left >= 32 { u32::MAX } else { (1u32 << left) - 1 },
            exited: 0,
            regs: RegFile::new(kernel.words, kernel.preds),
            local: vec![0; kernel.local_bytes as usize / 16 * 32],
            splits: Vec::with_capacity(8),
            frames: vec![],
            steps: 0,
            cluster_phase: [0; 32],
            cluster_waited: [0; 32],
            registers: 0,
            idle: false,
            poll: None,
            leaps: 0,
            groups: vec![],
            bulk: vec![],
            taint: None,
            tainted: false,
        }
    }

    /// Writes the rows that stay the same for all blocks of a launch.
    #[allow(clippy::too_many_arguments)] // What a launch fixes for all its threads.
    pub(crate) fn init_constants(
        &mut self,
        kernel: &Kernel,
        block: [u32; 3],
        grid: [u32; 3],
        cluster: [u32; 3],
        sms: u32,
        dynamic: u32,
        cooperative: bool,
    ) {
        let workspace = if cooperative { kernel.workspace } else { 0 };
        let ranks = cluster.iter().product::<u32>();
        let threads = block.iter().product::<u32>();
        for init in &kernel.inits {
            let id = self.id;
            let value = |lane: u32| -> u64 {
                let t = id * 32 + lane;
                match init.value {
                    RowValue::Const(v) => v,
                    RowValue::DynShared => 0,
                    RowValue::Special(s) => u64::from(match s {
                        Special::Tid(0) => t % block[0],
                        Special::Tid(1) => t / block[0] % block[1],
                        Special::Tid(_) => t / block[0] / block[1],
                        Special::Ntid(i) => block[i as usize % 3],
                        Special::Nctaid(i) => grid[i as usize % 3],
                        Special::Ctaid(_)
                        | Special::Sm
                        | Special::Zero
                        | Special::ClusterId(_)
                        | Special::ClusterCtaid(_)
                        | Special::ClusterRank => 0,
                        Special::Nclusterid(i) => grid[i as usize % 3] / cluster[i as usize % 3],
                        Special::ClusterNctaid(i) => cluster[i as usize % 3],
                        Special::ClusterRanks => ranks,
                        Special::Clustered => u32::from(ranks > 1),
                        Special::Lane => lane,
                        Special::Warp => id,
                        Special::Warps => threads.div_ceil(32),
                        Special::Sms => sms,
                        Special::MaskEq => 1 << lane,
                        Special::MaskLe => u32::MAX >> (31 - lane),
                        Special::MaskLt => (1 << lane) - 1,
                        Special::MaskGe => u32::MAX << lane,
                        Special::MaskGt => u32::MAX.checked_shl(lane + 1).unwrap_or(0),
                        Special::DynShared => dynamic,
                        Special::TotalShared => kernel.dyn_offset + dynamic,
                        Special::Workspace(0) => (workspace >> 32) as u32,
                        Special::Workspace(_) => workspace as u32,
                    }),
                }
            };
            match init.bits {
                16 => *self.regs.row::<u16>(init.offset) = std::array::from_fn(|l| value(l as u32) as u16),
                32 => *self.regs.row::<u32>(init.offset) = std::array::from_fn(|l| value(l as u32) as u32),
                _ => *self.regs.row::<u64>(init.offset) = std::array::from_fn(|l| value(l as u32)),
            }
        }
    }

    /// Makes the warp ready to run a block.
    pub(crate) fn reset(&mut self, kernel: &Kernel, ctaid: [u32; 3], cluster: [u32; 3], sm: u32) {
        let within = |i: usize| ctaid[i] % cluster[i];
        for init in &kernel.inits {
            let v = match init.value {
                RowValue::Special(Special::Ctaid(i)) => ctaid[i as usize % 3],
                RowValue::Special(Special::Sm) => sm,
                RowValue::Special(Special::ClusterId(i)) => ctaid[i as usize % 3] / cluster[i as usize % 3],
                RowValue::Special(Special::ClusterCtaid(i)) => within(i as usize % 3),
                RowValue::Special(Special::ClusterRank) => {
                    within(0) + cluster[0] * (within(1) + cluster[1] * within(2))
                }
                _ => continue,
            };
            match init.bits {
                16 => *self.regs.row::<u16>(init.offset) = [v as u16; 32],
                32 => *self.regs.row::<u32>(init.offset) = [v; 32],
                _ => *self.regs.row::<u64>(init.offset) = [u64::from(v); 32],
            }
        }
        for &(offset, words) in &kernel.zero_rows {
            for i in (0..words).step_by(16) {
                *self.regs.row::<u16>(offset + i) = [0; 32];
            }
        }
        self.regs.preds.fill(0);
        self.exited = 0;
        self.cluster_phase = [0; 32];
        self.cluster_waited = [0; 32];
        self.idle = false;
        self.poll = None;
        self.groups.iter_mut().flatten().for_each(VecDeque::clear);
        self.bulk.clear();
        if let Some(t) = &mut self.taint {
            t.reset(kernel);
        }
        self.frames.clear();
        self.splits.clear();
        self.splits.push(Split {
            pc: 0,
            mask: self.lanes,
            frame: NONE,
            depth: 0,
            penalty: 0,
            wait: Wait::Ready,
            forced: false,
        });
        crate::watch::taint::begin(self);
    }

    /// Lanes that exist and have not exited.
    pub(crate) fn live(&self) -> u32 {
        self.lanes & !self.exited
    }

    /// The number of a call path.
    pub(crate) fn intern(&mut self, frame: Frame) -> u32 {
        match self.frames.iter().position(|f| *f == frame) {
            Some(i) => i as u32,
            None => {
                self.frames.push(frame);
                self.frames.len() as u32 - 1
            }
        }
    }

    /// Merges splits at the same place and picks the next one to run: the least penalised, then the deepest
    /// call, then the lowest pc.
    pub(crate) fn pick(&mut self, chaos: Option<&mut Chaos>) -> Option<usize> {
        if let Some(c) = chaos {
            return self.pick_any(c);
        }
        let mut i = 0;
        while i < self.splits.len() {
            let mut j = i + 1;
            while j < self.splits.len() {
                let (a, b) = (self.splits[i], self.splits[j]);
                let barrier = |s: &Split| matches!(s.wait, Wait::Barrier(_));
                if a.pc == b.pc && a.frame == b.frame && !barrier(&a) && !barrier(&b) {
                    let s = &mut self.splits[i];
                    s.mask |= b.mask;
                    s.penalty = a.penalty.min(b.penalty);
                    // A member that arrived may be the one that the others waited for.
                    s.wait = Wait::Ready;
                    self.splits.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
        (0..self.splits.len()).filter(|&i| self.splits[i].wait == Wait::Ready).min_by_key(|&i| {
            let s = &self.splits[i];
            (s.penalty, u32::MAX - s.depth, s.pc)
        })
    }

    /// Whether lanes are behind this split only because their turn was over: then they go first, and the split is at `pc`
    /// again when it is picked.
    pub(crate) fn let_others_catch_up(&mut self, cur: usize, pc: u32) -> bool {
        let Split { depth, penalty, .. } = self.splits[cur];
        let behind = |s: &Split| {
            s.wait == Wait::Ready
                && s.penalty > penalty
                && (u32::MAX - s.depth, s.pc) < (u32::MAX - depth, pc)
        };
        let most = self
            .splits
            .iter()
            .enumerate()
            .filter(|&(i, s)| i != cur && behind(s))
            .map(|(_, s)| s.penalty)
            .max();
        let Some(most) = most else { return false };
        (self.splits[cur].penalty, self.splits[cur].pc) = (most, pc);
        true
    }

    /// Merges some splits, and picks any that can run.
    fn pick_any(&mut self, chaos: &mut Chaos) -> Option<usize> {
        let mut i = 0;
        while i < self.splits.len() {
            let mut j = i + 1;
            while j < self.splits.len() {
                let (a, b) = (self.splits[i], self.splits[j]);
                let members = |s: &Split| matches!(s.wait, Wait::Members(_));
                // Lanes that wait for each other must meet; others may.
                let meet = members(&a) && (members(&b) || b.wait == Wait::Ready)
                    || members(&b) && a.wait == Wait::Ready;
                let may = a.wait == Wait::Ready && b.wait == Wait::Ready && chaos.one_in(2);
                if a.pc == b.pc && a.frame == b.frame && (meet || may) {
                    self.splits[i].mask |= b.mask;
                    self.splits[i].wait = Wait::Ready;
                    self.splits.swap_remove(j);
                } else {
                    j += 1;
                }
            }
            i += 1;
        }
        let ready = self.splits.iter().filter(|s| s.wait == Wait::Ready).count();
        if ready == 0 {
            return None;
        }
        let k = chaos.below(ready as u64) as usize;
        (0..self.splits.len()).filter(|&i| self.splits[i].wait == Wait::Ready).nth(k)
    }

    /// The pc at which the running split must look at the others again: the next one above its own at which
    /// others are. Those below are met again after a jump back.
    pub(crate) fn stop_pc(&self, running: usize, chaos: bool) -> u32 {
        if chaos {
            return NONE;
        }
        let Split { depth, pc, .. } = self.splits[running];
        let others = self.splits.iter().enumerate().filter(|(i, _)| *i != running);
        others
            .filter(|(_, s)| s.depth == depth && s.pc > pc && !matches!(s.wait, Wait::Barrier(_)))
            .map(|(_, s)| s.pc)
            .min()
            .unwrap_or(NONE)
    }

    /// Re-examines waits for members after lanes have left.
    pub(crate) fn wake_members(&mut self) {
        for s in &mut self.splits {
            if matches!(s.wait, Wait::Members(_)) {
                s.wait = Wait::Ready;
            }
        }
    }

    /// Lets those go on whose wait is over.
    pub(crate) fn wake(&mut self, cx: &mut Context<'_>) {
        for i in 0..self.splits.len() {
            let s = self.splits[i];
            let over = match s.wait {
                Wait::Mbarrier { seen, .. } => seen != cx.phases,
                Wait::Cluster(target) => cx.cluster.phase >= target,
                Wait::Grid => cx.grid_before.is_some(),
                Wait::Registers(need) => cx.pool >= need,
                _ => false,
            };
            if over {
                self.splits[i].wait = Wait::Ready;
            }
        }
        super::poll::wake(self, cx.leaps);
    }

    /// Sees to splits that all wait for members: `bar.warp.sync` may be met at different places. Says whether
    /// something can run now.
    pub(crate) fn meet(&mut self, cx: &mut Context<'_>) -> bool {
        use crate::inst::{Op, WarpOp};
        let kernel = cx.kernel;
        let is_sync = |s: &Split| {
            matches!(s.wait, Wait::Members(_))
                && matches!(kernel.code[s.pc as usize].op, Op::Warp { op: WarpOp::Sync, .. })
        };
        let arrived = self.splits.iter().filter(|s| is_sync(s)).fold(0, |m, s| m | s.mask);
        let met = self
            .splits
            .iter()
            .any(|s| is_sync(s) && matches!(s.wait, Wait::Members(need) if need & !arrived == 0));
        if met {
            cx.now += 1;
            if let Some(x) = &mut cx.watch {
                x.together(self.id, arrived, cx.now);
            }
            for s in self.splits.iter_mut().filter(|s| is_sync(s)) {
                if let Wait::Members(need) = s.wait
                    && need & !arrived == 0
                {
                    // Its count was taken back when the wait began.
                    cx.tally.instruction(s.pc, s.mask);
                    s.wait = Wait::Ready;
                    s.pc += 1;
                }
            }
        }
        met
    }
}
