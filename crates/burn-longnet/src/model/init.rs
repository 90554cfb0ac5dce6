//! How the parts of a model start.

use crate::norm::{LayerNorm, LayerNormConfig};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::Device;

/// A projection whose bias starts at 0.
pub(super) fn linear(
    from: usize,
    to: usize,
    bias: bool,
    initializer: &Initializer,
    device: &Device,
) -> Linear {
    let weight = LinearConfig::new(from, to)
        .with_bias(false)
        .with_initializer(initializer.clone());
    Linear {
        bias: bias.then(|| Initializer::Zeros.init([to], device)),
        ..weight.init(device)
    }
}

pub(super) fn norm(size: usize, epsilon: f64, device: &Device) -> LayerNorm {
    LayerNormConfig::new(size)
        .with_epsilon(epsilon)
        .init(device)
}

/// Vectors of about unit length.
pub(super) fn embedding(count: usize, size: usize, device: &Device) -> Embedding {
    EmbeddingConfig::new(count, size)
        .with_initializer(unit(size))
        .init(device)
}

/// Normal, such that `size` of them have unit length.
pub(super) fn unit(size: usize) -> Initializer {
    Initializer::Normal {
        mean: 0.0,
        std: (size as f64).powf(-0.5),
    }
}
