//! Weights that were trained elsewhere.
//!
//! | module | project | what |
//! |---|---|---|
//! | [`torchscale`] | microsoft/torchscale | LongNet's decoder and its attention |
//! | [`dilated_attention_pytorch`] | fkodom/dilated-attention-pytorch | multi-head dilated attention |

pub mod dilated_attention_pytorch;
mod state;
pub mod torchscale;

pub use state::{ImportError, StateDict};
