//! dq, and the scalars `D` of each row.

use super::{COLUMNS, GROUP, Gradients};
use crate::block::Block;
use crate::buffer::Buffer;
use crate::element::Element;
use crate::forward::pairs;
use crate::kernels::{Matrix, PANEL, STEP};
use crate::pack::{consecutive, dot, gather, scatter};
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::work;
use longnet_pattern::Run;
use std::ops::Range;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, E: Element> {
    at: [usize; 2],
    rows: Range<usize>,
    dq: &'a mut [E],
    delta: &'a mut [E::Acc],
}

struct Scratch<R> {
    q: Buffer<R>,
    dout: Buffer<R>,
    dq: Buffer<R>,
    lse: Buffer<R>,
    delta: Buffer<R>,
    branch: Branch<R>,
    k: Block<R>,
    v: Block<R>,
    s: Buffer<R>,
    dp: Buffer<R>,
    factors: Buffer<R>,
    keys: Columns,
}

/// What a detached mix needs of one branch: per row the sums of `P`, of `dS` as it would be with the
/// exact `D`, and of `P k`. The branch's own `D` corrects the latter when all keys have been seen.
struct Branch<R> {
    p: Buffer<R>,
    ds: Buffer<R>,
    pk: Buffer<R>,
}

pub fn pass<E: Element>(g: &Gradients<E>, mut dq: &mut [E], mut delta: &mut [E::Acc]) {
    let cx = &g.cx;
    let (planes, n_q) = (cx.batch * cx.heads, cx.span.n_q);
    let most = cx.rows_that_fit(2 * cx.d_pad + cx.d_v_pad);
    let block = work::rows_per_item(n_q, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let at = [plane / cx.heads, plane % cx.heads];
        for rows in work::blocks(n_q, block) {
            let flops = 2 * (2 * cx.d + cx.d_v) as u64 * pairs(cx, at[1], &rows);
            let item = Item {
                at,
                dq: work::take(&mut dq, rows.len() * cx.d),
                delta: work::take(&mut delta, rows.len() * g.deltas),
                rows,
            };
            items.push((flops, item));
        }
    }
    let (rows, keys) = (
        block.min(n_q),
        COLUMNS.min(cx.span.n_k.next_multiple_of(PANEL)),
    );
    let branch_rows = if g.detached() { rows } else { 0 };
    let scratch = || Scratch {
        q: Buffer::new(rows * cx.d_pad),
        dout: Buffer::new(rows * cx.d_v_pad),
        dq: Buffer::new(rows * cx.d_pad),
        lse: Buffer::new(rows),
        delta: Buffer::new(rows),
        branch: Branch {
            p: Buffer::new(branch_rows),
            ds: Buffer::new(branch_rows),
            pk: Buffer::new(branch_rows * cx.d_pad),
        },
        k: Block::new(keys, cx.d),
        v: Block::new(keys, cx.d_v),
        s: Buffer::new(GROUP * (keys + STEP)),
        dp: Buffer::new(GROUP * (keys + STEP)),
        factors: factor_row(cx.problem.dropout.is_some(), keys),
        keys: Columns::default(),
    };
    work::run(items, scratch, |scratch, item| scratch.item(g, item));
}

impl<R: Real> Scratch<R> {
    fn item<E: Element<Acc = R>>(&mut self, g: &Gradients<E>, item: Item<E>) {
        let Item {
            at,
            rows,
            dq,
            delta,
        } = item;
        let (cx, rules) = (&g.cx, g.cx.rules(at[0], at[1]));
        let schedule = cx.schedule();
        let blind = |i: usize| g.is_blind(g.row(at, i));
        let (all, scale) = (consecutive(&rows), cx.scale_base_2());
        gather(&mut self.q, cx.d_pad, &cx.q, at, all, blind, scale);
        gather(&mut self.dout, cx.d_v_pad, &g.dout, at, all, blind, R::ONE);
        self.dq.fill(R::ZERO);
        for (i, index) in rows.clone().enumerate() {
            let row = g.row(at, index);
            self.lse[i] = g.lse_base_2(row);
            self.delta[i] = R::ZERO;
            if !blind(index) {
                let dlse = g.dlse.map_or(0.0, |dlse| dlse[row].to_f64());
                self.delta[i] = R::from_f64(dot(&g.dout, &g.out, at, index) - dlse);
            }
        }
        if !g.detached() {
            delta.copy_from_slice(&self.delta[..rows.len()]);
        }
        for branch in 0..schedule.branches() {
            self.branch.clear();
            for run in schedule.query_runs(branch, at[1], rows.clone()) {
                self.run(g, &rules, at, rows.start, &run);
            }
            if g.detached() {
                for (i, row) in rows.clone().enumerate() {
                    delta[i * g.deltas + branch] = self.detach(g, branch, at, i, row);
                }
            }
        }
        let scale = R::from_f64(cx.problem.scale);
        scatter(dq, cx.d, &self.dq, cx.d_pad, |i| {
            if g.is_blind(g.row(at, rows.start + i)) {
                R::ZERO
            } else {
                scale
            }
        });
    }

    /// The branch's own `D` of row `i` of the item; moves dq from the exact one to it.
    fn detach<E: Element<Acc = R>>(
        &mut self,
        g: &Gradients<E>,
        branch: usize,
        at: [usize; 2],
        i: usize,
        row: usize,
    ) -> R {
        let cx = &g.cx;
        // With zero keys lse is at least 0; without them the power may overflow.
        let zeros = match cx.schedule().zero_keys(branch, at[1], row) {
            0 => R::ZERO,
            zeros => R::from_f64(zeros as f64) * (R::ZERO - self.lse[i]).exp2::<false>(),
        };
        let weight = self.branch.p[i] + zeros;
        if weight == R::ZERO {
            return R::ZERO;
        }
        let dlse = g.dlse.map_or(R::ZERO, |dlse| dlse[g.row(at, row)]);
        let shift = (self.branch.ds[i] - self.delta[i] * zeros) / weight - dlse;
        let pk = &self.branch.pk[i * cx.d_pad..][..cx.d_pad];
        let dq = &mut self.dq[i * cx.d_pad..][..cx.d_pad];
        cx.kernels.add_scaled(dq, pk, R::ZERO - shift);
        self.delta[i] + shift
    }

    /// Adds the keys of a run to the gradients of its rows. `first` is the item's first row.
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
        for start in (0..run.k.len).step_by(COLUMNS) {
            let block = run.k.slice(start..run.k.len.min(start + COLUMNS));
            self.keys.load(block, |b| rules.key(b));
            self.k.load(&cx.k, at, block, |b| rules.hides(b));
            self.v.load(&cx.v, at, block, |b| rules.hides(b));
            self.k.transpose(cx.kernels, block.len);
            self.v.transpose(cx.kernels, block.len);
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
        self.k.scores(kernels, &mut self.s, ld, q, m, 0, columns);
        self.v
            .scores(kernels, &mut self.dp, ld, dout, m, 0, columns);
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
            if g.detached() {
                self.branch.p[i] += kernels.sum(s);
                self.branch.ds[i] += kernels.sum(dp);
            }
        }
        let ds = Matrix { data: &self.dp, ld };
        let (k, sizes) = (self.k.tail(0), [m, d, used]);
        kernels.product(&mut self.dq[top * d..], step * d, ds, k, sizes, true);
        if g.detached() {
            let p = Matrix { data: &self.s, ld };
            kernels.product(&mut self.branch.pk[top * d..], step * d, p, k, sizes, true);
        }
    }
}

impl<R: Real> Branch<R> {
    fn clear(&mut self) {
        for sums in [&mut self.p, &mut self.ds, &mut self.pk] {
            sums.fill(R::ZERO);
        }
    }
}
