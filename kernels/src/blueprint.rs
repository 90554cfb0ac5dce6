//! What a kernel is compiled for.

use crate::walk::Role;

/// The compile-time side of a launch: one kernel for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub d_v: usize,
    /// Rows of a tile.
    pub rows: usize,
    /// Rows of the other side that are staged at a time.
    pub stage: usize,
    /// Units that share a row, each with a part of its channels.
    pub split: usize,
    /// The schedule is a block mask, not residues of segments.
    pub blocks: bool,
    /// The blocks of the mask have a bias.
    pub bias: bool,
    /// What becomes of the results.
    pub role: Role,
    /// Whether the final launch finds partial results.
    pub merges: bool,
    /// Keys after a query are not seen.
    pub causal: bool,
    /// There are labels.
    pub labels: bool,
    /// There is dropout.
    pub dropout: bool,
    /// Segments that are not filled hold zero keys (`Tail::ZeroKeys`).
    pub zero_keys: bool,
    /// Each branch has a delta of its own (`MixGradient::Detached`).
    pub detached: bool,
}

impl Blueprint {
    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.rows * self.split
    }

    /// Shared memory of the pass that takes most, in bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        let staged = self.padded(self.d) + self.padded(self.d_v);
        let exchange = if self.split > 1 { 8 * self.units() } else { 1 };
        // Beside rows: lse, delta and a label each.
        4 * (self.stage * (4 * staged + 3) + exchange)
    }

    /// Groups of four channels that a unit holds of a row of `width`.
    pub(crate) fn share(&self, width: usize) -> usize {
        width.div_ceil(4).div_ceil(self.split)
    }

    /// Groups of four channels of a staged row of `width`.
    pub(crate) fn padded(&self, width: usize) -> usize {
        self.share(width) * self.split
    }
}
