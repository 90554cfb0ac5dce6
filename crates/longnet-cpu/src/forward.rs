//! The forward pass.

use crate::buffer::Buffer;
use crate::context::{Context, check_len};
use crate::decode;
use crate::element::Element;
use crate::kernels::{PANEL, STEP};
use crate::pack::{consecutive, scatter};
use crate::packed::{Packed, packed_rows};
use crate::problem::Problem;
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::tiles::{Forms, Source, Tiles};
use crate::view::View;
use crate::work;
use longnet_pattern::{BlockMask, Run};
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 256;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, E: Element> {
    batch: usize,
    head: usize,
    rows: Range<usize>,
    out: &'a mut [E],
    lse: &'a mut [E::Acc],
}

/// Scratch of a thread.
struct Scratch<E: Element, T: Tiles<E>> {
    state: State<E, T>,
    /// Keys of a run.
    k: T::Side,
    v: T::Side,
    keys: Columns,
    /// Keys that several runs of a block mask share.
    packed: Packed<E, T>,
}

/// The state of an item's rows: `o` is relative to `2^m`, as is `l`.
struct State<E: Element, T: Tiles<E>> {
    tiles: T,
    _thread: T::Thread,
    q: T::Side,
    p: T::Weights,
    o: Buffer<E::Acc>,
    m: Buffer<E::Acc>,
    l: Buffer<E::Acc>,
    factors: Buffer<E::Acc>,
}

pub fn forward<E: Element, T: Tiles<E>>(
    tiles: T,
    problem: &Problem,
    q: View<E>,
    k: View<E>,
    v: View<E>,
    mut out: &mut [E],
    mut lse: &mut [E::Acc],
) {
    let cx = Context::new(problem, q, k, v);
    let (planes, n_q) = (cx.batch * cx.heads, cx.span.n_q);
    check_len("out", out.len(), planes * n_q * cx.d_v);
    check_len("lse", lse.len(), planes * n_q);
    if decode::suits(&cx) {
        return decode::forward(&cx, out, lse);
    }
    let most = cx.rows_that_fit(cx.d_pad + cx.d_v_pad);
    let block = work::rows_per_item(n_q, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let (batch, head) = (plane / cx.heads, plane % cx.heads);
        for rows in work::blocks(n_q, block) {
            let flops = 2 * (cx.d + cx.d_v) as u64 * pairs(&cx, head, &rows);
            let item = Item {
                batch,
                head,
                out: work::take(&mut out, rows.len() * cx.d_v),
                lse: work::take(&mut lse, rows.len()),
                rows,
            };
            items.push((flops, item));
        }
    }
    let (rows, keys) = (
        block.min(n_q),
        KEYS.min(cx.span.n_k.next_multiple_of(PANEL)),
    );
    // A mask packs its keys elsewhere.
    let kept = if problem.schedule.mask().is_some() {
        0
    } else {
        keys
    };
    let (left, panels, right) = (
        Forms {
            left: true,
            ..Forms::default()
        },
        Forms {
            panels: true,
            ..Forms::default()
        },
        Forms {
            right: true,
            ..Forms::default()
        },
    );
    let scratch = || Scratch {
        state: State {
            tiles,
            _thread: tiles.thread(),
            q: tiles.side(rows, cx.d, left),
            p: tiles.weights(T::GROUPS[0], keys + STEP),
            o: Buffer::new(rows * cx.d_v_pad),
            m: Buffer::new(rows),
            l: Buffer::new(rows),
            factors: factor_row(problem.dropout.is_some(), keys),
        },
        k: tiles.side(kept, cx.d, panels),
        v: tiles.side(kept, cx.d_v, right),
        keys: Columns::default(),
        packed: Packed::new(tiles, &cx, [panels, right]),
    };
    let flops = work::heaviest_first(&mut items);
    let items = items.into_iter().map(|(_, item)| item);
    work::run(flops, items, scratch, |scratch, item| {
        scratch.item(&cx, item)
    });
}

/// Visited pairs of some query rows of a head.
pub fn pairs<E: Element>(cx: &Context<E>, head: usize, rows: &Range<usize>) -> u64 {
    let schedule = cx.schedule();
    (0..schedule.branches())
        .flat_map(|b| schedule.query_runs(b, head, rows.clone()))
        .map(|run| run.pairs())
        .sum()
}

impl<E: Element, T: Tiles<E>> Scratch<E, T> {
    fn item(&mut self, cx: &Context<E>, item: Item<E>) {
        let Item {
            batch,
            head,
            rows,
            out,
            lse,
        } = item;
        let rules = cx.rules(batch, head);
        self.state.start(cx, [batch, head], &rows);
        match cx.schedule().mask() {
            None => self.runs(cx, &rules, [batch, head], &rows),
            Some(mask) => {
                for keys in parts_of_keys(cx, mask, head, &rows) {
                    self.masked(cx, &rules, [batch, head], &rows, &keys);
                }
            }
        }
        self.state.finish(cx, out, lse);
    }

    /// Adds the keys that dilated branches let the rows see.
    fn runs(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        rows: &Range<usize>,
    ) {
        let (schedule, at) = (cx.schedule(), [batch, cx.kv_head(head)]);
        for branch in 0..schedule.branches() {
            for run in schedule.query_runs(branch, head, rows.clone()) {
                self.run(cx, rules, at, rows.start, &run);
            }
        }
    }

    /// Adds the keys of a run to the state of its rows. `first` is the item's first row.
    fn run(&mut self, cx: &Context<E>, rules: &Rules, at: [usize; 2], first: usize, run: &Run) {
        let tiles = self.state.tiles;
        for start in (0..run.k.len).step_by(KEYS) {
            let block = run.k.slice(start..run.k.len.min(start + KEYS));
            self.keys.load(block, |b| rules.key(b));
            for (view, side) in [(&cx.k, &mut self.k), (&cx.v, &mut self.v)] {
                let rows = block;
                let source = Source { view, at, rows };
                tiles.load(side, 0, source, |b| rules.hides(b), E::Acc::ONE);
            }
            let keys = Keys {
                k: &self.k,
                v: &self.v,
                columns: &self.keys,
                at: 0,
                start,
                len: block.len,
                bias: E::Acc::ZERO,
            };
            self.state.keys(cx, rules, first, run, &keys);
        }
    }

    /// Adds those of `keys` that a block mask lets the rows see.
    fn masked(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        at: [usize; 2],
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) {
        (self.packed).load(self.state.tiles, cx, rules, at, rows, keys);
        for (run, block) in cx.runs(0, at[1], rows.clone(), keys.clone()) {
            let bias = cx.bias_base_2(at[0], block);
            // Such a block adds weights of 0.
            if bias == E::Acc::NEG_INFINITY {
                continue;
            }
            for (start, chunk) in self.packed.chunks(0, &run) {
                let keys = Keys {
                    k: &self.packed.k,
                    v: &self.packed.v,
                    columns: &chunk.columns,
                    at: chunk.at,
                    start,
                    len: chunk.rows.len,
                    bias,
                };
                self.state.keys(cx, rules, rows.start, &run, &keys);
            }
        }
    }
}

/// The keys that some rows of a mask see, in parts of a size that is packed at once.
fn parts_of_keys<E: Element>(
    cx: &Context<E>,
    mask: &BlockMask,
    head: usize,
    rows: &Range<usize>,
) -> impl Iterator<Item = Range<usize>> {
    const KEYS: usize = 512;
    const ROWS: usize = 2560;
    let mut size = KEYS;
    while size > PANEL && packed_rows(cx.schedule(), size) > ROWS {
        size /= 2;
    }
    // Parts end where blocks do.
    let block = mask.grid().k_block;
    let size = if block < size {
        size / block * block
    } else {
        size
    };
    let (start, n_k) = (cx.span.k_start, cx.span.n_k);
    let mut parts: Vec<usize> = Vec::new();
    for run in cx.schedule().query_runs(0, head, rows.clone()) {
        let first = (start + run.k.first) / size;
        parts.extend(first..=(start + run.k.at(run.k.len - 1)) / size);
    }
    parts.sort_unstable();
    parts.dedup();
    let row = move |position: usize| position.saturating_sub(start).min(n_k);
    parts
        .into_iter()
        .map(move |part| row(part * size)..row((part + 1) * size))
}

/// Packed keys of a run.
struct Keys<'a, E: Element, T: Tiles<E>> {
    k: &'a T::Side,
    v: &'a T::Side,
    columns: &'a Columns,
    /// The first of them among the packed rows.
    at: usize,
    /// How many keys of the run come before them.
    start: usize,
    len: usize,
    /// What is added to their scores.
    bias: E::Acc,
}

impl<E: Element, T: Tiles<E>> State<E, T> {
    /// Rows that have seen nothing.
    fn start(&mut self, cx: &Context<E>, at: [usize; 2], rows: &Range<usize>) {
        let [factor, _] = self.tiles.factors(cx.scale_base_2());
        let queries = Source {
            view: &cx.q,
            at,
            rows: consecutive(rows),
        };
        self.tiles.load(&mut self.q, 0, queries, |_| false, factor);
        self.o.fill(E::Acc::ZERO);
        let schedule = cx.schedule();
        for (i, row) in rows.clone().enumerate() {
            // Zero keys have a score of 0 and add nothing to the output.
            let zeros: usize = (0..schedule.branches())
                .map(|b| schedule.zero_keys(b, at[1], row))
                .sum();
            self.l[i] = E::Acc::from_f64(zeros as f64);
            self.m[i] = if zeros > 0 {
                E::Acc::ZERO
            } else {
                E::Acc::NEG_INFINITY
            };
        }
    }

    /// Writes the results.
    fn finish(&self, cx: &Context<E>, out: &mut [E], lse: &mut [E::Acc]) {
        scatter(out, cx.d_v, &self.o, cx.d_v_pad, |i| {
            if self.l[i] == E::Acc::ZERO {
                E::Acc::ZERO
            } else {
                E::Acc::ONE / self.l[i]
            }
        });
        for ((lse, &m), &l) in lse.iter_mut().zip(&*self.m).zip(&*self.l) {
            let base_2 = m.to_f64() + l.to_f64().log2();
            *lse = E::Acc::from_f64(base_2 * std::f64::consts::LN_2);
        }
    }

    /// Adds packed keys of a run to the state of its rows. `first` is the item's first row.
    fn keys(&mut self, cx: &Context<E>, rules: &Rules, first: usize, run: &Run, keys: &Keys<E, T>) {
        let first_row = run.first_row(keys.start) / T::ALIGN * T::ALIGN;
        for group in (first_row..run.q.len).step_by(T::GROUPS[0]) {
            let group = group..run.q.len.min(group + T::GROUPS[0]);
            self.tile(cx, rules, first, run, group, keys);
        }
    }

    /// Adds packed keys to the rows `group` of the run.
    fn tile(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        first: usize,
        run: &Run,
        group: Range<usize>,
        keys: &Keys<E, T>,
    ) {
        let visible = |a: usize| run.visible(a).saturating_sub(keys.start).min(keys.len);
        let used = visible(group.end - 1);
        let columns = used.next_multiple_of(STEP);
        let (m, lds) = (group.len(), columns + STEP / 2);
        // Where the item keeps row `a` of the run.
        let slot = |a: usize| run.q.at(a) - first;
        let token = |a: usize| rules.query(run.q.at(a));
        if group
            .clone()
            .all(|a| keys.columns.sight(token(a)) == Sight::Nothing)
        {
            return;
        }
        let tiles = self.tiles;
        let [_, factor] = tiles.factors(cx.scale_base_2());
        let rows = [slot(group.start), run.q.step, m];
        let packed = keys.at..keys.at + columns;
        tiles.inner(&mut self.p, lds, &self.q, rows, keys.k, packed);
        let scores = tiles.scores(&mut self.p);
        for a in group.clone() {
            let (i, s) = (slot(a), &mut scores[(a - group.start) * lds..][..columns]);
            keys.columns.mask(s, 0, 0..visible(a), token(a));
            // The scores lack the bias, and so does what they are compared with.
            let (top, sum) = cx.kernels.softmax(s, factor, self.m[i] - keys.bias);
            let top = top + keys.bias;
            if top != self.m[i] {
                // From -inf to a finite maximum the factor is 0, and so is what it scales.
                let shrink = (self.m[i] - top).exp2::<false>();
                self.l[i] *= shrink;
                cx.kernels
                    .scale(&mut self.o[i * cx.d_v_pad..][..cx.d_v_pad], shrink);
                self.m[i] = top;
            }
            self.l[i] += sum;
            if rules.drops() {
                let factors = &mut self.factors[..used];
                rules.factors(cx.kernels, factors, token(a), keys.columns, 0);
                cx.kernels.multiply(&mut s[..used], factors);
            }
        }
        tiles.seal(&mut self.p, m, columns, lds, false);
        let o = &mut self.o[slot(group.start) * cx.d_v_pad..];
        let (ldo, sizes) = (run.q.step * cx.d_v_pad, [m, cx.d_v_pad, used]);
        tiles.outer(o, ldo, &self.p, lds, keys.v, keys.at, sizes);
    }
}
