//! The choice of the best blocks, on the device.

use crate::dropout::split_mix;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

/// Below any score, and finite, so that nothing becomes NaN.
const LOWEST: f64 = -1e30;

/// True for the blocks that each block of queries sees: its own and the best `top_k - 1` others by `scores`
/// plus `noise`, `[batch, heads, blocks, blocks]`; if `causal`, among those up to its own. Of equal scores the
/// first is taken.
pub(super) fn best(
    scores: Tensor<4>,
    noise: Option<Tensor<4>>,
    top_k: usize,
    causal: bool,
) -> Tensor<4, Bool> {
    let [batch, heads, blocks, _] = scores.dims();
    let device = scores.device();
    let index = Tensor::<1, Int>::arange(0..blocks as i64, &device);
    let columns = index.clone().reshape([1, 1, 1, blocks]);
    let shape = [batch, heads, blocks, blocks];
    let rows = index.reshape([1, 1, blocks, 1]);
    let own = own(blocks, &device).expand(shape);
    let mut left = match noise {
        Some(noise) => scores + noise,
        None => scores,
    };
    // A score that is no number is no reason to see a block.
    left = left.clone().mask_fill(left.is_nan(), LOWEST);
    if causal {
        let future = columns
            .clone()
            .expand([1, 1, blocks, blocks])
            .greater(rows.expand([1, 1, blocks, blocks]))
            .expand(shape);
        left = left.mask_fill(future, LOWEST);
    }
    left = left.mask_fill(own.clone(), LOWEST);
    if top_k >= blocks {
        return own.bool_or(left.greater_elem(LOWEST));
    }
    let mut chosen = own;
    for _ in 1..top_k {
        let (best, at) = left.clone().max_dim_with_indices(3);
        // A block of queries may have fewer blocks to choose from.
        let is_one = best.greater_elem(LOWEST).expand(shape);
        let here = at.expand(shape).equal(columns.clone().expand(shape));
        left = left.mask_fill(here.clone(), LOWEST);
        chosen = chosen.bool_or(here.bool_and(is_one));
    }
    chosen
}

/// True on the diagonal, `[1, 1, blocks, blocks]`.
pub(super) fn own(blocks: usize, device: &Device) -> Tensor<4, Bool> {
    let index = Tensor::<1, Int>::arange(0..blocks as i64, device);
    let shape = [1, 1, blocks, blocks];
    let rows = index.clone().reshape([1, 1, blocks, 1]).expand(shape);
    index.reshape([1, 1, 1, blocks]).expand(shape).equal(rows)
}

/// Gumbel noise of the shape of `like` times `scale`, a function of `seed`.
pub(super) fn gumbel(like: &Tensor<4>, seed: u64, scale: f64) -> Tensor<4> {
    let shape = like.shape();
    let draw = |at: usize| {
        // In (0, 1), so that both logarithms are finite.
        let uniform = ((split_mix(seed, at as u64) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (-scale * (-uniform.ln()).ln()) as f32
    };
    let noise: Vec<f32> = (0..shape.num_elements()).map(draw).collect();
    let dtype: DType = like.dtype();
    let device = like.device().inner();
    Tensor::from_data(TensorData::new(noise, shape), (&device, dtype))
}
