//! torchscale's LongNet: <https://github.com/microsoft/torchscale>.

mod args;
#[cfg(test)]
mod tests;

pub use args::DecoderArgs;

use super::state::{ImportError, StateDict};
use crate::attention::{
    MultiHeadDilatedAttention, MultiHeadDilatedAttentionConfig, MultiHeadSparseAttention,
    SparseAttention,
};
use crate::model::{LongNetLM, LongNetLMConfig};
use crate::pattern::{HeadOffset, MixGradient};
use burn::tensor::{DType, Device};

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
/// The configuration cannot work; a tensor is missing, has another shape, or has no place.
pub fn load_lm(
    config: &LongNetLMConfig,
    mut state: StateDict,
    device: &Device,
) -> Result<LongNetLM, ImportError> {
    config.validate(DType::F32)?;
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

fn fill_attention<A: SparseAttention>(
    state: &mut StateDict,
    attention: &mut MultiHeadSparseAttention<A>,
    prefix: &str,
) -> Result<(), ImportError> {
    let name = |part: &str| format!("{prefix}{part}");
    state.projections(attention, prefix)?;
    state.linear(&mut attention.output, &name("out_proj"))?;
    state.optional_norm(&mut attention.inner_norm, &name("inner_attn_ln"))
}
