//! The order in which work items add to the gradient of the queries.
//!
//! An item owns a block of keys and adds to many blocks of query rows; a block of rows gets its parts
//! in the order of the keys, whichever threads compute them, so that its bits are always the same. An
//! item waits for its predecessor at a block of rows; items are handed out in that order, so the
//! predecessor is at work or done, and nobody waits for ever.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The blocks of query rows that an item adds to.
pub struct Visit {
    /// Which block.
    pub block: usize,
    /// How many items add to it before this one.
    turn: u32,
}

/// The visits of all items of one query head.
pub struct Order {
    /// Per item, ascending by block unless they were [sorted](Self::sort_visits).
    pub visits: Vec<Vec<Visit>>,
    /// Per block, how many items add to it.
    totals: Vec<u32>,
}

impl Order {
    /// `touched` gives, item by item in their order, the ranges of query rows that it may add to.
    pub fn new<R: IntoIterator<Item = Range<usize>>>(
        rows: usize,
        block: usize,
        touched: impl Iterator<Item = R>,
    ) -> Self {
        let mut totals = vec![0; rows.div_ceil(block)];
        let visits = touched
            .map(|ranges| {
                let mut blocks: Vec<usize> = ranges
                    .into_iter()
                    .filter(|r| !r.is_empty())
                    .flat_map(|r| r.start / block..r.end.div_ceil(block))
                    .collect();
                blocks.sort_unstable();
                blocks.dedup();
                blocks
                    .into_iter()
                    .map(|block| {
                        let turn = totals[block];
                        totals[block] += 1;
                        Visit { block, turn }
                    })
                    .collect()
            })
            .collect();
        Self { visits, totals }
    }

    /// Lets every item go through its blocks by `key`.
    pub fn sort_visits<K: Ord>(&mut self, key: impl Fn(usize) -> K) {
        for visits in &mut self.visits {
            visits.sort_by_key(|visit| key(visit.block));
        }
    }

    /// How many items add to a block.
    pub fn total(&self, block: usize) -> u32 {
        self.totals[block]
    }
}

/// Something that items change one after the other.
pub struct Turns<T> {
    done: AtomicU32,
    total: u32,
    value: Mutex<T>,
}

impl<T> Turns<T> {
    /// `total` items will take a turn.
    pub fn new(total: u32, value: T) -> Self {
        Self {
            done: AtomicU32::new(0),
            total,
            value: Mutex::new(value),
        }
    }

    /// Waits for the turn of `visit`, and calls `change` with the value and whether this is the last.
    ///
    /// # Panics
    ///
    /// If an item panicked on another thread.
    pub fn take(&self, visit: &Visit, broken: &Broken, change: impl FnOnce(MutexGuard<T>, bool)) {
        let mut tries = 0u32;
        while self.done.load(Ordering::Acquire) != visit.turn {
            assert!(!broken.0.load(Ordering::Relaxed), "another thread panicked");
            tries += 1;
            match tries {
                0..64 => std::hint::spin_loop(),
                _ => std::thread::yield_now(),
            }
        }
        let value = self.value.lock().expect("checked by `broken`");
        change(value, visit.turn + 1 == self.total);
        self.done.store(visit.turn + 1, Ordering::Release);
    }
}

/// Whether an item panicked, so that those that wait for it must give up.
#[derive(Default)]
pub struct Broken(AtomicBool);

impl Broken {
    /// Breaks if it is dropped by a panic.
    pub fn guard(&self) -> impl Drop {
        struct Guard<'a>(&'a Broken);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.0.store(true, Ordering::Relaxed);
                }
            }
        }
        Guard(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_arrive_in_order() {
        // Four items, ranges that overlap, a block that nobody touches.
        let touched = [
            vec![0..10, 30..31],
            vec![5..25, 6..7],
            vec![0..0, 8..12],
            vec![0..20, 20..40],
        ];
        let mut order = Order::new(60, 10, touched.into_iter());
        let totals: Vec<u32> = (0..6).map(|b| order.total(b)).collect();
        assert_eq!(totals, [4, 3, 2, 2, 0, 0]);
        let blocks: Vec<_> = totals.iter().map(|&t| Turns::new(t, Vec::new())).collect();
        let broken = Broken::default();
        std::thread::scope(|scope| {
            // Started backwards, so that some must wait.
            for (item, visits) in order.visits.drain(..).enumerate().rev() {
                let (blocks, broken) = (&blocks, &broken);
                scope.spawn(move || {
                    for visit in visits {
                        blocks[visit.block].take(&visit, broken, |mut value, last| {
                            value.push(item);
                            assert_eq!(last, value.len() == [4, 3, 2, 2][visit.block]);
                        });
                    }
                });
            }
        });
        let parts: Vec<Vec<usize>> = blocks
            .into_iter()
            .map(|b| b.value.into_inner().unwrap())
            .collect();
        assert_eq!(
            parts[..4],
            [vec![0, 1, 2, 3], vec![1, 2, 3], vec![1, 3], vec![0, 3]]
        );
    }

    #[test]
    fn a_panic_ends_those_who_wait() {
        let order = Order::new(1, 1, (0..2).map(|_| std::iter::once(0..1)));
        let (turns, broken) = (Turns::new(2, ()), Broken::default());
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take(&order.visits[1][0], &broken, |_, _| ()));
            let panics = scope.spawn(|| {
                let _guard = broken.guard();
                panic!("on purpose");
            });
            assert!(panics.join().is_err());
            waits.join()
        });
        assert!(waits.is_err());
    }
}
