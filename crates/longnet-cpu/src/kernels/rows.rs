//! Elementwise work on single rows of a tile. Sums run in fixed lanes, so that zeros appended to a
//! row change no bit of them.

use super::STEP;
use crate::real::Real;
use longnet_pattern::dropout::mix;

/// What takes an exponential of every element.
///
/// The methods are `unsafe`: the machine must have the instruction set that the type belongs to.
pub trait Exponentials<R> {
    /// See [`Kernels::softmax`](super::Kernels::softmax).
    unsafe fn softmax(s: &mut [R], factor: R, m: R) -> (R, R);

    /// See [`Kernels::gradient_of_row`](super::Kernels::gradient_of_row).
    unsafe fn gradient_of_row(s: &mut [R], dp: &mut [R], factor: R, lse: R, delta: R);
}

/// As the compiler makes them, for any instruction set.
pub struct Compiled<const FMA: bool>;

impl<R: Real, const FMA: bool> Exponentials<R> for Compiled<FMA> {
    #[inline(always)]
    unsafe fn softmax(s: &mut [R], factor: R, m: R) -> (R, R) {
        softmax::<R, FMA>(s, factor, m)
    }

    #[inline(always)]
    unsafe fn gradient_of_row(s: &mut [R], dp: &mut [R], factor: R, lse: R, delta: R) {
        let reference = R::ZERO - lse;
        for (s, dp) in s.iter_mut().zip(dp) {
            *s = s.fma::<FMA>(factor, reference).exp2::<FMA>();
            *dp = *s * (*dp - delta);
        }
    }
}

#[inline(always)]
fn softmax<R: Real, const FMA: bool>(s: &mut [R], factor: R, m: R) -> (R, R) {
    let mut tops = [R::NEG_INFINITY; STEP];
    let (chunks, rest) = s.as_chunks::<STEP>();
    debug_assert!(rest.is_empty());
    for chunk in chunks {
        for (top, &x) in tops.iter_mut().zip(chunk) {
            *top = if x > *top { x } else { *top };
        }
    }
    let max = tops
        .iter()
        .fold(m, |a, &x| if x * factor > a { x * factor } else { a });
    // Nothing seen yet: any finite reference keeps -inf - (-inf) away.
    let reference = if max == R::NEG_INFINITY {
        R::ZERO
    } else {
        R::ZERO - max
    };
    let mut sums = [R::ZERO; STEP];
    for chunk in s.as_chunks_mut::<STEP>().0 {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = x.fma::<FMA>(factor, reference).exp2::<FMA>();
            *sum += *x;
        }
    }
    (max, fold(sums))
}

#[inline(always)]
fn fold<R: Real>(mut lanes: [R; STEP]) -> R {
    let mut half = STEP / 2;
    while half > 0 {
        for i in 0..half {
            let other = lanes[i + half];
            lanes[i] += other;
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub fn sum<R: Real>(x: &[R]) -> R {
    let mut sums = [R::ZERO; STEP];
    for chunk in x.chunks(STEP) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    fold(sums)
}

#[inline(always)]
pub fn scale<R: Real>(x: &mut [R], c: R) {
    for x in x {
        *x *= c;
    }
}

#[inline(always)]
pub fn add<R: Real>(x: &mut [R], y: &[R]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
pub fn multiply<R: Real>(x: &mut [R], y: &[R]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

#[inline(always)]
pub fn keep<R: Real>(c: &mut [R], word: u32, words: &[u32], threshold: u32, scale: R) {
    for (c, &other) in c.iter_mut().zip(words) {
        *c = if mix(word ^ other) >= threshold {
            scale
        } else {
            R::ZERO
        };
    }
}
