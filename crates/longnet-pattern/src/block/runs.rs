//! The runs of a block mask.

use super::{BlockGrid, BlockMask};
use crate::{Progression, Run, Span};
use std::ops::Range;

/// The runs of some rows and keys of one head, query block by query block, keys ascending.
#[derive(Clone, Debug)]
pub struct BlockRuns {
    mask: BlockMask,
    span: Span,
    head: usize,
    /// Positions of the queries and the keys.
    q: Range<usize>,
    k: Range<usize>,
    /// Whether neighbouring key blocks make one run.
    merge: bool,
    rows: Rows,
    /// The query block, and its entries that are still to come.
    row: usize,
    entries: Range<usize>,
}

/// The query blocks to go through.
#[derive(Clone, Debug)]
enum Rows {
    All(Range<usize>),
    Listed(std::vec::IntoIter<usize>),
}

impl BlockRuns {
    /// `q` and `k` are positions inside of `span`.
    pub(crate) fn new(
        mask: &BlockMask,
        span: Span,
        head: usize,
        q: Range<usize>,
        k: Range<usize>,
        merge: bool,
    ) -> Self {
        let BlockGrid {
            q_block, k_block, ..
        } = mask.grid();
        let all = if q.is_empty() || k.is_empty() {
            0..0
        } else {
            q.start / q_block..q.end.div_ceil(q_block)
        };
        let columns = k.start / k_block..k.end.div_ceil(k_block);
        Self {
            mask: mask.clone(),
            span,
            head,
            rows: rows(mask, head, all, columns),
            q,
            k,
            merge,
            row: 0,
            entries: 0..0,
        }
    }

    fn next_row(&mut self) -> Option<()> {
        self.row = match &mut self.rows {
            Rows::All(rows) => rows.next()?,
            Rows::Listed(rows) => rows.next()?,
        };
        let k_block = self.mask.grid().k_block;
        let (entries, list) = (
            self.mask.row_entries(self.head, self.row),
            self.mask.row(self.head, self.row),
        );
        let columns = self.k.start / k_block..self.k.end.div_ceil(k_block);
        let first = list.partition_point(|j| j < columns.start);
        let end = list.partition_point(|j| j < columns.end);
        self.entries = entries.start + first..entries.start + end;
        Some(())
    }

    /// The next run, and the place of its first block in a bias.
    fn advance(&mut self) -> Option<(Run, usize)> {
        let grid = self.mask.grid();
        loop {
            let Some(entry) = self.entries.next() else {
                self.next_row()?;
                continue;
            };
            let columns = self.mask.columns();
            let first = columns.get(entry);
            let mut end = first + 1;
            while self.merge && !self.entries.is_empty() && columns.get(self.entries.start) == end {
                self.entries.start += 1;
                end += 1;
            }
            let inside = |part: &Range<usize>, block: Range<usize>| Progression {
                first: part.start.max(block.start),
                step: 1,
                len: (part.end.min(block.end)).saturating_sub(part.start.max(block.start)),
            };
            let rows = self.row * grid.q_block..(self.row + 1) * grid.q_block;
            let q = inside(&self.q, rows);
            let k = inside(&self.k, first * grid.k_block..end * grid.k_block);
            if let Some(mut run) = Run::cut(q, k, self.mask.is_causal()) {
                run.q.first -= self.span.q_start;
                run.k.first -= self.span.k_start;
                return Some((run, self.mask.bias_of(self.head, entry)));
            }
        }
    }

    /// The runs alone.
    pub(crate) fn next_run(&mut self) -> Option<Run> {
        self.advance().map(|(run, _)| run)
    }
}

/// The query blocks of `all` that see some of the key blocks `columns`, or all if they are few.
fn rows(mask: &BlockMask, head: usize, all: Range<usize>, columns: Range<usize>) -> Rows {
    if all.is_empty() {
        return Rows::All(0..0);
    }
    let entries = mask.column_entries(head, columns);
    if entries.len() >= all.len() {
        return Rows::All(all);
    }
    let list = mask.rows().slice(entries);
    let mut rows: Vec<usize> = list.iter().filter(|i| all.contains(i)).collect();
    rows.sort_unstable();
    rows.dedup();
    Rows::Listed(rows.into_iter())
}

impl Iterator for BlockRuns {
    type Item = (Run, usize);

    fn next(&mut self) -> Option<(Run, usize)> {
        self.advance()
    }
}
