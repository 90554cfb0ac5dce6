//! Keys that are packed once for all the queries of a head that see them.

use crate::context::Context;
use crate::element::Element;
use crate::kernels::PANEL;
use crate::real::Real;
use crate::rules::{Columns, Rules};
use crate::tiles::{Forms, Source, Tiles};
use longnet_pattern::{Branch, Progression, Run, Schedule};
use std::ops::Range;

/// Keys of a tile, at most.
pub const KEYS: usize = 256;

/// Keys and values as the runs of one query head see them.
pub struct Packed<E: Element, T: Tiles<E>> {
    pub k: T::Side,
    pub v: T::Side,
    chunks: Vec<Chunk>,
    /// Where the chunks of each branch end.
    ends: Vec<usize>,
}

/// At most [`KEYS`] keys side by side, that belong to a run or, of a block mask, to several.
pub struct Chunk {
    /// Which rows of the key tensor.
    pub rows: Progression,
    /// What masks or drops them.
    pub columns: Columns,
    /// The first of them among the packed rows.
    pub at: usize,
}

impl<E: Element, T: Tiles<E>> Packed<E, T> {
    /// Keys and values in these forms.
    pub fn new(tiles: T, cx: &Context<E>, [k, v]: [Forms; 2]) -> Self {
        Self {
            k: tiles.side(0, cx.d, k),
            v: tiles.side(0, cx.d_v, v),
            chunks: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Takes the keys `keys` as the rows `rows` of `head` see them.
    pub fn load(
        &mut self,
        tiles: T,
        cx: &Context<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) {
        let schedule = cx.schedule();
        let parts = |branch| {
            let runs = cx.runs(branch, head, rows.clone(), keys.clone());
            let keys = runs.map(|(run, _)| run.k).collect();
            match schedule.mask() {
                None => keys,
                Some(_) => parts(keys),
            }
        };
        let branches = (0..schedule.branches()).map(parts);
        self.pack(tiles, cx, rules, [batch, cx.kv_head(head)], branches);
    }

    /// Takes all of `keys`, for the run of all of their pairs.
    pub fn load_all(
        &mut self,
        tiles: T,
        cx: &Context<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        keys: &Range<usize>,
    ) {
        let part = vec![crate::pack::consecutive(keys)];
        let branches = std::iter::once(part);
        self.pack(tiles, cx, rules, [batch, cx.kv_head(head)], branches);
    }

    /// Packs the parts of each branch.
    fn pack(
        &mut self,
        tiles: T,
        cx: &Context<E>,
        rules: &Rules,
        plane: [usize; 2],
        branches: impl Iterator<Item = Vec<Progression>>,
    ) {
        self.chunks.clear();
        self.ends.clear();
        let mut at = 0;
        for parts in branches {
            for part in parts {
                for start in (0..part.len).step_by(KEYS) {
                    let rows = part.slice(start..part.len.min(start + KEYS));
                    let mut columns = Columns::default();
                    columns.load(rows, |b| rules.key(b));
                    self.chunks.push(Chunk { rows, columns, at });
                    at += rows.len.next_multiple_of(PANEL);
                }
            }
            self.ends.push(self.chunks.len());
        }
        for (view, side) in [(&cx.k, &mut self.k), (&cx.v, &mut self.v)] {
            tiles.grow(side, at);
            for chunk in &self.chunks {
                let source = Source {
                    view,
                    at: plane,
                    rows: chunk.rows,
                };
                tiles.load(side, chunk.at, source, |b| rules.hides(b), E::Acc::ONE);
            }
        }
    }

    /// The chunks that hold the keys of a run of `branch`, each with the number of the run's keys that come
    /// before it. The run may see fewer keys of the last one.
    pub fn chunks(&self, branch: usize, run: &Run) -> impl Iterator<Item = (usize, &Chunk)> {
        let begin = branch.checked_sub(1).map_or(0, |b| self.ends[b]);
        let chunks = &self.chunks[begin..self.ends[branch]];
        let first = chunks.partition_point(|c| c.rows.first < run.k.first);
        let (k, mut start) = (run.k, 0);
        debug_assert_eq!(chunks[first].rows.first, k.first);
        chunks[first..]
            .iter()
            .map(move |chunk| {
                let before = start;
                start += chunk.rows.len;
                debug_assert!(before >= k.len || k.at(before) == chunk.rows.first);
                (before, chunk)
            })
            .take_while(move |(before, _)| *before < k.len)
    }
}

/// How many rows `keys` keys become when every run of them is padded to whole panels.
pub fn packed_rows(schedule: &Schedule, keys: usize) -> usize {
    let step = schedule.span().step;
    (0..schedule.branches())
        .map(|b| {
            if let Some(mask) = schedule.mask() {
                // Each block may be a part of its own.
                let block = mask.grid().k_block.div_ceil(step);
                return (keys / block + 2) * block.min(keys).next_multiple_of(PANEL);
            }
            // In rows: those of a segment, of which one in `rate` is on the residue.
            let Branch { segment, dilation } = schedule.branch(b);
            let (segment, rate) = (segment.div_ceil(step), dilation.div_ceil(step));
            let run = segment.min(keys).div_ceil(rate);
            (keys / segment + 1) * run.next_multiple_of(PANEL)
        })
        .sum()
}

/// Keys of consecutive rows, cut wherever one of `runs` starts, so that each of them starts with a part.
fn parts(mut runs: Vec<Progression>) -> Vec<Progression> {
    let part = |range: Range<usize>| crate::pack::consecutive(&range);
    runs.sort_unstable_by_key(|k| k.first);
    let mut parts = Vec::new();
    let mut open = 0..0;
    for k in runs {
        let end = k.first + k.len;
        if k.first > open.start || open.is_empty() {
            if !open.is_empty() {
                parts.push(part(open.start..open.end.min(k.first)));
            }
            open = k.first..open.end;
        }
        open.end = open.end.max(end);
    }
    if !open.is_empty() {
        parts.push(part(open));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::parts;
    use crate::pack::consecutive;

    #[test]
    fn parts_are_cut_where_runs_start() {
        let runs = [5..9, 0..6, 2..3, 5..6, 12..14, 14..15, 13..14];
        let parts = parts(runs.iter().map(consecutive).collect());
        let expected = [0..2, 2..5, 5..9, 12..13, 13..14, 14..15];
        assert_eq!(parts, expected.each_ref().map(consecutive));
    }
}
