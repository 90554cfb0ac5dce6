//! Products of a few packed rows with many rows of a tensor, read once where they lie. Memory is the
//! limit there, so nothing is packed.

use super::widen::{LINES, Widen};
use crate::element::Element;
use crate::real::Real;

/// A tile of `slots.len()` rows and `starts.len()` columns. Its row `i` belongs to the packed row
/// `slots[i]`, its column `j` to the `width` elements of `data` from `starts[j]` on.
pub struct LineArgs<'a, R> {
    pub tile: *mut R,
    pub ld_tile: usize,
    pub packed: *mut R,
    pub ld_packed: usize,
    pub slots: &'a [usize],
    /// Elements of the storage type that the kernel is for.
    pub data: *const (),
    pub starts: &'a [usize],
    pub width: usize,
    /// Lines that are read next, for [`scores`] to fetch: data, starts, width.
    pub next: (*const (), &'a [usize], usize),
}

impl<R> LineArgs<'_, R> {
    #[inline(always)]
    unsafe fn line<E>(&self, j: usize) -> *const E {
        // SAFETY: `data` reaches every line.
        unsafe { self.data.cast::<E>().add(self.starts[j]) }
    }

    #[inline(always)]
    unsafe fn packed_row(&self, i: usize) -> *mut R {
        // SAFETY: `packed` reaches every slot.
        unsafe { self.packed.add(self.slots[i] * self.ld_packed) }
    }
}

/// `tile = packed lines^T`. Every score is the same chain of sums, wherever its row and line lie.
///
/// # Safety
///
/// The machine must run `V`. `tile` must reach its rows, exclusively, with columns padded to a multiple
/// of [`LINES`], which are written too; `packed` rows of `width` padded
/// to whole vectors with zeros; `data` every line.
#[inline(always)]
pub unsafe fn scores<V: Widen, E: Element<Acc = V::R>>(args: LineArgs<V::R>) {
    let m = args.slots.len();
    let (next_data, next, next_width) = args.next;
    for j in (0..args.starts.len()).step_by(LINES) {
        for line in args.starts.iter().skip(j + AHEAD).take(LINES) {
            prefetch::<E>(args.data, *line, args.width);
        }
        for line in next.iter().skip(j).take(LINES) {
            prefetch::<E>(next_data, *line, next_width);
        }
        let mut i = 0;
        // SAFETY: each call takes rows and lines that are left.
        unsafe {
            while i + 2 <= m {
                score_block::<V, E, 2>(&args, i, j);
                i += 2;
            }
            if i < m {
                score_block::<V, E, 1>(&args, i, j);
            }
        }
    }
}

/// How many lines ahead of their use lines are fetched.
const AHEAD: usize = 24;

/// Fetches a line into the cache.
#[inline(always)]
fn prefetch<E>(data: *const (), start: usize, width: usize) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..width * size_of::<E>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = data.cast::<E>().wrapping_add(start).cast::<i8>();
        // SAFETY: a hint; it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(byte)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, start, width);
}

/// `M` rows from `i` on times the lines from `j` on; past the last one it stands in for more.
#[inline(always)]
unsafe fn score_block<V: Widen, E: Element<Acc = V::R>, const M: usize>(
    args: &LineArgs<V::R>,
    i: usize,
    j: usize,
) {
    // SAFETY: the rows and lines are inside of what `args` names.
    unsafe {
        let last = args.starts.len() - 1;
        let rows: [_; M] = std::array::from_fn(|r| args.packed_row(i + r));
        let lines: [_; LINES] = std::array::from_fn(|x| args.line::<E>(last.min(j + x)));
        let mut acc = [[V::splat(V::R::ZERO); LINES]; M];
        let whole = args.width / V::LANES * V::LANES;
        for x in (0..whole).step_by(V::LANES) {
            add::<V, E, M>(&mut acc, &rows, &lines, x, |line| V::widen(line));
        }
        if whole < args.width {
            let rest = args.width - whole;
            add::<V, E, M>(&mut acc, &rows, &lines, whole, |line| {
                V::widen_part(line, rest)
            });
        }
        for (r, acc) in acc.into_iter().enumerate() {
            V::sums(acc, args.tile.add((i + r) * args.ld_tile + j));
        }
    }
}

/// Adds the products of the columns from `x` on, lane by lane.
#[inline(always)]
unsafe fn add<V: Widen, E: Element<Acc = V::R>, const M: usize>(
    acc: &mut [[V; LINES]; M],
    rows: &[*mut V::R; M],
    lines: &[*const E; LINES],
    x: usize,
    widen: impl Fn(*const E) -> V,
) {
    // SAFETY: the caller's: a vector from column `x` on is there.
    unsafe {
        for (l, line) in lines.iter().enumerate() {
            let part = widen(line.add(x));
            for (acc, row) in acc.iter_mut().zip(rows) {
                acc[l] = V::load(row.add(x)).mul_add(part, acc[l]);
            }
        }
    }
}

/// `packed += tile lines`. Every element is one chain of sums in the order of the lines.
///
/// # Safety
///
/// As [`scores`], with `packed` exclusive too.
#[inline(always)]
pub unsafe fn sums<V: Widen, E: Element<Acc = V::R>>(args: LineArgs<V::R>) {
    let m = args.slots.len();
    let mut i = 0;
    // SAFETY: each call takes rows that are left.
    unsafe {
        while i + 2 <= m {
            sums_of::<V, E, 2, 4>(&args, i);
            i += 2;
        }
        if i < m {
            sums_of::<V, E, 1, 8>(&args, i);
        }
    }
}

#[inline(always)]
unsafe fn sums_of<V: Widen, E: Element<Acc = V::R>, const M: usize, const N: usize>(
    args: &LineArgs<V::R>,
    i: usize,
) {
    let whole = args.width / V::LANES * V::LANES;
    let mut x = 0;
    // SAFETY: each call takes columns that are left.
    unsafe {
        while x + N * V::LANES <= whole {
            sum_block::<V, E, M, N>(args, i, x, |line| V::widen(line));
            x += N * V::LANES;
        }
        while N > 4 && x + 4 * V::LANES <= whole {
            sum_block::<V, E, M, 4>(args, i, x, |line| V::widen(line));
            x += 4 * V::LANES;
        }
        while x < whole {
            sum_block::<V, E, M, 1>(args, i, x, |line| V::widen(line));
            x += V::LANES;
        }
        if whole < args.width {
            sum_block::<V, E, M, 1>(args, i, whole, |line| {
                V::widen_part(line, args.width - whole)
            });
        }
    }
}

#[inline(always)]
unsafe fn sum_block<V: Widen, E: Element<Acc = V::R>, const M: usize, const N: usize>(
    args: &LineArgs<V::R>,
    i: usize,
    x: usize,
    widen: impl Fn(*const E) -> V,
) {
    // SAFETY: rows `i..i + M` and `N` vectors of columns are inside of what `args` names.
    unsafe {
        let rows: [_; M] = std::array::from_fn(|r| args.packed_row(i + r).add(x));
        let at = |v: usize| v * V::LANES;
        let mut acc = [[V::splat(V::R::ZERO); N]; M];
        for (acc, row) in acc.iter_mut().zip(rows) {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = V::load(row.add(at(v)));
            }
        }
        for j in 0..args.starts.len() {
            let line = args.line::<E>(j).add(x);
            let mut factors = [V::splat(V::R::ZERO); M];
            for (r, factor) in factors.iter_mut().enumerate() {
                *factor = V::splat(*args.tile.add((i + r) * args.ld_tile + j));
            }
            for v in 0..N {
                let part = widen(line.add(at(v)));
                for (acc, factor) in acc.iter_mut().zip(factors) {
                    acc[v] = factor.mul_add(part, acc[v]);
                }
            }
        }
        for (row, acc) in rows.into_iter().zip(acc) {
            for (v, acc) in acc.into_iter().enumerate() {
                acc.store(row.add(at(v)));
            }
        }
    }
}
