//! The rows of a tile that take an exponential, in AVX-512: `vscalefps` builds the power of two in one
//! instruction, where compiled code needs four.

use super::rows::Exponentials;
use std::arch::x86_64::*;

/// Coefficients of `x, x^2, ...` in the polynomial `1 + ...` with the least largest relative error
/// from `2^x` on `-0.5..0.5`: 1.1e-7 as f32.
#[allow(clippy::approx_constant)] // the first is near ln 2, not equal
const POWERS: [f32; 5] = [
    0.693_147,
    0.240_222_42,
    0.055_507_337,
    0.009_671_513,
    0.001_326_473,
];

/// `2^x` for `x` up to 127; 0 where that is subnormal; NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    // Adding it leaves the nearest integer in the low bits.
    let round = _mm512_set1_ps(1.5 * (1 << 23) as f32);
    let whole = _mm512_sub_ps(_mm512_add_ps(x, round), round);
    let f = _mm512_sub_ps(x, whole);
    let mut p = _mm512_set1_ps(POWERS[4]);
    for c in [POWERS[3], POWERS[2], POWERS[1], POWERS[0], 1.0] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(c));
    }
    // "Not less" holds for NaN.
    let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(-126.0));
    _mm512_maskz_scalef_ps(normal, p, whole)
}

/// `2^(x - y)`. No closure over the pair: it would not be inlined.
#[inline]
#[target_feature(enable = "avx512f")]
fn powers(x: [__m512; 2], y: __m512) -> [__m512; 2] {
    [exp2(_mm512_sub_ps(x[0], y)), exp2(_mm512_sub_ps(x[1], y))]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32; 32]) -> [__m512; 2] {
    // SAFETY: both halves are inside of the array.
    unsafe {
        [
            _mm512_loadu_ps(x.as_ptr()),
            _mm512_loadu_ps(x[16..].as_ptr()),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32; 32], x: [__m512; 2]) {
    // SAFETY: both halves are inside of the array.
    unsafe {
        _mm512_storeu_ps(to.as_mut_ptr(), x[0]);
        _mm512_storeu_ps(to[16..].as_mut_ptr(), x[1]);
    }
}

#[target_feature(enable = "avx512f")]
fn softmax(s: &mut [f32], m: f32) -> (f32, f32) {
    debug_assert!(s.len().is_multiple_of(32));
    let mut tops = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
    for chunk in s.as_chunks().0 {
        let x = load(chunk);
        // The second operand is what the instruction gives if one is NaN.
        tops = [_mm512_max_ps(x[0], tops[0]), _mm512_max_ps(x[1], tops[1])];
    }
    let top = _mm512_reduce_max_ps(_mm512_max_ps(tops[0], tops[1]));
    let max = if top > m { top } else { m };
    // Nothing seen yet: any finite reference keeps -inf - (-inf) away.
    let reference = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let reference = _mm512_set1_ps(reference);
    let mut sums = [_mm512_setzero_ps(); 2];
    for chunk in s.as_chunks_mut().0 {
        let p = powers(load(chunk), reference);
        sums = [_mm512_add_ps(sums[0], p[0]), _mm512_add_ps(sums[1], p[1])];
        store(chunk, p);
    }
    (max, _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])))
}

#[target_feature(enable = "avx512f")]
fn gradient_of_row(s: &mut [f32], dp: &mut [f32], lse: f32, delta: f32) {
    debug_assert!(s.len().is_multiple_of(32) && s.len() == dp.len());
    let (lse, delta) = (_mm512_set1_ps(lse), _mm512_set1_ps(delta));
    for (s, dp) in s.as_chunks_mut().0.iter_mut().zip(dp.as_chunks_mut().0) {
        let (p, [d0, d1]) = (powers(load(s), lse), load(dp));
        store(s, p);
        let d = [_mm512_sub_ps(d0, delta), _mm512_sub_ps(d1, delta)];
        store(dp, [_mm512_mul_ps(p[0], d[0]), _mm512_mul_ps(p[1], d[1])]);
    }
}

/// For AVX-512.
pub struct Scalef;

// SAFETY of both: the caller's.
impl Exponentials<f32> for Scalef {
    #[inline(always)]
    unsafe fn softmax(s: &mut [f32], m: f32) -> (f32, f32) {
        unsafe { softmax(s, m) }
    }

    #[inline(always)]
    unsafe fn gradient_of_row(s: &mut [f32], dp: &mut [f32], lse: f32, delta: f32) {
        unsafe { gradient_of_row(s, dp, lse, delta) }
    }
}
