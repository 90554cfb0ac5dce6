//! What a kernel is compiled for.

use crate::walk::Role;

/// Rows of the other side that a unit meets at a time.
pub(crate) const STEP: usize = 4;

/// The compile-time side of a launch: one kernel for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blueprint {
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub d_v: usize,
    /// Rows of a tile.
    pub rows: usize,
    /// Rows that a unit holds: each row of the other side, once loaded, meets all of them.
    pub each: usize,
    /// Rows of the other side that are staged at a time.
    pub stage: usize,
    /// Units that share a row, each with a part of its channels.
    pub split: usize,
    /// Units of a plane that load staged rows together and broadcast them to each other; 0: each unit loads all
    /// it needs. Devices that are processors read memory unit by unit, but broadcast in a register.
    pub broadcast: usize,
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
        self.across() * self.split
    }

    /// Units that hold the rows of a tile, by one of the parts of their channels.
    pub(crate) fn across(&self) -> usize {
        self.rows / self.each
    }

    /// Shared memory of the pass that takes most, in bytes.
    pub(crate) fn shared_memory(&self) -> usize {
        let staged = self.padded(self.d) + self.padded(self.d_v);
        let exchange = match self.split {
            1 => 1,
            _ => STEP * self.each * self.units(),
        };
        let of_rows = if self.bias { self.across() } else { 1 };
        // Beside rows: lse, delta and a label each.
        4 * (self.stage * (4 * staged + 3) + exchange + of_rows)
    }

    /// Groups of four channels that a unit holds of a row of `width`.
    pub(crate) fn share(&self, width: usize) -> usize {
        width.div_ceil(4).div_ceil(self.split)
    }

    /// Groups of four channels of a staged row of `width`.
    pub(crate) fn padded(&self, width: usize) -> usize {
        self.share(width) * self.split
    }

    /// How often a plane loads together to have a unit's share of a row.
    pub(crate) fn turns(&self, width: usize) -> usize {
        match self.broadcast {
            0 => 0,
            lanes => self.share(width).div_ceil(lanes),
        }
    }
}
