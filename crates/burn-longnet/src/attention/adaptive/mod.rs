//! Block-sparse attention that chooses its blocks by what queries and keys hold.

mod candidates;
mod pool;
mod select;
#[cfg(test)]
mod tests;

use super::core::SparseAttention;
use super::dilated::AttentionInput;
use crate::dropout::derive_seed;
use crate::error::{ConfigError, check, check_dropout, check_finite, check_positive, check_size};
use crate::functional::{AttentionOptions, sparse_attention};
use crate::pattern::{BlockGrid, Dropout, Pattern, Precision, Span};
use crate::position::AttentionPosition;
use crate::precision::wide;
use crate::rowwise::linear;
use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Bool, Device, Tensor};
use candidates::Candidates;
use serde::{Deserialize, Serialize};

/// How a block of keys is scored for a block of queries. Both are pooled: the mean of the block's vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockScorer {
    /// Projections of the pooled vectors, shared by the heads. What is chosen is weighed by a gate, through
    /// which they learn.
    #[default]
    Learned,
    /// The pooled vectors themselves, without parameters or a gate: MoBA, arXiv 2502.13189.
    Mean,
}

/// Configuration of [`AdaptiveAttention`].
#[derive(Config, Debug)]
pub struct AdaptiveAttentionConfig {
    /// Number of query heads.
    pub n_heads: usize,
    /// The size of a query or key head.
    pub d_head: usize,
    /// Key blocks that a block of queries sees, its own among them.
    pub top_k: usize,
    /// Tokens of a block. Default: 64
    #[config(default = 64)]
    pub block: usize,
    /// Whether a position sees only itself and earlier ones. Default: false
    #[config(default = false)]
    pub causal: bool,
    /// How blocks are scored. Default: learned
    #[config(default = "BlockScorer::Learned")]
    pub scorer: BlockScorer,
    /// The size of the scorer's projections. Default: d_head
    pub d_score: Option<usize>,
    /// What scores are divided by: high ones make gates alike. Default: 1
    #[config(default = 1.0)]
    pub temperature: f64,
    /// The scale of the Gumbel noise that is added to learned scores in training before the best are chosen, so
    /// that blocks that are not chosen yet can be found. Default: 1
    #[config(default = 1.0)]
    pub gumbel: f64,
    /// How exact the products of f32 tensors must be. Default: highest
    #[config(default = "Precision::Highest")]
    pub precision: Precision,
    /// The factor of the scores of attention. Default: 1 / sqrt(d)
    pub scale: Option<f64>,
    /// The rate at which attention weights are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Attention of each block of queries over its own block of keys and the `top_k - 1` others that a score of
/// their pooled vectors puts first, for each head and batch entry.
///
/// If causal, a block of queries is pooled from the positions up to its first one: neither a choice nor a gate
/// depends on what a row may not see.
///
/// The choice is made on the device, with tensor operations. Noise is made on the host, from the seed, and
/// uploaded; nothing is read back but the seed, and that only where none is given and one is drawn. A chosen block
/// other than the own one enters with `ln sigmoid(score / temperature)` added to its attention scores, so the
/// gradient reaches the scorer; a hidden one with `-inf`, which the kernels skip. Scores, choice and gates are in
/// f32 whatever the dtype of queries and keys (f64 for f64).
///
/// Scoring takes time and memory in proportion to the square of the number of blocks, and choosing `top_k` times
/// that, unless all blocks are seen anyway.
///
/// It is self-attention over whole sequences: queries and keys are the same positions. Padding is left out of
/// pooling. Documents are not: attention does not see other documents, but which blocks of its own one a query
/// sees, and their gates, depend on what stands beside it in the same blocks. Where documents must not know of each
/// other, give each a sequence of its own.
///
/// A learned scorer projects queries and keys as they come. Those of xPos have factors that depend on the length
/// of the sequence and cancel only in products of a query with a key, so the two do not go together.
///
/// Should be created with [AdaptiveAttentionConfig].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct AdaptiveAttention {
    /// Projection of pooled queries, of a learned scorer.
    pub query_score: Option<Linear>,
    /// Projection of pooled keys, of a learned scorer.
    pub key_score: Option<Linear>,
    #[module(skip)]
    config: AdaptiveAttentionConfig,
    #[module(skip)]
    candidates: Candidates,
}

impl AdaptiveAttentionConfig {
    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_size("n_heads", self.n_heads)?;
        check_size("d_head", self.d_head)?;
        check_size("top_k", self.top_k)?;
        check_size("block", self.block)?;
        check_size("d_score", self.d_score.unwrap_or(1))?;
        check_positive("temperature", self.temperature)?;
        check_finite("gumbel", self.gumbel)?;
        check(
            self.gumbel >= 0.0,
            "gumbel",
            self.gumbel,
            "a scale is 0 (no noise) or more",
        )?;
        check_finite("scale", self.scale.unwrap_or(1.0))?;
        check_dropout("dropout", self.dropout)
    }

    /// Whether sequences of `n` tokens can be attended to: scores of all pairs of blocks are numbered in 32 bits.
    ///
    /// # Errors
    ///
    /// The blocks are too many.
    pub fn check_length(&self, n: usize) -> Result<(), ConfigError> {
        let blocks = n.div_ceil(self.block);
        let scores = blocks as u128 * blocks as u128 * self.n_heads as u128;
        let problem = format!(
            "{n} tokens are {blocks} blocks, and {} heads would score {scores} pairs of them, more than {}; use larger blocks",
            self.n_heads,
            i32::MAX
        );
        check(scores <= i32::MAX as u128, "block", self.block, problem)
    }

    /// Initialize a new [adaptive attention](AdaptiveAttention) module.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> AdaptiveAttention {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        let projection = || {
            let width = self.d_score.unwrap_or(self.d_head);
            (self.scorer == BlockScorer::Learned).then(|| {
                LinearConfig::new(self.d_head, width)
                    .with_bias(false)
                    .init(device)
            })
        };
        AdaptiveAttention {
            query_score: projection(),
            key_score: projection(),
            config: self.clone(),
            candidates: Candidates::default(),
        }
    }
}

/// `Ok` if blocks can be scored by queries and keys with `position` in them.
pub(crate) fn check_scorer(
    scorer: BlockScorer,
    position: AttentionPosition,
) -> Result<(), ConfigError> {
    let is_xpos = matches!(position, AttentionPosition::XPos { .. });
    check(
        !(is_xpos && scorer == BlockScorer::Learned),
        "positions",
        "xpos",
        "a learned scorer of blocks would see xPos's factors, which change with the length of the sequence; use positions = rotary, or scorer = mean",
    )
}

impl ModuleDisplay for AdaptiveAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let config = &self.config;
        content
            .add("n_heads", &config.n_heads)
            .add("top_k", &config.top_k)
            .add("block", &config.block)
            .add("causal", &config.causal)
            .add("scorer", &format!("{:?}", config.scorer))
            .optional()
    }
}

impl SparseAttention for AdaptiveAttention {
    /// All blocks that may be chosen.
    fn pattern_over(&self, span: Span) -> Pattern {
        let blocks = span.n_q.div_ceil(self.config.block);
        self.candidates.mask(&self.config, blocks).into()
    }

    /// # Panics
    ///
    /// As the trait says, if queries and keys are not the same positions from 0 on, and if
    /// [`check_length`](AdaptiveAttentionConfig::check_length) fails.
    fn attend(&self, input: AttentionInput) -> Tensor<4> {
        let AdaptiveAttentionConfig {
            block,
            causal,
            scale,
            precision,
            dropout,
            ..
        } = self.config;
        let [_, _, n, _] = input.query.dims();
        assert!(
            input.shard.is_none(),
            "adaptive attention chooses among the blocks of a whole sequence and does not run on a shard; use dilated or block-sparse attention, or one rank a sequence"
        );
        let span = input.span.unwrap_or(Span::cross(n, input.key.dims()[2]));
        assert!(
            span == Span::full(n),
            "adaptive attention is self-attention over a whole sequence, got {span:?}"
        );
        let device = input.query.device();
        let noisy = self.config.scorer == BlockScorer::Learned && self.config.gumbel > 0.0;
        let seed = (noisy || dropout > 0.0)
            .then(|| input.seed.resolve(&device))
            .flatten();
        let options = AttentionOptions {
            scale,
            precision,
            dropout: seed
                .filter(|_| dropout > 0.0)
                .map(|seed| Dropout { p: dropout, seed }),
            mask_pad: input.mask_pad,
            documents: input.documents,
            ..AttentionOptions::default()
        };
        if n == 0 {
            let none = Pattern::dense(self.config.n_heads, causal);
            return sparse_attention(input.query, input.key, input.value, &none, &options);
        }
        let blocks = n.div_ceil(block);
        let mask = self.candidates.mask(&self.config, blocks);
        let scores = self.scores(&input.query, &input.key, options.mask_pad.as_ref());
        let noise = seed
            .filter(|_| noisy && self.config.top_k < blocks)
            .map(|seed| select::gumbel(&scores, derive_seed(seed, 1), self.config.gumbel));
        let chosen = select::best(
            scores.clone().detach().inner(),
            noise,
            self.config.top_k,
            causal,
        );
        let bias = self.bias(scores, chosen);
        let options = AttentionOptions {
            bias: Some(self.candidates.listed(bias, causal)),
            ..options
        };
        sparse_attention(input.query, input.key, input.value, &mask.into(), &options)
    }
}

impl AdaptiveAttention {
    /// How it was configured.
    pub fn config(&self) -> &AdaptiveAttentionConfig {
        &self.config
    }

    /// What is added to attention scores: the logarithm of the gate of chosen blocks, nothing for a block's own
    /// one, and `-inf` for hidden ones.
    fn bias(&self, scores: Tensor<4>, chosen: Tensor<4, Bool>) -> Tensor<4> {
        let shape = scores.dims();
        let like = |mask: Tensor<4, Bool>| match scores.is_autodiff() {
            true => mask.autodiff(),
            false => mask,
        };
        let own = like(select::own(shape[3], &chosen.device()).expand(shape));
        let hidden = like(chosen.bool_not());
        let gate = match self.config.scorer {
            BlockScorer::Learned => log_sigmoid(scores),
            BlockScorer::Mean => scores.zeros_like(),
        };
        gate.mask_fill(own, 0.0)
            .mask_fill(hidden, f64::NEG_INFINITY)
    }

    /// The score of each block of keys for each block of queries, over the temperature:
    /// `[batch, heads, blocks, blocks]`. If causal, that of a block before the queries' own, the only ones that
    /// are looked at, depends on nothing that a row of theirs may not see.
    fn scores(
        &self,
        query: &Tensor<4>,
        key: &Tensor<4>,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Tensor<4> {
        let AdaptiveAttentionConfig {
            n_heads,
            block,
            causal,
            temperature,
            ..
        } = self.config;
        let pooled = |x: &Tensor<4>, projection: &Option<Linear>, before: bool| {
            let x = match projection {
                Some(_) => x.clone(),
                // Nothing is learned through a choice.
                None => x.clone().detach(),
            };
            let dtype = wide(x.dtype());
            let means = match before {
                true => pool::means_before,
                false => pool::means,
            };
            let x = pool::without_padding(x.cast(dtype), padding, block, means);
            match projection {
                Some(projection) => linear(x, projection.weight.val().cast(dtype), None),
                None => x,
            }
        };
        let query = pooled(query, &self.query_score, causal);
        let key = pooled(key, &self.key_score, false);
        let [batch, kv_heads, blocks, width] = key.dims();
        let group = n_heads / kv_heads;
        let key = key
            .unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, blocks, width])
            .reshape([batch, n_heads, blocks, width]);
        let scale = 1.0 / ((width as f64).sqrt() * temperature);
        query.matmul(key.swap_dims(2, 3)) * scale
    }
}

fn grid(blocks: usize, block: usize) -> BlockGrid {
    BlockGrid::square(blocks * block, block)
}
