//! The keys of a work item.

use super::plan::{Plan, Work};
use crate::buffer::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::kernels::{Lines, Matrix, STEP};
use crate::pack::{consecutive, gather};
use crate::real::Real;
use crate::rules::{Columns, factor_row};
use crate::view::View;
use std::ops::Range;

/// Keys of a tile: its values are still cached when its scores are done.
const KEYS: usize = 256;
/// Query rows of a tile: its scores stay in the first-level cache.
const GROUP: usize = 16;

/// A piece of the keys that the rows of a kv head see, and where the rows' state goes: `o` is relative
/// to `2^m`, as is `l`.
pub struct Item<'a, R> {
    pub batch: usize,
    pub kv_head: usize,
    pub plan: &'a Plan,
    /// Counted through the runs of the plan.
    pub keys: Range<usize>,
    pub o: &'a mut [R],
    pub m: &'a mut [R],
    pub l: &'a mut [R],
}

/// Scratch of a thread.
pub struct Scratch<E: Element> {
    q: Buffer<E::Acc>,
    s: Buffer<E::Acc>,
    factors: Buffer<E::Acc>,
    /// Key rows of the tile, and their tokens.
    keys: Vec<usize>,
    columns: Columns,
    k: Found<E>,
    v: Found<E>,
    /// Query rows of the tile in the item, and how many of the tile's keys each row of the run sees.
    slots: Vec<usize>,
    seen: Vec<usize>,
    /// What is added to the scores of each of the slots.
    bias: Vec<E::Acc>,
}

impl<E: Element> Scratch<E> {
    /// For items of `rows` query rows.
    pub fn new(cx: &Context<E>, rows: usize) -> Self {
        Self {
            q: Buffer::new(rows * cx.d_pad),
            s: Buffer::new(GROUP.min(rows) * KEYS),
            factors: factor_row(cx.problem.dropout.is_some(), KEYS),
            keys: Vec::new(),
            columns: Columns::default(),
            k: Found::default(),
            v: Found::default(),
            slots: Vec::new(),
            seen: Vec::new(),
            bias: Vec::new(),
        }
    }

    /// Adds the item's keys to the state of its rows.
    pub fn item(&mut self, cx: &Context<E>, mut item: Item<E::Acc>) {
        let (group, n_q) = (cx.heads / cx.kv_heads, cx.span.n_q);
        for head in 0..group {
            gather(
                &mut self.q[head * n_q * cx.d_pad..][..n_q * cx.d_pad],
                cx.d_pad,
                &cx.q,
                [item.batch, item.kv_head * group + head],
                consecutive(&(0..n_q)),
                |_| false,
                cx.scale_base_2(),
            );
        }
        let mut before = 0;
        for work in &item.plan.works {
            let len = work.run.k.len;
            let inside = |key: usize| key.saturating_sub(before).min(len);
            let (first, end) = (inside(item.keys.start), inside(item.keys.end));
            for start in (first..end).step_by(KEYS) {
                self.tile(cx, &mut item, work, start..end.min(start + KEYS));
            }
            before += len;
        }
    }

    /// Adds the keys `range` of a run.
    fn tile(&mut self, cx: &Context<E>, item: &mut Item<E::Acc>, work: &Work, range: Range<usize>) {
        let (run, n_q) = (&work.run, cx.span.n_q);
        let first_head = item.kv_head * (cx.heads / cx.kv_heads);
        let rules = cx.rules(item.batch, first_head);
        let first = run.first_row(range.start);
        let rows = run.q.slice(first..run.q.len);
        self.keys.clear();
        let block = run.k.slice(range).iter();
        self.keys
            .extend(block.filter(|&key| rows.iter().any(|row| rules.sees(row, key))));
        if self.keys.is_empty() {
            return;
        }
        if rules.any() {
            let keys = self.keys.iter().copied();
            self.columns.load_each(keys, |key| rules.key(key));
        }
        self.seen.clear();
        self.seen.extend((first..run.q.len).map(|a| {
            let last = run.k.at(run.visible(a) - 1);
            self.keys.partition_point(|&key| key <= last)
        }));
        self.slots.clear();
        self.bias.clear();
        for (head, &block) in work.heads.iter().zip(&work.blocks) {
            let bias = cx.bias_base_2(item.batch, block);
            // Such a block adds weights of 0.
            if bias != E::Acc::NEG_INFINITY {
                self.slots.extend(rows.iter().map(|row| head * n_q + row));
                self.bias.extend(rows.iter().map(|_| bias));
            }
        }
        let at = [item.batch, item.kv_head];
        let (k, v) = (
            self.k.find(&cx.k, at, &self.keys),
            self.v.find(&cx.v, at, &self.keys),
        );
        let (used, lds) = (self.keys.len(), self.keys.len().next_multiple_of(STEP));
        let q = Matrix {
            data: &self.q,
            ld: cx.d_pad,
        };
        let seen = self.seen.iter().cycle();
        let mut slots = self.slots.iter().zip(&self.bias).zip(seen);
        for group in self.slots.chunks(GROUP) {
            cx.kernels.line_scores(&mut self.s, lds, q, group, k, v);
            for (((&i, &bias), &seen), s) in slots
                .by_ref()
                .zip(self.s.chunks_exact_mut(lds))
                .take(group.len())
            {
                let rules = cx.rules(item.batch, first_head + i / n_q);
                let token = rules.query(i % n_q);
                self.columns.mask(s, 0, 0..seen, token);
                // The scores lack the bias, and so does what they are compared with.
                let (top, sum) = cx.kernels.softmax(s, E::Acc::ONE, item.m[i] - bias);
                let top = top + bias;
                if top != item.m[i] {
                    // From -inf to a finite maximum the factor is 0, and so is what it scales.
                    let shrink = (item.m[i] - top).exp2::<false>();
                    item.l[i] *= shrink;
                    let o = &mut item.o[i * cx.d_v_pad..][..cx.d_v_pad];
                    cx.kernels.scale(o, shrink);
                    item.m[i] = top;
                }
                item.l[i] += sum;
                if rules.drops() {
                    let factors = &mut self.factors[..used];
                    rules.factors(cx.kernels, factors, token, &self.columns, 0);
                    cx.kernels.multiply(&mut s[..used], factors);
                }
            }
            let p = Matrix {
                data: &self.s,
                ld: lds,
            };
            cx.kernels.line_sums(item.o, cx.d_v_pad, group, p, v);
        }
    }
}

/// Where rows of a tensor lie.
struct Found<E> {
    starts: Vec<usize>,
    /// The rows themselves, if their elements do not follow each other.
    copy: Vec<E>,
}

impl<E> Default for Found<E> {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            copy: Vec::new(),
        }
    }
}

impl<E: Element> Found<E> {
    fn find<'a>(&'a mut self, view: &View<'a, E>, at: [usize; 2], rows: &[usize]) -> Lines<'a, E> {
        let (width, stride) = (view.shape[3], view.strides[3]);
        let start = |row: &usize| view.row_start(at[0], at[1], *row);
        self.starts.clear();
        if stride == 1 || width == 0 {
            self.starts.extend(rows.iter().map(start));
            return Lines {
                data: view.data,
                starts: &self.starts,
                width,
            };
        }
        self.copy.clear();
        for row in rows {
            self.starts.push(self.copy.len());
            let elements = (0..width as isize).map(|x| start(row).wrapping_add_signed(x * stride));
            self.copy.extend(elements.map(|i| view.data[i]));
        }
        Lines {
            data: &self.copy,
            starts: &self.starts,
            width,
        }
    }
}
