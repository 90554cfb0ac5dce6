//! Complex factors of channel pairs, one row per position.

#[cfg(feature = "flex")]
use crate::{rowwise::host, vjp::Inputs};
use burn::tensor::{DType, Device, Element, Tensor, TensorData, assert_shape};
#[cfg(feature = "flex")]
use longnet_cpu::rowwise::rotate;
use longnet_pattern::Progression;
use std::ops::Range;

/// Complex factors that channel pairs `(2i, 2i + 1)` are multiplied with, position by position.
#[derive(Clone, Debug)]
pub struct RotationTable {
    /// Real parts, each twice: `[positions, width]`.
    real: Tensor<2>,
    /// Imaginary parts, negated in even channels: `[positions, width]`.
    imaginary: Tensor<2>,
}

/// The modulus of the factors.
pub(super) struct Growth<'a> {
    /// Its logarithm for each pair, per unit of the exponent.
    pub log: &'a [f64],
    /// The exponent of a position.
    pub exponent: &'a dyn Fn(usize) -> f64,
}

/// How many positions share one evaluation of sine and cosine.
const STRIDE: usize = 64;

impl RotationTable {
    /// The factors of `positions`: the angle of pair `i` is the position times `frequencies[i]`.
    /// The table is made without autodiff.
    pub(super) fn new(
        positions: &[Progression],
        frequencies: &[f64],
        growth: Option<Growth<'_>>,
        dtype: DType,
        device: &Device,
    ) -> Self {
        let device = device.clone().inner();
        let options = (positions, frequencies, growth);
        match dtype {
            DType::F64 => Self::fill::<f64>(options, |x| x, dtype, &device),
            _ => Self::fill::<f32>(options, |x| x as f32, dtype, &device),
        }
    }

    fn fill<E: Element>(
        (positions, frequencies, growth): (&[Progression], &[f64], Option<Growth<'_>>),
        element: impl Fn(f64) -> E,
        dtype: DType,
        device: &Device,
    ) -> Self {
        let rows = positions.iter().map(|positions| positions.len).sum();
        let shape = [rows, frequencies.len() * 2];
        let mut real = Vec::with_capacity(shape[0] * shape[1]);
        let mut imaginary = Vec::with_capacity(shape[0] * shape[1]);
        let turn = |p: usize| frequencies.iter().map(move |f| (p as f64 * f).sin_cos());
        // Those of a shard have one step.
        let step = positions.first().map_or(1, |positions| positions.step);
        let steps: Vec<Vec<_>> = (0..STRIDE).map(|at| turn(at * step).collect()).collect();
        let strides = positions.iter().flat_map(|all| {
            let starts = (0..all.len).step_by(STRIDE);
            starts.map(|start| all.slice(start..all.len.min(start + STRIDE)))
        });
        for stride in strides {
            debug_assert_eq!(stride.step, step);
            let base: Vec<_> = turn(stride.first).collect();
            for (position, step) in stride.iter().zip(&steps) {
                let exponent = growth.as_ref().map(|g| (g.exponent)(position));
                for (i, ((s, c), (ds, dc))) in base.iter().zip(step).enumerate() {
                    let modulus = match (&growth, exponent) {
                        (Some(growth), Some(exponent)) => (growth.log[i] * exponent).exp(),
                        _ => 1.0,
                    };
                    let re = element((c * dc - s * ds) * modulus);
                    let im = (s * dc + c * ds) * modulus;
                    real.extend([re, re]);
                    imaginary.extend([element(-im), element(im)]);
                }
            }
        }
        let tensor =
            |values: Vec<E>| Tensor::from_data(TensorData::new(values, shape), (device, dtype));
        Self {
            real: tensor(real),
            imaginary: tensor(imaginary),
        }
    }

    /// `x` with its channel pairs multiplied by the factors of their position.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch, heads, positions, width]`
    ///
    /// # Panics
    ///
    /// If positions or width are not those of the table.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [positions, width] = self.real.dims();
        assert_shape!(x, [_, _, positions, width]);
        let [batch, heads, _, _] = x.dims();
        #[cfg(feature = "flex")]
        if host::holds(&x) && host::holds(&self.real) {
            let mut inputs = Inputs::new(&x.device());
            inputs.push(x.clone());
            let y = self.rotated(x.inner(), false);
            let table = self.clone();
            return inputs.finish(y, move |dy| {
                vec![Some(table.rotated(dy, true).into_dispatch())]
            });
        }
        let swapped = x
            .clone()
            .reshape([batch, heads, positions, width / 2, 2])
            .flip([4])
            .reshape([batch, heads, positions, width]);
        x * self.real.clone().unsqueeze() + swapped * self.imaginary.clone().unsqueeze()
    }

    /// `x`, without autodiff, times the factors or their conjugates, in one pass. The heads of a
    /// position lie side by side in the result, as projections read and write them.
    #[cfg(feature = "flex")]
    fn rotated(&self, x: Tensor<4>, conjugate: bool) -> Tensor<4> {
        let [batch, heads, positions, width] = x.dims();
        let (real, imaginary) = (self.real.clone(), self.imaginary.clone());
        let (real, imaginary) = (host::Read::new(real), host::Read::new(imaginary));
        let y = host::with_view(x, |x| rotate(x, real.slice(), imaginary.slice(), conjugate));
        host::tensor(y, [batch, positions, heads, width]).swap_dims(1, 2)
    }
}

/// Positions that follow each other.
pub(super) fn progression(range: &Range<usize>) -> Progression {
    Progression {
        first: range.start,
        step: 1,
        len: range.len(),
    }
}

/// `theta^(-2i/width)`, the angle of pair `i` per position.
pub(super) fn frequencies(theta: f64, width: usize) -> Vec<f64> {
    assert!(
        width.is_multiple_of(2),
        "position encodings rotate pairs of channels, but heads have {width}, which is odd"
    );
    (0..width / 2)
        .map(|i| theta.powf(-((2 * i) as f64) / width as f64))
        .collect()
}
