//! Dilated attention without projections.

use crate::dropout::DropoutSeed;
use crate::error::{ConfigError, check_dropout, check_finite};
use crate::functional::{AttentionOptions, Documents};
use crate::pattern::{
    Branch, DilatedPattern, Dropout, HeadAssignment, HeadOffset, MixGradient, Pattern, Precision,
    Span, Tail,
};
use crate::ring::{self, SequenceShard};
use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::{Bool, Tensor};

/// Configuration of [`DilatedAttention`].
#[derive(Config, Debug)]
pub struct DilatedAttentionConfig {
    /// Number of query heads.
    pub n_heads: usize,
    /// Segment lengths with their dilation rates.
    pub branches: Vec<Branch>,
    /// Whether a position sees only itself and earlier ones. Default: false
    #[config(default = false)]
    pub causal: bool,
    /// Which heads run which branches. Default: all
    #[config(default = "HeadAssignment::All")]
    pub head_assignment: HeadAssignment,
    /// Which residue of a segment a head takes. Default: modulo
    #[config(default = "HeadOffset::Modulo")]
    pub head_offset: HeadOffset,
    /// What happens where a segment is not filled. Default: masked
    #[config(default = "Tail::Masked")]
    pub tail: Tail,
    /// How the weights that mix branches are treated in the backward pass. Default: exact
    #[config(default = "MixGradient::Exact")]
    pub gradient: MixGradient,
    /// How exact the products of f32 tensors must be. Default: highest
    #[config(default = "Precision::Highest")]
    pub precision: Precision,
    /// The factor of the scores. Default: 1 / sqrt(d)
    pub scale: Option<f64>,
    /// The rate at which attention weights are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Dilated attention over queries, keys and values: [LongNet](https://arxiv.org/abs/2307.02486).
///
/// Should be created with [DilatedAttentionConfig].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct DilatedAttention {
    #[module(skip)]
    pattern: Pattern,
    #[module(skip)]
    gradient: MixGradient,
    #[module(skip)]
    precision: Precision,
    scale: Option<f64>,
    dropout: f64,
}

impl DilatedAttentionConfig {
    /// The pattern of visible pairs.
    ///
    /// # Errors
    ///
    /// The branches or heads cannot work.
    pub fn pattern(&self) -> Result<Pattern, ConfigError> {
        let pattern = DilatedPattern::new(self.n_heads, self.branches.iter().copied())
            .causal(self.causal)
            .head_assignment(self.head_assignment)
            .head_offset(self.head_offset)
            .tail(self.tail)
            .build()?;
        Ok(pattern)
    }

    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.pattern()?;
        check_finite("scale", self.scale.unwrap_or(1.0))?;
        check_dropout("dropout", self.dropout)
    }

    /// Initialize a new [dilated attention](DilatedAttention) module. It has no parameters.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> DilatedAttention {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        DilatedAttention {
            pattern: self.pattern().expect("validated"),
            gradient: self.gradient,
            precision: self.precision,
            scale: self.scale,
            dropout: self.dropout,
        }
    }
}

impl ModuleDisplay for DilatedAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let branches = match &self.pattern {
            Pattern::Dilated(dilated) => {
                let pairs = dilated.branches().iter();
                pairs
                    .map(|b| format!("{}/{}", b.segment, b.dilation))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            other => format!("{other:?}"),
        };
        content
            .add("n_heads", &self.pattern.heads())
            .add("branches", &branches)
            .add("causal", &self.pattern.is_causal())
            .add("dropout", &self.dropout)
            .optional()
    }
}

/// The argument of [`DilatedAttention::forward`].
#[derive(Clone, Debug)]
pub struct AttentionInput {
    pub(super) query: Tensor<4>,
    pub(super) key: Tensor<4>,
    pub(super) value: Tensor<4>,
    pub(super) mask_pad: Option<Tensor<2, Bool>>,
    pub(super) documents: Option<Documents>,
    pub(super) span: Option<Span>,
    pub(super) shard: Option<SequenceShard>,
    pub(super) seed: DropoutSeed,
}

impl AttentionInput {
    /// Queries `[batch, heads, n_q, d]`, keys `[batch, kv_heads, n_k, d]` and values
    /// `[batch, kv_heads, n_k, d_v]`.
    pub fn new(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Self {
        Self {
            query,
            key,
            value,
            mask_pad: None,
            documents: None,
            span: None,
            shard: None,
            seed: DropoutSeed::Draw,
        }
    }

    /// Hides keys: `[batch, n_k]`, true is padding.
    pub fn mask_pad(mut self, mask_pad: impl Into<Option<Tensor<2, Bool>>>) -> Self {
        self.mask_pad = mask_pad.into();
        self
    }

    /// Lets queries see keys of their own document only.
    pub fn documents(mut self, documents: impl Into<Option<Documents>>) -> Self {
        self.documents = documents.into();
        self
    }

    /// Where queries and keys sit. Without it both start at position 0.
    pub fn span(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into();
        self
    }

    /// Queries and keys are this rank's part of a sequence that is sharded over several ranks. There is no span
    /// then.
    pub fn shard(mut self, shard: impl Into<Option<SequenceShard>>) -> Self {
        self.shard = shard.into();
        self
    }

    /// Drops attention weights by this seed, or not at all. Without it dropout is on under autodiff,
    /// with a seed from the device's generator.
    pub fn seed(mut self, seed: impl Into<DropoutSeed>) -> Self {
        self.seed = seed.into();
        self
    }
}

impl DilatedAttention {
    /// The pattern of visible pairs.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
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
    /// [`ring_attention`](crate::ring::ring_attention), and if dropout would draw a seed inside
    /// [`recompute`](crate::recompute).
    pub fn forward(&self, input: AttentionInput) -> Tensor<4> {
        let device = input.query.device();
        let dropout = (self.dropout > 0.0)
            .then(|| input.seed.resolve(&device))
            .flatten()
            .map(|seed| Dropout {
                p: self.dropout,
                seed,
            });
        let options = AttentionOptions {
            scale: self.scale,
            gradient: self.gradient,
            precision: self.precision,
            dropout,
            mask_pad: input.mask_pad,
            documents: input.documents,
            bias: None,
            span: input.span,
        };
        let (q, k, v) = (input.query, input.key, input.value);
        ring::attention(q, k, v, &self.pattern, input.shard.as_ref(), &options)
    }
}
