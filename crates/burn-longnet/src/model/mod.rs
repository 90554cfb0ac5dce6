//! Models.

mod feed_forward;
mod generate;
mod init;
mod input;
mod layer;
mod layer_attention;
mod lm;
mod lm_config;
mod loss;
mod sample;
mod sizes;
#[cfg(test)]
mod tests;

pub use feed_forward::{Activation, FeedForward, FeedForwardConfig};
pub use input::LmInput;
pub use layer::{LayerContext, Residual, TransformerLayer, TransformerLayerConfig};
pub use layer_attention::LayerAttention;
pub use lm::LongNetLM;
pub use lm_config::{LongNetLMConfig, Positions};
pub use loss::{ChunkedLoss, LossTerms, chunked_cross_entropy, chunked_loss, chunked_nll};
pub use sample::{Sampling, SamplingError};
