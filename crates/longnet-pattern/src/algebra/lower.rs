//! From an expression to the set of a head, in blocks.

use super::compile::Scale;
use super::row::{Set, Target};
use super::{BlockPattern, Branches, Level};
use crate::{PatternError, Tail};

/// A head, and its place in the list of heads it is named by.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub index: usize,
    /// Counted from the first of its entry.
    pub inside: usize,
    /// How many heads the entry has.
    pub of: usize,
}

impl Scale {
    /// The set of a pattern. Inside of an operator (`as_set`) how often a pair is seen does not count.
    pub(super) fn set(
        &self,
        pattern: &BlockPattern,
        head: Head,
        as_set: bool,
    ) -> Result<Set, PatternError> {
        let block = self.block;
        let all = |of: &[BlockPattern]| -> Result<Vec<Set>, PatternError> {
            of.iter().map(|part| self.set(part, head, true)).collect()
        };
        let whole = |argument, tokens: usize| match tokens / block {
            0 => Err(PatternError::BelowBlock {
                pattern: pattern.name(),
                argument,
                tokens,
                block,
            }),
            blocks => Ok(blocks),
        };
        Ok(match pattern {
            BlockPattern::All => Set::All,
            BlockPattern::Empty => Set::Empty,
            BlockPattern::Window(tokens) => Set::Band {
                half: tokens / block / 2,
            },
            BlockPattern::Dilated { rates, reach } => Set::Steps {
                rates: rates.clone(),
                reach: reach / block,
            },
            BlockPattern::Global(tokens) => {
                let count = tokens / block;
                Set::Union(vec![Set::Rows { count }, Set::Columns { count }])
            }
            BlockPattern::GlobalRows(tokens) => Set::Rows {
                count: tokens / block,
            },
            BlockPattern::GlobalColumns(tokens) | BlockPattern::Sink(tokens) => Set::Columns {
                count: tokens / block,
            },
            BlockPattern::Hierarchical(levels) => {
                let level = |level: &Level| -> Result<Set, PatternError> {
                    Ok(Set::Level {
                        stride: whole("stride", level.stride)?,
                        half: level.window.map(|tokens| tokens / block / 2),
                    })
                };
                Set::Union(levels.iter().map(level).collect::<Result<_, _>>()?)
            }
            BlockPattern::Strided(tokens) => Set::Strided {
                stride: whole("tokens", *tokens)?,
            },
            BlockPattern::Fixed { stride, summary } => Set::Fixed {
                stride: whole("stride", *stride)?,
                summary: summary / block,
            },
            BlockPattern::Random { blocks, seed } => Set::Random {
                blocks: *blocks,
                seed: *seed,
                head: head.index,
            },
            BlockPattern::Density { of, target, seed } => Set::Density {
                of: Box::new(self.set(of, head, true)?),
                target: Target::new(*target),
                seed: *seed,
                head: head.index,
            },
            BlockPattern::Blocks(pairs) => self.listed(pairs),
            BlockPattern::BlockBranch { segment, dilation } => Set::Segments {
                segment: whole("segment", *segment)?,
                dilation: *dilation,
                offset: head.inside % dilation,
            },
            BlockPattern::Branches(branches) => self.branches(branches, head, as_set)?,
            BlockPattern::Union(of) => Set::Union(all(of)?),
            BlockPattern::Intersection(of) => Set::Intersection(all(of)?),
            BlockPattern::Difference { from, without } => Set::Difference(Box::new([
                self.set(from, head, true)?,
                self.set(without, head, true)?,
            ])),
            BlockPattern::Heads(entries) => {
                let mut inside = head.index;
                for entry in entries {
                    let of = entry.heads;
                    if inside < of {
                        let head = Head { inside, of, ..head };
                        return self.set(&entry.pattern, head, as_set);
                    }
                    inside -= of;
                }
                unreachable!("a checked list has all heads")
            }
        })
    }

    /// The pairs that the grid has.
    fn listed(&self, pairs: &[[usize; 2]]) -> Set {
        let inside = |&&[i, j]: &&[usize; 2]| i < self.q_blocks && j < self.k_blocks;
        let mut pairs: Vec<_> = pairs.iter().filter(inside).copied().collect();
        pairs.sort_unstable();
        pairs.dedup();
        Set::Listed(pairs)
    }

    /// The branches that a head runs, if they are sets of blocks.
    fn branches(&self, branches: &Branches, head: Head, as_set: bool) -> Result<Set, PatternError> {
        let dilated = branches.dilated(head.of)?;
        if dilated.tail() == Tail::ZeroKeys && !self.causal {
            return Err(PatternError::ZeroKeyBlocks);
        }
        let mut sets = Vec::new();
        for (b, branch) in dilated.branches().iter().enumerate() {
            let Some(offset) = dilated.offset(b, head.inside) else {
                continue;
            };
            let (segment, dilation) = (branch.segment, branch.dilation);
            let endless = segment >= self.grid.q_end().max(self.grid.k_end());
            let whole = segment.is_multiple_of(self.block) || endless;
            if !whole || dilation > 1 && self.block > 1 {
                return Err(PatternError::BranchBlocks {
                    segment,
                    dilation,
                    block: self.block,
                });
            }
            sets.push(Set::Segments {
                segment: segment.div_ceil(self.block),
                dilation,
                offset,
            });
        }
        if sets.len() > 1 && !as_set {
            return Err(PatternError::CountedTwice {
                branches: sets.len(),
            });
        }
        Ok(match sets.len() {
            1 => sets.remove(0),
            _ => Set::Union(sets),
        })
    }
}
