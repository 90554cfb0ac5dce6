//! The sizes of a run that its memory depends on.

use super::Flops;
use crate::config::Config;
use crate::config::sections::{NumberFormat, OptimizerKind};
use crate::optim::Settings;
use crate::schedule::{batch, context};
use burn_longnet::attention::{BlockScorer, QkNorm};
use burn_longnet::model::{Activation, LayerAttention, Positions, Residual};

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
    /// Bytes of the messages of gradients that exist at once.
    pub messages: f64,
    /// Tokens whose logits exist at once.
    pub chunk: f64,
    pub threads: f64,
    /// Whether each layer keeps its input alone.
    pub recompute: Vec<bool>,
    /// Scores of pairs of blocks in each layer.
    pub scores: Vec<f64>,
    /// Whether such scores are learned.
    pub learned_scores: bool,
    /// Bytes of one element of activations.
    pub element: f64,
    /// Bytes of the weights' copy in another number format, and of their running average.
    pub copies: f64,
    pub dropout: bool,
    pub pre_norm: bool,
    pub sub_norm: bool,
    pub qk_norm: bool,
    pub embedding_norm: bool,
    pub tied: bool,
    /// Whether passes are in 16 bits, with gradients that are widened.
    pub half: bool,
    /// Whether products compute with copies of their operands in f32, as those of bf16 do.
    pub widens: bool,
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
        let (context, batch) = largest_pass(config);
        let context = context.div_ceil(devices) as f64;
        let parallel = &config.parallel;
        let batch = batch.div_ceil(parallel.data);
        let ranks = devices * parallel.data;
        // Who owns a part of the state owns whole tensors.
        let owned = if parallel.zero {
            1.0 / ranks as f64
        } else {
            1.0
        };
        let (d, vocabulary) = (m.d_model as f64, lm.vocab_size as f64);
        let ff = lm.feed_forward_width() as f64;
        let mut one_more = lm.clone();
        one_more.n_layers += 1;
        let parameters = lm.num_params() as f64;
        // Embeddings, norms and biases have optimisers of their own where matrices have another one.
        let matrices = Flops::of_weights(config) - if m.tie { vocabulary * d } else { 0.0 };
        let half = t.precision != NumberFormat::F32;
        let copy = if half {
            2.0 * (parameters - vocabulary * d)
        } else {
            0.0
        };
        let average = if t.ema > 0.0 { 4.0 * parameters } else { 0.0 };
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
            tokens: batch as f64 * context,
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
            parameters,
            layer_parameters: (one_more.num_params() - lm.num_params()) as f64,
            largest: (vocabulary * d).max(ff * d),
            optimizer_bytes: optimizer_bytes(config, parameters, matrices) * owned,
            // The record of the optimiser is a copy of its state; of one that is collected there are two.
            saved_bytes: optimizer_bytes(config, parameters, matrices)
                * if parallel.zero && ranks > 1 { 2.0 } else { 1.0 },
            messages: match ranks {
                1 => 0.0,
                // The gradients, what comes of others, their sum and all sums.
                _ => 4.0 * BUCKET.min(4.0 * parameters),
            },
            chunk: t.loss_chunk as f64,
            threads: std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            recompute: (0..m.layers)
                .map(|layer| m.recompute.covers(layer))
                .collect(),
            scores: (0..m.layers)
                .map(|layer| match lm.kind(layer) {
                    LayerAttention::Adaptive { block, .. } => {
                        let blocks = (context / block as f64).ceil();
                        (batch * m.heads) as f64 * blocks * blocks
                    }
                    _ => 0.0,
                })
                .collect(),
            learned_scores: config.attention.scorer == BlockScorer::Learned,
            element: if half { 2.0 } else { 4.0 },
            copies: copy + average,
            dropout: m.dropout > 0.0,
            pre_norm: matches!(m.norm, Residual::SubLayerNorm | Residual::PreNorm),
            sub_norm: m.norm == Residual::SubLayerNorm,
            qk_norm: m.qk_norm != QkNorm::None,
            embedding_norm: m.embedding_norm,
            tied: m.tie,
            half,
            widens: t.precision == NumberFormat::Bf16,
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

/// Bytes of one message of gradients.
const BUCKET: f64 = 4.0 * (1 << 22) as f64;

/// Context and batch of the pass of a run with the most tokens.
pub(crate) fn largest_pass(config: &Config) -> (usize, usize) {
    let passes = stages(config).into_iter();
    let passes = passes.map(|(_, context, batch)| (context, batch));
    let largest = passes.max_by_key(|(context, batch)| context * batch);
    largest.expect("there is a first step")
}

/// The stages of a run in which context and batch stay the same: steps, context and batch of each.
pub(super) fn stages(config: &Config) -> Vec<(usize, usize, usize)> {
    let schedules = [&config.data.context_schedule, &config.train.batch_schedule];
    let begins = schedules.into_iter().flatten().map(|stage| stage.from);
    // What begins after the last step never comes.
    let last = config.train.steps;
    let mut begins: Vec<usize> = begins.filter(|from| *from <= last).chain([1]).collect();
    begins.sort_unstable();
    begins.dedup();
    let ends = begins.iter().skip(1).copied().chain([last + 1]);
    let of =
        |(from, end): (&usize, usize)| (end - from, context(config, *from), batch(config, *from));
    begins.iter().zip(ends).map(of).collect()
}

/// Bytes of the optimiser's state for each of the `parameters`, of which `matrices` are in matrices that
/// multiply.
fn optimizer_bytes(config: &Config, parameters: f64, matrices: f64) -> f64 {
    let moments = |count: f64| 4.0 * count;
    let momentum = Settings::of(&config.train).momentum;
    let kept = if momentum > 0.0 { 1.0 } else { 0.0 };
    match config.train.optimizer {
        OptimizerKind::AdamW | OptimizerKind::Adam | OptimizerKind::Lamb => moments(2.0),
        OptimizerKind::AdaGrad | OptimizerKind::Lion => moments(1.0),
        // Three means, and the gradient before.
        OptimizerKind::Adan => moments(4.0),
        OptimizerKind::RmsProp => moments(1.0 + kept),
        OptimizerKind::Sgd => moments(kept),
        // A row and a column for each matrix.
        OptimizerKind::Adafactor => 0.0,
        OptimizerKind::Muon => {
            let share = matrices / parameters;
            moments(share + 2.0 * (1.0 - share))
        }
    }
}
