//! Products of tiles in scratch memory.

use super::{LANE, ProductArgs};
use crate::real::Real;

/// Longest chain of sums in registers: `b` stays in the first-level cache between strips of rows,
/// and rounding errors grow with the square root of this and of the number of chains only.
const CHAIN: usize = 128;

/// `M x W` accumulators in registers at a time.
///
/// # Safety
///
/// The pointers of `args` must reach every element that its sizes name, `c` exclusively.
#[inline(always)]
pub unsafe fn product<R: Real, const FMA: bool, const M: usize, const W: usize>(
    args: ProductArgs<R>,
) {
    if args.k == 0 && !args.add {
        for r in 0..args.m {
            for x in 0..args.n {
                unsafe { *args.c.add(r * args.ldc + x) = R::ZERO };
            }
        }
    }
    let mut start = 0;
    while start < args.k {
        let k = CHAIN.min(args.k - start);
        let add = args.add || start > 0;
        let mut x = 0;
        while x < args.n {
            let (m, n) = (args.m, args.n - x);
            // SAFETY: `start + k <= args.k`, and a strip is no wider than what is left.
            let (c, a, b) = unsafe {
                (
                    args.c.add(x),
                    args.a.add(start),
                    args.b.add(start * args.ldb + x),
                )
            };
            let part = ProductArgs {
                c,
                a,
                b,
                m,
                n,
                k,
                add,
                ..args
            };
            unsafe {
                if n >= W {
                    strip::<R, FMA, M, W>(part);
                    x += W;
                } else if W > STRIP && n >= STRIP {
                    strip::<R, FMA, M, STRIP>(part);
                    x += STRIP;
                } else {
                    strip::<R, FMA, M, LANE>(part);
                    x += LANE;
                }
            }
        }
        start += k;
    }
}

const STRIP: usize = 2 * LANE;

/// All rows of one strip of `W` columns.
#[inline(always)]
unsafe fn strip<R: Real, const FMA: bool, const M: usize, const W: usize>(args: ProductArgs<R>) {
    let mut r = 0;
    // SAFETY: each call takes rows that are left, so it stays inside of what `args` names.
    unsafe {
        while r + M <= args.m {
            micro::<R, FMA, M, W>(&args, r);
            r += M;
        }
        if M > 4 && r + 4 <= args.m {
            micro::<R, FMA, 4, W>(&args, r);
            r += 4;
        }
        if M > 2 && r + 2 <= args.m {
            micro::<R, FMA, 2, W>(&args, r);
            r += 2;
        }
        while r < args.m {
            micro::<R, FMA, 1, W>(&args, r);
            r += 1;
        }
    }
}

/// `M` rows from `row` on. Raw pointers, because bounds checks in the inner loop cost half the speed.
#[inline(always)]
unsafe fn micro<R: Real, const FMA: bool, const M: usize, const W: usize>(
    args: &ProductArgs<R>,
    row: usize,
) {
    let mut acc = [[R::ZERO; W]; M];
    // SAFETY: rows `row..row + M` and `W` columns are inside of what `args` names.
    unsafe {
        let a = args.a.add(row * args.lda);
        let mut b = args.b;
        for i in 0..args.k {
            let line = &*b.cast::<[R; W]>();
            for (r, acc) in acc.iter_mut().enumerate() {
                let factor = *a.add(r * args.lda + i);
                for (acc, &x) in acc.iter_mut().zip(line) {
                    *acc = factor.fma::<FMA>(x, *acc);
                }
            }
            b = b.wrapping_add(args.ldb);
        }
        for (r, acc) in acc.iter().enumerate() {
            let c = &mut *args.c.add((row + r) * args.ldc).cast::<[R; W]>();
            if args.add {
                for (c, &x) in c.iter_mut().zip(acc) {
                    *c += x;
                }
            } else {
                *c = *acc;
            }
        }
    }
}
