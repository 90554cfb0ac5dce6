//! Models.

mod loss;

pub use loss::{ChunkedLoss, chunked_cross_entropy, chunked_nll};
