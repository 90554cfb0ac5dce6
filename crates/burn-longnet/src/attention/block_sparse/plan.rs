//! The lists of a pattern at the lengths that were asked for.

use super::BlockSparseAttentionConfig;
use crate::pattern::{BlockGrid, HeadGroup, Pattern};
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
        }
        let groups: Arc<[HeadGroup]> = groups.into();
        plans.insert(0, (grid, groups.clone()));
        plans.truncate(KEPT);
        groups
    }
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
