//! Which rows see anything, and how long keys are needed.

use super::{BlockGrid, BlockMask};

impl BlockMask {
    /// Positions in `0..n` that see nothing in `head`.
    pub fn uncovered_rows(&self, head: usize, n: usize) -> usize {
        let BlockGrid {
            q_block,
            k_block,
            q_blocks,
            ..
        } = self.grid();
        let mut uncovered = n.saturating_sub(q_block * q_blocks);
        for i in 0..q_blocks.min(n.div_ceil(q_block)) {
            let rows = i * q_block..n.min((i + 1) * q_block);
            let row = self.row(head, i);
            let first = if row.is_empty() {
                n
            } else {
                row.get(0) * k_block
            };
            uncovered += if first >= n {
                rows.len()
            } else if self.is_causal() {
                first.clamp(rows.start, rows.end) - rows.start
            } else {
                0
            };
        }
        uncovered
    }

    /// See [`Pattern::cache_entries`](crate::Pattern::cache_entries).
    pub(crate) fn cache_entries(&self, kv_heads: usize, kv_head: usize, n: usize) -> usize {
        let group = self.heads() / kv_heads;
        let heads = kv_head * group..(kv_head + 1) * group;
        let BlockGrid {
            q_block, k_block, ..
        } = self.grid();
        // The last row that sees any key of a block, of those below n.
        let last_row = |j: usize| {
            let last = |head| {
                let column = self.column(head, j);
                let inside = column.partition_point(|i| i * q_block < n);
                (inside > 0).then(|| column.get(inside - 1))
            };
            let i = heads.clone().filter_map(last).max()?;
            Some(n.min((i + 1) * q_block) - 1)
        };
        let mut ends = vec![0usize; n];
        let (mut live, mut most) = (0, 0);
        let mut need = None;
        for p in 0..n {
            let j = p / k_block;
            if p % k_block == 0 {
                need = (j < self.grid().k_blocks).then(|| last_row(j)).flatten();
            }
            if let Some(last) = need.filter(|&last| last >= p) {
                live += 1;
                ends[last] += 1;
            }
            most = most.max(live);
            live -= ends[p];
        }
        most
    }
}
