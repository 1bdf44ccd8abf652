//! What: the blocks of a cluster, which run on one host thread; most gangs have one block.
//! Why here: blocks of a cluster share memory and a barrier, so they start, run and end together.
//! Pre: a grid whose extents are multiples of the cluster's.
//! Post: as `Block`, for all blocks of the cluster.

use super::block::{Block, BlockFault, Progress};
use super::cluster::ClusterBarrier;
use super::context::Context;
use super::warp::Warp;
use crate::schedule::Grid;
use crate::watch::taint::Taint;

/// A cluster in flight.
pub(crate) struct Gang {
    /// The grid it belongs to, in the sequence of launches.
    pub(crate) grid: usize,
    /// Number in the grid.
    pub(crate) index: u64,
    pub(crate) blocks: Vec<Block>,
    barrier: ClusterBarrier,
    threads: u32,
    /// Whether nothing moved in its last slice.
    pub(crate) stuck: bool,
}

impl Gang {
    pub(crate) fn new(g: &Grid<'_>, sms: u32, taint: bool) -> Gang {
        let l = g.launch;
        let threads = l.block.iter().product::<u32>();
        let block = || {
            let mut warps: Vec<Warp> =
                (0..threads.div_ceil(32)).map(|i| Warp::new(g.kernel, i, threads)).collect();
            for w in &mut warps {
                w.init_constants(g.kernel, l.block, l.grid, g.cluster, sms, l.shared_bytes, g.cooperative);
                if taint {
                    w.taint = Some(Box::new(Taint::new(g.kernel)));
                }
            }
            Block::new(warps, g.shared_bytes)
        };
        let blocks = (0..g.cluster.iter().product::<u32>()).map(|_| block()).collect();
        Gang { grid: g.number, index: 0, blocks, barrier: ClusterBarrier::default(), threads, stuck: false }
    }

    /// Makes the gang ready to run as cluster `index` of its grid, on those SMs.
    pub(crate) fn reset(&mut self, g: &Grid<'_>, index: u64, sms: &[usize], registers: u32) {
        self.index = index;
        self.stuck = false;
        self.barrier = ClusterBarrier::new(self.threads * self.blocks.len() as u32);
        for (rank, b) in self.blocks.iter_mut().enumerate() {
            let (number, ctaid) = g.block(index, rank as u32);
            b.sm = sms.get(rank).copied().unwrap_or(0);
            b.reset(g.kernel, (number, g.first.wrapping_add(number as u32)), ctaid, g.cluster);
            for w in &mut b.warps {
                w.registers = registers.next_multiple_of(8);
            }
        }
    }

    /// Lends the surroundings of a block to the context.
    fn enter(&mut self, i: usize, cx: &mut Context<'_>) {
        cx.peers.clear();
        // The memory of a block goes with it.
        let memory =
            self.blocks.iter_mut().map(|b| if b.ended() { std::ptr::null_mut() } else { b.memory() });
        cx.peers.extend(memory);
        cx.shared = cx.peers[i];
        (cx.rank, cx.uid) = (i as u32, self.blocks[i].uid);
        std::mem::swap(&mut cx.cluster, &mut self.barrier);
        if let Some(w) = &mut cx.watch {
            w.cur = self.blocks[i].slot;
            w.peers.clear();
            w.peers.extend(self.blocks.iter().map(|b| b.slot));
        }
    }

    /// Runs every block for about `slice` warp instructions.
    pub(crate) fn run(
        &mut self,
        cx: &mut Context<'_>,
        slice: u64,
        count: bool,
    ) -> Result<Progress, (usize, BlockFault)> {
        let mut ended = true;
        let mut moved = false;
        for i in 0..self.blocks.len() {
            if self.blocks[i].ended() {
                continue;
            }
            self.enter(i, cx);
            let r = self.blocks[i].run(cx, slice, count);
            std::mem::swap(&mut cx.cluster, &mut self.barrier);
            match r.map_err(|f| (i, f))? {
                Progress::Ended => {
                    moved = true;
                    let many = self.blocks.len() > 1;
                    if let Some(x) = &mut cx.watch
                        && (many || x.blocks[x.cur].copies)
                    {
                        x.leave_shared();
                    }
                }
                Progress::Moved => (ended, moved) = (false, true),
                Progress::Stuck => ended = false,
            }
        }
        self.stuck = !moved;
        Ok(match (ended, moved) {
            (true, _) => Progress::Ended,
            (_, true) => Progress::Moved,
            _ => Progress::Stuck,
        })
    }

    /// Whether only its own threads can help those that wait.
    pub(crate) fn alone(&self) -> bool {
        self.blocks.len() == 1 && self.blocks[0].alone()
    }

    /// Whether every block let the next grid start, or has ended.
    pub(crate) fn released(&self) -> bool {
        self.blocks.iter().all(|b| b.released || b.ended())
    }

    /// The first block that waits.
    pub(crate) fn first(&self) -> usize {
        self.blocks.iter().position(|b| !b.ended()).unwrap_or(0)
    }

    /// Who waits for what, in words, per block.
    pub(crate) fn waiting(&mut self, cx: &mut Context<'_>) -> Vec<([u32; 3], Vec<String>)> {
        let mut all = vec![];
        for i in 0..self.blocks.len() {
            if !self.blocks[i].ended() {
                self.enter(i, cx);
                all.push((self.blocks[i].ctaid, self.blocks[i].waiting(cx)));
                std::mem::swap(&mut cx.cluster, &mut self.barrier);
            }
        }
        all
    }
}
