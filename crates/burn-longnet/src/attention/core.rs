//! What stands between the projections of a multi-head module.

use super::dilated::{AttentionInput, DilatedAttention};
use crate::pattern::{Pattern, Span};
use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

/// Attention of queries over keys and values that are projected and split into heads.
pub trait SparseAttention: Module + ModuleDisplay {
    /// A pattern that has all visible pairs in `span`, by which xPos is centred. Attention that chooses among blocks
    /// sees a part of it, and so does attention whose heads are of several kinds.
    ///
    /// # Panics
    ///
    /// If the pattern cannot be built at that length.
    fn pattern_over(&self, span: Span) -> Pattern;

    /// Attention of every query over the keys that it sees.
    ///
    /// # Shapes
    ///
    /// - query: `[batch, heads, n_q, d]`
    /// - key: `[batch, kv_heads, n_k, d]`
    /// - value: `[batch, kv_heads, n_k, d_v]`
    /// - output: `[batch, heads, n_q, d_v]`
    ///
    /// # Panics
    ///
    /// As [`sparse_attention`](crate::functional::sparse_attention), and if dropout would draw a seed
    /// inside [`recompute`](crate::recompute).
    fn attend(&self, input: AttentionInput) -> Tensor<4>;
}

impl SparseAttention for DilatedAttention {
    fn pattern_over(&self, _span: Span) -> Pattern {
        self.pattern().clone()
    }

    fn attend(&self, input: AttentionInput) -> Tensor<4> {
        self.forward(input)
    }
}
