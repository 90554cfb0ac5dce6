//! Configurations of multi-head attention.

use super::{
    MultiHeadAdaptiveAttention, MultiHeadBlockSparseAttention, MultiHeadDilatedAttention,
    MultiHeadSparseAttention,
};
use crate::attention::AnyAttention;
use crate::attention::adaptive::{
    AdaptiveAttention, AdaptiveAttentionConfig, BlockScorer, check_scorer,
};
use crate::attention::block_sparse::{BlockSparseAttention, BlockSparseAttentionConfig};
use crate::attention::dilated::{DilatedAttention, DilatedAttentionConfig};
use crate::attention::longnet_branches;
use crate::error::{ConfigError, check, check_epsilon, check_finite, check_size};
use crate::norm::LayerNormConfig;
use crate::pattern::{
    BlockPattern, Branch, HeadAssignment, HeadOffset, MixGradient, Pattern, Precision, Tail,
};
use crate::position::AttentionPosition;
use burn::config::Config;
use burn::module::Param;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Normalisation of queries and keys after their projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// None.
    #[default]
    None,
    /// A LayerNorm over the channels of each head, shared by the heads.
    PerHead,
    /// A LayerNorm over the channels of all heads together (dilated-attention-pytorch).
    Full,
}

/// Normalisation of the merged heads before the output projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerNorm {
    /// None.
    #[default]
    None,
    /// A LayerNorm: the sub-LayerNorm of MAGNETO, arXiv 2210.06423.
    LayerNorm,
    /// The LayerNorm of the queries once more (dilated-attention-pytorch); needs [`QkNorm::Full`].
    QueryNorm,
}

/// Declares the configuration of a multi-head module: the options of its own kind of attention, and those
/// that all kinds share.
macro_rules! multi_head_config {
    (
        $(#[$doc:meta])*
        $Name:ident of $Module:ty {
            $($(#[$own_doc:meta])* pub $own:ident: $Own:ty,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Config, Debug)]
        pub struct $Name {
            /// The size of inputs and outputs.
            pub d_model: usize,
            /// The number of query heads.
            pub n_heads: usize,
            $($(#[$own_doc])* pub $own: $Own,)+
            /// Whether a position sees only itself and earlier ones. Default: false
            #[config(default = false)]
            pub causal: bool,
            /// How exact the products of f32 tensors must be. Default: highest
            #[config(default = "Precision::Highest")]
            pub precision: Precision,
            /// The factor of the scores. Default: 1 / sqrt(d_head)
            pub scale: Option<f64>,
            /// The rate at which attention weights are dropped in training. Default: 0.1
            #[config(default = 0.1)]
            pub dropout: f64,
            /// The number of key and value heads; it divides `n_heads`. Default: n_heads
            pub n_kv_heads: Option<usize>,
            /// The size of a query or key head. Default: d_model / n_heads
            pub d_head: Option<usize>,
            /// The size of a value head. Default: d_head
            pub d_value: Option<usize>,
            /// How positions are told apart. Default: not at all
            #[config(default = "AttentionPosition::None")]
            pub position: AttentionPosition,
            /// Normalisation of queries and keys. Default: none
            #[config(default = "QkNorm::None")]
            pub qk_norm: QkNorm,
            /// Normalisation of the merged heads before the output projection. Default: none
            #[config(default = "InnerNorm::None")]
            pub inner_norm: InnerNorm,
            /// The epsilon of the norms. Default: 1e-5
            #[config(default = 1e-5)]
            pub norm_epsilon: f64,
            /// A factor of the merged heads, before their norm. Default: 1
            #[config(default = 1.0)]
            pub context_scale: f64,
            /// One projection for query, key and value, rather than three. Default: false
            #[config(default = false)]
            pub fused_qkv: bool,
            /// Enable bias for the query projection. Default: true
            #[config(default = true)]
            pub query_bias: bool,
            /// Enable bias for the key projection. Default: true
            #[config(default = true)]
            pub key_bias: bool,
            /// Enable bias for the value projection. Default: true
            #[config(default = true)]
            pub value_bias: bool,
            /// Enable bias for the output projection. Default: true
            #[config(default = true)]
            pub output_bias: bool,
            /// The type of function used to initialize neural network parameters. Default: as Burn's
            #[config(default = "Initializer::KaimingUniform{gain:1.0/f64::sqrt(3.0), fan_out_only:false}")]
            pub initializer: Initializer,
            /// A factor of the initial value and output projections: MAGNETO's or DeepNorm's gain. Default: 1
            #[config(default = 1.0)]
            pub gain: f64,
        }

        impl $Name {
            pub(crate) fn kv_heads(&self) -> usize {
                self.n_kv_heads.unwrap_or(self.n_heads)
            }

            pub(crate) fn head_width(&self) -> usize {
                self.d_head.unwrap_or(self.d_model / self.n_heads.max(1))
            }

            fn projections(&self) -> Projections<'_> {
                Projections {
                    d_model: self.d_model,
                    n_heads: self.n_heads,
                    n_kv_heads: self.kv_heads(),
                    d_head: self.head_width(),
                    has_d_head: self.d_head.is_some(),
                    d_value: self.d_value.unwrap_or(self.head_width()),
                    position: self.position,
                    qk_norm: self.qk_norm,
                    inner_norm: self.inner_norm,
                    norm_epsilon: self.norm_epsilon,
                    context_scale: self.context_scale,
                    fused_qkv: self.fused_qkv,
                    query_bias: self.query_bias,
                    key_bias: self.key_bias,
                    value_bias: self.value_bias,
                    output_bias: self.output_bias,
                    initializer: &self.initializer,
                    gain: self.gain,
                }
            }

            /// Whether [`init`](Self::init) will succeed.
            ///
            /// # Errors
            ///
            /// The first field that cannot work.
            pub fn validate(&self) -> Result<(), ConfigError> {
                self.validate_core()?;
                self.projections().validate()
            }

            /// Initialize a new module.
            ///
            /// # Panics
            ///
            /// If [`validate`](Self::validate) fails.
            pub fn init(&self, device: &Device) -> $Module {
                self.validate().unwrap_or_else(|error| panic!("{error}"));
                self.projections().init(self.init_core(device), device)
            }
        }
    };
}

multi_head_config! {
    /// Configuration of [`MultiHeadDilatedAttention`].
    ///
    /// `new(d_model, n_heads)` with the defaults is what Burn's `MultiHeadAttentionConfig` gives, with
    /// the pattern of the LongNet paper.
    MultiHeadDilatedAttentionConfig of MultiHeadDilatedAttention {
        /// Segment lengths with their dilation rates. Default: the paper's, see [`longnet_branches`]
        #[config(default = "longnet_branches()")]
        pub branches: Vec<Branch>,
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
    }
}

impl MultiHeadDilatedAttentionConfig {
    fn core(&self) -> DilatedAttentionConfig {
        DilatedAttentionConfig::new(self.n_heads, self.branches.clone())
            .with_causal(self.causal)
            .with_head_assignment(self.head_assignment)
            .with_head_offset(self.head_offset)
            .with_tail(self.tail)
            .with_gradient(self.gradient)
            .with_precision(self.precision)
            .with_scale(self.scale)
            .with_dropout(self.dropout)
    }

    fn validate_core(&self) -> Result<(), ConfigError> {
        self.core().validate()
    }

    /// Whether all can work but the branches, where other attention stands in their place.
    pub(crate) fn validate_around(&self) -> Result<(), ConfigError> {
        self.projections().validate()
    }

    fn init_core(&self, _device: &Device) -> DilatedAttention {
        self.core().init()
    }

    /// As [`init`](Self::init), with `other` in the place of dilated attention.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or with `other` [`validate_around`](Self::validate_around).
    pub(crate) fn init_any(
        &self,
        other: Option<AnyAttention>,
        device: &Device,
    ) -> MultiHeadSparseAttention<AnyAttention> {
        let valid = match other {
            Some(_) => self.validate_around(),
            None => self.validate(),
        };
        valid.unwrap_or_else(|error| panic!("{error}"));
        let attention = other.unwrap_or_else(|| self.core().init().into());
        self.projections().init(attention, device)
    }

    /// The pattern of visible pairs.
    ///
    /// # Errors
    ///
    /// The branches or heads cannot work.
    pub fn pattern(&self) -> Result<Pattern, ConfigError> {
        self.core().pattern()
    }
}

multi_head_config! {
    /// Configuration of [`MultiHeadBlockSparseAttention`].
    MultiHeadBlockSparseAttentionConfig of MultiHeadBlockSparseAttention {
        /// Which blocks see each other, at any length.
        pub pattern: BlockPattern,
        /// Tokens of a query block. Default: 128
        #[config(default = 128)]
        pub block: usize,
        /// Tokens of a key block. Default: block
        #[config(default = "None")]
        pub key_block: Option<usize>,
        /// Height and width of images whose blocks are visited along a Hilbert curve. Default: in the order of the sequence
        #[config(default = "None")]
        pub hilbert: Option<[usize; 2]>,
        /// How the weights that mix the branches of dilated heads are treated in the backward pass. Default: exact
        #[config(default = "MixGradient::Exact")]
        pub gradient: MixGradient,
    }
}

impl MultiHeadBlockSparseAttentionConfig {
    fn core(&self) -> BlockSparseAttentionConfig {
        BlockSparseAttentionConfig::new(self.n_heads, self.pattern.clone())
            .with_block(self.block)
            .with_key_block(self.key_block)
            .with_hilbert(self.hilbert)
            .with_causal(self.causal)
            .with_gradient(self.gradient)
            .with_precision(self.precision)
            .with_scale(self.scale)
            .with_dropout(self.dropout)
    }

    fn validate_core(&self) -> Result<(), ConfigError> {
        self.core().validate()
    }

    fn init_core(&self, _device: &Device) -> BlockSparseAttention {
        self.core().init()
    }
}

multi_head_config! {
    /// Configuration of [`MultiHeadAdaptiveAttention`].
    MultiHeadAdaptiveAttentionConfig of MultiHeadAdaptiveAttention {
        /// Key blocks that a block of queries sees, its own among them.
        pub top_k: usize,
        /// Tokens of a block. Default: 64
        #[config(default = 64)]
        pub block: usize,
        /// How blocks are scored. Default: learned
        #[config(default = "BlockScorer::Learned")]
        pub scorer: BlockScorer,
        /// The size of the scorer's projections. Default: the size of a head
        #[config(default = "None")]
        pub d_score: Option<usize>,
        /// What scores of blocks are divided by. Default: 1
        #[config(default = 1.0)]
        pub temperature: f64,
        /// The scale of the Gumbel noise in training. Default: 1
        #[config(default = 1.0)]
        pub gumbel: f64,
    }
}

impl MultiHeadAdaptiveAttentionConfig {
    fn core(&self) -> AdaptiveAttentionConfig {
        AdaptiveAttentionConfig::new(self.n_heads, self.head_width(), self.top_k)
            .with_block(self.block)
            .with_causal(self.causal)
            .with_scorer(self.scorer)
            .with_d_score(self.d_score)
            .with_temperature(self.temperature)
            .with_gumbel(self.gumbel)
            .with_precision(self.precision)
            .with_scale(self.scale)
            .with_dropout(self.dropout)
    }

    fn validate_core(&self) -> Result<(), ConfigError> {
        self.core().validate()?;
        check_scorer(self.scorer, self.position)
    }

    fn init_core(&self, device: &Device) -> AdaptiveAttention {
        self.core().init(device)
    }
}

/// What all kinds of multi-head attention have around their core.
struct Projections<'a> {
    d_model: usize,
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
    has_d_head: bool,
    d_value: usize,
    position: AttentionPosition,
    qk_norm: QkNorm,
    inner_norm: InnerNorm,
    norm_epsilon: f64,
    context_scale: f64,
    fused_qkv: bool,
    query_bias: bool,
    key_bias: bool,
    value_bias: bool,
    output_bias: bool,
    initializer: &'a Initializer,
    gain: f64,
}

impl Projections<'_> {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            d_model, n_heads, ..
        } = *self;
        check_size("d_model", d_model)?;
        let divides = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
        check(
            self.has_d_head || divides(d_model, n_heads),
            "n_heads",
            n_heads,
            format!("it must divide d_model = {d_model}, or give d_head"),
        )?;
        check(
            divides(n_heads, self.n_kv_heads),
            "n_kv_heads",
            self.n_kv_heads,
            format!("it must divide n_heads = {n_heads}"),
        )?;
        check_size("d_head", self.d_head)?;
        check_size("d_value", self.d_value)?;
        self.position.validate()?;
        check_epsilon("norm_epsilon", self.norm_epsilon)?;
        check_finite("context_scale", self.context_scale)?;
        check_finite("gain", self.gain)?;
        check(
            self.position == AttentionPosition::None || self.d_head.is_multiple_of(2),
            "d_head",
            self.d_head,
            "rotary and xPos rotate pairs of channels; give an even size",
        )?;
        let biases = [self.query_bias, self.key_bias, self.value_bias];
        check(
            !self.fused_qkv || biases.iter().all(|bias| *bias == biases[0]),
            "fused_qkv",
            true,
            "one projection has a bias or not; set query_bias, key_bias and value_bias alike",
        )?;
        let shares_norm = self.inner_norm == InnerNorm::QueryNorm;
        check(
            !shares_norm || (self.qk_norm == QkNorm::Full && self.d_head == self.d_value),
            "inner_norm",
            "query-norm",
            "it shares the query's norm; use qk_norm = full and heads with d_value = d_head",
        )
    }

    fn init<A>(&self, attention: A, device: &Device) -> MultiHeadSparseAttention<A> {
        let query = self.n_heads * self.d_head;
        let key = self.n_kv_heads * self.d_head;
        let value = self.n_kv_heads * self.d_value;
        let context = self.n_heads * self.d_value;
        let plain = self.initializer;
        let gained = scaled(plain, self.gain);
        let linear = |from: usize, to: usize, bias: bool, initializer: &Initializer| -> Linear {
            LinearConfig::new(from, to)
                .with_bias(bias)
                .with_initializer(initializer.clone())
                .init(device)
        };
        let norm = |size: usize| {
            LayerNormConfig::new(size)
                .with_epsilon(self.norm_epsilon)
                .init(device)
        };
        let projections = [
            linear(self.d_model, query, self.query_bias, plain),
            linear(self.d_model, key, self.key_bias, plain),
            linear(self.d_model, value, self.value_bias, &gained),
        ];
        let (separate, qkv) = match self.fused_qkv {
            true => ([None, None, None], Some(fused(projections))),
            false => (projections.map(Some), None),
        };
        let [query_projection, key_projection, value_projection] = separate;
        let (query_norm, key_norm) = match self.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::PerHead => (Some(norm(self.d_head)), Some(norm(self.d_head))),
            QkNorm::Full => (Some(norm(query)), Some(norm(key))),
        };
        MultiHeadSparseAttention {
            query: query_projection,
            key: key_projection,
            value: value_projection,
            qkv,
            output: linear(context, self.d_model, self.output_bias, &gained),
            query_norm,
            key_norm,
            inner_norm: (self.inner_norm == InnerNorm::LayerNorm).then(|| norm(context)),
            attention,
            qk_norm: self.qk_norm,
            shares_norm: self.inner_norm == InnerNorm::QueryNorm,
            position: self.position,
            d_model: self.d_model,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            d_head: self.d_head,
            d_value: self.d_value,
            context_scale: self.context_scale,
        }
    }
}

/// One projection whose outputs are those of `parts` side by side.
fn fused(parts: [Linear; 3]) -> Linear {
    fn constant<const D: usize>(param: &Param<Tensor<D>>) -> Tensor<D> {
        param.val().detach().set_require_grad(false)
    }
    let weights = parts.iter().map(|part| constant(&part.weight));
    let biases: Option<Vec<_>> = parts
        .iter()
        .map(|part| part.bias.as_ref().map(constant))
        .collect();
    Linear {
        weight: Param::from_tensor(Tensor::cat(weights.collect(), 1)),
        bias: biases.map(|biases| Param::from_tensor(Tensor::cat(biases, 0))),
    }
}

/// The initializer whose values are those of `initializer` times `factor`.
pub(crate) fn scaled(initializer: &Initializer, factor: f64) -> Initializer {
    use Initializer::*;
    match initializer.clone() {
        Constant { value } => Constant {
            value: value * factor,
        },
        Ones => Constant { value: factor },
        Zeros => Zeros,
        Uniform { min, max } => Uniform {
            min: min * factor,
            max: max * factor,
        },
        Normal { mean, std } => Normal {
            mean: mean * factor,
            std: std * factor,
        },
        KaimingUniform { gain, fan_out_only } => KaimingUniform {
            gain: gain * factor,
            fan_out_only,
        },
        KaimingNormal { gain, fan_out_only } => KaimingNormal {
            gain: gain * factor,
            fan_out_only,
        },
        XavierUniform { gain } => XavierUniform {
            gain: gain * factor,
        },
        XavierNormal { gain } => XavierNormal {
            gain: gain * factor,
        },
        Orthogonal { gain } => Orthogonal {
            gain: gain * factor,
        },
    }
}
