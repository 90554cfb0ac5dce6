//! dq, dk and dv in one pass over blocks of keys: scores and weights are computed once.

use super::Gradients;
use super::turns::{Broken, Order, Turns};
use crate::block_rule::{BlockRule, is_dense};
use crate::buffer::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::kernels::{PANEL, STEP};
use crate::pack::scatter;
use crate::packed::{Chunk, KEYS, Packed, packed_rows};
use crate::real::Real;
use crate::rules::{Rules, Sight, factor_row};
use crate::tiles::{Forms, Source, Tiles};
use crate::work;
use longnet_pattern::{Progression, Run};
use std::ops::Range;
use std::sync::Mutex;

/// Memory for the packed keys of an item, in bytes.
const PACKED: usize = 4 << 20;
/// Query rows that items add to in one turn.
const BLOCK: usize = 1024;
/// Where there are fewer kv heads, threads meet at the same query rows: then an item computes its part of a
/// block apart and takes a turn only to add it. Depends on the problem only, since sums differ in their last
/// bits.
const HEADS_APART: usize = 8;

/// Consecutive key rows of one kv head, and where their results go.
struct Item<'a, E> {
    at: [usize; 2],
    /// Its number among the items of its kv head, in the order in which they are visited.
    index: usize,
    rows: Range<usize>,
    dk: &'a mut [E],
    dv: &'a mut [E],
    dbias: &'a mut Vec<BlockSum>,
}

/// A place in the bias, and some of the gradient there.
pub type BlockSum = (usize, f64);

/// The gradient of a block of query rows: the sum of the items' parts while there are some to come.
struct Slot<'a, E: Element> {
    dq: &'a mut [E],
    sum: Option<Buffer<E::Acc>>,
}

/// What the items share.
struct Shared<'a, E: Element> {
    g: &'a Gradients<'a, E>,
    delta: &'a [E::Acc],
    /// Per query head.
    orders: Vec<Order>,
    /// Per batch entry, query head and block of rows.
    slots: Vec<Turns<Slot<'a, E>>>,
    /// Buffers of sums that are complete.
    spare: Mutex<Vec<Buffer<E::Acc>>>,
    broken: Broken,
    /// Query rows of a slot.
    block: usize,
    /// Whether parts are computed outside of the turns.
    apart: bool,
}

struct Scratch<E: Element, T: Tiles<E>> {
    packed: Packed<E, T>,
    sums: Sums<E, T>,
    /// An item's part of a block of dq, where that is computed apart.
    part: Buffer<E::Acc>,
}

/// The queries of a run, and what they are multiplied into.
struct Sums<E: Element, T: Tiles<E>> {
    tiles: T,
    _thread: T::Thread,
    dk: Buffer<E::Acc>,
    dv: Buffer<E::Acc>,
    q: T::Side,
    dout: T::Side,
    lse: Buffer<E::Acc>,
    delta: Buffer<E::Acc>,
    s: T::Weights,
    dp: T::Weights,
    factors: Buffer<E::Acc>,
    /// What [`load`](Self::load) has packed: the head, the branch, the rows.
    loaded: Option<([usize; 2], usize, Progression)>,
}

/// Without a bias, `dbias` stays empty; else it gets the sums of each item, in the order of the items of each
/// kv head.
pub fn pass<E: Element, T: Tiles<E>>(
    tiles: T,
    g: &Gradients<E>,
    delta: &[E::Acc],
    mut dq: &mut [E],
    mut dk: &mut [E],
    mut dv: &mut [E],
    dbias: &mut Vec<(usize, Vec<BlockSum>)>,
) {
    let cx = &g.cx;
    let (n_q, n_k) = (cx.span.n_q, cx.span.n_k);
    let planes = cx.batch * cx.kv_heads;
    let keys = keys_per_item(cx);
    let block = BLOCK.min(n_q.max(1));
    let parts: Vec<_> = work::blocks(n_k, keys).collect();
    let in_order = visiting_order(cx, &parts);
    let orders: Vec<Order> = (0..cx.heads)
        .map(|head| {
            let rows = |keys: &Range<usize>| query_rows(cx, head, keys.clone());
            let visited = in_order.iter().map(|&part| rows(&parts[part]));
            let mut order = Order::new(n_q, block, visited);
            if let Some(mask) = cx.schedule().mask().filter(|mask| mask.has_order()) {
                let first = |b: usize| cx.span.queries().at(b * block) / mask.grid().q_block;
                order.sort_visits(|b| mask.query_place(first(b)));
            }
            order
        })
        .collect();
    let mut places = vec![0; parts.len()];
    for (place, &part) in in_order.iter().enumerate() {
        places[part] = place;
    }
    let mut slots = Vec::new();
    for plane in 0..cx.batch * cx.heads {
        for (i, rows) in work::blocks(n_q, block).enumerate() {
            let dq = work::take(&mut dq, rows.len() * cx.d);
            let total = orders[plane % cx.heads].total(i);
            if total == 0 {
                dq.fill(E::round(E::Acc::ZERO));
            }
            slots.push(Turns::new(total, Slot { dq, sum: None }));
        }
    }
    let mut items = Vec::new();
    let per_plane = n_k.div_ceil(keys);
    dbias.extend((0..planes * per_plane).map(|item| (item / per_plane / cx.kv_heads, Vec::new())));
    let mut sums = dbias.iter_mut();
    for plane in 0..planes {
        for (&index, rows) in places.iter().zip(parts.iter().cloned()) {
            items.push(Item {
                at: [plane / cx.kv_heads, plane % cx.kv_heads],
                index,
                dk: work::take(&mut dk, rows.len() * cx.d),
                dv: work::take(&mut dv, rows.len() * cx.d_v),
                dbias: &mut sums.next().expect("one an item").1,
                rows,
            });
        }
    }
    // Neighbours in the queue belong to different heads, so that they seldom wait for each other; the
    // heads in progress are few, so that few sums are.
    let wave = rayon::current_num_threads();
    items.sort_by_key(|item| {
        let plane = item.at[0] * cx.kv_heads + item.at[1];
        (plane / wave, item.index)
    });
    let shared = Shared {
        g,
        delta,
        orders,
        slots,
        spare: Mutex::default(),
        broken: Broken::default(),
        block,
        apart: planes < HEADS_APART,
    };
    let keys = keys.min(n_k);
    let both = Forms {
        left: true,
        right: true,
        ..Forms::default()
    };
    let panels = Forms {
        panels: true,
        ..Forms::default()
    };
    let right = Forms {
        right: true,
        ..panels
    };
    let scratch = || Scratch {
        packed: Packed::new(tiles, cx, [right, panels]),
        part: Buffer::new(if shared.apart { block * cx.d_pad } else { 0 }),
        sums: Sums {
            tiles,
            _thread: tiles.thread(),
            dk: Buffer::new(keys * cx.d_pad),
            dv: Buffer::new(keys * cx.d_v_pad),
            q: tiles.side(block, cx.d, both),
            dout: tiles.side(block, cx.d_v, both),
            lse: Buffer::new(block),
            delta: Buffer::new(block),
            s: tiles.weights(T::GROUPS[1], KEYS + STEP),
            dp: tiles.weights(T::GROUPS[1], KEYS + STEP),
            factors: factor_row(cx.problem.dropout.is_some(), KEYS),
            loaded: None,
        },
    };
    let pairs: u64 = (0..cx.heads)
        .map(|head| crate::forward::pairs(cx, head, &(0..n_q)))
        .sum();
    let flops = (cx.batch as u64 * pairs).saturating_mul(6 * cx.d as u64 + 4 * cx.d_v as u64);
    work::run(flops, items.into_iter(), scratch, |scratch, item| {
        let _guard = shared.broken.guard();
        scratch.item(&shared, item);
    });
}

/// Which of the parts of the keys are visited one after the other.
fn visiting_order<E: Element>(cx: &Context<E>, parts: &[Range<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    if let Some(mask) = cx.schedule().mask().filter(|mask| mask.has_order()) {
        let block = |part: usize| cx.span.keys().at(parts[part].start) / mask.grid().k_block;
        order.sort_by_key(|&part| mask.key_place(block(part)));
    }
    order
}

/// The query rows that see some of `keys`, as ranges that hold them.
fn query_rows<E: Element>(
    cx: &Context<E>,
    head: usize,
    keys: Range<usize>,
) -> impl Iterator<Item = Range<usize>> {
    let schedule = cx.schedule();
    (0..schedule.branches())
        .flat_map(move |branch| schedule.key_runs(branch, head, keys.clone()))
        .map(|run| run.q.first..run.q.at(run.q.len - 1) + 1)
}

/// The rows of a block of `block` from `first` on that `keys` may give something to, counted from `first`. Of
/// a mask they may be few.
fn touched_rows<E: Element>(
    cx: &Context<E>,
    head: usize,
    first: usize,
    block: usize,
    keys: &Range<usize>,
) -> Range<usize> {
    let end = cx.span.n_q.min(first + block);
    if cx.schedule().mask().is_none() {
        return 0..end - first;
    }
    let runs = cx.schedule().runs_within(0, head, first..end, keys.clone());
    let reach = |run: Run| (run.q.first, run.q.first + run.q.len);
    let rows = runs.map(reach).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    rows.map_or(0..0, |rows| rows.0 - first..rows.1 - first)
}

/// As many keys as the second-level cache holds with their gradients, fewer where there are few items or
/// where the padding of short runs needs much memory. Depends on the problem only.
fn keys_per_item<E: Element>(cx: &Context<E>) -> usize {
    let most = cx.rows_that_fit(4 * (cx.d_pad + cx.d_v_pad));
    let mut keys = work::rows_per_item(cx.span.n_k, cx.batch * cx.kv_heads, most);
    let row = size_of::<E::Acc>() * (2 * cx.d_pad + cx.d_v_pad);
    while keys > PANEL && packed_rows(cx.schedule(), keys) * row > PACKED {
        keys = (keys / 2).next_multiple_of(PANEL);
    }
    keys
}

impl<E: Element, T: Tiles<E>> Scratch<E, T> {
    fn item(&mut self, shared: &Shared<E>, item: Item<E>) {
        let Item {
            at: [batch, kv_head],
            index,
            rows,
            dk,
            dv,
            dbias,
        } = item;
        let (g, cx) = (shared.g, &shared.g.cx);
        self.sums.dk.fill(E::Acc::ZERO);
        self.sums.dv.fill(E::Acc::ZERO);
        let readers = cx.heads / cx.kv_heads;
        for head in kv_head * readers..(kv_head + 1) * readers {
            let (at, order) = ([batch, head], &shared.orders[head]);
            let rules = cx.rules(batch, head);
            let (tiles, all) = (self.sums.tiles, 0..cx.span.n_q);
            let dense = cx.schedule().mask().is_some() && {
                let blocks = cx.runs(0, head, all.clone(), rows.clone());
                let areas = order.visits[index].iter();
                let areas = areas.filter_map(|visit| shared.area(visit.block, &rows));
                is_dense(tiles, cx, blocks, areas, cx.bias_of(batch))
            };
            match dense {
                true => (self.packed).load_all(tiles, cx, &rules, at, &rows),
                false => (self.packed).load(tiles, cx, &rules, at, &all, &rows),
            }
            for visit in &order.visits[index] {
                let blocks = cx.span.n_q.div_ceil(shared.block);
                let slot = &shared.slots[(batch * cx.heads + head) * blocks + visit.block];
                let mut part = std::mem::take(&mut self.part);
                let touched =
                    touched_rows(cx, head, visit.block * shared.block, shared.block, &rows);
                let touched = touched.start * cx.d_pad..touched.end * cx.d_pad;
                if shared.apart {
                    part[touched.clone()].fill(E::Acc::ZERO);
                    self.block(
                        shared,
                        &rules,
                        at,
                        visit.block,
                        &rows,
                        dense,
                        &mut part,
                        dbias,
                    );
                }
                slot.take(visit, &shared.broken, |mut slot, last| {
                    let mut sum = slot.sum.take().unwrap_or_else(|| shared.sum());
                    if shared.apart {
                        cx.kernels.add(&mut sum[touched.clone()], &part[touched]);
                    } else {
                        self.block(
                            shared,
                            &rules,
                            at,
                            visit.block,
                            &rows,
                            dense,
                            &mut sum,
                            dbias,
                        );
                    }
                    if last {
                        let first = visit.block * shared.block;
                        let scale = E::Acc::from_f64(cx.problem.scale);
                        scatter(slot.dq, cx.d, &sum, cx.d_pad, |i| {
                            if g.is_blind(g.row(at, first + i)) {
                                E::Acc::ZERO
                            } else {
                                scale
                            }
                        });
                        shared.spare.lock().expect("cannot panic").push(sum);
                    } else {
                        slot.sum = Some(sum);
                    }
                });
                self.part = part;
            }
        }
        // dS times the queries: these carry a part of the scale and of log2 e, `factor` the other.
        let [_, factor] = self.sums.tiles.factors(cx.scale_base_2());
        let scale = E::Acc::from_f64(factor.to_f64() * std::f64::consts::LN_2);
        scatter(dk, cx.d, &self.sums.dk, cx.d_pad, |_| scale);
        scatter(dv, cx.d_v, &self.sums.dv, cx.d_v_pad, |_| E::Acc::ONE);
    }

    /// The queries of a block against the packed keys, the rows `keys`; all pairs of them if `dense`, of which a rule
    /// hides some.
    fn block(
        &mut self,
        shared: &Shared<E>,
        rules: &Rules,
        at: [usize; 2],
        block: usize,
        keys: &Range<usize>,
        dense: bool,
        dq: &mut [E::Acc],
        dbias: &mut Vec<BlockSum>,
    ) {
        let (g, cx) = (shared.g, &shared.g.cx);
        let rows = shared.rows(block);
        let first = [rows.start, keys.start];
        if dense {
            let Some(run) = shared.area(block, keys) else {
                return;
            };
            let mut rule = BlockRule::new(cx, at);
            self.sums.load(shared, at, 0, &run);
            self.tiles(0, &run, first, E::Acc::ZERO, |sums, packed, tile| {
                sums.tile(g, rules, packed, tile, dq, &mut None, Some(&mut rule));
            });
            rule.finish(dbias);
            return;
        }
        for branch in 0..cx.schedule().branches() {
            for (run, biased) in cx.runs(branch, at[1], rows.clone(), keys.clone()) {
                let bias = cx.bias_base_2(at[0], biased);
                if bias == E::Acc::NEG_INFINITY {
                    continue;
                }
                let mut sum = biased.map(|_| 0.0);
                self.sums.load(shared, at, branch, &run);
                self.tiles(branch, &run, first, bias, |sums, packed, tile| {
                    sums.tile(g, rules, packed, tile, dq, &mut sum, None);
                });
                dbias.extend(biased.zip(sum));
            }
        }
    }

    /// The tiles of a run whose queries and keys are packed.
    fn tiles(
        &mut self,
        branch: usize,
        run: &Run,
        first: [usize; 2],
        bias: E::Acc,
        mut tile: impl FnMut(&mut Sums<E, T>, &Packed<E, T>, Tile<E>),
    ) {
        for (start, chunk) in self.packed.chunks(branch, run) {
            let first_row = run.first_row(start) / T::ALIGN * T::ALIGN;
            for group in (first_row..run.q.len).step_by(T::GROUPS[1]) {
                let group = group..run.q.len.min(group + T::GROUPS[1]);
                let of_run = Tile {
                    run,
                    group,
                    chunk,
                    start,
                    first,
                    bias,
                };
                tile(&mut self.sums, &self.packed, of_run);
            }
        }
    }
}

impl<E: Element> Shared<'_, E> {
    /// The query rows of a block.
    fn rows(&self, block: usize) -> Range<usize> {
        let first = block * self.block;
        first..self.g.cx.span.n_q.min(first + self.block)
    }

    /// All pairs of the query rows of a block with `keys`.
    fn area(&self, block: usize, keys: &Range<usize>) -> Option<Run> {
        let schedule = self.g.cx.schedule();
        schedule.area(self.rows(block), keys.clone())
    }

    /// Zeros for a block of query rows.
    fn sum(&self) -> Buffer<E::Acc> {
        let spare = self.spare.lock().expect("cannot panic").pop();
        let mut sum = spare.unwrap_or_else(|| Buffer::new(self.block * self.g.cx.d_pad));
        sum.fill(E::Acc::ZERO);
        sum
    }
}

/// Some query rows of a run against one chunk of its keys.
struct Tile<'a, E: Element> {
    run: &'a Run,
    group: Range<usize>,
    chunk: &'a Chunk,
    /// How many keys of the run come before the chunk.
    start: usize,
    /// The first query and the first key row of the sums.
    first: [usize; 2],
    /// What is added to the scores.
    bias: E::Acc,
}

impl<E: Element, T: Tiles<E>> Sums<E, T> {
    /// Packs the queries of a run.
    fn load(&mut self, shared: &Shared<E>, at: [usize; 2], branch: usize, run: &Run) {
        // Rows of a block mask may be in several runs, one after the other.
        if self.loaded.replace((at, branch, run.q)) == Some((at, branch, run.q)) {
            return;
        }
        let (g, cx) = (shared.g, &shared.g.cx);
        let [factor, _] = self.tiles.factors(cx.scale_base_2());
        for (view, side, factor) in [
            (&cx.q, &mut self.q, factor),
            (&g.dout, &mut self.dout, E::Acc::ONE),
        ] {
            let rows = run.q;
            let blind = |a: usize| g.is_blind(g.row(at, a));
            self.tiles
                .load(side, 0, Source { view, at, rows }, blind, factor);
        }
        for (i, a) in run.q.iter().enumerate() {
            let row = g.row(at, a);
            self.lse[i] = g.lse_base_2(row);
            self.delta[i] = shared.delta[row * g.deltas + branch.min(g.deltas - 1)];
        }
    }

    fn tile(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        packed: &Packed<E, T>,
        tile: Tile<E>,
        dq: &mut [E::Acc],
        sum: &mut Option<f64>,
        mut rule: Option<&mut BlockRule>,
    ) {
        let (cx, kernels) = (&g.cx, g.cx.kernels);
        let (d, d_v) = (cx.d_pad, cx.d_v_pad);
        let Tile {
            run,
            group,
            chunk,
            start,
            first,
            bias,
        } = tile;
        let visible = |a: usize| run.visible(a).saturating_sub(start).min(chunk.rows.len);
        let used = visible(group.end - 1);
        let columns = used.next_multiple_of(STEP);
        let (m, ld) = (group.len(), columns + STEP / 2);
        let token = |a: usize| rules.query(run.q.at(a));
        if group
            .clone()
            .all(|a| chunk.columns.sight(token(a)) == Sight::Nothing)
        {
            return;
        }
        let tiles = self.tiles;
        let [_, factor] = tiles.factors(cx.scale_base_2());
        let (rows, keys) = ([group.start, 1, m], chunk.at..chunk.at + columns);
        tiles.inner(&mut self.s, ld, &self.q, rows, &packed.k, keys.clone());
        tiles.inner(&mut self.dp, ld, &self.dout, rows, &packed.v, keys);
        let (s, dp) = (tiles.scores(&mut self.s), tiles.scores(&mut self.dp));
        for a in group.clone() {
            let at = (a - group.start) * ld;
            let (s, dp) = (&mut s[at..][..columns], &mut dp[at..][..columns]);
            chunk.columns.mask(s, 0, 0..visible(a), token(a));
            let keys = chunk.rows.first..chunk.rows.first + used;
            if let Some(rule) = &mut rule {
                rule.apply(s, factor, run.q.at(a), keys.clone());
            }
            let factors = &mut self.factors[..if rules.drops() { used } else { 0 }];
            if rules.drops() {
                rules.factors(kernels, factors, token(a), &chunk.columns, 0);
                kernels.multiply(&mut dp[..used], factors);
            }
            // The scores lack the bias, and so does what is taken off them.
            kernels.gradient_of_row(s, dp, factor, self.lse[a] - bias, self.delta[a]);
            if let Some(sum) = sum {
                *sum += kernels.sum(&dp[..used]).to_f64();
            }
            if let Some(rule) = &mut rule {
                rule.add(kernels, dp, run.q.at(a), keys);
            }
            if rules.drops() {
                kernels.multiply(&mut s[..used], factors);
            }
        }
        tiles.seal(&mut self.s, m, columns, ld, true);
        tiles.seal(&mut self.dp, m, columns, ld, true);
        let dq = &mut dq[(run.q.at(group.start) - first[0]) * d..];
        let (ldq, sizes) = (run.q.step * d, [m, d, used]);
        tiles.outer(dq, ldq, &self.dp, ld, &packed.k, chunk.at, sizes);
        let (slot, step) = (chunk.rows.first - first[1], chunk.rows.step);
        let (dv, sizes) = (&mut self.dv[slot * d_v..], [used, d_v, m]);
        let at = group.start;
        tiles.outer_t(dv, step * d_v, &self.s, ld, &self.dout, at, sizes);
        let (dk, sizes) = (&mut self.dk[slot * d..], [used, d, m]);
        tiles.outer_t(dk, step * d, &self.dp, ld, &self.q, at, sizes);
    }
}
