//! How many tasks the blocks of a launch become.
//!
//! What: [`cut`] weighs two things. What blocks of a launch read in common (the input of a product) a task moves once, so that
//! few tasks move fewer bytes; many are more even beside other launches.
//! Why here: it is a question of numbers alone.
//! Post: runs of blocks, of which none is empty, and whose lengths differ by one at most. Runs of one length would leave some
//! SMs with a whole run less than others.

/// Tasks may be as many as make an SM move such a part of its bytes more.
const MORE: u128 = 20;

/// What is known of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Its blocks.
    pub(crate) blocks: u64,
    /// Bytes that one block moves, and two in a row as one task.
    pub(crate) bytes: (u64, u64),
}

/// Into how many tasks to cut it, for so many SMs and so many tasks of each at most.
pub(crate) fn cut(work: Work, sms: u32, tasks_per_sm: u32) -> u64 {
    let Work { blocks, bytes: (one, two) } = work;
    let (sms, each) = (u64::from(sms.max(1)), two.saturating_sub(one));
    let common = one.saturating_sub(each);
    let rows = blocks.div_ceil(sms).max(1);
    // What the SM that has most moves with one task; each more moves what is common again.
    let moved = u128::from(rows) * u128::from(each) + u128::from(common);
    let more = (moved / MORE).checked_div(u128::from(common)).map_or(u64::MAX, |n| n as u64);
    let tasks = more.saturating_add(1).min(rows).min(u64::from(tasks_per_sm.max(1)));
    blocks.min(tasks.saturating_mul(sms))
}

/// The first block and the number of blocks of a task.
pub(crate) fn run(blocks: u64, tasks: u64, task: u64) -> (u64, u64) {
    let at = |n: u64| (u128::from(n) * u128::from(blocks) / u128::from(tasks.max(1))) as u64;
    (at(task), at(task + 1) - at(task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_all_blocks_and_even() {
        for (blocks, tasks) in [(0, 0), (1, 1), (7, 7), (7, 3), (1792, 528), (8016, 528), (529, 528)] {
            let runs: Vec<(u64, u64)> = (0..tasks).map(|t| run(blocks, tasks, t)).collect();
            let mut next = 0;
            for &(first, count) in &runs {
                assert!(first == next && count >= 1);
                next = first + count;
            }
            assert_eq!(next, blocks);
            let counts = || runs.iter().map(|r| r.1);
            assert!(counts().max().unwrap_or(0) - counts().min().unwrap_or(0) <= 1);
        }
    }

    #[test]
    fn tasks_are_as_many_as_what_they_share_lets_them() {
        let tasks = |blocks: u64, one: u64, two: u64| cut(Work { blocks, bytes: (one, two) }, 132, 4);
        // Nothing in common, and nothing but that.
        assert_eq!(tasks(1792, 100, 200), 528);
        assert_eq!(tasks(1792, 100, 100), 132);
        // Half of a block's bytes are those of all: a twentieth of 19 blocks and of that is that once more.
        assert_eq!(tasks(132 * 18, 200, 300), 132);
        assert_eq!(tasks(132 * 18 + 1, 200, 300), 264);
        assert_eq!(tasks(132 * 38, 200, 300), 264);
        assert_eq!(tasks(132 * 38 + 1, 200, 300), 396);
        // No more than there are blocks.
        assert_eq!((tasks(100, 100, 200), tasks(1, 5, 5), tasks(0, 5, 5)), (100, 1, 0));
        assert_eq!(cut(Work { blocks: u64::MAX, bytes: (u64::MAX, u64::MAX) }, 0, u32::MAX), 1);
    }
}
