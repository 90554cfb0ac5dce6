//! Products of a few packed rows with many rows of a tensor, read once where they lie. Memory is the
//! limit there, so nothing is packed.

use super::widen::Widen;
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
/// The machine must run `V`. `tile` must reach its rows, exclusively; `packed` rows of `width` padded
/// to whole vectors with zeros; `data` every line.
#[inline(always)]
pub unsafe fn scores<V: Widen, E: Element<Acc = V::R>>(args: LineArgs<V::R>) {
    let n = args.starts.len();
    let mut j = 0;
    // SAFETY: each call takes lines that are left.
    unsafe {
        while j + 4 <= n {
            scores_of::<V, E, 4>(&args, j);
            j += 4;
        }
        while j < n {
            scores_of::<V, E, 1>(&args, j);
            j += 1;
        }
    }
}

#[inline(always)]
unsafe fn scores_of<V: Widen, E: Element<Acc = V::R>, const N: usize>(
    args: &LineArgs<V::R>,
    j: usize,
) {
    let m = args.slots.len();
    let mut i = 0;
    // SAFETY: each call takes rows that are left.
    unsafe {
        while i + 2 <= m {
            score_block::<V, E, 2, N>(args, i, j);
            i += 2;
        }
        if i < m {
            score_block::<V, E, 1, N>(args, i, j);
        }
    }
}

#[inline(always)]
unsafe fn score_block<V: Widen, E: Element<Acc = V::R>, const M: usize, const N: usize>(
    args: &LineArgs<V::R>,
    i: usize,
    j: usize,
) {
    // SAFETY: rows `i..i + M` and lines `j..j + N` are inside of what `args` names.
    unsafe {
        let rows: [_; M] = std::array::from_fn(|r| args.packed_row(i + r));
        let lines: [_; N] = std::array::from_fn(|x| args.line::<E>(j + x));
        let mut acc = [[V::splat(V::R::ZERO); N]; M];
        let mut add = |x: usize, parts: [V; N]| {
            for (acc, row) in acc.iter_mut().zip(rows) {
                let row = V::load(row.add(x));
                for (acc, part) in acc.iter_mut().zip(parts) {
                    *acc = row.mul_add(part, *acc);
                }
            }
        };
        let whole = args.width / V::LANES * V::LANES;
        for x in (0..whole).step_by(V::LANES) {
            add(x, lines.map(|line| V::widen(line.add(x))));
        }
        if whole < args.width {
            let part = |line: *const E| V::widen_part(line.add(whole), args.width - whole);
            add(whole, lines.map(part));
        }
        for (r, acc) in acc.iter().enumerate() {
            for (x, acc) in acc.iter().enumerate() {
                *args.tile.add((i + r) * args.ld_tile + j + x) = acc.sum();
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
        let mut acc = rows.map(|row| std::array::from_fn::<V, N, _>(|v| V::load(row.add(at(v)))));
        for j in 0..args.starts.len() {
            let line = args.line::<E>(j).add(x);
            let parts: [V; N] = std::array::from_fn(|v| widen(line.add(at(v))));
            for (r, acc) in acc.iter_mut().enumerate() {
                let factor = V::splat(*args.tile.add((i + r) * args.ld_tile + j));
                for (acc, part) in acc.iter_mut().zip(parts) {
                    *acc = factor.mul_add(part, *acc);
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
