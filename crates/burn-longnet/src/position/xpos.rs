//! xPos: A Length-Extrapolatable Transformer, arXiv 2212.10554, as torchscale computes it.

use super::table::{Growth, RotationTable, frequencies, progression};
use crate::pattern::Progression;
use burn::tensor::{DType, Device};
use std::ops::Range;

/// Rotates channel pairs as rotary does, and lets queries grow and keys shrink with the position,
/// so that scores decay with distance.
///
/// Pair `i` of a query at position `p` is multiplied with `z_i^((p - c) / scale_base)`, of a key with
/// the inverse, where `z_i = (2i + 0.4 width) / (1.4 width)`. The centre `c` drops out of scores
/// between positions that share it; it keeps the factors small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XPos {
    /// The base of the frequencies.
    pub theta: f64,
    /// The distance over which the fastest decaying pair falls to `z_0 = 2/7`.
    pub scale_base: f64,
    /// Where the factors are 1.
    pub centre: Centre,
}

/// Where the factors of [`XPos`] are 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Centre {
    /// In the middle of each segment of this many positions: for patterns all of whose visible
    /// pairs lie inside such a segment.
    Segment(usize),
    /// At this position.
    Position(f64),
}

/// A scale base whose factors leave the number format.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "xpos scale_base {scale_base} is too small: {reach} positions from the centre its factors leave {dtype:?}; the smallest that works is {smallest}"
)]
pub struct XPosError {
    /// The value given.
    pub scale_base: f64,
    /// The largest distance from the centre, in positions.
    pub reach: f64,
    /// The number format.
    pub dtype: DType,
    /// The smallest whole scale base that works.
    pub smallest: f64,
}

/// What queries and keys may be larger than 1, or smaller, beside the factors.
const HEADROOM: f64 = 128.0;

/// `-ln z_0`, the fastest decay.
fn decay() -> f64 {
    (1.4f64 / 0.4).ln()
}

/// The largest `|ln factor|` that leaves [`HEADROOM`] in the normal numbers of `dtype`.
fn largest_log(dtype: DType) -> f64 {
    let normal = match dtype {
        DType::F16 => 2f64.powi(14),
        DType::F64 => f64::MAX.sqrt().powi(2).min(2f64.powi(1022)),
        _ => 2f64.powi(126),
    };
    (normal / HEADROOM).ln()
}

impl XPos {
    /// Whether factors up to `reach` positions from the centre fit into `dtype`, with some room for
    /// the queries and keys themselves.
    ///
    /// # Errors
    ///
    /// They do not; the error names the smallest scale base with which they would.
    pub fn check(scale_base: f64, reach: f64, dtype: DType) -> Result<(), XPosError> {
        let smallest = (decay() * reach / largest_log(dtype)).ceil();
        if scale_base >= smallest.max(f64::MIN_POSITIVE) {
            return Ok(());
        }
        Err(XPosError {
            scale_base,
            reach,
            dtype,
            smallest: smallest.max(1.0),
        })
    }

    /// The factors of queries at `positions`, for heads of `width` channels.
    ///
    /// # Panics
    ///
    /// If `width` is odd.
    pub fn query_table(
        &self,
        positions: Range<usize>,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        self.query_table_of(&[progression(&positions)], width, dtype, device)
    }

    pub(super) fn query_table_of(
        &self,
        positions: &[Progression],
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        self.table(positions, width, 1.0, dtype, device)
    }

    /// The factors of keys at `positions`, for heads of `width` channels.
    ///
    /// # Panics
    ///
    /// If `width` is odd.
    pub fn key_table(
        &self,
        positions: Range<usize>,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        self.key_table_of(&[progression(&positions)], width, dtype, device)
    }

    pub(super) fn key_table_of(
        &self,
        positions: &[Progression],
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        self.table(positions, width, -1.0, dtype, device)
    }

    fn table(
        &self,
        positions: &[Progression],
        width: usize,
        sign: f64,
        dtype: DType,
        device: &Device,
    ) -> RotationTable {
        let frequencies = frequencies(self.theta, width);
        let w = width as f64;
        let log: Vec<f64> = (0..width / 2)
            .map(|i| (((2 * i) as f64 + 0.4 * w) / (1.4 * w)).ln())
            .collect();
        let (centre, base) = (self.centre, self.scale_base * sign);
        let exponent = move |p: usize| match centre {
            Centre::Segment(segment) => ((p % segment) as f64 - (segment / 2) as f64) / base,
            Centre::Position(centre) => (p as f64 - centre) / base,
        };
        let growth = Growth {
            log: &log,
            exponent: &exponent,
        };
        RotationTable::new(positions, &frequencies, Some(growth), dtype, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;

    #[test]
    fn the_base_that_the_error_names_keeps_queries_and_keys_normal() {
        let device = Device::default();
        let reach = 40_000.0;
        let error = XPos::check(100.0, reach, DType::F32).unwrap_err();
        // Ones: a drawn value near zero would leave the normal numbers by itself.
        let x = Tensor::<4>::ones([1, 1, 1, 8], &device);
        let xpos = XPos {
            theta: 1e4,
            scale_base: error.smallest,
            centre: Centre::Position(0.0),
        };
        let at = reach as usize..reach as usize + 1;
        let query = xpos.query_table(at.clone(), 8, DType::F32, &device);
        let key = xpos.key_table(at, 8, DType::F32, &device);
        for table in [query, key] {
            let values = table.apply(x.clone()).into_data().try_to_vec::<f32>();
            assert!(values.unwrap().iter().all(|value| value.is_normal()));
        }
    }

    #[test]
    fn a_query_and_a_key_meet_in_a_score_that_decays_with_their_distance() {
        let device = Device::default();
        let ones = Tensor::<4>::ones([1, 1, 600, 8], &device);
        let xpos = XPos {
            theta: 1e4,
            scale_base: 64.0,
            centre: Centre::Segment(600),
        };
        let q = xpos.query_table(0..600, 8, DType::F64, &device);
        let k = xpos.key_table(0..600, 8, DType::F64, &device);
        let (q, k) = (
            q.apply(ones.clone().cast(DType::F64)),
            k.apply(ones.cast(DType::F64)),
        );
        let scores = q
            .matmul(k.transpose())
            .into_data()
            .try_to_vec::<f64>()
            .unwrap();
        for (i, j) in [(5, 5), (100, 40), (599, 0)] {
            let distance = (i - j) as f64;
            let expected: f64 = (0..4)
                .map(|pair| {
                    let z = (2.0 * pair as f64 + 3.2) / 11.2;
                    let angle = distance * 1e4f64.powf(-(pair as f64) / 4.0);
                    2.0 * z.powf(distance / 64.0) * angle.cos()
                })
                .sum();
            assert!((scores[i * 600 + j] - expected).abs() < 1e-9);
        }
    }
}
