//! Configuration of the language model.

use super::feed_forward::{Activation, FeedForwardConfig};
use super::layer::{Residual, TransformerLayerConfig};
use super::layer_attention::LayerAttention;
use crate::attention::{MultiHeadDilatedAttentionConfig, QkNorm, longnet_branches};
use crate::error::{ConfigError, check, check_dropout, check_positive, check_size};
use crate::pattern::{
    Branch, HeadAssignment, HeadGroup, HeadOffset, MixGradient, Pattern, Precision,
};
use crate::position::AttentionPosition;
use burn::config::Config;
use burn::nn::Initializer;
use burn::tensor::DType;
use serde::{Deserialize, Serialize};

/// How a language model tells positions apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// xPos, as the LongNet paper has it.
    #[default]
    #[serde(rename = "xpos")]
    XPos,
    /// Rotary.
    Rotary,
    /// A learned vector for each position, added to the embedding.
    Learned,
    /// By causality alone.
    None,
}

/// Configuration of [`LongNetLM`](super::LongNetLM).
///
/// The defaults are the LongNet paper's: MAGNETO's sub-LayerNorm, xPos, GELU, and segments of 2048
/// to 32768 tokens dilated by 1, 2, 4, 6, 12.
#[derive(Config, Debug, PartialEq)]
pub struct LongNetLMConfig {
    /// The number of token ids.
    pub vocab_size: usize,
    /// The size of a token's vector.
    pub d_model: usize,
    /// The number of layers.
    pub n_layers: usize,
    /// The number of query heads; it divides `d_model`.
    pub n_heads: usize,
    /// Segment lengths with their dilation rates. Default: the paper's, see [`longnet_branches`]
    #[config(default = "longnet_branches()")]
    pub branches: Vec<Branch>,
    /// Which heads run which branches. Default: all
    #[config(default = "HeadAssignment::All")]
    pub head_assignment: HeadAssignment,
    /// Which residue of a segment a head takes. Default: modulo
    #[config(default = "HeadOffset::Modulo")]
    pub head_offset: HeadOffset,
    /// How the weights that mix branches are treated in the backward pass. Default: exact
    #[config(default = "MixGradient::Exact")]
    pub gradient: MixGradient,
    /// How exact the products of f32 tensors must be. Default: highest
    #[config(default = "Precision::Highest")]
    pub precision: Precision,
    /// The kinds of attention of the layers, in turn: with two, every other layer has the second. Default: all
    /// dilated
    #[config(default = "Vec::new()")]
    pub layer_attention: Vec<LayerAttention>,
    /// The number of key and value heads; it divides `n_heads`. Default: n_heads
    pub n_kv_heads: Option<usize>,
    /// The size of a head. Default: d_model / n_heads
    pub d_head: Option<usize>,
    /// The size inside the feed-forward part. Default: 4 d_model; for SwiGLU 8/3 d_model, rounded up
    /// to a multiple of 32
    pub d_ff: Option<usize>,
    /// The longest sequence: of learned positions, which have one vector each, and of generation.
    /// Default: 32768
    #[config(default = 32768)]
    pub max_length: usize,
    /// Where norms stand. Default: MAGNETO's sub-LayerNorm
    #[config(default = "Residual::SubLayerNorm")]
    pub residual: Residual,
    /// What follows the first projection of the feed-forward part. Default: GELU
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// How positions are told apart. Default: xPos
    #[config(default = "Positions::XPos")]
    pub positions: Positions,
    /// The base of the frequencies of rotary and xPos. Default: 10000
    #[config(default = 10000.0)]
    pub rotary_theta: f64,
    /// The distance over which xPos's fastest decaying channels fall to 2/7. Default: 512
    #[config(default = 512.0)]
    pub xpos_scale_base: f64,
    /// Which learned vector position 0 has; torchscale's has 2. Default: 0
    #[config(default = 0)]
    pub learned_offset: usize,
    /// Normalisation of queries and keys. Default: none
    #[config(default = "QkNorm::None")]
    pub qk_norm: QkNorm,
    /// One projection for query, key and value, rather than three. Default: false
    #[config(default = false)]
    pub fused_qkv: bool,
    /// Enable bias in all projections of the layers. Default: true
    #[config(default = true)]
    pub bias: bool,
    /// The head's weights are the embedding's. Default: true
    #[config(default = true)]
    pub tied_head: bool,
    /// Enable bias in the head; only if it is not tied. Default: false
    #[config(default = false)]
    pub head_bias: bool,
    /// Embeddings times `sqrt(d_model)`. Default: false
    #[config(default = false)]
    pub scale_embedding: bool,
    /// A LayerNorm of the embeddings. Default: false
    #[config(default = false)]
    pub norm_embedding: bool,
    /// The epsilon of all norms. Default: 1e-5
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// The rate at which embeddings and what the parts of a layer add are dropped in training.
    /// Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
    /// The rate at which attention weights are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub attention_dropout: f64,
    /// The rate at which activations of the feed-forward part are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub activation_dropout: f64,
    /// Compute each layer again in the backward pass rather than keep its activations. Default: false
    #[config(default = false)]
    pub checkpoint_activations: bool,
    /// The layers, counted from 0, that `checkpoint_activations` is about. Default: all
    pub checkpoint_layers: Option<Vec<usize>>,
    /// Rows of logits that exist at a time in the loss. Default: 1024
    #[config(default = 1024)]
    pub loss_chunk: usize,
}

impl LongNetLMConfig {
    /// The size inside the feed-forward part.
    pub fn feed_forward_width(&self) -> usize {
        let default = match self.activation {
            Activation::SwiGlu => (8 * self.d_model).div_ceil(3).next_multiple_of(32),
            _ => 4 * self.d_model,
        };
        self.d_ff.unwrap_or(default)
    }

    /// Whether the activations of `layer`, counted from 0, are computed again in the backward pass.
    pub fn recomputes(&self, layer: usize) -> bool {
        let chosen = self.checkpoint_layers.as_ref();
        self.checkpoint_activations && chosen.is_none_or(|chosen| chosen.contains(&layer))
    }

    /// The attention of each layer.
    pub fn attention(&self) -> MultiHeadDilatedAttentionConfig {
        let (theta, scale_base) = (self.rotary_theta, self.xpos_scale_base);
        let position = match self.positions {
            Positions::XPos => AttentionPosition::XPos { theta, scale_base },
            Positions::Rotary => AttentionPosition::Rotary { theta },
            Positions::Learned | Positions::None => AttentionPosition::None,
        };
        MultiHeadDilatedAttentionConfig::new(self.d_model, self.n_heads)
            .with_branches(self.branches.clone())
            .with_causal(true)
            .with_head_assignment(self.head_assignment)
            .with_head_offset(self.head_offset)
            .with_gradient(self.gradient)
            .with_precision(self.precision)
            .with_dropout(self.attention_dropout)
            .with_n_kv_heads(self.n_kv_heads)
            .with_d_head(self.d_head)
            .with_position(position)
            .with_qk_norm(self.qk_norm)
            .with_norm_epsilon(self.norm_epsilon)
            .with_fused_qkv(self.fused_qkv)
            .with_query_bias(self.bias)
            .with_key_bias(self.bias)
            .with_value_bias(self.bias)
            .with_output_bias(self.bias)
            .with_initializer(Initializer::XavierUniform { gain: 1.0 })
    }

    /// How many layers from the first on have all kinds of attention that there are.
    fn kinds(&self) -> usize {
        self.layer_attention.len().max(1).min(self.n_layers)
    }

    /// The kind of attention of layer `layer`.
    pub fn kind(&self, layer: usize) -> LayerAttention {
        match self.layer_attention.len() {
            0 => LayerAttention::Dilated,
            kinds => self.layer_attention[layer % kinds].clone(),
        }
    }

    /// Layer `layer`, counted from 0.
    pub fn layer(&self, layer: usize) -> TransformerLayerConfig {
        let feed_forward = FeedForwardConfig::new(self.d_model, self.feed_forward_width())
            .with_activation(self.activation)
            .with_norm_epsilon(self.norm_epsilon)
            .with_bias(self.bias)
            .with_dropout(self.activation_dropout);
        TransformerLayerConfig::new(self.attention(), feed_forward, self.n_layers)
            .with_kind(self.kind(layer))
            .with_residual(self.residual)
            .with_norm_epsilon(self.norm_epsilon)
            .with_dropout(self.dropout)
    }

    /// What the heads of layer `layer` see in `n` tokens, group by group. Where blocks are chosen by what they
    /// hold: as many as are chosen, the nearest.
    ///
    /// # Errors
    ///
    /// The layer's attention cannot work, or not at this length.
    pub fn head_groups(&self, layer: usize, n: usize) -> Result<Vec<HeadGroup>, ConfigError> {
        self.kind(layer).head_groups(&self.attention(), n)
    }

    /// What a user should know about the patterns of the layers in `n` tokens. Empty when there is nothing to
    /// say.
    pub fn warnings(&self, n: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        for layer in 0..self.kinds() {
            for warning in self.kind(layer).warnings(&self.attention(), n) {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        warnings
    }

    /// The pattern of dilated layers.
    ///
    /// # Errors
    ///
    /// The branches or heads cannot work.
    pub fn pattern(&self) -> Result<Pattern, ConfigError> {
        self.attention().pattern()
    }

    /// Whether [`init`](Self::init) will succeed, and sequences of `max_length` tokens in `dtype` will
    /// work.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self, dtype: DType) -> Result<(), ConfigError> {
        check_size("vocab_size", self.vocab_size)?;
        check_size("d_model", self.d_model)?;
        check_size("n_layers", self.n_layers)?;
        check_size("max_length", self.max_length)?;
        check_size("loss_chunk", self.loss_chunk)?;
        check_size("d_ff", self.feed_forward_width())?;
        check_positive("rotary_theta", self.rotary_theta)?;
        check_positive("xpos_scale_base", self.xpos_scale_base)?;
        check_dropout("attention_dropout", self.attention_dropout)?;
        check_dropout("activation_dropout", self.activation_dropout)?;
        check_dropout("dropout", self.dropout)?;
        check(
            !(self.tied_head && self.head_bias),
            "head_bias",
            true,
            "a tied head has no bias; set tied_head = false or head_bias = false",
        )?;
        let beyond = self.checkpoint_layers.iter().flatten();
        if let Some(&layer) = beyond.clone().find(|&&layer| layer >= self.n_layers) {
            let last = self.n_layers - 1;
            let remedy = format!("the layers are 0 to {last}");
            check(false, "checkpoint_layers", layer, remedy)?;
        }
        let attention = self.attention();
        for layer in 0..self.kinds() {
            self.layer(layer).validate()?;
            // Each is centred by its own.
            let pattern = self.kind(layer).enclosing(&attention)?;
            attention.position.check(&pattern, self.max_length, dtype)?;
        }
        Ok(())
    }
}
