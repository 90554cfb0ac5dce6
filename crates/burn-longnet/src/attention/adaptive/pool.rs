//! Blocks of positions as one vector each.

use burn::tensor::{Bool, Tensor};

/// The means of blocks of `block` positions, the last of which may be shorter: `[batch, heads, n, d]` to
/// `[batch, heads, blocks, d]`.
pub(super) fn means(x: Tensor<4>, block: usize) -> Tensor<4> {
    let [batch, heads, n, d] = x.dims();
    let (whole, rest) = (n / block, n % block);
    let mean = |x: Tensor<4>, blocks: usize, block: usize| {
        x.reshape([batch, heads, blocks, block, d])
            .mean_dim(3)
            .squeeze_dim::<4>(3)
    };
    let tail = || mean(x.clone().slice_dim(2, whole * block..n), 1, rest);
    match (whole, rest) {
        (_, 0) => mean(x, whole, block),
        (0, _) => tail(),
        _ => {
            let head = mean(x.clone().slice_dim(2, 0..whole * block), whole, block);
            Tensor::cat(vec![head, tail()], 2)
        }
    }
}

/// As [`means`], of the positions that every row of a block may see: the `block` ones up to its first.
pub(super) fn means_before(x: Tensor<4>, block: usize) -> Tensor<4> {
    let n = x.dims()[2];
    let others = n.div_ceil(block) - 1;
    let first = x.clone().slice_dim(2, 0..1);
    match others {
        0 => first,
        _ => {
            let rest = means(x.slice_dim(2, 1..1 + others * block), block);
            Tensor::cat(vec![first, rest], 2)
        }
    }
}

/// What `means` gives of the positions that are no padding; `[batch, n]`, true is padding. Zero where all are.
pub(super) fn without_padding(
    x: Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
    block: usize,
    means: fn(Tensor<4>, usize) -> Tensor<4>,
) -> Tensor<4> {
    let Some(padding) = padding else {
        return means(x, block);
    };
    let [batch, _, n, _] = x.dims();
    let padding = padding.clone().inner().reshape([batch, 1, n, 1]);
    let like = x
        .clone()
        .detach()
        .inner()
        .slice([0..batch, 0..1, 0..n, 0..1]);
    let kept = like.ones_like().mask_fill(padding.clone(), 0.0);
    let share = means(kept, block).clamp_min(0.5 / block as f64);
    let padding = padding.expand(x.dims());
    let (padding, share) = match x.is_autodiff() {
        true => (padding.autodiff(), Tensor::from_inner(share)),
        false => (padding, share),
    };
    means(x.mask_fill(padding, 0.0), block) / share
}

#[cfg(test)]
mod tests {
    use super::{means, means_before};
    use burn::tensor::{Device, Int, Tensor};

    #[test]
    fn a_short_last_block_is_a_mean_of_its_own_positions() {
        let values = |n| of_positions(n, means);
        assert_eq!(values(8), [1.5, 5.5]);
        assert_eq!(values(11), [1.5, 5.5, 9.0]);
        assert_eq!(values(3), [1.0]);
        assert_eq!(values(1), [0.0]);
    }
    fn of_positions(n: i64, pool: fn(Tensor<4>, usize) -> Tensor<4>) -> Vec<f32> {
        let x = Tensor::<1, Int>::arange(0..n, &Device::default()).float();
        let pooled = pool(x.reshape([1, 1, n, 1]), 4);
        pooled.into_data().iter::<f32>().collect()
    }

    #[test]
    fn what_is_before_a_block_ends_with_its_first_position() {
        // 0; 1 to 4; 5 to 8.
        assert_eq!(of_positions(9, means_before), [0.0, 2.5, 6.5]);
        assert_eq!(of_positions(12, means_before), [0.0, 2.5, 6.5]);
        assert_eq!(of_positions(5, means_before), [0.0, 2.5]);
        assert_eq!(of_positions(4, means_before), [0.0]);
        assert_eq!(of_positions(1, means_before), [0.0]);
    }
}
