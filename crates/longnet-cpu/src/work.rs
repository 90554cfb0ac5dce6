//! Work items over threads.

use std::ops::Range;
use std::sync::Mutex;

/// Below this many FLOPs handing work to other threads costs more than it gains.
const WORTH_A_THREAD: u64 = 2_000_000;

/// Sorts items by their FLOPs, so that the last ones are short. Returns the FLOPs of all.
pub fn heaviest_first<I>(items: &mut [(u64, I)]) -> u64 {
    items.sort_by_key(|(flops, _)| std::cmp::Reverse(*flops));
    items.iter().map(|(flops, _)| flops).sum()
}

/// Does all items, started in their order, on the threads of the current rayon pool, or on this one if
/// there are few `flops` in all. Each thread makes its scratch once.
pub fn run<I: Send, S>(
    flops: u64,
    items: impl ExactSizeIterator<Item = I> + Send,
    make_scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I) + Sync,
) {
    let useful = (flops / WORTH_A_THREAD + 1).min(items.len() as u64) as usize;
    let threads = match useful {
        0 | 1 => 1,
        _ => rayon::current_num_threads().min(useful),
    };
    let queue = Mutex::new(items);
    let next = || queue.lock().expect("taking an item cannot panic").next();
    let worker = || {
        // Before an item is taken, so that a panic here loses none for which others wait.
        let mut scratch = make_scratch();
        while let Some(item) = next() {
            work(&mut scratch, item);
        }
    };
    if threads == 1 {
        worker();
    } else {
        rayon::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|_| worker());
            }
        });
    }
}

/// Cuts `0..rows` into blocks of at most `block`.
pub fn blocks(rows: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows)
        .step_by(block)
        .map(move |start| start..rows.min(start + block))
}

/// How many rows an item takes: enough items for many threads, but enough rows to pay for packing
/// the other side, and few enough for the second-level cache. Depends on the problem only.
pub fn rows_per_item(rows: usize, planes: usize, most: usize) -> usize {
    const ITEMS: usize = 32;
    const LEAST: usize = 128;
    let wanted = (rows * planes).div_ceil(ITEMS).next_multiple_of(64);
    wanted.clamp(LEAST.min(most), most)
}

/// Takes the first `len` elements off a slice.
pub fn take<'a, T>(slice: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(slice).split_at_mut(len);
    *slice = tail;
    head
}
