//! torchscale's arguments of a decoder.

use crate::interop::state::{ImportError, StateDict};
use crate::model::{Activation, LongNetLMConfig, Positions, Residual};
use crate::pattern::{Branch, HeadOffset, MixGradient};
use serde::Deserialize;

/// The arguments of torchscale's `DecoderConfig` that say what a language model computes, by their
/// names there. Others are ignored.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are torchscale's own")]
pub struct DecoderArgs {
    pub vocab_size: usize,
    pub decoder_embed_dim: usize,
    pub decoder_attention_heads: usize,
    pub decoder_ffn_embed_dim: usize,
    pub decoder_layers: usize,
    pub decoder_normalize_before: bool,
    pub activation_fn: String,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub activation_dropout: f64,
    pub no_scale_embedding: bool,
    pub layernorm_embedding: bool,
    pub deepnorm: bool,
    pub subln: bool,
    pub share_decoder_input_output_embed: bool,
    pub max_target_positions: usize,
    pub layernorm_eps: f64,
    pub xpos_rel_pos: bool,
    pub xpos_scale_base: f64,
    pub segment_length: Vec<usize>,
    pub dilated_ratio: Vec<usize>,
    pub moe_freq: usize,
    pub multiway: bool,
    pub rel_pos_buckets: usize,
}

impl Default for DecoderArgs {
    /// torchscale's defaults, with one branch of undilated attention.
    fn default() -> Self {
        Self {
            vocab_size: 0,
            decoder_embed_dim: 768,
            decoder_attention_heads: 12,
            decoder_ffn_embed_dim: 3072,
            decoder_layers: 12,
            decoder_normalize_before: true,
            activation_fn: "gelu".to_owned(),
            dropout: 0.0,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            no_scale_embedding: true,
            layernorm_embedding: false,
            deepnorm: false,
            subln: true,
            share_decoder_input_output_embed: false,
            max_target_positions: 1024,
            layernorm_eps: 1e-5,
            xpos_rel_pos: false,
            xpos_scale_base: 512.0,
            segment_length: vec![1 << 48],
            dilated_ratio: vec![1],
            moe_freq: 0,
            multiway: false,
            rel_pos_buckets: 0,
        }
    }
}

impl DecoderArgs {
    /// The configuration of the model. Whether and how many positions are learned is not among the
    /// arguments: `state` says it.
    ///
    /// # Errors
    ///
    /// An argument has no counterpart here.
    pub fn config(&self, state: &StateDict) -> Result<LongNetLMConfig, ImportError> {
        let unsupported = |option, reason| Err(ImportError::Unsupported { option, reason });
        if self.moe_freq > 0 {
            return unsupported("moe_freq", "there are no mixtures of experts here");
        }
        if self.multiway {
            return unsupported("multiway", "there is one set of weights a layer here");
        }
        if self.rel_pos_buckets > 0 {
            return unsupported("rel_pos_buckets", "there are no biases by distance here");
        }
        if self.segment_length.len() != self.dilated_ratio.len() {
            return unsupported(
                "segment_length",
                "give as many segment lengths as dilated ratios",
            );
        }
        let activation = match self.activation_fn.as_str() {
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "swish" => Activation::Swish,
            _ => return unsupported("activation_fn", "use gelu, relu or swish"),
        };
        let residual = match (self.deepnorm, self.subln, self.decoder_normalize_before) {
            (true, ..) => Residual::DeepNorm,
            (_, true, _) => Residual::SubLayerNorm,
            (_, _, true) => Residual::PreNorm,
            (_, _, false) => Residual::PostNorm,
        };
        // Its first two learned vectors belong to no position.
        let offset = 2;
        let learned = state
            .shape("embed_positions.weight")
            .map(|shape| shape[0].saturating_sub(offset));
        let positions = match (self.xpos_rel_pos, learned) {
            (true, Some(_)) => {
                return unsupported("xpos_rel_pos", "with learned positions as well");
            }
            (true, None) => Positions::XPos,
            (false, Some(_)) => Positions::Learned,
            (false, None) => Positions::None,
        };
        let pairs = self.segment_length.iter().zip(&self.dilated_ratio);
        let config = LongNetLMConfig::new(
            self.vocab_size,
            self.decoder_embed_dim,
            self.decoder_layers,
            self.decoder_attention_heads,
        );
        Ok(config
            .with_branches(pairs.map(|(w, r)| Branch::from((*w, *r))).collect())
            .with_head_offset(HeadOffset::ByGroup)
            .with_gradient(MixGradient::Detached)
            .with_d_ff(Some(self.decoder_ffn_embed_dim))
            .with_max_length(learned.unwrap_or(self.max_target_positions))
            .with_residual(residual)
            .with_activation(activation)
            .with_positions(positions)
            .with_xpos_scale_base(self.xpos_scale_base)
            .with_learned_offset(if learned.is_some() { offset } else { 0 })
            .with_tied_head(self.share_decoder_input_output_embed)
            .with_scale_embedding(!self.no_scale_embedding)
            .with_norm_embedding(self.layernorm_embedding)
            .with_norm_epsilon(self.layernorm_eps)
            .with_dropout(self.dropout)
            .with_attention_dropout(self.attention_dropout)
            .with_activation_dropout(self.activation_dropout))
    }
}
