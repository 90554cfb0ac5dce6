//! The keys of an item, packed once for all the queries of a head that see them.

use crate::context::Context;
use crate::element::Element;
use crate::kernels::PANEL;
use crate::real::Real;
use crate::rules::{Columns, Rules};
use crate::tiles::{Forms, Source, Tiles};
use longnet_pattern::{Progression, Run};
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

/// At most [`KEYS`] keys of a run.
pub struct Chunk {
    /// Which rows of the key tensor.
    pub rows: Progression,
    /// How many keys of the run come before them.
    pub start: usize,
    /// What masks or drops them.
    pub columns: Columns,
    /// The first of them among the packed rows.
    pub at: usize,
}

impl<E: Element, T: Tiles<E>> Packed<E, T> {
    pub fn new(tiles: T, cx: &Context<E>) -> Self {
        let panels = Forms {
            panels: true,
            ..Forms::default()
        };
        let both = Forms {
            right: true,
            ..panels
        };
        Self {
            k: tiles.side(0, cx.d, both),
            v: tiles.side(0, cx.d_v, panels),
            chunks: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Takes the keys `keys` as `head` sees them.
    pub fn load(
        &mut self,
        tiles: T,
        cx: &Context<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        keys: &Range<usize>,
    ) {
        self.chunks.clear();
        self.ends.clear();
        let schedule = cx.schedule();
        let mut at = 0;
        for branch in 0..schedule.branches() {
            for run in schedule.key_runs(branch, head, keys.clone()) {
                for start in (0..run.k.len).step_by(KEYS) {
                    let rows = run.k.slice(start..run.k.len.min(start + KEYS));
                    let mut columns = Columns::default();
                    columns.load(rows, |b| rules.key(b));
                    self.chunks.push(Chunk {
                        rows,
                        start,
                        columns,
                        at,
                    });
                    at += rows.len.next_multiple_of(PANEL);
                }
            }
            self.ends.push(self.chunks.len());
        }
        let plane = [batch, cx.kv_head(head)];
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

    /// The chunks that hold the keys of a run of `branch`. The run may see fewer keys.
    pub fn chunks(&self, branch: usize, run: &Run) -> &[Chunk] {
        let begin = branch.checked_sub(1).map_or(0, |b| self.ends[b]);
        let chunks = &self.chunks[begin..self.ends[branch]];
        let first = chunks.partition_point(|c| c.rows.first < run.k.first);
        let len = run.k.len.div_ceil(KEYS);
        debug_assert_eq!(chunks[first].rows.first, run.k.first);
        &chunks[first..first + len]
    }
}
