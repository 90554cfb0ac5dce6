//! torchscale's LongNet: <https://github.com/microsoft/torchscale>.

use super::state::{ImportError, StateDict};
use crate::attention::{MultiHeadDilatedAttention, MultiHeadDilatedAttentionConfig};
use crate::model::{Activation, LongNetLM, LongNetLMConfig, Positions, Residual};
use crate::pattern::{Branch, HeadOffset, MixGradient};
use burn::tensor::Device;
use serde::Deserialize;

/// `config` with the choices that torchscale has made: offsets by group, mixing weights that are
/// constants in the backward pass, no attention dropout. Tails are left: see
/// [`Tail::ZeroKeys`](crate::pattern::Tail::ZeroKeys) for models that are not causal.
pub fn attention_config(
    config: MultiHeadDilatedAttentionConfig,
) -> MultiHeadDilatedAttentionConfig {
    config
        .with_head_offset(HeadOffset::ByGroup)
        .with_gradient(MixGradient::Detached)
        .with_dropout(0.0)
}

/// Fills the attention with the weights of torchscale's `DilatedAttention`: `q_proj`, `k_proj`,
/// `v_proj`, `out_proj` and, with sub-LayerNorm, `inner_attn_ln`.
///
/// # Errors
///
/// A tensor is missing, has another shape, or has no place.
pub fn load_attention(
    mut attention: MultiHeadDilatedAttention,
    mut state: StateDict,
) -> Result<MultiHeadDilatedAttention, ImportError> {
    discard_buffers(&mut state);
    fill_attention(&mut state, &mut attention, "")?;
    state.finish()?;
    Ok(attention)
}

/// A new model with the weights of torchscale's `LongNetDecoder`.
///
/// # Errors
///
/// A tensor is missing, has another shape, or has no place.
///
/// # Panics
///
/// If the configuration cannot work.
pub fn load_lm(
    config: &LongNetLMConfig,
    mut state: StateDict,
    device: &Device,
) -> Result<LongNetLM, ImportError> {
    let mut lm = config.init(device);
    discard_buffers(&mut state);
    state.embedding(&mut lm.embedding, "embed_tokens")?;
    if let Some(positions) = &mut lm.positions {
        state.embedding(positions, "embed_positions")?;
    }
    state.optional_norm(&mut lm.embedding_norm, "layernorm_embedding")?;
    for (i, layer) in lm.layers.iter_mut().enumerate() {
        let name = |part: &str| format!("layers.{i}.{part}");
        fill_attention(&mut state, &mut layer.attention, &name("self_attn."))?;
        state.norm(&mut layer.attention_norm, &name("self_attn_layer_norm"))?;
        state.linear(&mut layer.feed_forward.inner, &name("ffn.fc1"))?;
        state.linear(&mut layer.feed_forward.outer, &name("ffn.fc2"))?;
        state.optional_norm(&mut layer.feed_forward.norm, &name("ffn.ffn_layernorm"))?;
        state.norm(&mut layer.feed_forward_norm, &name("final_layer_norm"))?;
    }
    state.optional_norm(&mut lm.norm, "layer_norm")?;
    match &mut lm.head {
        Some(head) => state.linear(head, "output_projection")?,
        // The embedding once more.
        None => state.discard(|name| name == "output_projection.weight"),
    }
    state.finish()?;
    Ok(lm)
}

/// Constants that torchscale stores beside the weights.
fn discard_buffers(state: &mut StateDict) {
    state.discard(|name| name == "version" || name.ends_with("xpos.scale"));
}

fn fill_attention(
    state: &mut StateDict,
    attention: &mut MultiHeadDilatedAttention,
    prefix: &str,
) -> Result<(), ImportError> {
    let name = |part: &str| format!("{prefix}{part}");
    state.projections(attention, prefix)?;
    state.linear(&mut attention.output, &name("out_proj"))?;
    state.optional_norm(&mut attention.inner_norm, &name("inner_attn_ln"))
}

impl StateDict {
    /// `q_proj`, `k_proj` and `v_proj` under `prefix`, into three projections or one.
    pub(super) fn projections(
        &mut self,
        attention: &mut MultiHeadDilatedAttention,
        prefix: &str,
    ) -> Result<(), ImportError> {
        let names = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{prefix}{part}"));
        if let Some(qkv) = &mut attention.qkv {
            let fused = format!("{prefix}qkv_proj");
            self.fuse(&names.each_ref().map(String::as_str), &fused);
            return self.linear(qkv, &fused);
        }
        let MultiHeadDilatedAttention {
            query, key, value, ..
        } = attention;
        for (linear, name) in [query, key, value].into_iter().zip(&names) {
            if let Some(linear) = linear {
                self.linear(linear, name)?;
            }
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn args() -> DecoderArgs {
        DecoderArgs {
            vocab_size: 7,
            decoder_embed_dim: 8,
            decoder_attention_heads: 2,
            decoder_ffn_embed_dim: 12,
            decoder_layers: 1,
            segment_length: vec![4, 8],
            dilated_ratio: vec![1, 2],
            ..DecoderArgs::default()
        }
    }

    fn state(extra: &[(&str, &[usize])]) -> StateDict {
        let attention = ["q_proj", "k_proj", "v_proj", "out_proj"];
        let mut shapes: Vec<(String, Vec<usize>)> = vec![
            ("embed_tokens.weight".into(), vec![7, 8]),
            ("output_projection.weight".into(), vec![7, 8]),
            ("layers.0.ffn.fc1.weight".into(), vec![12, 8]),
            ("layers.0.ffn.fc1.bias".into(), vec![12]),
            ("layers.0.ffn.fc2.weight".into(), vec![8, 12]),
            ("layers.0.ffn.fc2.bias".into(), vec![8]),
        ];
        for part in attention {
            shapes.push((format!("layers.0.self_attn.{part}.weight"), vec![8, 8]));
            shapes.push((format!("layers.0.self_attn.{part}.bias"), vec![8]));
        }
        for (norm, size) in [
            ("layers.0.self_attn.inner_attn_ln", 8),
            ("layers.0.self_attn_layer_norm", 8),
            ("layers.0.ffn.ffn_layernorm", 12),
            ("layers.0.final_layer_norm", 8),
            ("layer_norm", 8),
        ] {
            shapes.push((format!("{norm}.weight"), vec![size]));
            shapes.push((format!("{norm}.bias"), vec![size]));
        }
        shapes.extend(
            extra
                .iter()
                .map(|(name, shape)| (name.to_string(), shape.to_vec())),
        );
        let fill = |(name, shape): (String, Vec<usize>)| {
            let count = shape.iter().product();
            let values = (0..count).map(|i| i as f32).collect();
            (name, TensorData::new::<f32, _>(values, shape))
        };
        shapes.into_iter().map(fill).collect()
    }

    fn load(args: &DecoderArgs, state: StateDict) -> Result<LongNetLM, ImportError> {
        load_lm(&args.config(&state)?, state, &Device::default().autodiff())
    }

    #[test]
    fn weights_are_transposed_and_still_learn() {
        let lm = load(&args(), state(&[])).unwrap();
        let inner = &lm.layers[0].feed_forward.inner.weight;
        assert!(inner.is_require_grad());
        let row = inner.val().slice([0..1, 0..12]).into_data();
        let expected: Vec<f32> = (0..12).map(|out| (out * 8) as f32).collect();
        assert_eq!(row.try_to_vec::<f32>().unwrap(), expected);
        assert_eq!(
            lm.embedding
                .weight
                .val()
                .slice([0..1, 7..8])
                .into_scalar::<f32>(),
            7.0
        );
    }

    #[test]
    fn a_fused_projection_takes_the_three() {
        let config = args().config(&state(&[])).unwrap().with_fused_qkv(true);
        let lm = load_lm(&config, state(&[]), &Device::default()).unwrap();
        let qkv = lm.layers[0].attention.qkv.as_ref().unwrap();
        let first = qkv.weight.val().slice([0..1, 0..24]).into_data();
        let expected: Vec<f32> = (0..24).map(|out| (out % 8 * 8) as f32).collect();
        assert_eq!(first.try_to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn learned_positions_are_found_in_the_state() {
        let state = state(&[("embed_positions.weight", &[34, 8])]);
        let config = args().config(&state).unwrap();
        assert_eq!(config.positions, Positions::Learned);
        assert_eq!((config.max_length, config.learned_offset), (32, 2));
        load(&args(), state).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = load(&args(), state(&[("lm.extra", &[1])])).unwrap_err();
        assert!(error.to_string().contains("lm.extra"), "{error}");
        let more = DecoderArgs {
            decoder_layers: 2,
            ..args()
        };
        let error = load(&more, state(&[])).unwrap_err().to_string();
        assert!(
            error.contains("`layers.1.self_attn.q_proj.weight` of shape [8, 8]"),
            "{error}"
        );
        let wide = DecoderArgs {
            decoder_ffn_embed_dim: 16,
            ..args()
        };
        let error = load(&wide, state(&[])).unwrap_err().to_string();
        assert!(
            error.contains("`layers.0.ffn.fc1.weight` has shape [12, 8]"),
            "{error}"
        );
        let experts = DecoderArgs {
            moe_freq: 2,
            ..args()
        };
        let error = experts.config(&state(&[])).unwrap_err().to_string();
        assert!(error.contains("moe_freq"), "{error}");
        let error = StateDict::from_safetensors("nowhere.safetensors").unwrap_err();
        assert!(error.to_string().contains("nowhere.safetensors"), "{error}");
    }
}
