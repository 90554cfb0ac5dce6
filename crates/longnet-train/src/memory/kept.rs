//! An allocator that keeps large blocks, and no more of them than were once in use together.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{null_mut, write_bytes};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator, but large blocks are mapped by themselves, and kept when they are freed.
///
/// A training step asks for the same large blocks again and again. To return them to the system costs
/// a page fault for each page of the next step; a general allocator that keeps them leaves holes
/// between them that nothing fits into, of 10 % to 50 % and another share in each run. Here a block is
/// only used again for its own size class, so there are no holes; and before a new one is mapped, kept
/// ones of other classes are returned until what is in use and what is kept are together no more than
/// was in use at the worst moment so far. So a process needs what it used at that moment, and no more.
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

/// A kept block begins with the address of the next one of its class.
struct Kept(*mut Kept);

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
        // SAFETY: a block in the list is mapped, and `keep` wrote its first word.
        self.kept[class.index] = unsafe { (*block).0 };
        self.kept_bytes -= class.bytes;
        Some(block.cast())
    }

    fn keep(&mut self, class: Class, block: *mut u8) {
        let block: *mut Kept = block.cast();
        // SAFETY: the block is ours, page aligned and larger than one word.
        unsafe { block.write(Kept(self.kept[class.index])) };
        self.kept[class.index] = block;
        self.kept_bytes += class.bytes;
    }

    /// Returns kept blocks to the system, large ones first, until they and those in use together are
    /// within the peak.
    fn trim(&mut self) {
        let mut index = self.kept.len();
        while self.in_use + self.kept_bytes > self.peak && self.kept_bytes > 0 && index > 0 {
            let class = Class::at(index - 1);
            match self.take(class) {
                Some(block) => unmap(block, class.bytes),
                None => index -= 1,
            }
        }
    }

    /// A block of `class`, and whether it is fresh and so all zeros. Null if there is no memory.
    fn allocate(&mut self, class: Class) -> (*mut u8, bool) {
        self.in_use += class.bytes;
        self.peak = self.peak.max(self.in_use);
        if let Some(block) = self.take(class) {
            return (block, false);
        }
        self.trim();
        let block = map(class.bytes);
        if block.is_null() {
            self.in_use -= class.bytes;
        }
        (block, true)
    }
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

    /// The most bytes of large blocks that were in use together.
    pub fn peak() -> usize {
        Pool::lock().peak
    }
}

// SAFETY: what is large by `Class::of`, a function of the layout alone, comes from `map` and goes back
// to the pool; the rest is the system's.
unsafe impl GlobalAlloc for KeptBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Class::of(layout) {
            Some(class) => Pool::lock().allocate(class).0,
            // SAFETY: the caller's promises are those that the system asks for.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: as in `alloc`.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, zero) = Pool::lock().allocate(class);
        if !zero {
            // SAFETY: the block has this size and is the caller's alone.
            unsafe { write_bytes(block, 0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Class::of(layout) {
            Some(class) => {
                let mut pool = Pool::lock();
                pool.in_use -= class.bytes;
                pool.keep(class, block);
            }
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
        let free = |pool: &mut Pool, class: Class, block| {
            pool.in_use -= class.bytes;
            pool.keep(class, block);
        };
        let blocks = [(); 4].map(|()| pool.allocate(big).0);
        blocks.iter().for_each(|&block| free(&mut pool, big, block));
        assert_eq!((pool.in_use, pool.kept_bytes), (0, 4 << 22));
        // One that is kept is used again.
        let (again, fresh) = pool.allocate(big);
        assert!(blocks.contains(&again) && !fresh);
        // Another size takes the place of one that is kept.
        let (other, fresh) = pool.allocate(small);
        assert!(fresh);
        assert_eq!(pool.kept_bytes, 2 << 22);
        assert!(pool.in_use + pool.kept_bytes <= pool.peak);
        assert_eq!(pool.peak, 4 << 22);
        free(&mut pool, big, again);
        free(&mut pool, small, other);
        pool.peak = 0;
        pool.trim();
        assert_eq!((pool.in_use, pool.kept_bytes), (0, 0));
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
