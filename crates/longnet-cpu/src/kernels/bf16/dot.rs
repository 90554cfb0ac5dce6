//! AVX512-BF16: `vdpbf16ps` adds two products at a time to each of 16 sums.

use super::{Args, Engine};
use half::bf16;
use std::arch::x86_64::*;

pub static DOT: Engine = Engine {
    beats_three: false,
    product,
    round,
    round_pairs,
    enter: || (),
    leave: || (),
};

/// # Safety
///
/// See [`Args`]; the machine must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn product(args: Args) {
    let mut x = 0;
    while x < args.n {
        let part = Args {
            // SAFETY: column `x` exists; in `b`, only if there are rows.
            c: unsafe { args.c.add(x) },
            b: args.b.wrapping_add(x),
            ..args
        };
        let vectors = (args.n - x) / 16;
        // SAFETY: as many vectors of columns are left.
        x += unsafe {
            match vectors {
                4.. => strip::<4>(&part),
                2.. => strip::<2>(&part),
                _ => strip::<1>(&part),
            }
        };
    }
}

/// All rows of `N` vectors of columns. Returns how many columns that is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn strip<const N: usize>(args: &Args) -> usize {
    let mut r = 0;
    // SAFETY: rows below `m`.
    unsafe {
        while r + 6 <= args.m {
            micro::<6, N>(args, r);
            r += 6;
        }
        while r + 2 <= args.m {
            micro::<2, N>(args, r);
            r += 2;
        }
        if r < args.m {
            micro::<1, N>(args, r);
        }
    }
    N * 16
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn micro<const M: usize, const N: usize>(args: &Args, row: usize) {
    // SAFETY: rows `row..row + M` and `N` vectors of columns are inside of what `args` names.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); N]; M];
        let a = args.a.add(row * args.lda);
        for i in 0..args.k / 2 {
            let b = args.b.add(i * args.ldb);
            let mut line = [_mm512_setzero_si512(); N];
            for (x, line) in line.iter_mut().enumerate() {
                *line = _mm512_loadu_si512(b.add(16 * x).cast());
            }
            for (r, acc) in acc.iter_mut().enumerate() {
                let pair = a.add(r * args.lda + 2 * i).cast::<i32>().read_unaligned();
                let pair = _mm512_set1_epi32(pair);
                for (acc, &b) in acc.iter_mut().zip(&line) {
                    *acc = _mm512_dpbf16_ps(*acc, bits(pair), bits(b));
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (x, &sum) in acc.iter().enumerate() {
                let c = args.c.add((row + r) * args.ldc + 16 * x);
                let old = if args.add {
                    _mm512_loadu_ps(c)
                } else {
                    _mm512_setzero_ps()
                };
                _mm512_storeu_ps(c, _mm512_add_ps(old, sum));
            }
        }
    }
}

#[inline]
fn bits(x: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits.
    unsafe { std::mem::transmute(x) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rounded(x: &[f32; 16]) -> __m256i {
    // SAFETY: the load is inside of the array; both types are 256 bits.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(x.as_ptr()))) }
}

/// # Safety
///
/// The machine must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round(to: &mut [bf16], from: &[f32]) {
    for (to, from) in to
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .zip(from.as_chunks().0)
    {
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded(from)) }
    }
}

/// # Safety
///
/// The machine must have AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub fn round_pairs(to: &mut [u32], low: &[f32], high: &[f32]) {
    let (low, high) = (low.as_chunks().0, high.as_chunks().0);
    for ((to, low), high) in to.as_chunks_mut::<16>().0.iter_mut().zip(low).zip(high) {
        let low = _mm512_cvtepu16_epi32(rounded(low));
        let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded(high)));
        // SAFETY: the array has 64 bytes.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_or_si512(low, high)) }
    }
}
