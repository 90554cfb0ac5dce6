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
