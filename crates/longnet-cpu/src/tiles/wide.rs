//! Tiles in the accumulating type, by fused multiply-adds.

use super::{Forms, Source, Tiles};
use crate::buffer::Buffer;
use crate::element::Element;
use crate::kernels::{Kernels, LANE, Matrix};
use crate::pack::gather;
use crate::panels::Panels;
use crate::real::Real;
use std::ops::Range;

/// Elements are widened when they are packed.
#[derive(Clone, Copy)]
pub struct Wide<R: 'static>(pub &'static Kernels<R>);

pub struct Side<R> {
    /// All rows, or where only panels are kept those of one load.
    rows: Buffer<R>,
    ld: usize,
    panels: Option<Panels<R>>,
    forms: Forms,
}

impl<R: Real> Side<R> {
    fn matrix(&self, first: usize, step: usize) -> Matrix<'_, R> {
        Matrix {
            data: &self.rows[first * self.ld..],
            ld: step * self.ld,
        }
    }
}

impl<E: Element> Tiles<E> for Wide<E::Acc> {
    type Side = Side<E::Acc>;
    type Weights = Buffer<E::Acc>;
    type Thread = ();

    // Forward, the scores of a tile stay in the first-level cache. Backward, the longer chains of the
    // products over queries are worth more.
    const GROUPS: [usize; 2] = [28, 56];
    const ALIGN: usize = 1;

    fn thread(&self) {}

    fn factors(&self, scale_base_2: E::Acc) -> [E::Acc; 2] {
        [scale_base_2, E::Acc::ONE]
    }

    fn side(&self, rows: usize, width: usize, forms: Forms) -> Side<E::Acc> {
        let ld = width.next_multiple_of(LANE);
        let kept = if forms.left || forms.right { rows } else { 0 };
        Side {
            rows: Buffer::new(kept * ld),
            ld,
            panels: forms.panels.then(|| Panels::new(rows, width)),
            forms,
        }
    }

    fn grow(&self, side: &mut Side<E::Acc>, rows: usize) {
        if side.forms.left || side.forms.right {
            side.rows.grow(rows * side.ld);
        }
        if let Some(panels) = &mut side.panels {
            panels.grow(rows);
        }
    }

    fn load(
        &self,
        side: &mut Side<E::Acc>,
        at: usize,
        source: Source<E>,
        hidden: impl Fn(usize) -> bool,
        factor: E::Acc,
    ) {
        let (ld, len) = (side.ld, source.rows.len);
        if let (Some(panels), false) = (&mut side.panels, side.forms.left || side.forms.right)
            && factor == E::Acc::ONE
            && let Some(rows) = in_place(&source, &hidden)
        {
            return panels.load(self.0, at, rows, len);
        }
        let first = if side.forms.left || side.forms.right {
            at
        } else {
            side.rows.grow(len * ld);
            0
        };
        let rows = &mut side.rows[first * ld..];
        gather(
            rows,
            ld,
            source.view,
            source.at,
            source.rows,
            hidden,
            factor,
        );
        if let Some(panels) = &mut side.panels {
            panels.load(self.0, at, Matrix { data: rows, ld }, len);
        }
    }

    fn weights(&self, rows: usize, columns: usize) -> Buffer<E::Acc> {
        Buffer::new(rows * columns)
    }

    fn scores<'a>(&self, weights: &'a mut Buffer<E::Acc>) -> &'a mut [E::Acc] {
        weights
    }

    fn seal(&self, _: &mut Buffer<E::Acc>, _: usize, _: usize, _: usize, _: bool) {}

    fn inner(
        &self,
        weights: &mut Buffer<E::Acc>,
        ld: usize,
        left: &Side<E::Acc>,
        [first, step, m]: [usize; 3],
        right: &Side<E::Acc>,
        rows: Range<usize>,
    ) {
        let panels = right.panels.as_ref().expect("packed as panels");
        panels.product(self.0, weights, ld, left.matrix(first, step), m, rows);
    }

    fn outer(
        &self,
        c: &mut [E::Acc],
        ldc: usize,
        weights: &Buffer<E::Acc>,
        ld: usize,
        right: &Side<E::Acc>,
        at: usize,
        sizes: [usize; 3],
    ) {
        let weights = Matrix { data: weights, ld };
        self.0
            .product(c, ldc, weights, right.matrix(at, 1), sizes, true);
    }

    fn outer_t(
        &self,
        c: &mut [E::Acc],
        ldc: usize,
        weights: &Buffer<E::Acc>,
        ld: usize,
        right: &Side<E::Acc>,
        at: usize,
        sizes: [usize; 3],
    ) {
        let weights = Matrix { data: weights, ld };
        self.0
            .add_product_tn(c, ldc, weights, right.matrix(at, 1), sizes);
    }
}

/// Rows that can be transposed from where they lie.
fn in_place<'a, E: Element>(
    source: &Source<'a, '_, E>,
    hidden: &impl Fn(usize) -> bool,
) -> Option<Matrix<'a, E::Acc>> {
    let (view, rows) = (source.view, source.rows);
    if rows.len == 0 || view.strides[3] != 1 || view.strides[2] < 0 || rows.iter().any(hidden) {
        return None;
    }
    let start = view.row_start(source.at[0], source.at[1], rows.first);
    Some(Matrix {
        data: &E::as_wide(view.data)?[start..],
        ld: rows.step * view.strides[2] as usize,
    })
}
