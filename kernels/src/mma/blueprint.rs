//! What a kernel on tensor cores is compiled for.

use crate::walk::Role;

/// The compile-time side of a launch: one kernel for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaBlueprint {
    /// Width of queries and keys, a multiple of 8.
    pub d: usize,
    /// Width of values, a multiple of 8.
    pub d_v: usize,
    /// Planes of a cube.
    pub planes: usize,
    /// Tiles of 16 rows that a plane owns.
    pub tiles: usize,
    /// Planes that own the same rows, each with a part of the channels of the results.
    pub share: usize,
    /// Rows of the other side that are staged at a time, a multiple of 16.
    pub stage: usize,
    /// 2: the next rows are staged while the present ones are in use; 1: they are not.
    pub stages: usize,
    /// A plane's own operands stay in registers.
    pub resident: bool,
    /// Asynchronous copies and PTX: what the CUDA C++ compiler of CubeCL has.
    pub copy_async: bool,
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

impl MmaBlueprint {
    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.planes * 32
    }

    /// Rows of a tile.
    pub fn rows(&self) -> usize {
        self.planes / self.share * self.tiles * 16
    }

    /// Groups of 16 channels that a plane accumulates of results of `width`.
    pub(crate) fn part(&self, width: usize) -> usize {
        width.div_ceil(16).div_ceil(self.share)
    }

    /// Groups of eight channels between staged rows of `width` channels: one more than they fill, and so an
    /// odd number of 16-byte units, which has eight consecutive rows lie in different banks.
    pub(crate) fn line(&self, width: usize) -> usize {
        self.part(width) * self.share * 2 + 1
    }
}
