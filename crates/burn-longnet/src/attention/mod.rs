//! Attention modules.

mod adaptive;
mod any;
mod block_sparse;
mod core;
mod dilated;
mod multi_head;
#[cfg(test)]
mod tests;

pub use self::core::SparseAttention;
pub use adaptive::{AdaptiveAttention, AdaptiveAttentionConfig, BlockScorer};
pub use any::AnyAttention;
pub use block_sparse::{BlockSparseAttention, BlockSparseAttentionConfig};
pub use dilated::{AttentionInput, DilatedAttention, DilatedAttentionConfig};
pub use multi_head::{
    InnerNorm, MhaInput, MhaOutput, MultiHeadAdaptiveAttention, MultiHeadAdaptiveAttentionConfig,
    MultiHeadBlockSparseAttention, MultiHeadBlockSparseAttentionConfig, MultiHeadDilatedAttention,
    MultiHeadDilatedAttentionConfig, MultiHeadSparseAttention, QkNorm,
};

pub(crate) use adaptive::check_scorer;
pub(crate) use multi_head::scaled;

use crate::pattern::Branch;

/// The branches of the LongNet paper: segments of 2048 to 32768 tokens, dilated by 1, 2, 4, 6, 12.
pub fn longnet_branches() -> Vec<Branch> {
    branches([(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)])
}

/// Branches from pairs of segment length and dilation rate.
pub fn branches(pairs: impl IntoIterator<Item = (usize, usize)>) -> Vec<Branch> {
    pairs.into_iter().map(Branch::from).collect()
}
