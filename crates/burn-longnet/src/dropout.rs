//! Dropout that a seed determines, so that a layer computed twice drops the same.

use crate::pattern::Dropout;
use crate::ring::SequenceShard;
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use std::cell::Cell;

/// Whether a call drops, and by which seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropoutSeed {
    /// On under autodiff, with a seed from the device's generator.
    #[default]
    Draw,
    /// On, with this seed.
    Given(u64),
    /// Off.
    Off,
}

impl From<u64> for DropoutSeed {
    fn from(seed: u64) -> Self {
        Self::Given(seed)
    }
}

impl From<Option<u64>> for DropoutSeed {
    /// `None` is [`Draw`](Self::Draw).
    fn from(seed: Option<u64>) -> Self {
        seed.map_or(Self::Draw, Self::Given)
    }
}

impl DropoutSeed {
    /// The seed of a call on `device`, or `None` where dropout is off.
    pub(crate) fn resolve(self, device: &Device) -> Option<u64> {
        match self {
            Self::Draw => device.is_autodiff().then(|| draw_seed(device)),
            Self::Given(seed) => Some(seed),
            Self::Off => None,
        }
    }
}

thread_local! {
    static MAY_DRAW: Cell<bool> = const { Cell::new(true) };
}

/// What `f` returns, which runs twice and so may draw no seed.
pub(crate) fn without_drawing<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_DRAW.set(self.0);
        }
    }
    let _restore = Restore(MAY_DRAW.replace(false));
    f()
}

/// A seed from the device's own generator, which [`Device::seed`] sets.
///
/// # Panics
///
/// In [`without_drawing`].
fn draw_seed(device: &Device) -> u64 {
    assert!(
        MAY_DRAW.get(),
        "dropout without a seed in a recomputed function would drop something else in the backward pass; give the input a seed, or DropoutSeed::Off"
    );
    let range = Distribution::Uniform(0.0, (1u32 << 24) as f64);
    let drawn = Tensor::<1, Int>::random([3], range, &device.clone().inner());
    let words = drawn.into_data();
    words
        .iter::<i64>()
        .fold(0, |seed, word| seed << 24 ^ word as u64)
}

/// The seed of one of several places that draw from the same seed. Places may have places of their
/// own: a sum of place numbers would give many of them one seed.
pub(crate) fn derive_seed(seed: u64, place: u64) -> u64 {
    split_mix(split_mix(seed, 0), place)
}

/// Number `at` of the stream of `seed`: SplitMix64 (Steele et al., 2014).
pub(crate) fn split_mix(seed: u64, at: u64) -> u64 {
    let mut x = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// `x` with each element dropped with probability `p` and the others scaled by `1 / (1 - p)`, or
/// `x` itself without a seed. The mask is drawn on the host.
pub(crate) fn dropout<const D: usize>(x: Tensor<D>, p: f64, seed: Option<u64>) -> Tensor<D> {
    dropout_of_rows(x, p, seed, |row| row)
}

/// As [`dropout`] of `[batch, rows, width]`: a shard drops what the whole sequence drops there.
pub(crate) fn dropout_on(
    x: Tensor<3>,
    p: f64,
    seed: Option<u64>,
    shard: Option<&SequenceShard>,
) -> Tensor<3> {
    let Some(shard) = shard.filter(|_| seed.is_some() && p > 0.0) else {
        return dropout(x, p, seed);
    };
    let positions: Vec<usize> = shard.shards().positions(shard.rank()).collect();
    let (rows, n) = (positions.len().max(1), shard.n());
    dropout_of_rows(x, p, seed, |row| row / rows * n + positions[row % rows])
}

/// `row_of`: the number that a row has in the whole tensor.
fn dropout_of_rows<const D: usize>(
    x: Tensor<D>,
    p: f64,
    seed: Option<u64>,
    row_of: impl Fn(usize) -> usize,
) -> Tensor<D> {
    let Some(seed) = seed.filter(|_| p > 0.0) else {
        return x;
    };
    let dropout = Dropout { p, seed };
    let (key, threshold) = (dropout.key(0, 1, 0), dropout.threshold());
    let (shape, scale) = (x.shape(), dropout.scale() as f32);
    let width = shape[D - 1].max(1);
    let kept =
        |at: usize| u64::from(Dropout::draw(key, row_of(at / width), at % width)) >= threshold;
    let mask = (0..shape.num_elements())
        .map(|at| if kept(at) { scale } else { 0.0 })
        .collect();
    let dtype: DType = x.dtype();
    let device = x.device().inner();
    x * Tensor::from_data(TensorData::new::<f32, _>(mask, shape), (&device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_drops_the_stated_share_and_keeps_the_mean() {
        let x = Tensor::<2>::ones([300, 100], &Device::default());
        let dropped = dropout(x.clone(), 0.3, Some(7));
        let zeros = dropped
            .clone()
            .equal_elem(0.0)
            .int()
            .sum()
            .into_scalar::<i64>();
        assert!((zeros as f64 / 30_000.0 - 0.3).abs() < 0.01, "{zeros}");
        assert!((dropped.clone().mean().into_scalar::<f32>() - 1.0).abs() < 0.02);
        let again = dropout(x.clone(), 0.3, Some(7));
        again
            .into_data()
            .assert_eq(&dropped.clone().into_data(), true);
        let other = dropout(x, 0.3, Some(8));
        assert_ne!(other.into_data(), dropped.into_data());
    }

    #[test]
    fn the_device_s_generator_determines_the_seeds() {
        let device = Device::default();
        device.seed(5);
        let drawn = [draw_seed(&device), draw_seed(&device)];
        assert_ne!(drawn[0], drawn[1]);
        assert_ne!(derive_seed(drawn[0], 0), derive_seed(drawn[0], 1));
    }

    #[test]
    fn no_two_places_of_a_deep_model_share_a_seed() {
        let mut all = std::collections::HashSet::new();
        for layer in 0..200 {
            let own = derive_seed(7, layer);
            assert!(all.insert(own));
            for place in 0..8 {
                assert!(all.insert(derive_seed(own, place)), "{layer} {place}");
            }
        }
    }
}
