//! Tiles of f32 in bfloat16 products: each number is the sum of two bfloat16, and of the four products
//! of their parts the three larger ones are computed. What is left out is some 2^-16 of a product.

use super::narrow::{self, Narrow};
use super::{Forms, Source, Tiles};
use half::bf16;
use std::ops::Range;

/// High and low parts, each as [`Narrow`] has them.
#[derive(Clone, Copy)]
pub struct Split(Narrow);

impl Split {
    /// Where this process's [`level`](crate::level) has products for which it pays.
    pub fn available() -> Option<Self> {
        Narrow::available().filter(Narrow::beats_three).map(Self)
    }
}

/// Which part of the left and of the right side is multiplied.
const PRODUCTS: [[usize; 2]; 3] = [[0, 0], [1, 0], [0, 1]];

impl Tiles<f32> for Split {
    type Side = [narrow::Side; 2];
    type Weights = [narrow::Weights; 2];
    type Thread = <Narrow as Tiles<bf16>>::Thread;

    const GROUPS: [usize; 2] = <Narrow as Tiles<bf16>>::GROUPS;
    const ALIGN: usize = <Narrow as Tiles<bf16>>::ALIGN;

    fn thread(&self) -> Self::Thread {
        self.0.thread()
    }

    fn factors(&self, scale_base_2: f32) -> [f32; 2] {
        self.0.factors(scale_base_2)
    }

    fn side(&self, rows: usize, width: usize, forms: Forms) -> Self::Side {
        [(); 2].map(|()| self.0.side(rows, width, forms))
    }

    fn grow(&self, side: &mut Self::Side, rows: usize) {
        for part in side {
            self.0.grow(part, rows);
        }
    }

    fn load(
        &self,
        [high, low]: &mut Self::Side,
        at: usize,
        source: Source<f32>,
        hidden: impl Fn(usize) -> bool,
        factor: f32,
    ) {
        debug_assert_eq!(factor, 1.0);
        let rest = |x: f32| match bf16::from_f32(x) {
            high if high.is_finite() => bf16::from_f32(x - high.to_f32()),
            _ => bf16::ZERO,
        };
        self.0
            .load_part(high, at, source.clone(), &hidden, bf16::from_f32);
        self.0.load_part(low, at, source, hidden, rest);
    }

    fn weights(&self, rows: usize, columns: usize) -> Self::Weights {
        [(); 2].map(|()| self.0.weights(rows, columns))
    }

    fn scores<'a>(&self, weights: &'a mut Self::Weights) -> &'a mut [f32] {
        &mut weights[0].scores
    }

    fn seal(
        &self,
        [high, low]: &mut Self::Weights,
        m: usize,
        columns: usize,
        ld: usize,
        transposed: bool,
    ) {
        self.0.seal(high, m, columns, ld, transposed);
        for r in 0..m {
            let (scores, rounded) = (&high.scores[r * ld..], &high.rows[r * high.ld..]);
            let rest = &mut low.scores[r * ld..][..columns];
            for ((rest, &score), &part) in rest.iter_mut().zip(scores).zip(rounded) {
                *rest = score - f32::from_bits((part.to_bits() as u32) << 16);
            }
        }
        self.0.seal(low, m, columns, ld, transposed);
    }

    fn inner(
        &self,
        weights: &mut Self::Weights,
        ld: usize,
        left: &Self::Side,
        rows_of_left: [usize; 3],
        right: &Self::Side,
        rows: Range<usize>,
    ) {
        let scores = &mut weights[0].scores;
        for [l, r] in PRODUCTS {
            let (left, right, add) = (&left[l], &right[r], [l, r] != [0, 0]);
            self.0
                .inner_add(scores, ld, left, rows_of_left, right, rows.clone(), add);
        }
    }

    fn outer(
        &self,
        c: &mut [f32],
        ldc: usize,
        weights: &Self::Weights,
        ld: usize,
        right: &Self::Side,
        at: usize,
        sizes: [usize; 3],
    ) {
        for [l, r] in PRODUCTS {
            self.0.outer(c, ldc, &weights[l], ld, &right[r], at, sizes);
        }
    }

    fn outer_t(
        &self,
        c: &mut [f32],
        ldc: usize,
        weights: &Self::Weights,
        ld: usize,
        right: &Self::Side,
        at: usize,
        sizes: [usize; 3],
    ) {
        for [l, r] in PRODUCTS {
            self.0
                .outer_t(c, ldc, &weights[l], ld, &right[r], at, sizes);
        }
    }
}
