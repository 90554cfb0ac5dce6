//! What most users need: `use burn_longnet::prelude::*`.

pub use crate::attention::{
    DilatedAttention, DilatedAttentionConfig, MhaInput, MhaOutput, MultiHeadDilatedAttention,
    MultiHeadDilatedAttentionConfig, branches,
};
pub use crate::functional::{AttentionOptions, Documents, sparse_attention};
pub use crate::model::{LmInput, LongNetLM, LongNetLMConfig, Sampling};
pub use crate::pattern::{
    BlockGrid, BlockMask, Branch, DilatedPattern, HeadAssignment, HeadOffset, MixGradient, Pattern,
    Precision, Span,
};
pub use crate::position::AttentionPosition;
