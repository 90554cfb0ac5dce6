//! The runs of a block mask.

use super::{BlockGrid, BlockMask};
use crate::{Progression, Run, Span};
use std::collections::VecDeque;
use std::ops::Range;

/// The runs of some rows and keys of one head, in the order of the last of their rows.
#[derive(Clone, Debug)]
pub struct BlockRuns {
    mask: BlockMask,
    span: Span,
    head: usize,
    /// Ranges that hold the positions of the queries and the keys.
    q: Range<usize>,
    k: Range<usize>,
    /// Whether neighbouring blocks make one run where that is exact.
    merge: bool,
    rows: Rows,
    /// Runs that reach down to the last row so far, by their first key.
    open: Vec<Area>,
    /// The open runs to be.
    next: Vec<Area>,
    /// Runs that are complete.
    ready: VecDeque<(Run, usize)>,
}

/// The query blocks to go through.
#[derive(Clone, Debug)]
enum Rows {
    All(Range<usize>),
    Listed(std::vec::IntoIter<usize>),
}

/// A rectangle of positions, cut by causality, and the place of its first block in a bias. Its rows and keys are those
/// of the span that lie in it.
#[derive(Clone, Debug)]
struct Area {
    q: Range<usize>,
    k: Range<usize>,
    bias: usize,
}

impl Area {
    /// Takes the rows of `below` as well, if the rows of both see the same keys or, causally, all from the
    /// first on.
    fn extend(&mut self, below: &Self, causal: bool) -> bool {
        // Rows that see all keys up to their own position still do in a run that has more of them.
        let saturated = causal && self.k.end == self.q.end;
        let fits = self.q.end == below.q.start
            && self.k.start == below.k.start
            && (self.k.end == below.k.end || saturated && self.k.end < below.k.end);
        if fits {
            self.q.end = below.q.end;
            self.k.end = below.k.end;
        }
        fits
    }

    /// On the rows of tensors; `None` if causality leaves nothing.
    fn run(self, span: Span, causal: bool) -> Option<(Run, usize)> {
        let within = |all: Progression, range: Range<usize>| {
            all.slice(all.lower_bound(range.start)..all.lower_bound(range.end))
        };
        let q = within(span.queries(), self.q);
        let k = within(span.keys(), self.k);
        let run = Run::cut(q, k, causal)?;
        Some((span.rows(run), self.bias))
    }
}

impl BlockRuns {
    /// `q` and `k` are positions of `span`.
    pub(crate) fn new(
        mask: &BlockMask,
        span: Span,
        head: usize,
        q: Progression,
        k: Progression,
        merge: bool,
    ) -> Self {
        let [q, k] = [q, k].map(|all| all.first..all.end());
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
            open: Vec::new(),
            next: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Goes through the list of the next query block. `None` after the last.
    fn next_row(&mut self) -> Option<()> {
        let (span, causal) = (self.span, self.mask.is_causal());
        let row = match &mut self.rows {
            Rows::All(rows) => rows.next(),
            Rows::Listed(rows) => rows.next(),
        };
        let Some(row) = row else {
            if self.open.is_empty() {
                return None;
            }
            let last = self.open.drain(..);
            self.ready
                .extend(last.filter_map(|area| area.run(span, causal)));
            return Some(());
        };
        let BlockGrid {
            q_block, k_block, ..
        } = self.mask.grid();
        let q = inside(&self.q, row * q_block..(row + 1) * q_block);
        let columns = self.k.start / k_block..self.k.end.div_ceil(k_block);
        let (first, list) = (
            self.mask.row_entries(self.head, row).start,
            self.mask.row(self.head, row),
        );
        let mut at = list.partition_point(|j| j < columns.start);
        let mut open = std::mem::take(&mut self.open).into_iter().peekable();
        while at < list.len() && list.get(at) < columns.end {
            let (start, bias) = (list.get(at), self.mask.bias_of(self.head, first + at));
            let mut end = start + 1;
            at += 1;
            while self.merge && at < list.len() && list.get(at) == end {
                end += 1;
                at += 1;
            }
            let mut k = inside(&self.k, start * k_block..end * k_block);
            if causal {
                k.end = k.end.min(q.end);
            }
            if k.is_empty() {
                continue;
            }
            let q = q.clone();
            let mut area = Area { q, k, bias };
            if !self.merge {
                self.ready.extend(area.run(span, causal));
                continue;
            }
            while let Some(mut above) = open.next_if(|above| above.k.start <= area.k.start) {
                if above.extend(&area, causal) {
                    area = above;
                } else {
                    self.ready.extend(above.run(span, causal));
                }
            }
            self.next.push(area);
        }
        self.ready
            .extend(open.filter_map(|area| area.run(span, causal)));
        std::mem::swap(&mut self.open, &mut self.next);
        Some(())
    }
}

fn inside(part: &Range<usize>, block: Range<usize>) -> Range<usize> {
    let start = part.start.max(block.start);
    start..part.end.min(block.end).max(start)
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
        loop {
            if let Some(run) = self.ready.pop_front() {
                return Some(run);
            }
            self.next_row()?;
        }
    }
}
