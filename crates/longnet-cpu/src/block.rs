//! The other side of a tile, packed.

use crate::buffer::Buffer;
use crate::element::Element;
use crate::kernels::{Kernels, LANE, Matrix, PANEL};
use crate::pack::gather;
use crate::real::Real;
use crate::view::View;
use longnet_pattern::Progression;

/// A block of rows as the products want them.
pub struct Block<R> {
    pub rows: Buffer<R>,
    pub panels: Buffer<R>,
    pub width: usize,
    pub ld: usize,
}

impl<R: Real> Block<R> {
    /// For `count` rows of `width`.
    pub fn new(count: usize, width: usize) -> Self {
        let ld = width.next_multiple_of(LANE);
        Self {
            rows: Buffer::new(count * ld),
            panels: Buffer::new(count.next_multiple_of(PANEL) * width),
            width,
            ld,
        }
    }

    /// Gathers rows of a head; those that are `hidden` become zeros.
    pub fn load<E: Element<Acc = R>>(
        &mut self,
        view: &View<E>,
        at: [usize; 2],
        indices: Progression,
        hidden: impl Fn(usize) -> bool,
    ) {
        gather(&mut self.rows, self.ld, view, at, indices, hidden, R::ONE);
    }

    /// Makes the panels of the first `count` rows.
    pub fn transpose(&mut self, kernels: &Kernels<R>, count: usize) {
        let rows = Matrix {
            data: &self.rows,
            ld: self.ld,
        };
        kernels.transpose(&mut self.panels, rows, count, self.width);
    }

    /// `c = a b^T` for the rows `start..end` (multiples of `PANEL` and `STEP`) of this block as `b`;
    /// column `start` lands in column 0 of `c`.
    pub fn scores(
        &self,
        kernels: &Kernels<R>,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        m: usize,
        start: usize,
        end: usize,
    ) {
        for column in (start..end).step_by(PANEL) {
            let panel = Matrix {
                data: &self.panels[column * self.width..],
                ld: PANEL,
            };
            let n = PANEL.min(end - column);
            kernels.product(
                &mut c[column - start..],
                ldc,
                a,
                panel,
                [m, n, self.width],
                false,
            );
        }
    }

    /// The rows from `start` on, as the right side of a product.
    pub fn tail(&self, start: usize) -> Matrix<'_, R> {
        Matrix {
            data: &self.rows[start * self.ld..],
            ld: self.ld,
        }
    }
}
