//! FLOPs of the model, as utilisation counts them.

use crate::config::Config;
use burn_longnet::attention::BlockScorer;
use burn_longnet::model::{Activation, LayerAttention};
use burn_longnet::pattern::{Sizes, Span};
use std::collections::BTreeMap;

/// FLOPs a token of a forward and a backward pass. A multiply-add is two; what is computed again to save
/// memory does not count, nor do norms, activations and the optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Products with weight matrices, the head's among them: 6 for each weight.
    pub weights: f64,
    /// Products over the visited pairs: two forward and five backward; and where blocks are chosen, those of their
    /// scores: one forward and, if they are learned, two backward.
    pub attention: f64,
}

impl Flops {
    /// Those of a checked config, and the key positions that a query of one head sees on average over the
    /// layers.
    pub fn of(config: &Config) -> (Self, f64) {
        let (m, n) = (&config.model, config.data.context);
        let head = m.d_model / m.heads;
        let (mut products, mut pairs) = (0, 0);
        for (layers, groups) in config.layer_groups(n) {
            for group in groups {
                let schedule = group.pattern.schedule(Span::full(n));
                let schedule = schedule.expect("a masked tail has a schedule at every length");
                let cost = schedule.cost(&Sizes {
                    batch: 1,
                    kv_heads: group.heads.len(),
                    d: head,
                    d_v: head,
                    bytes_per_element: 4,
                });
                products += (cost.forward_flops + cost.backward_flops) * layers as u64;
                pairs += cost.pairs * layers as u64;
            }
        }
        let (lm, learned) = (
            config.language_model(),
            config.attention.scorer == BlockScorer::Learned,
        );
        for layer in 0..m.layers {
            if let LayerAttention::Adaptive { block, .. } = lm.kind(layer) {
                let scores = m.heads as u64 * (n.div_ceil(block) as u64).pow(2);
                products += scores * 2 * head as u64 * if learned { 3 } else { 1 };
            }
        }
        let flops = Self {
            weights: 6.0 * Self::of_weights(config),
            attention: products as f64 / n as f64,
        };
        (flops, pairs as f64 / (n * m.heads * m.layers) as f64)
    }

    /// Elements of the matrices that multiply each token, the head's among them.
    pub(super) fn of_weights(config: &Config) -> f64 {
        let (m, lm) = (&config.model, config.language_model());
        let head = m.d_model / m.heads;
        let (d, queries) = (m.d_model, m.heads * head);
        let keys = m.kv_heads.unwrap_or(m.heads) * head;
        let inner = match m.activation {
            Activation::SwiGlu => 3,
            _ => 2,
        };
        let layer = 2 * d * queries + 2 * d * keys + inner * d * lm.feed_forward_width();
        (m.layers * layer + lm.vocab_size * d) as f64
    }

    /// All of them, at each context that a run meets.
    pub fn by_context(config: &Config) -> BTreeMap<usize, f64> {
        let stages = config.data.context_schedule.iter();
        let contexts = stages.map(|stage| stage.value).chain([config.data.context]);
        let at = |context| {
            let mut config = config.clone();
            config.data.context = context;
            (context, Self::of(&config).0.total())
        };
        contexts.map(at).collect()
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.weights + self.attention
    }
}
