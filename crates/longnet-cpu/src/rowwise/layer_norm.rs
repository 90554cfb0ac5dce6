//! Layer normalisation: arXiv 1607.06450.

use super::blocks;
use super::level::per_level;
use super::math::sum;
use std::mem::MaybeUninit;

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` for each row, of the length of gamma. No
/// beta is an empty slice.
///
/// # Panics
///
/// If `x` is not whole rows, or beta neither empty nor as long as gamma.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> Vec<f32> {
    whole_rows(x, gamma);
    let chunk = blocks::rows(gamma.len()) * gamma.len();
    let zeros;
    let beta = match beta.is_empty() {
        true => {
            zeros = vec![0.0; gamma.len()];
            &zeros
        }
        false => beta,
    };
    assert_eq!(beta.len(), gamma.len(), "beta is as long as gamma");
    // SAFETY: the rows of a block are all of it, and `forward` writes each of their numbers.
    unsafe {
        blocks::fill(x.len(), chunk, |i, out| {
            let x = &x[i * chunk..][..out.len()];
            forward(out, x, gamma, beta, epsilon);
        })
    }
}

/// The gradient of [`layer_norm`] with respect to `x`, in the place of its own gradient `dy`;
/// returned are those of gamma and beta.
///
/// # Panics
///
/// If `x` is not whole rows, or `dy` is not as long.
pub fn layer_norm_backward(
    dy: &mut [f32],
    x: &[f32],
    gamma: &[f32],
    epsilon: f32,
) -> (Vec<f32>, Vec<f32>) {
    assert_eq!(dy.len(), x.len(), "a gradient is as long as its tensor");
    whole_rows(x, gamma);
    let width = gamma.len();
    let chunk = blocks::rows_with_sums(x.len(), width) * width;
    let mut sums = blocks::each_with_sums(dy, chunk, 2 * width, |i, dy, sums| {
        let x = &x[i * chunk..][..dy.len()];
        let (dgamma, dbeta) = sums.split_at_mut(width);
        backward(dy, x, gamma, epsilon, dgamma, dbeta);
    });
    let dbeta = sums.split_off(width);
    (sums, dbeta)
}

fn whole_rows(x: &[f32], gamma: &[f32]) {
    let width = gamma.len();
    assert!(
        x.len().is_multiple_of(width),
        "{} numbers are not rows of {width}",
        x.len()
    );
}

/// The mean of a row, and one over its standard deviation.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum([x], |[x]| x) / width;
    let variance = sum([x], |[x]| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

per_level! {
    fn forward(out: &mut [MaybeUninit<f32>], x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32), FMA => {
        for (out, x) in out.chunks_mut(gamma.len()).zip(x.chunks(gamma.len())) {
            let (mean, inverse) = moments(x, epsilon);
            for (((out, &x), &g), &b) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
                out.write((x - mean) * inverse * g + b);
            }
        }
    }
}

per_level! {
    /// With `n = (x - mean) / std` and `g = gamma dy`: `dx = (g - mean(g) - n mean(g n)) / std`.
    fn backward(
        dy: &mut [f32],
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ), FMA => {
        let width = gamma.len();
        for (dy, x) in dy.chunks_mut(width).zip(x.chunks(width)) {
            let (dy, x) = (&mut dy[..width], &x[..width]);
            let (mean, inverse) = moments(x, epsilon);
            for (((&dy, &x), dgamma), dbeta) in dy.iter().zip(x).zip(&mut *dgamma).zip(&mut *dbeta) {
                *dgamma += dy * ((x - mean) * inverse);
                *dbeta += dy;
            }
            let level = sum([dy, gamma], |[dy, g]| dy * g) / width as f32;
            let along = sum([dy, gamma, x], |[dy, g, x]| dy * g * (x - mean)) * inverse / width as f32;
            for ((dy, &x), &g) in dy.iter_mut().zip(x).zip(gamma) {
                *dy = (*dy * g - level - (x - mean) * inverse * along) * inverse;
            }
        }
    }
}
