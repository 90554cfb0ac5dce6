//! From a description of the blocks to their lists.

use super::compiled::{Compiled, Table};
use super::{BlockGrid, BlockMask};
use crate::PatternError;
use std::collections::HashMap;
use std::sync::Arc;

/// A block mask whose blocks have not been given yet.
#[derive(Clone, Copy, Debug)]
pub struct BlockBuilder {
    heads: usize,
    grid: BlockGrid,
    causal: bool,
    shared: bool,
}

impl BlockBuilder {
    pub(super) fn new(heads: usize, grid: BlockGrid) -> Self {
        Self {
            heads,
            grid,
            causal: false,
            shared: false,
        }
    }

    /// Whether a position sees only itself and earlier ones: cuts blocks on the diagonal, and drops those
    /// beyond it. Default: `false`.
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// All heads have the blocks of head 0, the only one that is asked for. Default: each has its own;
    /// those that turn out equal are stored once.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The blocks `(head, query block, key block)` for which `sees` holds, each asked for once.
    ///
    /// # Errors
    ///
    /// No heads, a block size of 0, a grid past 2^48 positions, or 2^32 blocks and more.
    pub fn build_from_fn(
        self,
        sees: impl Fn(usize, usize, usize) -> bool,
    ) -> Result<BlockMask, PatternError> {
        self.build_from_rows(|head, i, row| {
            let columns = 0..self.grid.visible(i, self.causal);
            row.extend(columns.filter(|&j| sees(head, i, j)));
        })
    }

    /// The blocks that are true in `dense`, `[heads, q_blocks, k_blocks]` or, for all heads,
    /// `[q_blocks, k_blocks]`.
    ///
    /// # Errors
    ///
    /// As [`build_from_fn`](Self::build_from_fn); `dense` has another size.
    pub fn build_from_dense(mut self, dense: &[bool]) -> Result<BlockMask, PatternError> {
        self.grid.check()?;
        let BlockGrid {
            q_blocks, k_blocks, ..
        } = self.grid;
        let plane = q_blocks.checked_mul(k_blocks);
        let all = plane.and_then(|plane| plane.checked_mul(self.heads));
        if plane == Some(dense.len()) {
            self.shared = true;
        } else if all != Some(dense.len()) {
            return Err(PatternError::DenseMask {
                len: dense.len(),
                heads: self.heads,
                q_blocks,
                k_blocks,
            });
        }
        self.build_from_fn(|head, i, j| dense[(head * q_blocks + i) * k_blocks + j])
    }

    /// The lists that `fill` writes: it is given a head, a query block, and an empty list for its key
    /// blocks, ascending. Takes time in proportion to the listed blocks and the query blocks.
    ///
    /// # Errors
    ///
    /// As [`build_from_fn`](Self::build_from_fn); a list that does not ascend or names a key block that the
    /// grid does not have.
    pub fn build_from_rows(
        self,
        fill: impl FnMut(usize, usize, &mut Vec<usize>),
    ) -> Result<BlockMask, PatternError> {
        let first = |head| if self.shared { 0 } else { head };
        let alike: Vec<usize> = (0..self.heads).map(first).collect();
        self.build_alike(&alike, fill)
    }

    /// As [`build_from_rows`](Self::build_from_rows), where it is known which heads have the lists of an
    /// earlier one: `alike` names that for each head, or the head itself. Only those are asked for.
    pub(crate) fn build_alike(
        self,
        alike: &[usize],
        mut fill: impl FnMut(usize, usize, &mut Vec<usize>),
    ) -> Result<BlockMask, PatternError> {
        if self.heads == 0 {
            return Err(PatternError::NoHeads);
        }
        self.grid.check()?;
        let (mut tables, mut known) = (Vec::new(), HashMap::new());
        let mut table_of: Vec<u32> = Vec::with_capacity(self.heads);
        let mut blocks = 0;
        for (head, &first) in alike.iter().enumerate() {
            let index = if first < head {
                table_of[first]
            } else {
                let table = Arc::new(self.table(head, &mut fill)?);
                let next = tables.len() as u32;
                *known.entry(table.clone()).or_insert_with(|| {
                    tables.push(table);
                    next
                })
            };
            blocks += tables[index as usize].columns.len() as u64;
            table_of.push(index);
        }
        drop(known);
        if blocks > u32::MAX as u64 {
            return Err(PatternError::TooManyBlocks { blocks });
        }
        let own = |table| Arc::into_inner(table).expect("the map is gone");
        let tables: Vec<Table> = tables.into_iter().map(own).collect();
        let compiled = Compiled::new(self.grid, self.causal, table_of, &tables);
        Ok(BlockMask(Arc::new(compiled), None))
    }

    /// The lists of one head.
    fn table(
        &self,
        head: usize,
        fill: &mut impl FnMut(usize, usize, &mut Vec<usize>),
    ) -> Result<Table, PatternError> {
        let mut table = Table::default();
        let mut row = Vec::new();
        table.starts.push(0);
        for i in 0..self.grid.q_blocks {
            row.clear();
            fill(head, i, &mut row);
            if let Some(pair) = row.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(PatternError::BlockOrder {
                    head,
                    row: i,
                    first: pair[0],
                    second: pair[1],
                });
            }
            if let Some(&value) = row.last().filter(|j| **j >= self.grid.k_blocks) {
                return Err(PatternError::BlockColumn {
                    head,
                    row: i,
                    value,
                    k_blocks: self.grid.k_blocks,
                });
            }
            let visible = self.grid.visible(i, self.causal);
            let seen = row.iter().take_while(|j| **j < visible);
            table.columns.extend(seen.map(|&j| j as u32));
            match u32::try_from(table.columns.len()) {
                Ok(end) => table.starts.push(end),
                Err(_) => {
                    let blocks = table.columns.len() as u64;
                    return Err(PatternError::TooManyBlocks { blocks });
                }
            }
        }
        Ok(table)
    }
}
