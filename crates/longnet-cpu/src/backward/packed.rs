//! The keys of an item, packed once for all the queries of a head that see them.

use crate::buffer::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::kernels::{Matrix, PANEL};
use crate::pack::gather;
use crate::panels::Panels;
use crate::real::Real;
use crate::rules::{Columns, Rules};
use longnet_pattern::{Progression, Run};
use std::ops::Range;

/// Keys of a tile, at most.
pub const KEYS: usize = 256;

/// Key rows, and both sides transposed, as the runs of one query head see them.
pub struct Packed<R> {
    /// `[rows, d]`, padded.
    k: Buffer<R>,
    /// The values of one chunk.
    v: Buffer<R>,
    k_panels: Panels<R>,
    v_panels: Panels<R>,
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
    /// The first row in `k` and the panels.
    at: usize,
}

impl<R: Real> Packed<R> {
    pub fn new<E: Element<Acc = R>>(cx: &Context<E>) -> Self {
        Self {
            k: Buffer::new(0),
            v: Buffer::new(KEYS * cx.d_v_pad),
            k_panels: Panels::new(0, cx.d),
            v_panels: Panels::new(0, cx.d_v),
            chunks: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Takes the keys `keys` as `head` sees them.
    pub fn load<E: Element<Acc = R>>(
        &mut self,
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
        self.k.grow(at * cx.d_pad);
        self.k_panels.grow(at);
        self.v_panels.grow(at);
        let source = [batch, cx.kv_head(head)];
        for chunk in &self.chunks {
            let hides = |b: usize| rules.hides(b);
            let k = &mut self.k[chunk.at * cx.d_pad..];
            gather(k, cx.d_pad, &cx.k, source, chunk.rows, hides, R::ONE);
            let k = Matrix {
                data: k,
                ld: cx.d_pad,
            };
            self.k_panels.load(cx.kernels, chunk.at, k, chunk.rows.len);
            gather(
                &mut self.v,
                cx.d_v_pad,
                &cx.v,
                source,
                chunk.rows,
                hides,
                R::ONE,
            );
            let v = Matrix {
                data: &self.v,
                ld: cx.d_v_pad,
            };
            self.v_panels.load(cx.kernels, chunk.at, v, chunk.rows.len);
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

    /// `c = a k^T` for `columns` keys of a chunk.
    pub fn scores<E: Element<Acc = R>>(
        &self,
        cx: &Context<E>,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        m: usize,
        chunk: &Chunk,
        columns: usize,
    ) {
        self.k_panels
            .product(cx.kernels, c, ldc, a, m, chunk.at..chunk.at + columns);
    }

    /// `c = a v^T` for `columns` keys of a chunk.
    pub fn values<E: Element<Acc = R>>(
        &self,
        cx: &Context<E>,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        m: usize,
        chunk: &Chunk,
        columns: usize,
    ) {
        self.v_panels
            .product(cx.kernels, c, ldc, a, m, chunk.at..chunk.at + columns);
    }

    /// The keys of a chunk as rows.
    pub fn keys<E: Element<Acc = R>>(&self, cx: &Context<E>, chunk: &Chunk) -> Matrix<'_, R> {
        Matrix {
            data: &self.k[chunk.at * cx.d_pad..],
            ld: cx.d_pad,
        }
    }
}
