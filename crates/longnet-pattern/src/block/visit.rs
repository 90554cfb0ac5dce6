//! Blocks in an order of one's own.

use super::BlockMask;
use crate::Permutation;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The places of query and of key blocks in an order.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    queries: Permutation,
    keys: Permutation,
}

impl Hash for Order {
    /// Masks are told apart by their lists first, and orders are long.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl BlockMask {
    /// The same pairs, to be visited query blocks in the order of `queries` and key blocks in that of `keys`, such
    /// as those of [`hilbert::block_order`](crate::hilbert::block_order). Kernels may follow it or not: sums are
    /// added up in another order, and nothing else changes.
    ///
    /// # Panics
    ///
    /// If an order is not over the blocks of the grid.
    pub fn in_order(&self, queries: &Permutation, keys: &Permutation) -> Self {
        self.check_order(queries, keys);
        let order = Order {
            queries: queries.inverse(),
            keys: keys.inverse(),
        };
        Self(self.0.clone(), Some(Arc::new(order)))
    }

    /// Whether blocks are to be visited in an order that was given.
    pub fn has_order(&self) -> bool {
        self.1.is_some()
    }

    /// The place of query block `i` in the order in which blocks are visited.
    pub fn query_place(&self, i: usize) -> usize {
        (self.1.as_ref()).map_or(i, |order| order.queries.as_slice()[i])
    }

    /// The place of key block `j` in the order in which blocks are visited.
    pub fn key_place(&self, j: usize) -> usize {
        (self.1.as_ref()).map_or(j, |order| order.keys.as_slice()[j])
    }

    /// The listed pairs of blocks of `head`, query blocks in the order of `queries` and the key blocks of
    /// each in the order of `keys`, such as those of [`hilbert::block_order`](crate::hilbert::block_order). The
    /// pairs are those of the mask, whatever the orders.
    ///
    /// # Panics
    ///
    /// If `head` is not below the number of heads, or an order is not over the blocks of the grid.
    pub fn visit(&self, head: usize, queries: &Permutation, keys: &Permutation) -> Vec<[usize; 2]> {
        self.check_order(queries, keys);
        let places = keys.inverse();
        let mut pairs = Vec::new();
        for &i in queries.as_slice() {
            let mut row: Vec<usize> = self.row(head, i).iter().collect();
            row.sort_unstable_by_key(|&j| places.as_slice()[j]);
            pairs.extend(row.into_iter().map(|j| [i, j]));
        }
        pairs
    }

    fn check_order(&self, queries: &Permutation, keys: &Permutation) {
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
    }
}
