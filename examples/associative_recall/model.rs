//! A small encoder of bytes.

use crate::task::SYMBOLS;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn_longnet::attention::{MultiHeadDilatedAttentionConfig, branches};
use burn_longnet::model::{
    FeedForwardConfig, LayerAttention, LayerContext, Residual, TransformerLayer,
    TransformerLayerConfig,
};

const D_MODEL: usize = 64;
const HEADS: usize = 4;
const LAYERS: usize = 2;

/// Two layers over bytes, each of which also knows the byte before it.
#[derive(Module, Debug)]
pub struct Encoder {
    byte: Embedding,
    byte_before: Embedding,
    layers: Vec<TransformerLayer>,
    norm: LayerNorm,
    head: Linear,
}

impl Encoder {
    /// With attention of `kind`; its dilated branches are `pairs` of segment and dilation.
    pub fn new(kind: &LayerAttention, pairs: &[(usize, usize)], device: &Device) -> Self {
        let embedding = || EmbeddingConfig::new(256, D_MODEL).init(device);
        let attention = MultiHeadDilatedAttentionConfig::new(D_MODEL, HEADS)
            .with_branches(branches(pairs.iter().copied()))
            .with_dropout(0.0);
        let layer = TransformerLayerConfig::new(
            attention,
            FeedForwardConfig::new(D_MODEL, 2 * D_MODEL),
            LAYERS,
        )
        .with_kind(kind.clone())
        .with_residual(Residual::PreNorm);
        Self {
            byte: embedding(),
            byte_before: embedding(),
            layers: (0..LAYERS).map(|_| layer.init(device)).collect(),
            norm: LayerNormConfig::new(D_MODEL).init(device),
            head: LinearConfig::new(D_MODEL, SYMBOLS).init(device),
        }
    }

    /// Bytes `[batch, n]` to the logits of values at `places`, `[places, SYMBOLS]`. Adaptive attention tries other
    /// blocks than its best where it has a seed.
    pub fn forward(
        &self,
        bytes: Tensor<2, Int>,
        places: Tensor<1, Int>,
        seed: Option<u64>,
    ) -> Tensor<2> {
        let [batch, n] = bytes.dims();
        let before = bytes.clone().slice([0..batch, 0..n - 1]);
        let before = Tensor::cat(vec![before.zeros_like().slice([0..batch, 0..1]), before], 1);
        let mut x = self.byte.forward(bytes) + self.byte_before.forward(before);
        for (number, layer) in self.layers.iter().enumerate() {
            let context = LayerContext {
                seed: seed.map(|seed| seed * LAYERS as u64 + number as u64),
                ..LayerContext::default()
            };
            x = layer.forward(x, &context);
        }
        let asked = x.reshape([batch * n, D_MODEL]).select(0, places);
        self.head.forward(self.norm.forward(asked))
    }
}
