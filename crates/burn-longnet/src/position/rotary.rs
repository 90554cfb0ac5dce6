//! Rotary position embedding: RoFormer, arXiv 2104.09864.

use super::table::{RotationTable, frequencies, progression};
use crate::pattern::Progression;
use burn::tensor::{DType, Device};
use std::ops::Range;

/// Rotates channel pairs by angles in proportion to the position: the convention of
/// [`burn::nn::RotaryEncoding`], for any range of positions and without a table of all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// The base of the frequencies.
    pub theta: f64,
}

impl Default for Rotary {
    fn default() -> Self {
        Self { theta: 10_000.0 }
    }
}

impl Rotary {
    /// The rotations of `positions` for heads of `width` channels.
    ///
    /// # Panics
    ///
    /// If `width` is odd.
    pub fn table(
        &self,
        positions: Range<usize>,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        self.table_of(&[progression(&positions)], width, dtype, device)
    }

    pub(super) fn table_of(
        &self,
        positions: &[Progression],
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        let frequencies = frequencies(self.theta, width);
        RotationTable::new(positions, &frequencies, None, dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::RotaryEncodingConfig;
    use burn::tensor::{Distribution, Tensor, Tolerance};

    #[test]
    fn it_is_burns_rotary_encoding_from_any_start() {
        let device = Device::default();
        let burn = RotaryEncodingConfig::new(200, 10).init(&device);
        let x = Tensor::<4>::random([2, 3, 130, 10], Distribution::Default, &device);
        for start in [0, 7, 70] {
            let table = Rotary::default().table(start..start + 130, 10, DType::F32, &device);
            table.apply(x.clone()).into_data().assert_approx_eq::<f32>(
                &burn.apply(x.clone(), start).into_data(),
                Tolerance::absolute(2e-5),
            );
        }
    }

    #[test]
    fn a_position_in_the_billions_is_as_exact_as_the_first() {
        let device = Device::default();
        let x = Tensor::<4>::from_data([[[[1.0, 0.0]]]], &device);
        let position = 3_000_000_001;
        let table = Rotary::default().table(position..position + 1, 2, DType::F32, &device);
        let angle = position as f64;
        let expected = [[[[angle.cos() as f32, angle.sin() as f32]]]];
        table.apply(x).into_data().assert_approx_eq::<f32>(
            &burn::tensor::TensorData::from(expected),
            Tolerance::absolute(1e-6),
        );
    }
}
