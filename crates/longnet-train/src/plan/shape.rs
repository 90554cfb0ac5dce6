//! The sizes of a run that its memory depends on.

use crate::config::Config;
use burn_longnet::attention::QkNorm;
use burn_longnet::model::{Activation, Positions, Residual};

/// Sizes as numbers that large products do not overflow.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    /// Tokens of one pass on one device.
    pub tokens: f64,
    /// Positions of one sequence on one device.
    pub context: f64,
    pub accumulate: usize,
    pub layers: usize,
    pub d: f64,
    /// Width of all queries together, and of all keys or all values.
    pub queries: f64,
    pub keys: f64,
    pub heads: f64,
    /// Width of one head.
    pub head: f64,
    pub ff: f64,
    pub vocabulary: f64,
    pub parameters: f64,
    pub layer_parameters: f64,
    /// Elements of the largest parameter.
    pub largest: f64,
    /// Bytes of the optimiser's state for each parameter.
    pub optimizer_bytes: f64,
    /// Bytes for each parameter that saving a checkpoint takes beside what is there.
    pub saved_bytes: f64,
    /// Tokens whose logits exist at once.
    pub chunk: f64,
    pub threads: f64,
    pub recompute: bool,
    pub dropout: bool,
    pub pre_norm: bool,
    pub sub_norm: bool,
    pub qk_norm: bool,
    pub embedding_norm: bool,
    pub tied: bool,
    /// Tensors of positions by head width: the factors of rotary once, of xpos for queries and keys.
    pub tables: f64,
    /// Tensors of the feed-forward width that stay until the backward pass, without the norm's.
    pub inner_tensors: f64,
    /// Such tensors that exist at once where none stays.
    pub inner_at_once: f64,
    /// Such tensors that the backward pass of the activation makes beside the gradient.
    pub inner_gradients: f64,
}

impl Shape {
    /// Of a checked config, a sequence of which is spread over `devices`.
    pub fn of(config: &Config, devices: usize) -> Self {
        let lm = config.language_model();
        let (m, t) = (&config.model, &config.train);
        let head = m.d_model / m.heads;
        let kv_heads = m.kv_heads.unwrap_or(m.heads);
        let context = config.data.context.div_ceil(devices) as f64;
        let (d, vocabulary) = (m.d_model as f64, lm.vocab_size as f64);
        let ff = lm.feed_forward_width() as f64;
        let mut one_more = lm.clone();
        one_more.n_layers += 1;
        let (inner_tensors, inner_at_once, inner_gradients) = match m.activation {
            // Before and after the activation.
            Activation::Gelu => (2.0, 2.0, 0.0),
            Activation::Relu => (2.0, 2.0, 1.0),
            // Its two factors, and their product.
            Activation::Swish => (3.0, 3.0, 2.0),
            // Gate, its sigmoid, their product, the other projection, and the product of both.
            Activation::SwiGlu => (5.0, 4.0, 3.0),
        };
        Self {
            tokens: t.batch as f64 * context,
            context,
            accumulate: t.accumulate,
            layers: m.layers,
            d,
            queries: (m.heads * head) as f64,
            keys: (kv_heads * head) as f64,
            heads: m.heads as f64,
            head: head as f64,
            ff,
            vocabulary,
            parameters: lm.num_params() as f64,
            layer_parameters: (one_more.num_params() - lm.num_params()) as f64,
            largest: (vocabulary * d).max(ff * d),
            optimizer_bytes: 8.0,
            // The record of the optimiser is a copy of its state.
            saved_bytes: 8.0,
            chunk: t.loss_chunk as f64,
            threads: std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            recompute: m.recompute,
            dropout: m.dropout > 0.0,
            pre_norm: matches!(m.norm, Residual::SubLayerNorm | Residual::PreNorm),
            sub_norm: m.norm == Residual::SubLayerNorm,
            qk_norm: m.qk_norm != QkNorm::None,
            embedding_norm: m.embedding_norm,
            tied: m.tie,
            tables: match m.positions {
                Positions::Rotary => 2.0,
                Positions::XPos => 4.0,
                Positions::Learned | Positions::None => 0.0,
            },
            inner_tensors,
            inner_at_once,
            inner_gradients,
        }
    }
}
