//! The scalars `D` of each query row: `<dout, out> - dlse`. Where the mix is detached, one a branch,
//! from the branch's own output; that takes a pass over its keys.

use super::Gradients;
use crate::buffer::Buffer;
use crate::element::Element;
use crate::forward::pairs;
use crate::kernels::{Matrix, PANEL, STEP};
use crate::pack::{consecutive, dot, gather};
use crate::panels::Panels;
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::work;
use longnet_pattern::Run;
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 256;
/// Query rows of a tile.
const GROUP: usize = 28;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, R> {
    at: [usize; 2],
    rows: Range<usize>,
    delta: &'a mut [R],
}

struct Scratch<R> {
    q: Buffer<R>,
    dout: Buffer<R>,
    lse: Buffer<R>,
    delta: Buffer<R>,
    /// Of one branch, per row, the sums of `P` and of `dS` as it would be with the exact `D`.
    p: Buffer<R>,
    ds: Buffer<R>,
    /// Rows of keys or values, and their panels.
    rows: Buffer<R>,
    k: Panels<R>,
    v: Panels<R>,
    s: Buffer<R>,
    dp: Buffer<R>,
    factors: Buffer<R>,
    keys: Columns,
}

pub fn pass<E: Element>(g: &Gradients<E>, mut delta: &mut [E::Acc]) {
    let cx = &g.cx;
    let (planes, n_q) = (cx.batch * cx.heads, cx.span.n_q);
    let most = cx.rows_that_fit(cx.d_pad + cx.d_v_pad);
    let block = work::rows_per_item(n_q, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let at = [plane / cx.heads, plane % cx.heads];
        for rows in work::blocks(n_q, block) {
            let visited = if g.detached() {
                pairs(cx, at[1], &rows)
            } else {
                0
            };
            let flops = 2 * (cx.d as u64 * visited + (rows.len() * cx.d_v) as u64);
            let delta = work::take(&mut delta, rows.len() * g.deltas);
            items.push((flops, Item { at, delta, rows }));
        }
    }
    let (rows, keys) = if g.detached() {
        (
            block.min(n_q),
            KEYS.min(cx.span.n_k.next_multiple_of(PANEL)),
        )
    } else {
        (0, 0)
    };
    let scratch = || Scratch {
        q: Buffer::new(rows * cx.d_pad),
        dout: Buffer::new(rows * cx.d_v_pad),
        lse: Buffer::new(rows),
        delta: Buffer::new(rows),
        p: Buffer::new(rows),
        ds: Buffer::new(rows),
        rows: Buffer::new(keys * cx.d_pad.max(cx.d_v_pad)),
        k: Panels::new(keys, cx.d),
        v: Panels::new(keys, cx.d_v),
        s: Buffer::new(GROUP * (keys + STEP)),
        dp: Buffer::new(GROUP * (keys + STEP)),
        factors: factor_row(cx.problem.dropout.is_some(), keys),
        keys: Columns::default(),
    };
    let flops = work::heaviest_first(&mut items);
    let items = items.into_iter().map(|(_, item)| item);
    work::run(flops, items, scratch, |scratch, item| {
        if g.detached() {
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

impl<R: Real> Scratch<R> {
    fn detached<E: Element<Acc = R>>(&mut self, g: &Gradients<E>, item: Item<R>) {
        let Item { at, rows, delta } = item;
        let (cx, rules) = (&g.cx, g.cx.rules(at[0], at[1]));
        let schedule = cx.schedule();
        let blind = |i: usize| g.is_blind(g.row(at, i));
        let (all, scale) = (consecutive(&rows), cx.scale_base_2());
        gather(&mut self.q, cx.d_pad, &cx.q, at, all, blind, scale);
        gather(&mut self.dout, cx.d_v_pad, &g.dout, at, all, blind, R::ONE);
        for (i, index) in rows.clone().enumerate() {
            self.lse[i] = g.lse_base_2(g.row(at, index));
            self.delta[i] = exact(g, at, index);
        }
        for branch in 0..schedule.branches() {
            self.p.fill(R::ZERO);
            self.ds.fill(R::ZERO);
            for run in schedule.query_runs(branch, at[1], rows.clone()) {
                self.run(g, &rules, at, rows.start, &run);
            }
            for (i, row) in rows.clone().enumerate() {
                delta[i * g.deltas + branch] = self.of_branch(g, branch, at, i, row);
            }
        }
    }

    /// The branch's own `D` of row `i` of the item.
    fn of_branch<E: Element<Acc = R>>(
        &self,
        g: &Gradients<E>,
        branch: usize,
        at: [usize; 2],
        i: usize,
        row: usize,
    ) -> R {
        // With zero keys lse is at least 0; without them the power may overflow.
        let zeros = match g.cx.schedule().zero_keys(branch, at[1], row) {
            0 => R::ZERO,
            zeros => R::from_f64(zeros as f64) * (R::ZERO - self.lse[i]).exp2::<false>(),
        };
        let weight = self.p[i] + zeros;
        if weight == R::ZERO {
            return R::ZERO;
        }
        let dlse = g.dlse.map_or(R::ZERO, |dlse| dlse[g.row(at, row)]);
        self.delta[i] + (self.ds[i] - self.delta[i] * zeros) / weight - dlse
    }

    /// Adds the keys of a run to the sums of its rows. `first` is the item's first row.
    fn run<E: Element<Acc = R>>(
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
            let hides = |b: usize| rules.hides(b);
            for (view, panels, ld) in [
                (&cx.k, &mut self.k, cx.d_pad),
                (&cx.v, &mut self.v, cx.d_v_pad),
            ] {
                gather(&mut self.rows, ld, view, at, block, hides, R::ONE);
                let data = &*self.rows;
                panels.load(cx.kernels, 0, Matrix { data, ld }, block.len);
            }
            for group in (run.first_row(start)..run.q.len).step_by(GROUP) {
                let group = group..run.q.len.min(group + GROUP);
                self.tile(g, rules, first, run, group, start, block.len);
            }
        }
    }

    /// The packed keys, `start..start + len` of the run, against the rows `group` of the run.
    fn tile<E: Element<Acc = R>>(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        first: usize,
        run: &Run,
        group: Range<usize>,
        start: usize,
        len: usize,
    ) {
        let (kernels, d, d_v) = (g.cx.kernels, g.cx.d_pad, g.cx.d_v_pad);
        let visible = |a: usize| (run.visible(a) - start).min(len);
        let used = visible(group.end - 1);
        let columns = used.next_multiple_of(STEP);
        let (m, ld) = (group.len(), columns + STEP / 2);
        let (slot, step) = (|a: usize| run.q.at(a) - first, run.q.step);
        let token = |a: usize| rules.query(run.q.at(a));
        if group
            .clone()
            .all(|a| self.keys.sight(token(a)) == Sight::Nothing)
        {
            return;
        }
        let top = slot(group.start);
        let q = Matrix {
            data: &self.q[top * d..],
            ld: step * d,
        };
        let dout = Matrix {
            data: &self.dout[top * d_v..],
            ld: step * d_v,
        };
        self.k.product(kernels, &mut self.s, ld, q, m, 0..columns);
        self.v
            .product(kernels, &mut self.dp, ld, dout, m, 0..columns);
        for a in group.clone() {
            let (i, at) = (slot(a), (a - group.start) * ld);
            let (s, dp) = (&mut self.s[at..][..columns], &mut self.dp[at..][..columns]);
            self.keys.mask(s, 0, 0..visible(a), token(a));
            if rules.drops() {
                let factors = &mut self.factors[..used];
                rules.factors(kernels, factors, token(a), &self.keys, 0);
                kernels.multiply(&mut dp[..used], factors);
            }
            kernels.gradient_of_row(s, dp, self.lse[i], self.delta[i]);
            self.p[i] += kernels.sum(s);
            self.ds[i] += kernels.sum(dp);
        }
    }
}
