//! Channel pairs times complex factors of their position.

use super::blocks;
use super::level::per_level;
use crate::view::View;
use std::mem::MaybeUninit;

/// `x [batch, heads, positions, width]` with each channel pair `(2i, 2i + 1)` multiplied by a complex
/// factor of its position; returned in the order `[batch, positions, heads, width]`.
///
/// `real` and `imaginary` are `[positions, width]`: the real parts, each twice, and the imaginary
/// ones, negated in even channels. The factors are conjugated where `conjugate`, which makes this the
/// gradient.
///
/// # Panics
///
/// If the width is odd or its stride not 1, a table has another shape, or the view reaches outside of
/// its slice.
pub fn rotate(x: View<f32>, real: &[f32], imaginary: &[f32], conjugate: bool) -> Vec<f32> {
    let [batch, heads, positions, width] = x.shape;
    assert!(width.is_multiple_of(2), "channels come in pairs");
    assert_eq!(x.strides[3], 1, "the channels of a head lie side by side");
    assert_eq!(real.len(), positions * width, "a factor for each channel");
    assert_eq!(imaginary.len(), real.len(), "both parts of each factor");
    let row = heads * width;
    let rows = blocks::rows(row);
    let sign = if conjugate { -1.0 } else { 1.0 };
    let at = |b: usize, h: usize, p: usize| {
        let place = |(i, stride): (usize, isize)| i as isize * stride;
        let strided = [(b, x.strides[0]), (h, x.strides[1]), (p, x.strides[2])];
        let start = x.offset as isize + strided.map(place).iter().sum::<isize>();
        &x.data[start as usize..][..width]
    };
    // SAFETY: the rows of a block are all of it; each head of each row is written.
    unsafe {
        blocks::fill(batch * positions * row, rows * row, |block, out| {
            for (i, out) in out.chunks_mut(row.max(1)).enumerate() {
                let place = block * rows + i;
                let (b, p) = (place / positions, place % positions);
                let table = p * width..(p + 1) * width;
                for (h, out) in out.chunks_mut(width.max(1)).enumerate() {
                    let (real, imaginary) = (&real[table.clone()], &imaginary[table.clone()]);
                    turn(out, at(b, h, p), real, imaginary, sign);
                }
            }
        })
    }
}

per_level! {
    fn turn(out: &mut [MaybeUninit<f32>], x: &[f32], real: &[f32], imaginary: &[f32], sign: f32), FMA => {
        let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0);
        let factors = real.as_chunks::<2>().0.iter().zip(imaginary.as_chunks::<2>().0);
        for ((out, x), (re, im)) in pairs.zip(factors) {
            out[0].write(x[0] * re[0] + x[1] * (sign * im[0]));
            out[1].write(x[1] * re[1] + x[0] * (sign * im[1]));
        }
    }
}
