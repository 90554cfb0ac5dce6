//! From an expression to the lists of a mask.

use super::BlockPattern;
use super::lower::Head;
use super::row::Set;
use crate::dilated::LARGEST;
use crate::{BlockGrid, BlockMask, PatternError};
use std::collections::HashMap;
use std::ops::Range;

/// How many parts of rows are worked out for one mask at the most.
const MOST_WORK: u64 = 1 << 28;

/// What turns an expression into sets of blocks.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub grid: BlockGrid,
    pub causal: bool,
    /// Tokens of a block of the formulas.
    pub block: usize,
    /// How many such query and key blocks there are.
    pub q_blocks: usize,
    pub k_blocks: usize,
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
}

impl Scale {
    pub(super) fn new(grid: BlockGrid, causal: bool) -> Result<Self, PatternError> {
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
}

fn greatest_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
