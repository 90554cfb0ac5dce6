//! Rows transposed into panels, as the right side of a product with them.

use crate::buffer::Buffer;
use crate::kernels::{Kernels, Matrix, PANEL};
use crate::real::Real;
use std::ops::Range;

/// Rows of `width` elements in panels `[row / PANEL][width][PANEL]`.
pub struct Panels<R> {
    data: Buffer<R>,
    width: usize,
}

impl<R: Real> Panels<R> {
    /// For `rows` rows.
    pub fn new(rows: usize, width: usize) -> Self {
        Self {
            data: Buffer::new(rows.next_multiple_of(PANEL) * width),
            width,
        }
    }

    /// Makes room for `rows` rows; what was there is lost.
    pub fn grow(&mut self, rows: usize) {
        self.data.grow(rows.next_multiple_of(PANEL) * self.width);
    }

    /// Takes `count` rows as those from `at` (a multiple of `PANEL`) on; fills their last panel with
    /// zeros.
    pub fn load(&mut self, kernels: &Kernels<R>, at: usize, rows: Matrix<R>, count: usize) {
        kernels.transpose(&mut self.data[at * self.width..], rows, count, self.width);
    }

    /// `c = a b^T` where `a` has `m` rows and `b` is `rows` (multiples of `PANEL` and `STEP`).
    pub fn product(
        &self,
        kernels: &Kernels<R>,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        m: usize,
        rows: Range<usize>,
    ) {
        for row in rows.clone().step_by(PANEL) {
            let panel = Matrix {
                data: &self.data[row * self.width..],
                ld: PANEL,
            };
            let n = PANEL.min(rows.end - row);
            let c = &mut c[row - rows.start..];
            kernels.product(c, ldc, a, panel, [m, n, self.width], false);
        }
    }
}
