//! Heads of different kinds: some dilated token by token, some by blocks.

use super::BlockPattern;
use crate::{BlockGrid, Pattern, PatternError, Tail};
use std::ops::Range;

/// Neighbouring heads with one pattern of their own: one attention call. The heads of all groups, one after
/// the other, are all heads, so outputs are joined along the head axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeadGroup {
    /// The query heads.
    pub heads: Range<usize>,
    /// What they see: head `h` of all is head `h - heads.start` here.
    pub pattern: Pattern,
}

impl HeadGroup {
    /// The kv heads that the group reads, if `kv_heads` are shared by all `heads` and the call can be made with
    /// just these. `None` if kv heads must be repeated first, because the group has only some of the query
    /// heads of one kv head and some of another.
    ///
    /// # Panics
    ///
    /// If `kv_heads` does not divide `heads`.
    pub fn kv_heads(&self, heads: usize, kv_heads: usize) -> Option<Range<usize>> {
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "kv_heads = {kv_heads} must divide heads = {heads}"
        );
        let share = heads / kv_heads;
        let range = self.heads.start / share..self.heads.end.div_ceil(share);
        let whole = self.heads.start.is_multiple_of(share) && self.heads.end.is_multiple_of(share);
        (whole || range.len() == 1).then_some(range)
    }
}

impl BlockPattern {
    /// The pattern of each head, exactly: as [`mask`](Self::mask), but entries of a list of heads that are
    /// [`Branches`](Self::Branches) and nothing else stay dilated branches, which no blocks can stand for.
    /// Entries that are [`All`](Self::All) are dense without listing a block. Other heads next to each other have one
    /// mask together. Where [`mask`](Self::mask) succeeds it says the same in one call.
    ///
    /// Causal branches have no zero keys, since causal rows never see them, so that they may be used wherever other
    /// causal patterns are.
    ///
    /// Dilated branches inside of an operator are blocks or an error: their union with a window, say, is no
    /// pattern of either kind.
    ///
    /// ```
    /// use longnet_pattern::{BlockGrid, BlockPattern, Pattern};
    ///
    /// let text = "[branches(2048/1, 8192/4) x 8, window(1024) | global(128) x 4]";
    /// let groups = text.parse::<BlockPattern>()?.head_groups(12, BlockGrid::square(16384, 128), true)?;
    /// assert_eq!(groups[0].heads, 0..8);
    /// assert!(matches!(groups[0].pattern, Pattern::Dilated(_)));
    /// assert_eq!(groups[1].heads, 8..12);
    /// assert!(matches!(groups[1].pattern, Pattern::Blocks(_)));
    /// # Ok::<(), longnet_pattern::PatternError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`mask`](Self::mask).
    pub fn head_groups(
        &self,
        heads: usize,
        grid: BlockGrid,
        causal: bool,
    ) -> Result<Vec<HeadGroup>, PatternError> {
        self.check(heads)?;
        type Group<T> = Result<T, PatternError>;
        let dilated = |heads: Range<usize>, pattern: &Self| -> Group<Option<HeadGroup>> {
            let pattern = match pattern {
                Self::All => Pattern::dense(heads.len(), causal),
                Self::Branches(branches) => {
                    let mut pattern = branches.dilated(heads.len())?;
                    pattern.causal = causal;
                    if causal {
                        pattern.tail = Tail::Masked;
                    }
                    Pattern::Dilated(pattern)
                }
                _ => return Ok(None),
            };
            Ok(Some(HeadGroup { heads, pattern }))
        };
        let blocks = |range: Range<usize>| -> Group<HeadGroup> {
            let pattern = self.mask_of_heads(heads, range.clone(), grid, causal)?;
            Ok(HeadGroup {
                heads: range,
                pattern: pattern.into(),
            })
        };
        let Self::Heads(entries) = self else {
            return match dilated(0..heads, self)? {
                Some(group) => Ok(vec![group]),
                None => Ok(vec![blocks(0..heads)?]),
            };
        };
        let mut groups = Vec::new();
        // The heads so far that no group has yet.
        let mut open = 0..0;
        for entry in entries {
            let range = open.end..open.end + entry.heads;
            match dilated(range.clone(), &entry.pattern)? {
                None => open.end = range.end,
                Some(group) => {
                    if !open.is_empty() {
                        groups.push(blocks(open)?);
                    }
                    groups.push(group);
                    open = range.end..range.end;
                }
            }
        }
        if !open.is_empty() {
            groups.push(blocks(open)?);
        }
        Ok(groups)
    }
}
