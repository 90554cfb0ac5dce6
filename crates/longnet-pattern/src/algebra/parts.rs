//! What some patterns are made of.

use super::BlockPattern;
use crate::{Branch, HeadAssignment, HeadOffset, Tail};
use serde::{Deserialize, Serialize};

/// One level of a [hierarchical](BlockPattern::Hierarchical) pattern: `i mod (stride div B) == 0` and
/// `|i - j| <= (window div B) div 2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Tokens between the query blocks of the level, at least a block.
    pub stride: usize,
    /// Tokens of the window around them. `None`: they see all key blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
}

/// The heads of [`BlockPattern::Heads`] that have one pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadEntry {
    /// What they see. Where it asks for the head, as dilated branches do, heads are counted from the first of
    /// the entry; only a random draw is by the head of the whole.
    pub pattern: BlockPattern,
    /// How many heads. Default: 1.
    #[serde(default = "one")]
    pub heads: usize,
}

fn one() -> usize {
    1
}

/// LongNet's branches with their options, as a [`DilatedPattern`](crate::DilatedPattern) has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branches {
    /// Segment lengths in tokens with their dilation rates.
    pub branches: Vec<Branch>,
    /// Which heads run which branches. Default: all.
    #[serde(default)]
    pub head_assignment: HeadAssignment,
    /// Which residue of a segment a head takes. Default: modulo.
    #[serde(default)]
    pub head_offset: HeadOffset,
    /// What happens where a segment is not filled. Default: masked.
    #[serde(default)]
    pub tail: Tail,
}

impl Branches {
    /// Branches, each `(segment, dilation)`, with the defaults of
    /// [`DilatedPattern::new`](crate::DilatedPattern::new).
    pub fn new<B: Into<Branch>>(branches: impl IntoIterator<Item = B>) -> Self {
        Self {
            branches: branches.into_iter().map(Into::into).collect(),
            head_assignment: HeadAssignment::default(),
            head_offset: HeadOffset::default(),
            tail: Tail::default(),
        }
    }
}
