//! The scalars `D` of each query row: `<dout, out> - dlse`. Where the mix is detached, one a branch,
//! from the branch's own output; that takes a pass over its keys.

use super::Gradients;
use crate::buffer::Buffer;
use crate::element::Element;
use crate::forward::pairs;
use crate::kernels::{PANEL, STEP};
use crate::pack::{consecutive, dot};
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::tiles::{Forms, Source, Tiles};
use crate::work;
use longnet_pattern::Run;
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 256;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, R> {
    at: [usize; 2],
    rows: Range<usize>,
    delta: &'a mut [R],
}

struct Scratch<E: Element, T: Tiles<E>> {
    tiles: T,
    _thread: T::Thread,
    q: T::Side,
    dout: T::Side,
    k: T::Side,
    v: T::Side,
    s: T::Weights,
    dp: T::Weights,
    lse: Buffer<E::Acc>,
    /// Of one branch, per row, the sums of `P` and of `P c <dout, v>`.
    p: Buffer<E::Acc>,
    pdp: Buffer<E::Acc>,
    factors: Buffer<E::Acc>,
    keys: Columns,
}

pub fn pass<E: Element, T: Tiles<E>>(tiles: T, g: &Gradients<E>, mut delta: &mut [E::Acc]) {
    let cx = &g.cx;
    let (planes, n_q) = (cx.batch * cx.heads, cx.span.n_q);
    let most = cx.rows_that_fit(cx.d_pad + cx.d_v_pad);
    let block = work::rows_per_item(n_q, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let at = [plane / cx.heads, plane % cx.heads];
        for rows in work::blocks(n_q, block) {
            let visited = if g.detached {
                pairs(cx, at[1], &rows)
            } else {
                0
            };
            let flops = 2 * (cx.d as u64 * visited + (rows.len() * cx.d_v) as u64);
            let delta = work::take(&mut delta, rows.len() * g.deltas);
            items.push((flops, Item { at, delta, rows }));
        }
    }
    let (rows, keys) = if g.detached {
        (
            block.min(n_q),
            KEYS.min(cx.span.n_k.next_multiple_of(PANEL)),
        )
    } else {
        (0, 0)
    };
    let (left, panels) = (
        Forms {
            left: true,
            ..Forms::default()
        },
        Forms {
            panels: true,
            ..Forms::default()
        },
    );
    let scratch = || Scratch {
        tiles,
        _thread: tiles.thread(),
        q: tiles.side(rows, cx.d, left),
        dout: tiles.side(rows, cx.d_v, left),
        k: tiles.side(keys, cx.d, panels),
        v: tiles.side(keys, cx.d_v, panels),
        s: tiles.weights(T::GROUPS[0], keys + STEP),
        dp: tiles.weights(T::GROUPS[0], keys + STEP),
        lse: Buffer::new(rows),
        p: Buffer::new(rows),
        pdp: Buffer::new(rows),
        factors: factor_row(cx.problem.dropout.is_some(), keys),
        keys: Columns::default(),
    };
    let flops = work::heaviest_first(&mut items);
    let items = items.into_iter().map(|(_, item)| item);
    work::run(flops, items, scratch, |scratch, item| {
        if g.detached {
            scratch.detached(g, item);
        } else {
            for (delta, row) in item.delta.iter_mut().zip(item.rows) {
                *delta = exact(g, item.at, row);
            }
        }
    });
}

/// The `D` of a row under the exact gradient.
fn exact<E: Element>(g: &Gradients<E>, at: [usize; 2], index: usize) -> E::Acc {
    let row = g.row(at, index);
    if g.is_blind(row) {
        return E::Acc::ZERO;
    }
    let dlse = g.dlse.map_or(0.0, |dlse| dlse[row].to_f64());
    E::Acc::from_f64(dot(&g.dout, &g.out, at, index) - dlse)
}

impl<E: Element, T: Tiles<E>> Scratch<E, T> {
    fn detached(&mut self, g: &Gradients<E>, item: Item<E::Acc>) {
        let Item { at, rows, delta } = item;
        let (cx, rules) = (&g.cx, g.cx.rules(at[0], at[1]));
        let schedule = cx.schedule();
        let blind = |i: usize| g.is_blind(g.row(at, i));
        let [factor, _] = self.tiles.factors(cx.scale_base_2());
        for (view, side, factor) in [
            (&cx.q, &mut self.q, factor),
            (&g.dout, &mut self.dout, E::Acc::ONE),
        ] {
            let rows = consecutive(&rows);
            let source = Source { view, at, rows };
            self.tiles.load(side, 0, source, blind, factor);
        }
        for (i, index) in rows.clone().enumerate() {
            self.lse[i] = g.lse_base_2(g.row(at, index));
        }
        for branch in 0..schedule.branches() {
            self.p.fill(E::Acc::ZERO);
            self.pdp.fill(E::Acc::ZERO);
            for run in schedule.query_runs(branch, at[1], rows.clone()) {
                self.run(g, &rules, at, rows.start, &run);
            }
            for (i, row) in rows.clone().enumerate() {
                delta[i * g.deltas + branch] = self.of_branch(g, branch, at, i, row);
            }
        }
    }

    /// The branch's own `D` of row `i` of the item.
    fn of_branch(
        &self,
        g: &Gradients<E>,
        branch: usize,
        at: [usize; 2],
        i: usize,
        row: usize,
    ) -> E::Acc {
        // With zero keys lse is at least 0; without them the power may overflow.
        let zeros = match g.cx.schedule().zero_keys(branch, at[1], row) {
            0 => E::Acc::ZERO,
            zeros => E::Acc::from_f64(zeros as f64) * (E::Acc::ZERO - self.lse[i]).exp2::<false>(),
        };
        let weight = self.p[i] + zeros;
        if weight == E::Acc::ZERO {
            return E::Acc::ZERO;
        }
        let dlse = g.dlse.map_or(E::Acc::ZERO, |dlse| dlse[g.row(at, row)]);
        self.pdp[i] / weight - dlse
    }

    /// Adds the keys of a run to the sums of its rows. `first` is the item's first row.
    fn run(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        first: usize,
        run: &Run,
    ) {
        let cx = &g.cx;
        let at = [batch, cx.kv_head(head)];
        for start in (0..run.k.len).step_by(KEYS) {
            let block = run.k.slice(start..run.k.len.min(start + KEYS));
            self.keys.load(block, |b| rules.key(b));
            for (view, side) in [(&cx.k, &mut self.k), (&cx.v, &mut self.v)] {
                let rows = block;
                let source = Source { view, at, rows };
                self.tiles
                    .load(side, 0, source, |b| rules.hides(b), E::Acc::ONE);
            }
            let first_row = run.first_row(start) / T::ALIGN * T::ALIGN;
            for group in (first_row..run.q.len).step_by(T::GROUPS[0]) {
                let group = group..run.q.len.min(group + T::GROUPS[0]);
                self.tile(g, rules, first, run, group, start, block.len);
            }
        }
    }

    /// The packed keys, `start..start + len` of the run, against the rows `group` of the run.
    fn tile(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        first: usize,
        run: &Run,
        group: Range<usize>,
        start: usize,
        len: usize,
    ) {
        let kernels = g.cx.kernels;
        let visible = |a: usize| run.visible(a).saturating_sub(start).min(len);
        let used = visible(group.end - 1);
        let columns = used.next_multiple_of(STEP);
        let (m, ld) = (group.len(), columns + STEP / 2);
        let slot = |a: usize| run.q.at(a) - first;
        let token = |a: usize| rules.query(run.q.at(a));
        if group
            .clone()
            .all(|a| self.keys.sight(token(a)) == Sight::Nothing)
        {
            return;
        }
        let tiles = self.tiles;
        let [_, factor] = tiles.factors(g.cx.scale_base_2());
        let rows = [slot(group.start), run.q.step, m];
        tiles.inner(&mut self.s, ld, &self.q, rows, &self.k, 0..columns);
        tiles.inner(&mut self.dp, ld, &self.dout, rows, &self.v, 0..columns);
        let (s, dp) = (tiles.scores(&mut self.s), tiles.scores(&mut self.dp));
        for a in group.clone() {
            let (i, at) = (slot(a), (a - group.start) * ld);
            let (s, dp) = (&mut s[at..][..columns], &mut dp[at..][..columns]);
            self.keys.mask(s, 0, 0..visible(a), token(a));
            if rules.drops() {
                let factors = &mut self.factors[..used];
                rules.factors(kernels, factors, token(a), &self.keys, 0);
                kernels.multiply(&mut dp[..used], factors);
            }
            kernels.gradient_of_row(s, dp, factor, self.lse[i], E::Acc::ZERO);
            self.p[i] += kernels.sum(s);
            self.pdp[i] += kernels.sum(dp);
        }
    }
}
