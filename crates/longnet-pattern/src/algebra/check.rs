//! What can be said against an expression before the blocks are known.

use super::{BlockPattern, Branches, Level};
use crate::dilated::LARGEST;
use crate::{DilatedPattern, PatternError};

/// How deep patterns may be nested.
pub(super) const DEEPEST: usize = 64;
/// How many patterns, levels, rates, branches and pairs an expression may have.
pub(super) const MOST_PARTS: usize = 1 << 20;

impl BlockPattern {
    /// Whether the pattern can work with `heads` query heads, whatever the length and the block size.
    ///
    /// # Errors
    ///
    /// No heads; a list of heads with another number of them, or inside of another; an argument out of range;
    /// more than 64 levels or 2^20 parts.
    pub fn check(&self, heads: usize) -> Result<(), PatternError> {
        if heads == 0 {
            return Err(PatternError::NoHeads);
        }
        let mut parts = 0;
        self.check_part(heads, false, DEEPEST, &mut parts)
    }

    fn check_part(
        &self,
        heads: usize,
        listed: bool,
        deeper: usize,
        parts: &mut usize,
    ) -> Result<(), PatternError> {
        *parts = parts.saturating_add(1 + self.own_parts());
        if *parts > MOST_PARTS {
            return Err(PatternError::TooManyParts { limit: MOST_PARTS });
        }
        let Some(deeper) = deeper.checked_sub(1) else {
            return Err(PatternError::TooDeep { limit: DEEPEST });
        };
        let name = self.name();
        let length = |argument, value| check_argument(name, argument, value, 0);
        let at_least_one = |argument, value| check_argument(name, argument, value, 1);
        match self {
            Self::All | Self::Empty | Self::Blocks(_) => Ok(()),
            Self::Window(tokens)
            | Self::Global(tokens)
            | Self::GlobalRows(tokens)
            | Self::GlobalColumns(tokens)
            | Self::Sink(tokens) => length("tokens", *tokens),
            Self::Strided(tokens) => at_least_one("tokens", *tokens),
            Self::Dilated { rates, reach } => {
                (rates.iter()).try_for_each(|rate| at_least_one("rates", *rate))?;
                length("reach", *reach)
            }
            Self::Hierarchical(levels) => levels.iter().try_for_each(|Level { stride, window }| {
                at_least_one("stride", *stride)?;
                length("window", window.unwrap_or(0))
            }),
            Self::Fixed { stride, summary } => {
                at_least_one("stride", *stride)?;
                length("summary", *summary)
            }
            Self::Random { blocks, .. } => length("blocks", *blocks),
            Self::BlockBranch { segment, dilation } => {
                at_least_one("segment", *segment)?;
                at_least_one("dilation", *dilation)
            }
            Self::Branches(branches) => branches.dilated(heads).map(|_| ()),
            Self::Density { of, target, .. } => {
                if !(0.0..=1.0).contains(target) {
                    return Err(PatternError::Argument {
                        pattern: name,
                        argument: "target",
                        value: target.to_string(),
                        remedy: "give a share of the blocks from 0 to 1, such as 0.1",
                    });
                }
                of.check_part(heads, listed, deeper, parts)
            }
            Self::Union(of) | Self::Intersection(of) => {
                (of.iter()).try_for_each(|part| part.check_part(heads, listed, deeper, parts))
            }
            Self::Difference { from, without } => {
                from.check_part(heads, listed, deeper, parts)?;
                without.check_part(heads, listed, deeper, parts)
            }
            Self::Heads(_) if listed => Err(PatternError::NestedHeads),
            Self::Heads(entries) => {
                let listed = (entries.iter()).fold(0usize, |sum, e| sum.saturating_add(e.heads));
                if listed != heads {
                    return Err(PatternError::HeadList { listed, heads });
                }
                (entries.iter()).try_for_each(|entry| {
                    check_argument("a list of heads", "x", entry.heads, 1)?;
                    (entry.pattern).check_part(entry.heads, true, deeper, parts)
                })
            }
        }
    }

    /// Levels of patterns inside of patterns, with its own.
    pub(super) fn depth(&self) -> usize {
        1 + match self {
            Self::Union(of) | Self::Intersection(of) => {
                of.iter().map(Self::depth).max().unwrap_or(0)
            }
            Self::Difference { from, without } => from.depth().max(without.depth()),
            Self::Density { of, .. } => of.depth(),
            Self::Heads(entries) => {
                let depths = entries.iter().map(|entry| entry.pattern.depth());
                depths.max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Levels, rates, branches and pairs.
    fn own_parts(&self) -> usize {
        match self {
            Self::Dilated { rates, .. } => rates.len(),
            Self::Hierarchical(levels) => levels.len(),
            Self::Branches(branches) => branches.branches.len(),
            Self::Blocks(pairs) => pairs.len(),
            _ => 0,
        }
    }

    /// The name of a pattern in text, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Empty => "empty",
            Self::Window(_) => "window",
            Self::Dilated { .. } => "dilated",
            Self::Global(_) => "global",
            Self::GlobalRows(_) => "global_rows",
            Self::GlobalColumns(_) => "global_columns",
            Self::Sink(_) => "sink",
            Self::Hierarchical(_) => "hierarchical",
            Self::Strided(_) => "strided",
            Self::Fixed { .. } => "fixed",
            Self::Random { .. } => "random",
            Self::Density { .. } => "density",
            Self::Blocks(_) => "blocks",
            Self::BlockBranch { .. } => "block_branch",
            Self::Branches(_) => "branches",
            Self::Union(_) => "union",
            Self::Intersection(_) => "intersection",
            Self::Difference { .. } => "difference",
            Self::Heads(_) => "heads",
        }
    }
}

impl Branches {
    /// The same as a pattern of its own.
    pub(super) fn dilated(&self, heads: usize) -> Result<DilatedPattern, PatternError> {
        DilatedPattern::new(heads, self.branches.iter().copied())
            .head_assignment(self.head_assignment)
            .head_offset(self.head_offset)
            .tail(self.tail)
            .check()
    }
}

fn check_argument(
    pattern: &'static str,
    argument: &'static str,
    value: usize,
    least: usize,
) -> Result<(), PatternError> {
    if (least..=LARGEST).contains(&value) {
        return Ok(());
    }
    Err(PatternError::Argument {
        pattern,
        argument,
        value: value.to_string(),
        remedy: match least {
            0 => "give a number up to 2^48",
            _ => "give a number from 1 to 2^48",
        },
    })
}
