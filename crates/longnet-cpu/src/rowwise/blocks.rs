//! Rows cut into blocks, over threads.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Numbers in a block: what a thread takes at a time. A block has whole rows, at least one.
const BLOCK: usize = 16 * 1024;

/// Below this many numbers handing work to other threads costs more than it gains.
const WORTH_THREADS: usize = 4 * BLOCK;

/// Rows of `width` in a block.
pub fn rows(width: usize) -> usize {
    (BLOCK / width.max(1)).max(1)
}

/// The most blocks that are summed up: each has its own sums, which are then added on one thread.
const SUMMED: usize = 64;

/// Rows of `width` in a block with sums, where `len` numbers are cut into such blocks.
pub fn rows_with_sums(len: usize, width: usize) -> usize {
    rows(width).max((len / width.max(1)).div_ceil(SUMMED))
}

/// Does `work` on each block of `x`, cut into chunks of `chunk`, with its number.
pub fn each<T: Send>(x: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let chunk = chunk.max(1);
    if x.len() < WORTH_THREADS {
        x.chunks_mut(chunk)
            .enumerate()
            .for_each(|(i, x)| work(i, x));
    } else {
        x.par_chunks_mut(chunk)
            .enumerate()
            .for_each(|(i, x)| work(i, x));
    }
}

/// The sum over blocks of what `work` adds to `sums` zeros, with each block of `x` changed in place.
pub fn each_with_sums<T: Send>(
    x: &mut [T],
    chunk: usize,
    sums: usize,
    work: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
) -> Vec<f32> {
    let chunk = chunk.max(1);
    let blocks = x.len().div_ceil(chunk);
    let mut partial = vec![0.0; blocks * sums];
    if x.len() < WORTH_THREADS {
        let parts = x.chunks_mut(chunk).zip(partial.chunks_mut(sums.max(1)));
        parts.enumerate().for_each(|(i, (x, s))| work(i, x, s));
    } else {
        x.par_chunks_mut(chunk)
            .zip(partial.par_chunks_mut(sums.max(1)))
            .enumerate()
            .for_each(|(i, (x, s))| work(i, x, s));
    }
    total(&partial, sums)
}

/// As [`each_with_sums`], over the blocks of `x` and without changing them.
pub fn sums_of(
    x: &[f32],
    chunk: usize,
    sums: usize,
    work: impl Fn(&[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let chunk = chunk.max(1);
    let mut partial = vec![0.0; x.len().div_ceil(chunk) * sums];
    if x.len() < WORTH_THREADS {
        let parts = x.chunks(chunk).zip(partial.chunks_mut(sums.max(1)));
        parts.for_each(|(x, s)| work(x, s));
    } else {
        x.par_chunks(chunk)
            .zip(partial.par_chunks_mut(sums.max(1)))
            .for_each(|(x, s)| work(x, s));
    }
    total(&partial, sums)
}

/// The sum of the rows of `partial`, in their order.
fn total(partial: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for row in partial.chunks(width.max(1)) {
        for (sum, x) in total.iter_mut().zip(row) {
            *sum += x;
        }
    }
    total
}

/// A vector of `len` numbers, of which `work` writes each chunk of `chunk`, given its number.
///
/// # Safety
///
/// `work` must write every number of its chunk.
pub unsafe fn fill(
    len: usize,
    chunk: usize,
    work: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> Vec<f32> {
    let mut all = Vec::with_capacity(len);
    each(&mut all.spare_capacity_mut()[..len], chunk, work);
    // SAFETY: the capacity is there, and all of it has been written.
    unsafe { all.set_len(len) };
    all
}
