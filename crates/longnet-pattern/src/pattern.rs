//! Any pattern.

use crate::{BlockMask, DilatedPattern, PatternError, Schedule, Span};
use std::ops::Range;

/// How many times a query position sees a key position, head by head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// LongNet's dilated branches.
    Dilated(DilatedPattern),
    /// Pairs of blocks.
    Blocks(BlockMask),
}

impl From<BlockMask> for Pattern {
    fn from(mask: BlockMask) -> Self {
        Self::Blocks(mask)
    }
}

impl Pattern {
    /// Ordinary attention: every head sees every position (up to its own if `causal`).
    ///
    /// # Panics
    ///
    /// If `heads` is 0.
    pub fn dense(heads: usize, causal: bool) -> Self {
        DilatedPattern::new(heads, [(1 << 48, 1)])
            .causal(causal)
            .build()
            .expect("a dense pattern has at least one head")
    }

    /// Number of query heads.
    pub fn heads(&self) -> usize {
        match self {
            Self::Dilated(dilated) => dilated.heads(),
            Self::Blocks(mask) => mask.heads(),
        }
    }

    /// Some heads of this pattern, numbered from 0: each sees what it sees here.
    ///
    /// # Panics
    ///
    /// If there are no such heads.
    pub fn of_heads(&self, heads: Range<usize>) -> Self {
        match self {
            Self::Dilated(dilated) => Self::Dilated(dilated.of_heads(heads)),
            Self::Blocks(mask) => Self::Blocks(mask.of_heads(heads)),
        }
    }

    /// Whether a position sees only itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        match self {
            Self::Dilated(dilated) => dilated.is_causal(),
            Self::Blocks(mask) => mask.is_causal(),
        }
    }

    /// How many times query position `i` of `head` sees key position `j`.
    pub fn multiplicity(&self, head: usize, i: usize, j: usize) -> usize {
        match self {
            Self::Dilated(dilated) => dilated.multiplicity(head, i, j),
            Self::Blocks(mask) => usize::from(mask.sees(head, i, j)),
        }
    }

    /// Positions in `0..n` that see nothing in `head`.
    pub fn uncovered_rows(&self, head: usize, n: usize) -> usize {
        match self {
            Self::Dilated(dilated) => dilated.uncovered_rows(head, n),
            Self::Blocks(mask) => mask.uncovered_rows(head, n),
        }
    }

    /// The pattern over a query range and a key range, as kernels walk it.
    ///
    /// # Errors
    ///
    /// [`Tail::ZeroKeys`](crate::Tail::ZeroKeys) over anything but one whole sequence; positions past
    /// 2^48, or past the blocks of a mask.
    pub fn schedule(&self, span: Span) -> Result<Schedule, PatternError> {
        Schedule::new(self, span)
    }
}
