//! Block-sparse attention without projections.

mod plan;
#[cfg(test)]
mod tests;

use super::core::SparseAttention;
use super::dilated::AttentionInput;
use crate::dropout::derive_seed;
use crate::error::{ConfigError, check_dropout, check_finite, check_size};
use crate::functional::AttentionOptions;
use crate::pattern::{
    BlockGrid, BlockPattern, DilatedPattern, Dropout, MixGradient, Pattern, Precision, Span,
};
use crate::ring;
use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;
use plan::Plans;

/// Configuration of [`BlockSparseAttention`].
#[derive(Config, Debug)]
pub struct BlockSparseAttentionConfig {
    /// Number of query heads.
    pub n_heads: usize,
    /// Which blocks see each other, at any length: parsed from text such as `window(1024) | global(128)`, or
    /// built from its variants.
    pub pattern: BlockPattern,
    /// Tokens of a query block. Default: 128
    #[config(default = 128)]
    pub block: usize,
    /// Tokens of a key block. Default: block
    pub key_block: Option<usize>,
    /// Whether a position sees only itself and earlier ones. Default: false
    #[config(default = false)]
    pub causal: bool,
    /// How the weights that mix the branches of dilated heads are treated in the backward pass; blocks have none.
    /// Default: exact
    #[config(default = "MixGradient::Exact")]
    pub gradient: MixGradient,
    /// Height and width of images whose tokens come row by row: blocks are visited along a Hilbert curve over them. On
    /// the CPU, the one backend that follows it, that has not been faster; the result is the same but for rounding.
    /// Default: in the order of the sequence
    pub hilbert: Option<[usize; 2]>,
    /// How exact the products of f32 tensors must be. Default: highest
    #[config(default = "Precision::Highest")]
    pub precision: Precision,
    /// The factor of the scores. Default: 1 / sqrt(d)
    pub scale: Option<f64>,
    /// The rate at which attention weights are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Attention of queries over the key blocks that a [`BlockPattern`] shows their block: one softmax over all
/// of them.
///
/// The pattern becomes lists of blocks once for each length, and stays; heads that are
/// [`Branches`](BlockPattern::Branches) and nothing else stay dilated branches, so some heads may be dilated and
/// some windowed. A pattern that lists everything is dense attention.
///
/// Should be created with [BlockSparseAttentionConfig].
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_longnet::attention::{AttentionInput, BlockSparseAttentionConfig};
///
/// let pattern = "window(64) | global(16)".parse().unwrap();
/// let attention = BlockSparseAttentionConfig::new(4, pattern)
///     .with_block(16)
///     .with_causal(true)
///     .init();
/// let device = Device::default();
/// let x = Tensor::<4>::random([1, 4, 200, 8], Distribution::Default, &device);
/// let out = attention.forward(AttentionInput::new(x.clone(), x.clone(), x));
/// assert_eq!(out.dims(), [1, 4, 200, 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BlockSparseAttention {
    #[module(skip)]
    config: BlockSparseAttentionConfig,
    #[module(skip)]
    plans: Plans,
}

impl BlockSparseAttentionConfig {
    /// The blocks of a call over `span`.
    pub fn grid(&self, span: Span) -> BlockGrid {
        let key_block = self.key_block.unwrap_or(self.block);
        let (q_end, k_end) = (span.q_end(), span.k_end());
        BlockGrid::cross(q_end, k_end, self.block, key_block)
    }

    /// A pattern whose segments hold every visible pair, at any length: that of the branches, if all heads are
    /// dilated, and else dense.
    pub(crate) fn enclosing(&self) -> Result<Pattern, ConfigError> {
        let lists = match &self.pattern {
            BlockPattern::Branches(branches) => vec![Some(branches)],
            BlockPattern::Heads(entries) => {
                let branches = entries.iter().map(|entry| match &entry.pattern {
                    BlockPattern::Branches(branches) => Some(branches),
                    _ => None,
                });
                branches.collect()
            }
            _ => vec![None],
        };
        let lists: Option<Vec<_>> = lists.into_iter().collect();
        let branches = lists.iter().flatten().flat_map(|list| &list.branches);
        let branches: Vec<_> = branches.copied().collect();
        if branches.is_empty() {
            return Ok(Pattern::dense(self.n_heads, self.causal));
        }
        let all = DilatedPattern::new(self.n_heads, branches).causal(self.causal);
        Ok(all.build()?)
    }

    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_size("n_heads", self.n_heads)?;
        check_size("block", self.block)?;
        check_size("key_block", self.key_block.unwrap_or(1))?;
        self.pattern.check(self.n_heads)?;
        check_finite("scale", self.scale.unwrap_or(1.0))?;
        check_dropout("dropout", self.dropout)
    }

    /// Initialize a new [block-sparse attention](BlockSparseAttention) module. It has no parameters.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> BlockSparseAttention {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        BlockSparseAttention {
            config: self.clone(),
            plans: Plans::default(),
        }
    }
}

impl ModuleDisplay for BlockSparseAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("n_heads", &self.config.n_heads)
            .add("pattern", &self.config.pattern.to_string())
            .add("block", &self.config.block)
            .add("causal", &self.config.causal)
            .add("dropout", &self.config.dropout)
            .optional()
    }
}

impl BlockSparseAttention {
    /// How it was configured.
    pub fn config(&self) -> &BlockSparseAttentionConfig {
        &self.config
    }

    /// Attention of every query over the keys that the pattern shows it.
    ///
    /// # Shapes
    ///
    /// - query: `[batch, heads, n_q, d]`
    /// - key: `[batch, kv_heads, n_k, d]`
    /// - value: `[batch, kv_heads, n_k, d_v]`
    /// - output: `[batch, heads, n_q, d_v]`
    ///
    /// # Panics
    ///
    /// As [`sparse_attention`](crate::functional::sparse_attention), on a shard as
    /// [`ring_attention`](crate::ring::ring_attention), if the pattern cannot be built at this
    /// length, if `hilbert` is of an image of another one, and if dropout would draw a seed inside
    /// [`recompute`](crate::recompute).
    pub fn forward(&self, input: AttentionInput) -> Tensor<4> {
        let config = &self.config;
        let [_, heads, n_q, _] = input.query.dims();
        let [_, kv_heads, n_k, _] = input.key.dims();
        assert_eq!(
            heads, config.n_heads,
            "the query has {heads} heads (dim 1), the module has {}",
            config.n_heads
        );
        let shard = input.shard.as_ref();
        let span = match shard {
            Some(shard) => Span::full(shard.n()),
            None => input.span.unwrap_or(Span::cross(n_q, n_k)),
        };
        let device = input.query.device();
        let seed = (config.dropout > 0.0)
            .then(|| input.seed.resolve(&device))
            .flatten();
        let groups = self.plans.groups(config, config.grid(span));
        let results = groups.iter().enumerate().map(|(number, group)| {
            let options = AttentionOptions {
                scale: config.scale,
                gradient: match group.pattern {
                    Pattern::Dilated(_) => config.gradient,
                    _ => MixGradient::Exact,
                },
                precision: config.precision,
                // Groups count their heads from 0: a seed for each.
                dropout: seed.map(|seed| Dropout {
                    p: config.dropout,
                    seed: derive_seed(seed, number as u64),
                }),
                mask_pad: input.mask_pad.clone(),
                documents: input.documents.clone(),
                span: match shard {
                    Some(_) => input.span,
                    None => Some(span),
                },
                ..AttentionOptions::default()
            };
            if group.heads.len() == heads {
                let (q, k, v) = (&input.query, &input.key, &input.value);
                let (q, k, v) = (q.clone(), k.clone(), v.clone());
                return ring::attention(q, k, v, &group.pattern, shard, &options);
            }
            let query = input.query.clone().slice_dim(1, group.heads.clone());
            let part = |x: &Tensor<4>| match group.kv_heads(heads, kv_heads) {
                Some(range) => x.clone().slice_dim(1, range),
                None => {
                    let share = heads / kv_heads;
                    let of = |head: usize| x.clone().slice_dim(1, head / share..head / share + 1);
                    Tensor::cat(group.heads.clone().map(of).collect(), 1)
                }
            };
            let (key, value) = (part(&input.key), part(&input.value));
            ring::attention(query, key, value, &group.pattern, shard, &options)
        });
        let mut results: Vec<_> = results.collect();
        match results.len() {
            1 => results.remove(0),
            _ => Tensor::cat(results, 1),
        }
    }
}

impl SparseAttention for BlockSparseAttention {
    /// The pattern of the blocks, or where heads are of several kinds one that holds the pairs of all.
    fn pattern_over(&self, span: Span) -> Pattern {
        let groups = self.plans.groups(&self.config, self.config.grid(span));
        match &groups[..] {
            [group] => group.pattern.clone(),
            _ => self.config.enclosing().expect("validated"),
        }
    }

    fn attend(&self, input: AttentionInput) -> Tensor<4> {
        self.forward(input)
    }
}
