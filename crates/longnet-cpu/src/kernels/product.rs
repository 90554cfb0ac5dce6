//! Products of tiles in scratch memory.

use super::ProductArgs;
use super::vector::Vector;
use crate::real::Real;

/// Longest chain of sums in registers: `b` stays in the first-level cache between strips of rows,
/// and rounding errors grow with the square root of this and of the number of chains only.
const CHAIN: usize = 128;

/// `M x N` vectors of accumulators in registers at a time; `a` is stored transposed if `TN`.
///
/// # Safety
///
/// The machine must run `V`. The pointers of `args` must reach every element that its sizes name, `c`
/// exclusively. `args.n` must be a multiple of `V::LANES`.
#[inline(always)]
pub unsafe fn product<V: Vector, const M: usize, const N: usize, const TN: bool>(
    args: ProductArgs<V::R>,
) {
    // SAFETY: parts of what `args` names.
    unsafe {
        if args.k == 0 && !args.add {
            for r in 0..args.m {
                std::slice::from_raw_parts_mut(args.c.add(r * args.ldc), args.n).fill(V::R::ZERO);
            }
        }
        for start in (0..args.k).step_by(CHAIN) {
            let mut x = 0;
            while x < args.n {
                let part = ProductArgs {
                    c: args.c.add(x),
                    a: args.a.add(if TN { start * args.lda } else { start }),
                    b: args.b.add(start * args.ldb + x),
                    k: CHAIN.min(args.k - start),
                    add: args.add || start > 0,
                    ..args
                };
                let vectors = (args.n - x) / V::LANES;
                if vectors >= N {
                    strip::<V, M, N, TN>(&part);
                    x += N * V::LANES;
                } else if N > 2 && vectors >= 2 {
                    strip::<V, M, 2, TN>(&part);
                    x += 2 * V::LANES;
                } else {
                    strip::<V, M, 1, TN>(&part);
                    x += V::LANES;
                }
            }
        }
    }
}

/// All rows of one strip of `N` vectors.
#[inline(always)]
unsafe fn strip<V: Vector, const M: usize, const N: usize, const TN: bool>(
    args: &ProductArgs<V::R>,
) {
    let mut r = 0;
    // SAFETY: each call takes rows that are left, so it stays inside of what `args` names.
    unsafe {
        while r + M <= args.m {
            micro::<V, M, N, TN>(args, r);
            r += M;
        }
        if M > 4 && r + 4 <= args.m {
            micro::<V, 4, N, TN>(args, r);
            r += 4;
        }
        if M > 2 && r + 2 <= args.m {
            micro::<V, 2, N, TN>(args, r);
            r += 2;
        }
        while r < args.m {
            micro::<V, 1, N, TN>(args, r);
            r += 1;
        }
    }
}

/// `M` rows from `row` on. Raw pointers, because bounds checks in the inner loop cost half the speed.
#[inline(always)]
unsafe fn micro<V: Vector, const M: usize, const N: usize, const TN: bool>(
    args: &ProductArgs<V::R>,
    row: usize,
) {
    // SAFETY: rows `row..row + M` and `N` vectors of columns are inside of what `args` names.
    unsafe {
        let mut acc = [[V::splat(V::R::ZERO); N]; M];
        let a = args.a.add(if TN { row } else { row * args.lda });
        let mut b = args.b;
        for i in 0..args.k {
            let line: [V; N] = std::array::from_fn(|x| V::load(b.add(x * V::LANES)));
            for (r, acc) in acc.iter_mut().enumerate() {
                let at = if TN {
                    i * args.lda + r
                } else {
                    r * args.lda + i
                };
                let factor = V::splat(*a.add(at));
                for (acc, &x) in acc.iter_mut().zip(&line) {
                    *acc = factor.mul_add(x, *acc);
                }
            }
            b = b.wrapping_add(args.ldb);
        }
        for (r, acc) in acc.iter().enumerate() {
            let c = args.c.add((row + r) * args.ldc);
            for (x, &sum) in acc.iter().enumerate() {
                let c = c.add(x * V::LANES);
                let sum = if args.add { V::load(c).add(sum) } else { sum };
                sum.store(c);
            }
        }
    }
}
