//! One layer of a transformer.

use super::feed_forward::{FeedForward, FeedForwardConfig};
use super::init::norm;
use super::layer_attention::LayerAttention;
use crate::attention::{
    AnyAttention, InnerNorm, MhaInput, MultiHeadDilatedAttentionConfig, MultiHeadSparseAttention,
};
use crate::dropout::{DropoutSeed, derive_seed, dropout_on};
use crate::error::{ConfigError, check, check_dropout, check_epsilon, check_size};
use crate::functional::Documents;
use crate::norm::LayerNorm;
use crate::pattern::Span;
use crate::position::PositionTables;
use crate::ring::SequenceShard;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear};
use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

/// Where norms stand, and how residuals and initial weights are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Residual {
    /// MAGNETO, arXiv 2210.06423: a norm before each part and one inside it, and initial weights
    /// times `sqrt(ln 2L)`, in `L` layers.
    #[default]
    #[serde(rename = "sub-ln")]
    SubLayerNorm,
    /// A norm before each part.
    #[serde(rename = "pre")]
    PreNorm,
    /// DeepNorm, arXiv 2203.00555: a norm after each part, residuals times `(2L)^(1/4)`, initial
    /// weights times `(8L)^(-1/4)`.
    #[serde(rename = "deepnorm")]
    DeepNorm,
    /// A norm after each part.
    #[serde(rename = "post")]
    PostNorm,
}

impl Residual {
    /// Whether norms stand before the parts, and so one after the last layer.
    pub fn is_pre_norm(self) -> bool {
        matches!(self, Self::SubLayerNorm | Self::PreNorm)
    }

    /// The factor of the initial value, output and feed-forward weights.
    pub fn gain(self, layers: usize) -> f64 {
        let layers = layers as f64;
        match self {
            Self::SubLayerNorm => (2.0 * layers).ln().sqrt(),
            Self::DeepNorm => (8.0 * layers).powf(-0.25),
            Self::PreNorm | Self::PostNorm => 1.0,
        }
    }

    /// The factor of the residual branch.
    pub fn alpha(self, layers: usize) -> f64 {
        match self {
            Self::DeepNorm => (2.0 * layers as f64).powf(0.25),
            _ => 1.0,
        }
    }
}

/// Configuration of [`TransformerLayer`].
#[derive(Config, Debug)]
pub struct TransformerLayerConfig {
    /// Attention. Its inner norm and gain are those of `residual`.
    pub attention: MultiHeadDilatedAttentionConfig,
    /// The feed-forward part. Its inner norm and gain are those of `residual`.
    pub feed_forward: FeedForwardConfig,
    /// The number of layers that this one is among.
    pub n_layers: usize,
    /// The kind of attention. Default: dilated, as `attention` says
    #[config(default = "LayerAttention::Dilated")]
    pub kind: LayerAttention,
    /// Where norms stand. Default: MAGNETO's sub-LayerNorm
    #[config(default = "Residual::SubLayerNorm")]
    pub residual: Residual,
    /// The epsilon of the norms. Default: 1e-5
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// The rate at which what a part adds is dropped in training. Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Attention and a feed-forward part, each with its norm and residual.
///
/// Should be created with [TransformerLayerConfig].
#[derive(Module, Debug)]
pub struct TransformerLayer {
    /// Attention.
    pub attention: MultiHeadSparseAttention<AnyAttention>,
    /// Norm before or after attention.
    pub attention_norm: LayerNorm,
    /// The feed-forward part.
    pub feed_forward: FeedForward,
    /// Norm before or after the feed-forward part.
    pub feed_forward_norm: LayerNorm,
    pre_norm: bool,
    alpha: f64,
    dropout: f64,
}

/// What a layer is told beside its input. Tensors are without autodiff.
#[derive(Clone, Debug, Default)]
pub struct LayerContext {
    /// The factors of the positions, which all layers share.
    pub tables: Option<PositionTables>,
    /// `[batch, n]`, true is padding.
    pub mask_pad: Option<Tensor<2, Bool>>,
    /// Document ids.
    pub documents: Option<Documents>,
    /// Where the sequence sits. Default: from position 0
    pub span: Option<Span>,
    /// The part of a sharded sequence that the input is; there is no span then. Default: none
    pub shard: Option<SequenceShard>,
    /// Dropout is on where there is a seed, and determined by it; without one all of it is off.
    pub seed: Option<u64>,
}

impl TransformerLayerConfig {
    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_size("n_layers", self.n_layers)?;
        self.kind.validate(&self.attention)?;
        self.feed_forward.validate()?;
        let d_model = self.attention.d_model;
        check(
            self.feed_forward.d_model == d_model,
            "feed_forward.d_model",
            self.feed_forward.d_model,
            format!("it must be attention.d_model = {d_model}"),
        )?;
        check_epsilon("norm_epsilon", self.norm_epsilon)?;
        check_dropout("dropout", self.dropout)
    }

    /// Initialize a new [transformer layer](TransformerLayer).
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> TransformerLayer {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        let gain = self.residual.gain(self.n_layers);
        let sub_norm = self.residual == Residual::SubLayerNorm;
        let mut attention = self.attention.clone().with_gain(gain);
        let mut feed_forward = self.feed_forward.clone().with_gain(gain);
        if sub_norm {
            attention.inner_norm = InnerNorm::LayerNorm;
            feed_forward.inner_norm = true;
        }
        let norm = || norm(self.attention.d_model, self.norm_epsilon, device);
        let other = self.kind.init(&attention, device);
        TransformerLayer {
            attention: without_initial_bias(attention.init_any(other, device), device),
            attention_norm: norm(),
            feed_forward: feed_forward.init(device),
            feed_forward_norm: norm(),
            pre_norm: self.residual.is_pre_norm(),
            alpha: self.residual.alpha(self.n_layers),
            dropout: self.dropout,
        }
    }
}

/// The module with its biases at 0.
fn without_initial_bias(
    mut attention: MultiHeadSparseAttention<AnyAttention>,
    device: &Device,
) -> MultiHeadSparseAttention<AnyAttention> {
    let zero = |linear: &mut Linear| {
        let [_, to] = linear.weight.lazy_shape().dims();
        if let Some(bias) = &mut linear.bias {
            *bias = Initializer::Zeros.init([to], device);
        }
    };
    zero(&mut attention.output);
    let MultiHeadSparseAttention {
        query,
        key,
        value,
        qkv,
        ..
    } = &mut attention;
    [query, key, value, qkv]
        .into_iter()
        .flatten()
        .for_each(zero);
    attention
}

impl TransformerLayer {
    /// Applies the forward pass.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch, n, d_model]`
    ///
    /// # Panics
    ///
    /// If the shapes of `x` or of the context's tensors are not these.
    pub fn forward(&self, x: Tensor<3>, context: &LayerContext) -> Tensor<3> {
        let seed = |place| context.seed.map(|seed| derive_seed(seed, place));
        let shard = context.shard.as_ref();
        let x = self.residual(x, &self.attention_norm, (seed(0), shard), |x| {
            let input = MhaInput::self_attn(x)
                .mask_pad(context.mask_pad.clone())
                .documents(context.documents.clone())
                .span(context.span)
                .shard(context.shard.clone())
                .tables(context.tables.clone())
                .seed(seed(1).map_or(DropoutSeed::Off, DropoutSeed::Given));
            self.attention.forward(input).context
        });
        self.residual(x, &self.feed_forward_norm, (seed(2), shard), |x| {
            self.feed_forward.forward_on(x, seed(3), shard)
        })
    }

    fn residual(
        &self,
        x: Tensor<3>,
        norm: &LayerNorm,
        (seed, shard): (Option<u64>, Option<&SequenceShard>),
        part: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let input = match self.pre_norm {
            true => norm.forward(x.clone()),
            false => x.clone(),
        };
        let added = dropout_on(part(input), self.dropout, seed, shard);
        let sum = match self.alpha {
            1.0 => x + added,
            alpha => x * alpha + added,
        };
        match self.pre_norm {
            true => sum,
            false => norm.forward(sum),
        }
    }
}
