//! What is to be computed.

use cubecl::ir::ElemType;
use longnet_pattern::{Dropout, MixGradient, Schedule};

/// A call of the op, but for its tensors.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which pairs are visited.
    pub schedule: Schedule,
    /// The factor of the scores.
    pub scale: f64,
    /// How the weights that mix branches are treated in the backward pass.
    pub gradient: MixGradient,
    /// Attention dropout.
    pub dropout: Option<Dropout>,
    /// Whether queries and keys have labels.
    pub labels: bool,
    /// Whether the blocks of the mask have a bias.
    pub bias: bool,
    /// Type of queries, keys and values.
    pub dtype: ElemType,
    /// Whether the rows of all tensors lie as tensor cores need them: see [`crate::mma::aligned`].
    pub aligned: bool,
    /// Batch entries.
    pub batch: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub d_v: usize,
}

/// Why the kernels do not take a problem on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined(pub String);

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Declined {}
