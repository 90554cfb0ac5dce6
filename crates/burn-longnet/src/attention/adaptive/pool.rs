//! Blocks of positions as one vector each.

use burn::tensor::Tensor;

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

#[cfg(test)]
mod tests {
    use super::means;
    use burn::tensor::{Device, Int, Tensor};

    #[test]
    fn a_short_last_block_is_a_mean_of_its_own_positions() {
        let positions = |n: i64| {
            let x = Tensor::<1, Int>::arange(0..n, &Device::default()).float();
            means(x.reshape([1, 1, n, 1]), 4).into_data()
        };
        let values = |n| positions(n).iter::<f32>().collect::<Vec<f32>>();
        assert_eq!(values(8), [1.5, 5.5]);
        assert_eq!(values(11), [1.5, 5.5, 9.0]);
        assert_eq!(values(3), [1.0]);
        assert_eq!(values(1), [0.0]);
    }
}
