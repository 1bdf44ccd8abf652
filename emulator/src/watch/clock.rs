//! What: vector clocks over the threads of a launch, shared where threads know the same.
//! Why here: a launch has thousands of threads that mostly learn at barriers, together; so a clock is a list of
//! rows, one per block that its owner has heard of, and equal clocks and rows are one allocation.
//! Pre: stamps rise along the one order in which the machine runs things.
//! Post: joining is the pointwise maximum; a clock never forgets.

use std::rc::Rc;

/// Asynchronous streams of a thread beside its program order: non-bulk copies, sources of bulk copies of a group,
/// destinations of bulk copies of a group.
pub(crate) const STREAMS: usize = 3;

/// What is known of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Per thread, the stamp up to which its own accesses are known.
    pub(crate) threads: Vec<u32>,
    /// Per stream and thread, the stamp of issue up to which its asynchronous accesses are known to be complete.
    pub(crate) streams: [Vec<u32>; STREAMS],
    /// Per mbarrier of the block, the phases that are known to be complete.
    pub(crate) phases: Vec<u32>,
}

fn max_into(into: &mut Vec<u32>, from: &[u32]) {
    if into.len() < from.len() {
        into.resize(from.len(), 0);
    }
    for (a, b) in into.iter_mut().zip(from) {
        *a = (*a).max(*b);
    }
}

fn covers(a: &[u32], b: &[u32]) -> bool {
    b.iter().enumerate().all(|(i, v)| *v == 0 || a.get(i).is_some_and(|w| w >= v))
}

impl Row {
    fn covers(&self, o: &Row) -> bool {
        covers(&self.threads, &o.threads)
            && covers(&self.phases, &o.phases)
            && self.streams.iter().zip(&o.streams).all(|(a, b)| covers(a, b))
    }

    fn join(&mut self, o: &Row) {
        max_into(&mut self.threads, &o.threads);
        max_into(&mut self.phases, &o.phases);
        for (a, b) in self.streams.iter_mut().zip(&o.streams) {
            max_into(a, b);
        }
    }
}

/// Raises one entry of a list that grows as needed.
fn raise(v: &mut Vec<u32>, at: usize, len: usize, value: u32) {
    if v.len() <= at {
        v.resize(len.max(at + 1), 0);
    }
    v[at] = v[at].max(value);
}

/// What a thread knows of the blocks of a launch. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    /// Sorted by block.
    rows: Rc<Vec<(u32, Rc<Row>)>>,
}

impl Clock {
    /// Whether two clocks are one allocation, and so equal.
    pub(crate) fn same(&self, o: &Clock) -> bool {
        Rc::ptr_eq(&self.rows, &o.rows)
    }

    pub(crate) fn row(&self, block: u32) -> Option<&Row> {
        let i = self.rows.binary_search_by_key(&block, |r| r.0).ok()?;
        Some(&self.rows[i].1)
    }

    fn row_mut(&mut self, block: u32) -> &mut Row {
        let rows = Rc::make_mut(&mut self.rows);
        let i = match rows.binary_search_by_key(&block, |r| r.0) {
            Ok(i) => i,
            Err(i) => {
                rows.insert(i, (block, Rc::default()));
                i
            }
        };
        Rc::make_mut(&mut rows[i].1)
    }

    /// Learns all that another clock knows.
    pub(crate) fn join(&mut self, o: &Clock) {
        if self.same(o) || o.rows.is_empty() {
            return;
        }
        if self.rows.is_empty() {
            *self = o.clone();
            return;
        }
        let news = |(b, r): &&(u32, Rc<Row>)| match self.rows.binary_search_by_key(b, |x| x.0) {
            Ok(i) => !Rc::ptr_eq(&self.rows[i].1, r) && !self.rows[i].1.covers(r),
            Err(_) => true,
        };
        let news: Vec<&(u32, Rc<Row>)> = o.rows.iter().filter(news).collect();
        if news.is_empty() {
            return;
        }
        let rows = Rc::make_mut(&mut self.rows);
        for (b, r) in news {
            match rows.binary_search_by_key(b, |x| x.0) {
                Ok(i) if r.covers(&rows[i].1) => rows[i].1 = r.clone(),
                Ok(i) => Rc::make_mut(&mut rows[i].1).join(r),
                Err(i) => rows.insert(i, (*b, r.clone())),
            }
        }
    }

    /// Knows the accesses of threads of a block up to a stamp.
    pub(crate) fn tell(&mut self, block: u32, threads: usize, who: impl Iterator<Item = u32>, stamp: u32) {
        let row = self.row_mut(block);
        for t in who {
            raise(&mut row.threads, t as usize, threads, stamp);
        }
    }

    /// Knows that a stream of a thread is complete up to a stamp of issue.
    pub(crate) fn tell_stream(&mut self, block: u32, threads: usize, stream: usize, thread: u32, stamp: u32) {
        let known = self.row(block).and_then(|r| r.streams[stream].get(thread as usize));
        if known.is_none_or(|v| *v < stamp) {
            raise(&mut self.row_mut(block).streams[stream], thread as usize, threads, stamp);
        }
    }

    /// Knows that phases of an mbarrier are complete.
    pub(crate) fn tell_phase(&mut self, block: u32, mbarrier: u32, phases: u32) {
        raise(&mut self.row_mut(block).phases, mbarrier as usize, 0, phases);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_is_the_pointwise_maximum() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        a.tell(1, 4, [0, 2].into_iter(), 5);
        a.tell_stream(1, 4, 2, 3, 9);
        b.tell(1, 4, [2, 3].into_iter(), 7);
        b.tell(0, 4, [1].into_iter(), 2);
        b.tell_phase(0, 3, 1);
        let before = a.clone();
        a.join(&b);
        assert_eq!(a.row(1).unwrap().threads, [5, 0, 7, 7]);
        assert_eq!(a.row(1).unwrap().streams[2], [0, 0, 0, 9]);
        assert_eq!(a.row(0).unwrap().phases, [0, 0, 0, 1]);
        assert!(a.row(2).is_none());
        // The clone is not touched, and joining what is known changes nothing.
        assert_eq!(before.row(1).unwrap().threads, [5, 0, 5, 0]);
        let known = a.clone();
        a.join(&before);
        assert!(a.same(&known));
        let mut c = before.clone();
        c.join(&a);
        assert_eq!(c.row(1).unwrap(), a.row(1).unwrap());
    }
}
