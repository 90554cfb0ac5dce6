//! dilated-attention-pytorch: <https://github.com/fkodom/dilated-attention-pytorch>.

use super::state::{ImportError, StateDict};
use crate::attention::{
    InnerNorm, MultiHeadDilatedAttention, MultiHeadDilatedAttentionConfig, QkNorm,
};
use crate::pattern::HeadAssignment;

/// `config` with the choices that the project's `MultiheadDilatedAttention` has made: each group of
/// heads runs one branch; its outputs are divided by the number of branches; and, with `layer_norm`,
/// queries and keys are normalised over all heads, and the merged heads by the norm of the queries.
pub fn attention_config(
    config: MultiHeadDilatedAttentionConfig,
    layer_norm: bool,
) -> MultiHeadDilatedAttentionConfig {
    let (qk_norm, inner_norm) = match layer_norm {
        true => (QkNorm::Full, InnerNorm::QueryNorm),
        false => (QkNorm::None, InnerNorm::None),
    };
    let branches = config.branches.len() as f64;
    config
        .with_head_assignment(HeadAssignment::Grouped)
        .with_context_scale(1.0 / branches)
        .with_qk_norm(qk_norm)
        .with_inner_norm(inner_norm)
        .with_dropout(0.0)
}

/// Fills the attention with the weights of a `MultiheadDilatedAttention`: `q_proj`, `k_proj`,
/// `v_proj`, `out_proj` and, with layer norm, `q_ln` and `k_ln`.
///
/// # Errors
///
/// A tensor is missing, has another shape, or has no place.
pub fn load_attention(
    mut attention: MultiHeadDilatedAttention,
    mut state: StateDict,
) -> Result<MultiHeadDilatedAttention, ImportError> {
    state.projections(&mut attention, "")?;
    state.linear(&mut attention.output, "out_proj")?;
    state.optional_norm(&mut attention.query_norm, "q_ln")?;
    state.optional_norm(&mut attention.key_norm, "k_ln")?;
    state.finish()?;
    Ok(attention)
}
