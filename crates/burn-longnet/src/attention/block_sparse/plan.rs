//! The lists of a pattern at the lengths that were asked for.

use super::BlockSparseAttentionConfig;
use crate::pattern::{BlockGrid, BlockMask, HeadGroup, Pattern, hilbert};
use std::sync::{Arc, Mutex};

/// Lengths that stay: training has one, evaluation a few.
const KEPT: usize = 4;

/// The newest plans first. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Plans(Arc<Mutex<Vec<(BlockGrid, Arc<[HeadGroup]>)>>>);

impl Plans {
    /// What the heads see over `grid`.
    ///
    /// # Panics
    ///
    /// If the pattern cannot be built there.
    pub fn groups(&self, config: &BlockSparseAttentionConfig, grid: BlockGrid) -> Arc<[HeadGroup]> {
        let mut plans = self.0.lock().unwrap_or_else(|error| error.into_inner());
        if let Some(at) = plans.iter().position(|(known, _)| *known == grid) {
            plans[..=at].rotate_right(1);
            return plans[0].1.clone();
        }
        let mut groups = config
            .pattern
            .head_groups(config.n_heads, grid, config.causal)
            .unwrap_or_else(|error| panic!("{error}"));
        for group in &mut groups {
            if is_dense(&group.pattern) {
                group.pattern = Pattern::dense(group.pattern.heads(), config.causal);
            }
            if let (Pattern::Blocks(mask), Some(image)) = (&group.pattern, config.hilbert) {
                group.pattern = along_curve(mask, image).into();
            }
        }
        let groups: Arc<[HeadGroup]> = groups.into();
        plans.insert(0, (grid, groups.clone()));
        plans.truncate(KEPT);
        groups
    }
}

/// The mask in the order in which a Hilbert curve over the image meets its blocks.
///
/// # Panics
///
/// If the image has another number of blocks.
fn along_curve(mask: &BlockMask, [height, width]: [usize; 2]) -> BlockMask {
    let grid = mask.grid();
    let order = |block, blocks| {
        let order = hilbert::block_order(height, width, block);
        assert_eq!(
            order.len(),
            blocks,
            "hilbert = [{height}, {width}] is an image of {} blocks of {block} tokens, the sequence has {blocks}",
            order.len()
        );
        order
    };
    let queries = order(grid.q_block, grid.q_blocks);
    mask.in_order(&queries, &order(grid.k_block, grid.k_blocks))
}

/// Whether a block mask lists all that may be seen.
fn is_dense(pattern: &Pattern) -> bool {
    let Pattern::Blocks(mask) = pattern else {
        return false;
    };
    let (grid, causal) = (mask.grid(), mask.is_causal());
    let visible = |i: usize| match causal {
        true => ((i + 1) * grid.q_block)
            .div_ceil(grid.k_block)
            .min(grid.k_blocks),
        false => grid.k_blocks,
    };
    let all: usize = (0..grid.q_blocks).map(visible).sum();
    mask.blocks() == all * mask.heads()
}
