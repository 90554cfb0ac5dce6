//! Small rules that every implementation of the op shares.

use serde::{Deserialize, Serialize};

/// How the weights that mix the branches of a row are treated in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixGradient {
    /// The gradient of the one softmax that attention computes.
    #[default]
    Exact,
    /// The mixing weights are constants, as torchscale trains.
    Detached,
}

/// How exact the products of f32 tensors must be, as PyTorch's `float32_matmul_precision` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Products and sums in f32.
    #[default]
    Highest,
    /// Each factor may be the sum of two bfloat16, and the smallest of their four products be left out:
    /// a relative error of 1e-4. Only done where a processor has faster products for it (on CPUs: AMX);
    /// elsewhere as [`Highest`](Self::Highest).
    High,
}

/// The label of a key that no query sees (padding).
///
/// Padding masks and document ids reach kernels as one pair of labels: a query sees a key iff their
/// labels are equal and the key's is not this.
pub const HIDDEN: i32 = i32::MIN;

/// Whether a query with label `q` may see a key with label `k`.
#[inline]
pub fn labels_match(q: i32, k: i32) -> bool {
    q == k && k != HIDDEN
}
