//! Models of known sizes, and the size of any.

use super::feed_forward::Activation;
use super::layer::Residual;
use super::lm_config::{LongNetLMConfig, Positions};
use crate::attention::{QkNorm, branches};

impl LongNetLMConfig {
    /// A model to try things with: 4 layers of 128, contexts of 4096.
    pub fn tiny(vocab_size: usize) -> Self {
        Self::new(vocab_size, 128, 4, 4)
            .with_branches(branches([(512, 1), (1024, 2), (4096, 8)]))
            .with_max_length(4096)
    }

    /// 4 layers of 256, contexts of 4096: some 3 million parameters beside the embedding.
    pub fn small(vocab_size: usize) -> Self {
        Self::new(vocab_size, 256, 4, 4)
            .with_branches(branches([(1024, 1), (2048, 2), (4096, 4)]))
            .with_max_length(4096)
    }

    /// The paper's 125M: 12 layers of 768.
    pub fn longnet_125m(vocab_size: usize) -> Self {
        Self::new(vocab_size, 768, 12, 12)
    }

    /// The paper's 350M: 24 layers of 1024.
    pub fn longnet_350m(vocab_size: usize) -> Self {
        Self::new(vocab_size, 1024, 24, 16)
    }

    /// The paper's 760M: 24 layers of 1536.
    pub fn longnet_760m(vocab_size: usize) -> Self {
        Self::new(vocab_size, 1536, 24, 16)
    }

    /// The paper's 2.7B: 32 layers of 2560.
    pub fn longnet_2_7b(vocab_size: usize) -> Self {
        Self::new(vocab_size, 2560, 32, 32)
    }

    /// The number of parameters, without making them.
    pub fn num_params(&self) -> usize {
        let Self {
            d_model: d,
            vocab_size,
            ..
        } = *self;
        let attention = self.attention();
        let bias = usize::from(self.bias);
        let linear = |from: usize, to: usize| (from + bias) * to;
        let (queries, keys) = (
            self.n_heads * attention.head_width(),
            attention.kv_heads() * attention.head_width(),
        );
        let width = self.feed_forward_width();
        let gates = 1 + usize::from(self.activation == Activation::SwiGlu);
        let sub_norms = match self.residual {
            Residual::SubLayerNorm => 2 * queries + 2 * width,
            _ => 0,
        };
        let qk_norms = match self.qk_norm {
            QkNorm::None => 0,
            QkNorm::PerHead => 4 * attention.head_width(),
            QkNorm::Full => 2 * queries + 2 * keys,
        };
        let layer = linear(d, queries)
            + 2 * linear(d, keys)
            + linear(queries, d)
            + gates * linear(d, width)
            + linear(width, d)
            + sub_norms
            + qk_norms
            + 4 * d;
        let positions = match self.positions {
            Positions::Learned => (self.max_length + self.learned_offset) * d,
            _ => 0,
        };
        let norms = usize::from(self.norm_embedding) + usize::from(self.residual.is_pre_norm());
        let head = match self.tied_head {
            true => 0,
            false => (d + usize::from(self.head_bias)) * vocab_size,
        };
        let kinds =
            (0..self.n_layers).map(|layer| self.kind(layer).num_params(attention.head_width()));
        vocab_size * d
            + positions
            + self.n_layers * layer
            + kinds.sum::<usize>()
            + 2 * d * norms
            + head
    }
}
