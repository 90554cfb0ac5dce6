//! GELU by the error function: arXiv 1606.08415.

use super::blocks;
use super::level::per_level;
use super::math::normal;
use std::mem::MaybeUninit;

/// `g(x + bias)` with `g(z) = z P(Z <= z)`, for rows as long as the bias.
///
/// # Panics
///
/// If `x` is not whole rows.
pub fn gelu(x: &[f32], bias: &[f32]) -> Vec<f32> {
    whole_rows(x, bias);
    let chunk = blocks::rows(bias.len()) * bias.len();
    // SAFETY: the rows of a block are all of it, and `forward` writes each of their numbers.
    unsafe {
        blocks::fill(x.len(), chunk, |i, out| {
            let x = &x[i * chunk..][..out.len()];
            forward(out, x, bias);
        })
    }
}

/// The gradient of [`gelu`] with respect to `x`, in the place of its own gradient `dy`; returned is
/// that of the bias.
///
/// # Panics
///
/// If `x` is not whole rows, or `dy` is not as long.
pub fn gelu_backward(dy: &mut [f32], x: &[f32], bias: &[f32]) -> Vec<f32> {
    assert_eq!(dy.len(), x.len(), "a gradient is as long as its tensor");
    whole_rows(x, bias);
    let chunk = blocks::rows_with_sums(x.len(), bias.len()) * bias.len();
    blocks::each_with_sums(dy, chunk, bias.len(), |i, dy, sums| {
        let x = &x[i * chunk..][..dy.len()];
        backward(dy, x, bias, sums);
    })
}

fn whole_rows(x: &[f32], bias: &[f32]) {
    let width = bias.len();
    assert!(
        x.len().is_multiple_of(width),
        "{} numbers are not rows of {width}",
        x.len()
    );
}

per_level! {
    fn forward(out: &mut [MaybeUninit<f32>], x: &[f32], bias: &[f32]), FMA => {
        for (out, x) in out.chunks_mut(bias.len()).zip(x.chunks(bias.len())) {
            for ((out, &x), &b) in out.iter_mut().zip(x).zip(bias) {
                let z = x + b;
                out.write(z * normal::<FMA>(z).0);
            }
        }
    }
}

per_level! {
    fn backward(dy: &mut [f32], x: &[f32], bias: &[f32], sums: &mut [f32]), FMA => {
        for (dy, x) in dy.chunks_mut(bias.len()).zip(x.chunks(bias.len())) {
            for (((dy, &x), &b), sum) in dy.iter_mut().zip(x).zip(bias).zip(&mut *sums) {
                let z = x + b;
                let (below, density) = normal::<FMA>(z);
                *dy *= below + z * density;
                *sum += *dy;
            }
        }
    }
}
