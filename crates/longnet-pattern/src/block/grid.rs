//! How positions are cut into blocks.

use crate::PatternError;
use crate::dilated::LARGEST;
use serde::{Deserialize, Serialize};

/// Query block `i` holds positions `i * q_block ..`, key block `j` positions `j * k_block ..`, both from
/// position 0. The last blocks may reach past the end of a sequence: what is not there is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockGrid {
    /// Positions of a query block, usually 16 to 128.
    pub q_block: usize,
    /// Positions of a key block.
    pub k_block: usize,
    /// Number of query blocks.
    pub q_blocks: usize,
    /// Number of key blocks.
    pub k_blocks: usize,
}

impl BlockGrid {
    /// Self-attention over sequences of up to `n` positions, in blocks of `block`.
    ///
    /// # Panics
    ///
    /// If `block` is 0.
    pub fn square(n: usize, block: usize) -> Self {
        Self::cross(n, n, block, block)
    }

    /// Up to `n_q` query and `n_k` key positions, in blocks of `q_block` and `k_block`.
    ///
    /// # Panics
    ///
    /// If a block size is 0.
    pub fn cross(n_q: usize, n_k: usize, q_block: usize, k_block: usize) -> Self {
        Self {
            q_block,
            k_block,
            q_blocks: n_q.div_ceil(q_block),
            k_blocks: n_k.div_ceil(k_block),
        }
    }

    /// One past the last query position of the grid.
    pub fn q_end(&self) -> usize {
        self.q_block * self.q_blocks
    }

    /// One past the last key position of the grid.
    pub fn k_end(&self) -> usize {
        self.k_block * self.k_blocks
    }

    /// The first key blocks, as far as query block `i` may see them: all, or up to its last row.
    pub(crate) fn visible(&self, i: usize, causal: bool) -> usize {
        match causal {
            true => ((i + 1) * self.q_block).div_ceil(self.k_block),
            false => self.k_blocks,
        }
        .min(self.k_blocks)
    }

    pub(crate) fn check(&self) -> Result<(), PatternError> {
        for (side, size, count) in [
            ("q", self.q_block, self.q_blocks),
            ("k", self.k_block, self.k_blocks),
        ] {
            if !(1..=LARGEST).contains(&size) {
                return Err(PatternError::BlockSize { side, value: size });
            }
            if count > u32::MAX as usize || size.checked_mul(count).is_none_or(|n| n > LARGEST) {
                return Err(PatternError::BlockCount { side, count, size });
            }
        }
        Ok(())
    }
}
