//! Rows to column panels.

use super::PANEL;
use crate::real::Real;

/// See [`Kernels::transpose`](super::Kernels::transpose).
///
/// # Safety
///
/// `src` must reach `rows` rows of `d` elements, `ld` apart.
#[inline(always)]
pub unsafe fn transpose<R: Real>(
    panels: &mut [R],
    src: *const R,
    ld: usize,
    rows: usize,
    d: usize,
) {
    if d == 0 {
        return;
    }
    for (p, panel) in panels
        .chunks_exact_mut(PANEL * d)
        .take(rows.div_ceil(PANEL))
        .enumerate()
    {
        let filled = PANEL.min(rows - p * PANEL);
        for (x, column) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            for (j, to) in column.iter_mut().enumerate() {
                // SAFETY: row `p * PANEL + j` exists.
                *to = if j < filled {
                    unsafe { *src.add((p * PANEL + j) * ld + x) }
                } else {
                    R::ZERO
                };
            }
        }
    }
}
