//! Gathering strided rows of a tensor into scratch memory.

use crate::element::Element;
use crate::real::Real;
use crate::view::View;
use longnet_pattern::Progression;
use std::ops::Range;

/// Copies the rows `indices` of a head to `dst`, `ld` apart, widened and multiplied with `factor`;
/// pads them with zeros. Rows that are `hidden` become zeros and are not read.
pub fn gather<E: Element>(
    dst: &mut [E::Acc],
    ld: usize,
    view: &View<E>,
    [batch, head]: [usize; 2],
    indices: Progression,
    hidden: impl Fn(usize) -> bool,
    factor: E::Acc,
) {
    if ld == 0 {
        return;
    }
    let (width, stride) = (view.shape[3], view.strides[3]);
    for (to, index) in dst.chunks_exact_mut(ld).zip(indices.iter()) {
        if hidden(index) {
            to.fill(E::Acc::ZERO);
            continue;
        }
        let start = view.row_start(batch, head, index);
        let (to, pad) = to.split_at_mut(width);
        pad.fill(E::Acc::ZERO);
        if stride == 1 {
            for (to, &x) in to.iter_mut().zip(&view.data[start..start + width]) {
                *to = x.widen() * factor;
            }
        } else {
            for (x, to) in to.iter_mut().enumerate() {
                let at = start.wrapping_add_signed(x as isize * stride);
                *to = view.data[at].widen() * factor;
            }
        }
    }
}

/// The indices of a range.
pub fn consecutive(rows: &Range<usize>) -> Progression {
    Progression {
        first: rows.start,
        step: 1,
        len: rows.len(),
    }
}

/// Writes rows of scratch memory, `ld` apart, to a contiguous result, each times its factor. A factor
/// of 0 gives zeros, whatever the row holds.
pub fn scatter<E: Element>(
    dst: &mut [E],
    width: usize,
    src: &[E::Acc],
    ld: usize,
    factor: impl Fn(usize) -> E::Acc,
) {
    if width == 0 {
        return;
    }
    for (r, (to, from)) in dst
        .chunks_exact_mut(width)
        .zip(src.chunks_exact(ld))
        .enumerate()
    {
        let factor = factor(r);
        if factor == E::Acc::ZERO {
            to.fill(E::round(E::Acc::ZERO));
            continue;
        }
        for (to, &x) in to.iter_mut().zip(from) {
            *to = E::round(x * factor);
        }
    }
}

/// The inner product of the same row of two tensors.
pub fn dot<E: Element>(x: &View<E>, y: &View<E>, [batch, head]: [usize; 2], row: usize) -> f64 {
    let start = |view: &View<E>| view.row_start(batch, head, row);
    let (x0, y0) = (start(x), start(y));
    let at = |view: &View<E>, start: usize, i: usize| {
        let at = start.wrapping_add_signed(i as isize * view.strides[3]);
        view.data[at].widen().to_f64()
    };
    (0..x.shape[3]).map(|i| at(x, x0, i) * at(y, y0, i)).sum()
}
