//! Models.

mod feed_forward;
mod generate;
mod init;
mod layer;
mod lm;
mod lm_config;
mod loss;
mod sample;

pub use feed_forward::{Activation, FeedForward, FeedForwardConfig};
pub use layer::{LayerContext, Residual, TransformerLayer, TransformerLayerConfig};
pub use lm::{LmInput, LongNetLM};
pub use lm_config::{LongNetLMConfig, Positions};
pub use loss::{ChunkedLoss, chunked_cross_entropy, chunked_nll};
pub use sample::Sampling;
