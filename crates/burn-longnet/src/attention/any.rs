//! Any kind of sparse attention.

use super::adaptive::AdaptiveAttention;
use super::block_sparse::BlockSparseAttention;
use super::core::SparseAttention;
use super::dilated::{AttentionInput, DilatedAttention};
use crate::pattern::{Pattern, Span};
use burn::module::Module;
use burn::tensor::Tensor;

/// One of the kinds of sparse attention, for models whose layers are of several kinds.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a model has one a layer")]
pub enum AnyAttention {
    /// Dilated branches.
    Dilated(DilatedAttention),
    /// A pattern of blocks; heads may differ, and be dilated.
    BlockSparse(BlockSparseAttention),
    /// Blocks chosen by what they hold.
    Adaptive(AdaptiveAttention),
}

impl From<DilatedAttention> for AnyAttention {
    fn from(attention: DilatedAttention) -> Self {
        Self::Dilated(attention)
    }
}

impl From<BlockSparseAttention> for AnyAttention {
    fn from(attention: BlockSparseAttention) -> Self {
        Self::BlockSparse(attention)
    }
}

impl From<AdaptiveAttention> for AnyAttention {
    fn from(attention: AdaptiveAttention) -> Self {
        Self::Adaptive(attention)
    }
}

impl SparseAttention for AnyAttention {
    fn pattern_over(&self, span: Span) -> Pattern {
        match self {
            Self::Dilated(attention) => attention.pattern_over(span),
            Self::BlockSparse(attention) => attention.pattern_over(span),
            Self::Adaptive(attention) => attention.pattern_over(span),
        }
    }

    fn attend(&self, input: AttentionInput) -> Tensor<4> {
        match self {
            Self::Dilated(attention) => attention.attend(input),
            Self::BlockSparse(attention) => attention.attend(input),
            Self::Adaptive(attention) => attention.attend(input),
        }
    }
}
