//! How tiles are packed and multiplied: [`Wide`] in the accumulating type, [`Narrow`] in bfloat16,
//! [`Split`] in pairs of these. The passes are written once over all of them.

mod narrow;
mod split;
mod wide;

pub use narrow::Narrow;
pub use split::Split;
pub use wide::Wide;

use crate::element::Element;
use crate::view::View;
use longnet_pattern::Progression;
use std::ops::Range;

/// In which forms a [`Tiles::Side`] keeps its rows.
#[derive(Clone, Copy, Default)]
pub struct Forms {
    /// As the left side of [`Tiles::inner`].
    pub left: bool,
    /// Transposed, as the right side of [`Tiles::inner`].
    pub panels: bool,
    /// As the right side of [`Tiles::outer`] and [`Tiles::outer_t`].
    pub right: bool,
}

/// Rows of one head to pack.
#[derive(Clone)]
pub struct Source<'a, 'b, E: Element> {
    pub view: &'a View<'b, E>,
    /// Batch entry and head.
    pub at: [usize; 2],
    pub rows: Progression,
}

/// Products of tiles. Results are in the accumulating type; their widths `n` are multiples of
/// [`LANE`](crate::kernels::LANE).
pub trait Tiles<E: Element>: Copy + Sync {
    /// Packed rows of queries, keys, values or gradients.
    type Side;
    /// Scores that become weights, and the weights as the left side of products.
    type Weights;
    /// What a thread holds while it multiplies.
    type Thread;

    /// Query rows of a tile, forward and backward.
    const GROUPS: [usize; 2];
    /// Groups of query rows start at multiples of this in their run.
    const ALIGN: usize;

    fn thread(&self) -> Self::Thread;

    /// The factors of packed queries and of scores, given their product.
    fn factors(&self, scale_base_2: E::Acc) -> [E::Acc; 2];

    /// For `rows` rows of `width` elements.
    fn side(&self, rows: usize, width: usize, forms: Forms) -> Self::Side;

    /// Makes room for `rows` rows; what was there is lost.
    fn grow(&self, side: &mut Self::Side, rows: usize);

    /// Packs rows, times `factor`, as those from `at` on: a multiple of [`PANEL`](crate::kernels::PANEL)
    /// where there are panels. Rows that are `hidden` become zeros and are not read.
    fn load(
        &self,
        side: &mut Self::Side,
        at: usize,
        source: Source<E>,
        hidden: impl Fn(usize) -> bool,
        factor: E::Acc,
    );

    /// For `rows` times `columns` scores, `rows` one of [`GROUPS`](Self::GROUPS).
    fn weights(&self, rows: usize, columns: usize) -> Self::Weights;

    /// The scores, row by row.
    fn scores<'a>(&self, weights: &'a mut Self::Weights) -> &'a mut [E::Acc];

    /// Ends changes of `m` rows of `columns` scores, `ld` apart: they are weights now, for
    /// [`outer`](Self::outer) and, if `transposed`, for [`outer_t`](Self::outer_t).
    fn seal(
        &self,
        weights: &mut Self::Weights,
        m: usize,
        columns: usize,
        ld: usize,
        transposed: bool,
    );

    /// `scores = left right^T` for rows of `left` (the first, their distance, how many) and the packed rows
    /// `rows` of `right` (multiples of [`PANEL`](crate::kernels::PANEL) and
    /// [`STEP`](crate::kernels::STEP)).
    fn inner(
        &self,
        weights: &mut Self::Weights,
        ld: usize,
        left: &Self::Side,
        rows_of_left: [usize; 3],
        right: &Self::Side,
        rows: Range<usize>,
    );

    /// `c += weights right` for the rows of `right` from `at` on; `c` is `m x n`, the weights `m x k`.
    fn outer(
        &self,
        c: &mut [E::Acc],
        ldc: usize,
        weights: &Self::Weights,
        ld: usize,
        right: &Self::Side,
        at: usize,
        sizes: [usize; 3],
    );

    /// `c += weights^T right`; `c` is `m x n`, the weights `k x m`.
    fn outer_t(
        &self,
        c: &mut [E::Acc],
        ldc: usize,
        weights: &Self::Weights,
        ld: usize,
        right: &Self::Side,
        at: usize,
        sizes: [usize; 3],
    );
}
