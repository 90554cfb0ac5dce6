//! An allocator that keeps large blocks, and no more of them than were once in use together.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{null_mut, write_bytes};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator, but large blocks are mapped by themselves, and kept when they are freed.
///
/// A training step asks for the same large blocks again and again. To return them to the system costs
/// a page fault for each page of the next step; a general allocator that keeps them leaves holes
/// between them that nothing fits into, of 10 % to 50 % and another share in each run. Here a block is
/// only used again for its own size class, so there are no holes; and before a new one is used, kept
/// ones of other classes are returned until what is in use and what is kept are together no more than
/// was in use at the worst moment so far, or since [`settle`](KeptBlocks::settle). So the large blocks
/// of a process take the most that was in use together, each rounded up by at most a sixteenth; its
/// small blocks, of less than 256 KiB, are the system allocator's and come on top.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: longnet_train::memory::KeptBlocks = longnet_train::memory::KeptBlocks;
/// # fn main() {
/// let block = vec![1u8; 1 << 20];
/// assert!(longnet_train::memory::KeptBlocks::in_use() >= 1 << 20);
/// # drop(block);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KeptBlocks;

/// Smaller blocks are the system allocator's.
const SMALLEST: usize = 1 << 18;
/// The alignment that a mapping has on every system.
const PAGE: usize = 4096;
/// Size classes of one doubling.
const STEPS: usize = 16;
const DOUBLINGS: usize = 40;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    kept: [null_mut(); STEPS * DOUBLINGS],
    kept_bytes: 0,
    in_use: 0,
    peak: 0,
});

/// A kept block begins with the address of the next one of its list, and its own size.
struct Kept {
    next: *mut Kept,
    bytes: usize,
}

/// Blocks that left the pool, to be returned to the system when the pool is unlocked: unmapping is slow.
#[must_use]
struct Returned(*mut Kept);

impl Returned {
    fn unmap(self) {
        let mut block = self.0;
        while !block.is_null() {
            // SAFETY: blocks of the list are mapped, and `keep` wrote their first words.
            let Kept { next, bytes } = unsafe { block.read() };
            unmap(block.cast(), bytes);
            block = next;
        }
    }
}

struct Pool {
    kept: [*mut Kept; STEPS * DOUBLINGS],
    kept_bytes: usize,
    in_use: usize,
    peak: usize,
}

// SAFETY: the pool owns the blocks that it points at.
unsafe impl Send for Pool {}

/// A class and the size of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    index: usize,
    bytes: usize,
}

impl Class {
    /// The class of the blocks for `layout`, if they are large.
    fn of(layout: Layout) -> Option<Self> {
        let size = layout.size();
        if size < SMALLEST || layout.align() > PAGE || size >= SMALLEST << (DOUBLINGS - 1) {
            return None;
        }
        let step = (1 << size.ilog2()) / STEPS;
        Some(Self::exactly(size.next_multiple_of(step)))
    }

    /// The class whose blocks have this size.
    fn exactly(bytes: usize) -> Self {
        let doubling = bytes.ilog2();
        let within = (bytes - (1 << doubling)) / ((1 << doubling) / STEPS);
        Self {
            index: (doubling - SMALLEST.ilog2()) as usize * STEPS + within,
            bytes,
        }
    }

    fn at(index: usize) -> Self {
        let base = SMALLEST << (index / STEPS);
        Self {
            index,
            bytes: base + index % STEPS * (base / STEPS),
        }
    }
}

impl Pool {
    fn lock() -> MutexGuard<'static, Self> {
        POOL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept block of `class`.
    fn take(&mut self, class: Class) -> Option<*mut u8> {
        let block = self.kept[class.index];
        if block.is_null() {
            return None;
        }
        // SAFETY: a block in the list is mapped, and `keep` wrote its first words.
        self.kept[class.index] = unsafe { (*block).next };
        self.kept_bytes -= class.bytes;
        Some(block.cast())
    }

    fn keep(&mut self, class: Class, block: *mut u8) {
        let block: *mut Kept = block.cast();
        let next = self.kept[class.index];
        let bytes = class.bytes;
        // SAFETY: the block is ours, page aligned and larger than these words.
        unsafe { block.write(Kept { next, bytes }) };
        self.kept[class.index] = block;
        self.kept_bytes += bytes;
    }

    /// Takes out kept blocks until they and those in use together are within the peak: the smallest one
    /// that is enough, so that a large one does not go for the sake of a small one, or else the largest.
    fn trim(&mut self) -> Returned {
        let mut returned = Returned(null_mut());
        while self.in_use + self.kept_bytes > self.peak && self.kept_bytes > 0 {
            let excess = self.in_use + self.kept_bytes - self.peak;
            let there = |index: &usize| !self.kept[*index].is_null();
            let mut classes = (0..self.kept.len()).filter(there).map(Class::at);
            let enough = classes.find(|class| class.bytes >= excess);
            let class = enough.or_else(|| {
                let largest = (0..self.kept.len()).rev().find(there);
                largest.map(Class::at)
            });
            let Some(block) = class.and_then(|class| self.take(class)) else {
                break;
            };
            let block: *mut Kept = block.cast();
            // SAFETY: the block was in a list until now.
            unsafe { (*block).next = returned.0 };
            returned = Returned(block);
        }
        returned
    }

    /// Counts a block of `class` as in use.
    fn count(&mut self, class: Class) {
        self.in_use += class.bytes;
        self.peak = self.peak.max(self.in_use);
    }

    /// A kept block of `class`, in use again.
    fn reuse(&mut self, class: Class) -> Option<*mut u8> {
        let block = self.take(class)?;
        self.count(class);
        Some(block)
    }

    /// Takes a new block of `class` into use, and out others whose place it takes.
    fn grow(&mut self, class: Class) -> Returned {
        self.count(class);
        self.trim()
    }

    fn release(&mut self, class: Class, block: *mut u8) {
        self.in_use -= class.bytes;
        self.keep(class, block);
    }

    /// Takes out all kept blocks; the peak is what is in use now.
    fn settle(&mut self) -> Returned {
        self.peak = self.in_use;
        self.trim()
    }

    /// As [`settle`](Self::settle), but the peak stays, if there are `bytes` in kept blocks.
    fn clear(&mut self, bytes: usize) -> Option<Returned> {
        if self.kept_bytes < bytes {
            return None;
        }
        let peak = self.peak;
        let returned = self.settle();
        self.peak = peak;
        Some(returned)
    }
}

/// A block of `class`, and whether it is fresh and so all zeros. Null if there is no memory.
fn allocate(class: Class) -> (*mut u8, bool) {
    // The lock is held no longer than this line.
    let kept = Pool::lock().reuse(class);
    if let Some(block) = kept {
        return (block, false);
    }
    // A mapping takes no memory until it is written, so it may come before others go: a request that
    // cannot be met changes nothing.
    let mut block = map(class.bytes);
    if block.is_null() {
        // Unless its room is that of kept blocks, where addresses are limited.
        let returned = Pool::lock().clear(class.bytes);
        if let Some(returned) = returned {
            returned.unmap();
            block = map(class.bytes);
        }
    }
    if !block.is_null() {
        let returned = Pool::lock().grow(class);
        returned.unmap();
    }
    (block, true)
}

fn map(bytes: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let block = unsafe { libc::mmap(null_mut(), bytes, access, flags, -1, 0) };
    match block == libc::MAP_FAILED {
        true => null_mut(),
        false => block.cast(),
    }
}

fn unmap(block: *mut u8, bytes: usize) {
    // SAFETY: `block` is a mapping of `map` with this size, and nothing points into it any more. If the
    // system refuses, the pages stay mapped: a leak, not an error.
    unsafe { libc::munmap(block.cast(), bytes) };
}

impl KeptBlocks {
    /// Bytes of the large blocks that are in use now; 0 where this is not the program's allocator.
    pub fn in_use() -> usize {
        Pool::lock().in_use
    }

    /// The most bytes of large blocks that were in use together, since [`settle`](Self::settle) if it was called.
    pub fn peak() -> usize {
        Pool::lock().peak
    }

    /// Returns all kept blocks to the system and takes what is in use now for the peak, so that what was
    /// needed once, such as to read a file, is not kept for ever.
    pub fn settle() {
        let returned = Pool::lock().settle();
        returned.unmap();
    }
}

// SAFETY: what is large by `Class::of`, a function of the layout alone, comes from `map` and goes back
// to the pool; the rest is the system's.
unsafe impl GlobalAlloc for KeptBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => allocate(class).0,
            // SAFETY: the caller's promises are those that the system asks for.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: as in `alloc`.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, zero) = allocate(class);
        if !zero {
            // SAFETY: the block has this size and is the caller's alone.
            unsafe { write_bytes(block, 0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Class::of(layout) {
            Some(class) => Pool::lock().release(class, block),
            // SAFETY: as in `alloc`.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that this is a valid layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            // SAFETY: as in `alloc`.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(have), Some(want)) if have == want => block,
            _ => {
                // SAFETY: as in `alloc`; the two blocks are apart, and both have the bytes copied.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 16).unwrap()
    }

    #[test]
    fn a_class_holds_what_is_asked_for_and_at_most_a_sixteenth_more() {
        assert_eq!(Class::of(layout(SMALLEST - 1)), None);
        for size in [SMALLEST, SMALLEST + 1, 1 << 20, 12_345_678, (1 << 34) + 5] {
            let class = Class::of(layout(size)).unwrap();
            assert!(class.bytes >= size && class.bytes - size <= size / STEPS);
            assert!(class.bytes.is_multiple_of(PAGE), "{size}");
            assert_eq!(Class::at(class.index), class);
        }
        // The last step of a doubling rounds up to the next doubling.
        let class = Class::of(layout((1 << 21) - 1)).unwrap();
        assert_eq!((class.bytes, class.index % STEPS), (1 << 21, 0));
    }

    #[test]
    fn what_is_in_use_and_kept_stays_within_the_peak() {
        let mut pool = Pool {
            kept: [null_mut(); STEPS * DOUBLINGS],
            kept_bytes: 0,
            in_use: 0,
            peak: 0,
        };
        let class = |size| Class::of(layout(size)).unwrap();
        let (big, small) = (class(1 << 22), class(1 << 20));
        let fresh = |pool: &mut Pool, class: Class| {
            let block = map(class.bytes);
            pool.grow(class).unmap();
            block
        };
        let blocks = [(); 4].map(|()| fresh(&mut pool, big));
        blocks.iter().for_each(|&block| pool.release(big, block));
        assert_eq!((pool.in_use, pool.kept_bytes), (0, 4 << 22));
        // One that is kept is used again.
        let again = pool.reuse(big).unwrap();
        assert!(blocks.contains(&again));
        // Another size takes the place of one that is kept.
        assert!(pool.reuse(small).is_none());
        let other = fresh(&mut pool, small);
        assert_eq!(pool.kept_bytes, 2 << 22);
        assert!(pool.in_use + pool.kept_bytes <= pool.peak);
        assert_eq!(pool.peak, 4 << 22);
        // The next one takes that of the small one, which is enough.
        let fill = fresh(&mut pool, class(3 << 20));
        pool.release(small, other);
        let third = fresh(&mut pool, class(1 << 19));
        assert_eq!(pool.kept_bytes, 2 << 22);
        assert!(pool.reuse(small).is_none());
        assert!(pool.clear(3 << 22).is_none());
        pool.release(big, again);
        pool.release(class(3 << 20), fill);
        pool.release(class(1 << 19), third);
        pool.settle().unmap();
        assert_eq!((pool.in_use, pool.kept_bytes, pool.peak), (0, 0, 0));
    }

    #[test]
    fn a_request_that_cannot_be_met_leaves_the_peak() {
        let vast = layout(1 << 54);
        // SAFETY: nothing is done with the block, which is null.
        let block = unsafe { KeptBlocks.alloc(vast) };
        assert!(block.is_null());
        assert!(KeptBlocks::peak() < 1 << 54);
    }

    #[test]
    fn blocks_grow_shrink_and_are_zero_where_asked() {
        for (from, to) in [
            (100, 1 << 20),
            (1 << 20, 100),
            (1 << 20, (1 << 20) + 1),
            (1 << 19, 1 << 23),
        ] {
            // SAFETY: each block is freed once with the layout it has then.
            unsafe {
                let block = KeptBlocks.alloc(layout(from));
                write_bytes(block, 7, from);
                let block = KeptBlocks.realloc(block, layout(from), to);
                let kept = std::slice::from_raw_parts(block, from.min(to));
                assert!(kept.iter().all(|&b| b == 7), "{from} to {to}");
                write_bytes(block, 9, to);
                KeptBlocks.dealloc(block, layout(to));
                let zeros = KeptBlocks.alloc_zeroed(layout(to));
                let read = std::slice::from_raw_parts(zeros, to);
                assert!(read.iter().all(|&b| b == 0), "{to}");
                KeptBlocks.dealloc(zeros, layout(to));
            }
        }
    }
}
