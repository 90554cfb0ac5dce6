//! A sequence classifier over multi-head attention.

use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::activation::gelu;

#[derive(Module, Debug)]
pub struct Classifier {
    embedding: Embedding,
    attention: MultiHeadAttention,
    norm: LayerNorm,
    hidden: Linear,
    head: Linear,
}

impl Classifier {
    pub fn new(attention: &MultiHeadAttentionConfig, symbols: usize, device: &Device) -> Self {
        let d_model = attention.d_model;
        Self {
            embedding: EmbeddingConfig::new(symbols, d_model).init(device),
            attention: attention.init(device),
            norm: LayerNormConfig::new(d_model).init(device),
            hidden: LinearConfig::new(d_model, d_model).init(device),
            head: LinearConfig::new(d_model, 2).init(device),
        }
    }

    /// Symbols `[batch, n]` to the logits of the two classes `[batch, 2]`.
    pub fn forward(&self, symbols: Tensor<2, Int>) -> Tensor<2> {
        let x = self.embedding.forward(symbols);
        let attended = self.attention.forward(MhaInput::self_attn(x.clone()));
        let x = self.norm.forward(x + attended.context);
        let found = x.max_dim(1).squeeze_dim::<2>(1);
        self.head.forward(gelu(self.hidden.forward(found)))
    }
}
