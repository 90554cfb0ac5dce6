//! Configuration of multi-head dilated attention.

use super::dilated::DilatedAttentionConfig;
use super::longnet_branches;
use super::multi_head::MultiHeadDilatedAttention;
use crate::error::{ConfigError, check, check_epsilon, check_finite, check_size};
use crate::norm::LayerNormConfig;
use crate::pattern::{Branch, HeadAssignment, HeadOffset, MixGradient, Pattern, Precision, Tail};
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

/// Configuration of [`MultiHeadDilatedAttention`].
///
/// `new(d_model, n_heads)` with the defaults is what Burn's `MultiHeadAttentionConfig` gives, with
/// the pattern of the LongNet paper.
#[derive(Config, Debug)]
pub struct MultiHeadDilatedAttentionConfig {
    /// The size of inputs and outputs.
    pub d_model: usize,
    /// The number of query heads.
    pub n_heads: usize,
    /// Segment lengths with their dilation rates. Default: the paper's, see [`longnet_branches`]
    #[config(default = "longnet_branches()")]
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

impl MultiHeadDilatedAttentionConfig {
    pub(crate) fn kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    pub(crate) fn head_width(&self) -> usize {
        self.d_head.unwrap_or(self.d_model / self.n_heads.max(1))
    }

    pub(super) fn value_width(&self) -> usize {
        self.d_value.unwrap_or(self.head_width())
    }

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

    /// The pattern of visible pairs.
    ///
    /// # Errors
    ///
    /// The branches or heads cannot work.
    pub fn pattern(&self) -> Result<Pattern, ConfigError> {
        self.core().pattern()
    }

    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.core().validate()?;
        let Self {
            d_model, n_heads, ..
        } = *self;
        check_size("d_model", d_model)?;
        let divides = |n: usize, by: usize| by > 0 && n.is_multiple_of(by);
        check(
            self.d_head.is_some() || divides(d_model, n_heads),
            "n_heads",
            n_heads,
            format!("it must divide d_model = {d_model}, or give d_head"),
        )?;
        check(
            divides(n_heads, self.kv_heads()),
            "n_kv_heads",
            self.kv_heads(),
            format!("it must divide n_heads = {n_heads}"),
        )?;
        let (width, value) = (self.head_width(), self.value_width());
        check_size("d_head", width)?;
        check_size("d_value", value)?;
        self.position.validate()?;
        check_epsilon("norm_epsilon", self.norm_epsilon)?;
        check_finite("context_scale", self.context_scale)?;
        check_finite("gain", self.gain)?;
        check(
            self.position == AttentionPosition::None || width.is_multiple_of(2),
            "d_head",
            width,
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
            !shares_norm || (self.qk_norm == QkNorm::Full && width == value),
            "inner_norm",
            "query-norm",
            "it shares the query's norm; use qk_norm = full and heads with d_value = d_head",
        )
    }

    /// Initialize a new [multi-head dilated attention](MultiHeadDilatedAttention) module.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> MultiHeadDilatedAttention {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        let query = self.n_heads * self.head_width();
        let key = self.kv_heads() * self.head_width();
        let value = self.kv_heads() * self.value_width();
        let context = self.n_heads * self.value_width();
        let plain = &self.initializer;
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
            QkNorm::PerHead => (Some(norm(self.head_width())), Some(norm(self.head_width()))),
            QkNorm::Full => (Some(norm(query)), Some(norm(key))),
        };
        MultiHeadDilatedAttention {
            query: query_projection,
            key: key_projection,
            value: value_projection,
            qkv,
            output: linear(context, self.d_model, self.output_bias, &gained),
            query_norm,
            key_norm,
            inner_norm: (self.inner_norm == InnerNorm::LayerNorm).then(|| norm(context)),
            attention: self.core().init(),
            qk_norm: self.qk_norm,
            shares_norm: self.inner_norm == InnerNorm::QueryNorm,
            position: self.position,
            d_model: self.d_model,
            n_heads: self.n_heads,
            n_kv_heads: self.kv_heads(),
            d_head: self.head_width(),
            d_value: self.value_width(),
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
