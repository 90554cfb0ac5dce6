//! The position-wise part of a layer.

use super::init::{self, norm};
use crate::attention::scaled;
use crate::dropout::dropout_on;
use crate::error::{ConfigError, check_dropout, check_epsilon, check_finite, check_size};
use crate::norm::LayerNorm;
use crate::ring::SequenceShard;
use crate::rowwise::{gelu_of_sum, linear, project};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear};
use burn::tensor::activation::{relu, silu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// What follows the first projection of a [`FeedForward`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// The exact GELU, by the error function.
    #[default]
    Gelu,
    /// Zero below zero.
    Relu,
    /// `x sigmoid(x)`, also called SiLU.
    Swish,
    /// A projection times the swish of another one: arXiv 2002.05202.
    #[serde(rename = "swiglu")]
    SwiGlu,
}

/// Configuration of [`FeedForward`].
#[derive(Config, Debug)]
pub struct FeedForwardConfig {
    /// The size of inputs and outputs.
    pub d_model: usize,
    /// The size between the projections.
    pub d_ff: usize,
    /// What follows the first projection. Default: GELU
    #[config(default = "Activation::Gelu")]
    pub activation: Activation,
    /// A LayerNorm before the last projection: MAGNETO's sub-LayerNorm. Default: false
    #[config(default = false)]
    pub inner_norm: bool,
    /// The epsilon of the norm. Default: 1e-5
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Enable bias. Default: true
    #[config(default = true)]
    pub bias: bool,
    /// The rate at which activations are dropped in training. Default: 0
    #[config(default = 0.0)]
    pub dropout: f64,
    /// The type of function used to initialize the weights; biases are 0. Default: Xavier, uniform
    #[config(default = "Initializer::XavierUniform{gain:1.0}")]
    pub initializer: Initializer,
    /// A factor of the initial weights. Default: 1
    #[config(default = 1.0)]
    pub gain: f64,
}

/// Two projections with an activation between them.
///
/// Should be created with [FeedForwardConfig].
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `d_model` to `d_ff`.
    pub inner: Linear,
    /// `d_model` to `d_ff`, for SwiGLU.
    pub gate: Option<Linear>,
    /// Norm before the last projection.
    pub norm: Option<LayerNorm>,
    /// `d_ff` to `d_model`.
    pub outer: Linear,
    #[module(skip)]
    activation: Activation,
    dropout: f64,
}

impl FeedForwardConfig {
    /// Whether [`init`](Self::init) will succeed.
    ///
    /// # Errors
    ///
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_size("d_model", self.d_model)?;
        check_size("d_ff", self.d_ff)?;
        check_epsilon("norm_epsilon", self.norm_epsilon)?;
        check_dropout("dropout", self.dropout)?;
        check_finite("gain", self.gain)
    }

    /// Initialize a new [feed-forward](FeedForward) module.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> FeedForward {
        self.validate().unwrap_or_else(|error| panic!("{error}"));
        let initializer = scaled(&self.initializer, self.gain);
        let project = |from, to| init::linear(from, to, self.bias, &initializer, device);
        FeedForward {
            inner: project(self.d_model, self.d_ff),
            gate: (self.activation == Activation::SwiGlu).then(|| project(self.d_model, self.d_ff)),
            norm: self
                .inner_norm
                .then(|| norm(self.d_ff, self.norm_epsilon, device)),
            outer: project(self.d_ff, self.d_model),
            activation: self.activation,
            dropout: self.dropout,
        }
    }
}

impl FeedForward {
    /// Applies the forward pass; activations are dropped where there is a seed.
    ///
    /// # Shapes
    ///
    /// - x, output: `[batch, n, d_model]`
    pub fn forward(&self, x: Tensor<3>, seed: Option<u64>) -> Tensor<3> {
        self.forward_on(x, seed, None)
    }

    pub(super) fn forward_on(
        &self,
        x: Tensor<3>,
        seed: Option<u64>,
        shard: Option<&SequenceShard>,
    ) -> Tensor<3> {
        let inner = match (self.activation, &self.gate) {
            (Activation::Gelu, _) => {
                let bias = self.inner.bias.as_ref().map(|bias| bias.val());
                gelu_of_sum(linear(x, self.inner.weight.val(), None), bias)
            }
            (Activation::Relu, _) => relu(project(&self.inner, x)),
            (Activation::Swish, _) => silu(project(&self.inner, x)),
            (Activation::SwiGlu, Some(gate)) => {
                silu(project(gate, x.clone())) * project(&self.inner, x)
            }
            (Activation::SwiGlu, None) => unreachable!("SwiGLU has a gate"),
        };
        let inner = dropout_on(inner, self.dropout, seed, shard);
        let inner = match &self.norm {
            Some(norm) => norm.forward(inner),
            None => inner,
        };
        project(&self.outer, inner)
    }
}
