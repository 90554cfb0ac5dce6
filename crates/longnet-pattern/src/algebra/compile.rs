//! From an expression to the lists of a mask.

use super::row::{Set, Target};
use super::{BlockPattern, Branches, Level};
use crate::dilated::LARGEST;
use crate::{BlockGrid, BlockMask, PatternError, Tail};
use std::collections::HashMap;
use std::ops::Range;

/// How many parts of rows are worked out for one mask at the most.
const MOST_WORK: u64 = 1 << 28;

/// What turns an expression into sets of blocks.
#[derive(Clone, Copy)]
struct Scale {
    grid: BlockGrid,
    causal: bool,
    /// Tokens of a block of the formulas.
    block: usize,
    /// How many such query and key blocks there are.
    q_blocks: usize,
    k_blocks: usize,
}

/// A head, and its place in the list of heads it is named by.
#[derive(Clone, Copy)]
struct Head {
    index: usize,
    /// Counted from the first of its entry.
    inside: usize,
    /// How many heads the entry has.
    of: usize,
}

impl BlockPattern {
    /// The mask of the pattern for `heads` query heads over `grid`, in time proportional to its blocks if
    /// the pattern is structured. If `causal`, a position sees only itself and earlier ones.
    ///
    /// # Errors
    ///
    /// [`check`](Self::check) fails; the grid has a block size of 0 or reaches past 2^48 positions; a stride
    /// or segment is shorter than a block; [`Branches`](Self::Branches) that are not blocks; 2^32 blocks and
    /// more; more than 2^28 parts in all rows of heads that differ.
    pub fn mask(
        &self,
        heads: usize,
        grid: BlockGrid,
        causal: bool,
    ) -> Result<BlockMask, PatternError> {
        self.check(heads)?;
        self.mask_of_heads(heads, 0..heads, grid, causal)
    }

    /// The mask of some of the heads of an expression that has been checked.
    pub(super) fn mask_of_heads(
        &self,
        heads: usize,
        range: Range<usize>,
        grid: BlockGrid,
        causal: bool,
    ) -> Result<BlockMask, PatternError> {
        let scale = Scale::new(grid, causal)?;
        let head = |index| Head {
            index,
            inside: index,
            of: heads,
        };
        // Of sets that differ, the first head.
        let mut known: HashMap<Set, usize> = HashMap::new();
        let mut work = 0u64;
        let mut alike = Vec::with_capacity(range.len());
        for (at, index) in range.enumerate() {
            if at > 0 && !self.differs_by_head() {
                alike.push(0);
                continue;
            }
            let set = scale.set(self, head(index), false)?;
            let parts = set.parts() as u64;
            let first = *known.entry(set).or_insert(at);
            if first == at {
                work = work.saturating_add(parts.saturating_mul(scale.q_blocks as u64));
            }
            if work > MOST_WORK {
                return Err(PatternError::TooMuchWork {
                    work,
                    limit: MOST_WORK,
                });
            }
            alike.push(first);
        }
        let mut sets: Vec<Option<&Set>> = vec![None; alike.len()];
        known.iter().for_each(|(set, at)| sets[*at] = Some(set));
        let of_head = |head: usize| sets[head].expect("the first of heads that are alike");
        scale.check_size(&alike, of_head)?;
        let builder = BlockMask::new(alike.len(), grid).causal(causal);
        // Several query blocks of the grid may have one row.
        let (mut last, mut row) = (None, Vec::new());
        builder.build_alike(&alike, |head, i, columns| {
            let at = (head, i / scale.q_parts());
            if last != Some(at) {
                row.clear();
                row.extend(scale.columns(of_head(head), at.1));
                last = Some(at);
            }
            row.iter().cloned().for_each(|part| columns.extend(part));
        })
    }

    /// Whether heads may have different rows.
    fn differs_by_head(&self) -> bool {
        match self {
            Self::Random { .. }
            | Self::Density { .. }
            | Self::BlockBranch { .. }
            | Self::Branches(_)
            | Self::Heads(_) => true,
            Self::Union(of) | Self::Intersection(of) => of.iter().any(Self::differs_by_head),
            Self::Difference { from, without } => {
                from.differs_by_head() || without.differs_by_head()
            }
            _ => false,
        }
    }

    /// What a user should know about the pattern in blocks of `grid`: lengths that round down to nothing.
    /// Empty when there is nothing to say.
    ///
    /// # Errors
    ///
    /// The block sizes of the grid cannot work.
    pub fn warnings(&self, grid: BlockGrid) -> Result<Vec<String>, PatternError> {
        let block = Scale::new(grid, false)?.block;
        let mut warnings = Vec::new();
        self.warn(block, &mut warnings);
        warnings.dedup();
        Ok(warnings)
    }

    fn warn(&self, block: usize, warnings: &mut Vec<String>) {
        match self {
            Self::Window(tokens) if *tokens > 0 && tokens / block < 2 => warnings.push(format!(
                "{self} is shorter than two blocks of {block} tokens and sees the diagonal only; use {} or more",
                2 * block
            )),
            Self::Global(tokens)
            | Self::GlobalRows(tokens)
            | Self::GlobalColumns(tokens)
            | Self::Sink(tokens)
                if *tokens < block =>
            {
                warnings.push(format!(
                    "{self} is shorter than a block of {block} tokens and sees nothing; use {block} or more"
                ));
            }
            Self::Dilated { rates, reach } => warnings.extend(
                (rates.iter().filter(|rate| *reach > 0 && reach / block < **rate)).map(|rate| {
                    format!(
                        "{self}: a reach shorter than {rate} blocks of {block} tokens holds no step of rate {rate}; use {} or more",
                        rate.saturating_mul(block)
                    )
                }),
            ),
            Self::Fixed { summary, .. } if *summary > 0 && *summary < block => {
                warnings.push(format!(
                    "{self}: a summary shorter than a block of {block} tokens is none; use {block} or more"
                ));
            }
            Self::Union(of) | Self::Intersection(of) => {
                of.iter().for_each(|part| part.warn(block, warnings));
            }
            Self::Difference { from, without } => {
                from.warn(block, warnings);
                without.warn(block, warnings);
            }
            Self::Density { of, .. } => of.warn(block, warnings),
            Self::Heads(entries) => {
                (entries.iter()).for_each(|entry| entry.pattern.warn(block, warnings));
            }
            _ => {}
        }
    }
}

impl Scale {
    fn new(grid: BlockGrid, causal: bool) -> Result<Self, PatternError> {
        grid.check()?;
        let BlockGrid {
            q_block, k_block, ..
        } = grid;
        let common = q_block as u128 * k_block as u128 / greatest_divisor(q_block, k_block) as u128;
        if common > LARGEST as u128 {
            return Err(PatternError::BlockSizes { q_block, k_block });
        }
        let block = common as usize;
        Ok(Self {
            grid,
            causal,
            block,
            q_blocks: grid.q_end().div_ceil(block),
            k_blocks: grid.k_end().div_ceil(block),
        })
    }

    /// Query blocks of the grid in a block of the formulas.
    fn q_parts(&self) -> usize {
        self.block / self.grid.q_block
    }

    /// How many key blocks of the formulas causality leaves to query block `i`.
    fn visible(&self, i: usize) -> usize {
        match self.causal {
            true => self.k_blocks.min(i + 1),
            false => self.k_blocks,
        }
    }

    /// The key blocks of the grid that the query blocks in block `i` of the formulas see.
    fn columns(&self, set: &Set, i: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (parts, end) = (self.block / self.grid.k_block, self.grid.k_blocks);
        let visible = self.visible(i);
        let row = set.row(i, visible, 0..visible);
        let ranges: Vec<_> = row.iter().collect();
        (ranges.into_iter()).map(move |range| range.start * parts..end.min(range.end * parts))
    }

    /// Refuses what will not fit before it is built, where so much is possible at all.
    fn check_size<'a>(
        &self,
        alike: &[usize],
        of_head: impl Fn(usize) -> &'a Set,
    ) -> Result<(), PatternError> {
        let all = self.grid.q_blocks as u128 * self.grid.k_blocks as u128 * alike.len() as u128;
        if all <= u32::MAX as u128 {
            return Ok(());
        }
        let mut counts = vec![0u64; alike.len()];
        let mut blocks = 0u64;
        for (head, &first) in alike.iter().enumerate() {
            if first == head {
                for i in 0..self.q_blocks {
                    let start = i * self.q_parts();
                    let rows = self.q_parts().min(self.grid.q_blocks - start) as u64;
                    let row = self.columns(of_head(head), i);
                    counts[head] += rows * row.map(|range| range.len() as u64).sum::<u64>();
                }
            }
            blocks = blocks.saturating_add(counts[first]);
            if blocks > u32::MAX as u64 {
                return Err(PatternError::TooManyBlocks { blocks });
            }
        }
        Ok(())
    }

    /// The set of a pattern. Inside of an operator (`as_set`) how often a pair is seen does not count.
    fn set(&self, pattern: &BlockPattern, head: Head, as_set: bool) -> Result<Set, PatternError> {
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

fn greatest_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
