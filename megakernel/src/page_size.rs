//! How large the pages of the ring are.
//!
//! What: [`choose`] lays out as many pages as there is room for, of the size that suits the stages of a step. A stage takes
//! whole pages, so that a size is good for some stages and wastes memory with others.
//! Why here: it is a question of numbers alone.
//! Post: a plan that fits; every stage of the step fits the ring several times.

use tilewright_codegen::PagePlan;

use crate::pages::Stages;

/// The part of the memory for pages that one stage may take: so many stages are on their way at least.
const LEAST_STAGES: u64 = 4;
/// Pages of a stage, at most: one lane of a warp looks after each.
const MOST_PAGES: u64 = 32;
/// Pages, at most.
const MOST_COUNT: u64 = 128;
/// Sizes of a page are multiples of it.
const PAGE_STEP: u64 = 512;

/// What blocks of a step take from the ring: how many take the same, and their stages: how often, the memory of one, and
/// the bytes that are copied to it.
pub(crate) struct Uses {
    pub(crate) blocks: u64,
    pub(crate) stages: Vec<(u64, u64, u64)>,
}

/// Bytes of a block that do not fit a ring of so many pages beside what comes before them in the same block.
pub(crate) fn behind(ring: u64, stages: impl IntoIterator<Item = Stages>) -> u64 {
    let mut room = ring;
    let late = |s: Stages| {
        let fit = s.count.min(room / s.pages.max(1));
        room -= fit * s.pages;
        (s.count - fit) * s.bytes
    };
    stages.into_iter().map(late).sum()
}

/// As many pages as there is room for, of the size with which fewest bytes of a step are left for when their block has
/// begun, and of such sizes one of which most is used.
pub(crate) fn choose(uses: &[Uses], free: u64, limit: u64, warps: u32, bulk: bool) -> Option<PagePlan> {
    let plan = |size: u64| -> Option<(u64, f64, u64, PagePlan)> {
        // Barriers of pages and two words, then pages.
        let bars = free.next_multiple_of(16);
        let room = limit.checked_sub(bars + 8 + 128)?;
        let count = (room / (size + 16)).min(MOST_COUNT);
        let at = (bars + 16 * count + 8).next_multiple_of(128);
        let (mut used, mut all, mut late) = (0.0, 0.0, 0u64);
        for Uses { blocks, stages } in uses {
            for &(trips, stage, bytes) in stages {
                let pages = stage.div_ceil(size);
                if pages > MOST_PAGES || pages * LEAST_STAGES > count {
                    return None;
                }
                let bytes = (blocks.saturating_mul(trips * bytes)) as f64;
                used += bytes;
                all += bytes * (pages * size) as f64 / stage.max(1) as f64;
            }
            let stages = stages.iter().map(|s| Stages { count: s.0, pages: s.1.div_ceil(size), bytes: s.2 });
            late = late.saturating_add(blocks.saturating_mul(behind(count, stages)));
        }
        let plan = PagePlan {
            at: at as u32,
            size: size as u32,
            count: count as u32,
            bars: bars as u32,
            warps,
            bulk,
        };
        // Of equals the largest: fewer barriers.
        Some((late, used / all * (count * size) as f64, size, plan))
    };
    if uses.is_empty() {
        return None;
    }
    let sizes = (1..=32).map(|n| n * PAGE_STEP).filter_map(plan);
    let best = sizes.max_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    best.map(|(.., plan)| plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fit_and_waste_little() {
        let uses = |stages: &[(u64, u64, u64)]| {
            stages.iter().map(|&s| Uses { blocks: 1, stages: vec![s] }).collect::<Vec<_>>()
        };
        let some = uses(&[(10, 8704, 1), (80, 16896, 1)]);
        let plan = choose(&some, 2048, 227 << 10, 4, true).expect("there is room");
        assert!(plan.at + plan.size * plan.count <= 227 << 10);
        assert!(plan.flag() + 8 <= plan.at && plan.bars >= 2048);
        for stage in [8704, 16896] {
            let taken = plan.pages(stage) * u64::from(plan.size);
            assert!(taken < stage + stage / 16, "{taken} bytes for {stage}");
        }
        // Nearly all blocks waste nothing with pages of one stage, but of the others less fits the ring then.
        let most = Uses { blocks: 1000, stages: vec![(8, 8704, 8704)] };
        let halves = Uses { blocks: 1, stages: vec![(96, 2048, 2048)] };
        let late =
            |p: &PagePlan| behind(p.count.into(), [Stages { count: 96, pages: p.pages(2048), bytes: 2048 }]);
        let alone = choose(std::slice::from_ref(&most), 2048, 227 << 10, 4, true).expect("there is room");
        let both = choose(&[most, halves], 2048, 227 << 10, 4, true).expect("there is room");
        assert!(alone.pages(8704) == 1 && late(&alone) > 0 && late(&both) == 0, "{alone:?} {both:?}");
        let few = uses(&[(1, 64 << 10, 1)]);
        assert_eq!(choose(&few, 2048, 227 << 10, 4, true), None, "fewer than four stages");
        assert_eq!(choose(&uses(&[(1, 8704, 1)]), 226 << 10, 227 << 10, 4, true), None, "no room");
    }
}
