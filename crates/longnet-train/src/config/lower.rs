//! From config sections to what the libraries take. All of it is here.

use super::sections::{Attention, AttentionKind};
use super::{Config, Recompute};
use crate::data::{ByteTokenizer, Tokenizer};
use burn_longnet::model::{LayerAttention, LongNetLMConfig};
use burn_longnet::pattern::{BlockPattern, Branch, HeadGroup};

impl Config {
    /// The model.
    pub fn language_model(&self) -> LongNetLMConfig {
        let (m, a) = (&self.model, &self.attention);
        // Reading the config has put the tokenizer's number there.
        let vocab = match m.vocab {
            0 => ByteTokenizer.vocab(),
            vocab => vocab,
        };
        let branches = a.segments.iter().zip(&a.dilations);
        LongNetLMConfig::new(vocab, m.d_model, m.layers, m.heads)
            .with_branches(branches.map(|(&w, &r)| Branch::from((w, r))).collect())
            .with_layer_attention(
                a.kind
                    .iter()
                    .map(|kind| layer_attention(a, *kind))
                    .collect(),
            )
            .with_head_assignment(a.assignment)
            .with_head_offset(a.offset)
            .with_gradient(a.gradient)
            .with_precision(a.precision)
            .with_attention_dropout(a.dropout)
            .with_n_kv_heads(m.kv_heads)
            .with_d_ff(m.ffn)
            .with_max_length(self.data.context)
            .with_residual(m.norm)
            .with_activation(m.activation)
            .with_positions(m.positions)
            .with_rotary_theta(m.rotary_theta)
            .with_xpos_scale_base(m.xpos_scale_base)
            .with_qk_norm(m.qk_norm)
            .with_tied_head(m.tie)
            .with_scale_embedding(m.embedding_scale)
            .with_norm_embedding(m.embedding_norm)
            .with_dropout(m.dropout)
            .with_checkpoint_activations(m.recompute != Recompute::None)
            .with_checkpoint_layers(match &m.recompute {
                Recompute::Layers(layers) => Some(layers.clone()),
                Recompute::None | Recompute::All => None,
            })
            .with_loss_chunk(self.train.loss_chunk)
    }

    /// What the heads of the layers see in `n` tokens: for each kind of layer, how many there are.
    ///
    /// # Panics
    ///
    /// If the config was not checked, or `n` is longer than its context and a pattern of blocks cannot be built
    /// at this length.
    pub fn layer_groups(&self, n: usize) -> Vec<(usize, Vec<HeadGroup>)> {
        let (lm, layers) = (self.language_model(), self.model.layers);
        let kinds = &self.attention.kind;
        let mut all: Vec<(AttentionKind, usize, Vec<HeadGroup>)> = Vec::new();
        for (layer, kind) in kinds.iter().enumerate().take(layers) {
            let count = (layers - layer).div_ceil(kinds.len());
            match all.iter_mut().find(|(known, ..)| known == kind) {
                Some((_, layers, _)) => *layers += count,
                None => {
                    let groups = lm.head_groups(layer, n);
                    let groups = groups.unwrap_or_else(|error| panic!("{error}"));
                    all.push((*kind, count, groups));
                }
            }
        }
        let without_kind = |(_, layers, groups)| (layers, groups);
        all.into_iter().map(without_kind).collect()
    }
}

fn layer_attention(attention: &Attention, kind: AttentionKind) -> LayerAttention {
    let Attention {
        block,
        top_k,
        scorer,
        ..
    } = *attention;
    match kind {
        AttentionKind::Dilated => LayerAttention::Dilated,
        AttentionKind::BlockSparse => LayerAttention::BlockSparse {
            // The config check asks for a pattern.
            pattern: attention.pattern.clone().unwrap_or(BlockPattern::All),
            block,
        },
        AttentionKind::Adaptive => LayerAttention::Adaptive {
            top_k,
            block,
            scorer,
        },
    }
}
