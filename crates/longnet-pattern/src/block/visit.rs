//! Blocks in an order of one's own.

use super::BlockMask;
use crate::Permutation;

impl BlockMask {
    /// The listed pairs of blocks of `head`, query blocks in the order of `queries` and the key blocks of
    /// each in the order of `keys`, such as those of [`hilbert::block_order`](crate::hilbert::block_order). The
    /// pairs are those of the mask, whatever the orders.
    ///
    /// # Panics
    ///
    /// If `head` is not below the number of heads, or an order is not over the blocks of the grid.
    pub fn visit(&self, head: usize, queries: &Permutation, keys: &Permutation) -> Vec<[usize; 2]> {
        let grid = self.grid();
        for (side, order, blocks) in [
            ("query", queries.len(), grid.q_blocks),
            ("key", keys.len(), grid.k_blocks),
        ] {
            assert_eq!(
                order, blocks,
                "an order of {order} for {blocks} {side} blocks"
            );
        }
        let places = keys.inverse();
        let mut pairs = Vec::new();
        for &i in queries.as_slice() {
            let mut row: Vec<usize> = self.row(head, i).iter().collect();
            row.sort_unstable_by_key(|&j| places.as_slice()[j]);
            pairs.extend(row.into_iter().map(|j| [i, j]));
        }
        pairs
    }
}
