//! dk and dv: key rows against the queries that see them.

use super::{COLUMNS, GROUP, Gradients};
use crate::block::Block;
use crate::buffer::Buffer;
use crate::element::Element;
use crate::kernels::{Matrix, PANEL, STEP};
use crate::pack::{consecutive, gather, scatter};
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::work;
use longnet_pattern::{Progression, Run};
use std::ops::Range;

/// Consecutive key rows of one kv head, and where their results go.
struct Item<'a, E> {
    at: [usize; 2],
    rows: Range<usize>,
    dk: &'a mut [E],
    dv: &'a mut [E],
}

struct Scratch<R> {
    k: Buffer<R>,
    v: Buffer<R>,
    dk: Buffer<R>,
    dv: Buffer<R>,
    q: Block<R>,
    dout: Block<R>,
    lse: Buffer<R>,
    delta: Buffer<R>,
    s: Buffer<R>,
    dp: Buffer<R>,
    factors: Buffer<R>,
    queries: Columns,
}

pub fn pass<E: Element>(g: &Gradients<E>, delta: &[E::Acc], mut dk: &mut [E], mut dv: &mut [E]) {
    let cx = &g.cx;
    let (planes, n_k) = (cx.batch * cx.kv_heads, cx.span.n_k);
    let most = cx.rows_that_fit(2 * (cx.d_pad + cx.d_v_pad));
    let block = work::rows_per_item(n_k, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let at = [plane / cx.kv_heads, plane % cx.kv_heads];
        for rows in work::blocks(n_k, block) {
            let flops = 4 * (cx.d + cx.d_v) as u64 * pairs(g, at[1], &rows);
            let item = Item {
                at,
                dk: work::take(&mut dk, rows.len() * cx.d),
                dv: work::take(&mut dv, rows.len() * cx.d_v),
                rows,
            };
            items.push((flops, item));
        }
    }
    let (rows, queries) = (
        block.min(n_k),
        COLUMNS.min(cx.span.n_q.next_multiple_of(PANEL)),
    );
    let scratch = || Scratch {
        k: Buffer::new(rows * cx.d_pad),
        v: Buffer::new(rows * cx.d_v_pad),
        dk: Buffer::new(rows * cx.d_pad),
        dv: Buffer::new(rows * cx.d_v_pad),
        q: Block::new(queries, cx.d),
        dout: Block::new(queries, cx.d_v),
        lse: Buffer::new(queries),
        delta: Buffer::new(queries),
        s: Buffer::new(GROUP * (queries + STEP)),
        dp: Buffer::new(GROUP * (queries + STEP)),
        factors: factor_row(cx.problem.dropout.is_some(), queries),
        queries: Columns::default(),
    };
    work::run(items, scratch, |scratch, item| scratch.item(g, delta, item));
}

/// The query heads that read a kv head.
fn readers<E: Element>(g: &Gradients<E>, kv_head: usize) -> Range<usize> {
    let group = g.cx.heads / g.cx.kv_heads;
    kv_head * group..(kv_head + 1) * group
}

/// Visited pairs of some key rows of a kv head.
fn pairs<E: Element>(g: &Gradients<E>, kv_head: usize, rows: &Range<usize>) -> u64 {
    let schedule = g.cx.schedule();
    let runs =
        |head| (0..schedule.branches()).flat_map(move |b| schedule.key_runs(b, head, rows.clone()));
    readers(g, kv_head)
        .flat_map(runs)
        .map(|run| run.pairs())
        .sum()
}

impl<R: Real> Scratch<R> {
    fn item<E: Element<Acc = R>>(&mut self, g: &Gradients<E>, delta: &[R], item: Item<E>) {
        let Item { at, rows, dk, dv } = item;
        let (cx, [batch, kv_head]) = (&g.cx, at);
        // Labels of keys do not depend on the query head.
        let rules = cx.rules(batch, kv_head);
        let (all, scale) = (consecutive(&rows), cx.scale_base_2());
        let hidden = |b: usize| rules.hides(b);
        gather(&mut self.k, cx.d_pad, &cx.k, at, all, hidden, scale);
        gather(&mut self.v, cx.d_v_pad, &cx.v, at, all, hidden, R::ONE);
        self.dk.fill(R::ZERO);
        self.dv.fill(R::ZERO);
        for head in readers(g, kv_head) {
            let rules = cx.rules(batch, head);
            for branch in 0..cx.schedule().branches() {
                let of_row = |row: usize| delta[row * g.deltas + branch.min(g.deltas - 1)];
                for run in cx.schedule().key_runs(branch, head, rows.clone()) {
                    self.run(g, &rules, &of_row, [batch, head], rows.start, &run);
                }
            }
        }
        let scale = R::from_f64(cx.problem.scale);
        scatter(dk, cx.d, &self.dk, cx.d_pad, |_| scale);
        scatter(dv, cx.d_v, &self.dv, cx.d_v_pad, |_| R::ONE);
    }

    /// Adds the queries of a run to the gradients of its keys. `first` is the item's first row.
    fn run<E: Element<Acc = R>>(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        delta: &impl Fn(usize) -> R,
        at: [usize; 2],
        first: usize,
        run: &Run,
    ) {
        for start in (0..run.q.len).step_by(COLUMNS) {
            let block = run.q.slice(start..run.q.len.min(start + COLUMNS));
            self.load(g, rules, delta, at, block);
            let seen = run.visible(start + block.len - 1);
            for group in (0..seen).step_by(GROUP) {
                let group = group..seen.min(group + GROUP);
                self.tile(g, rules, first, run, group, start, block.len);
            }
        }
    }

    /// Packs the queries of a tile.
    fn load<E: Element<Acc = R>>(
        &mut self,
        g: &Gradients<E>,
        rules: &Rules,
        delta: &impl Fn(usize) -> R,
        at: [usize; 2],
        block: Progression,
    ) {
        let (cx, blind) = (&g.cx, |a: usize| g.is_blind(g.row(at, a)));
        self.queries.load(block, |a| rules.query(a));
        self.q.load(&cx.q, at, block, blind);
        self.dout.load(&g.dout, at, block, blind);
        self.q.transpose(cx.kernels, block.len);
        self.dout.transpose(cx.kernels, block.len);
        self.lse[block.len..].fill(R::INFINITY);
        self.delta[block.len..].fill(R::ZERO);
        for (i, a) in block.iter().enumerate() {
            let row = g.row(at, a);
            self.lse[i] = g.lse_base_2(row);
            self.delta[i] = delta(row);
        }
    }

    /// The packed queries, `start..start + len` of the run, against the keys `group` of the run.
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
        let visible = |b: usize| run.first_row(b).saturating_sub(start)..len;
        // The columns before `left` see no key of the group.
        let left = visible(group.start).start / PANEL * PANEL;
        let (right, used) = (len.next_multiple_of(STEP), len - left);
        let columns = right - left;
        let (m, ld) = (group.len(), columns + STEP / 2);
        let (slot, step) = (|b: usize| run.k.at(b) - first, run.k.step);
        let token = |b: usize| rules.key(run.k.at(b));
        if group
            .clone()
            .all(|b| self.queries.sight(token(b)) == Sight::Nothing)
        {
            return;
        }
        let top = slot(group.start);
        let k = Matrix {
            data: &self.k[top * d..],
            ld: step * d,
        };
        let v = Matrix {
            data: &self.v[top * d_v..],
            ld: step * d_v,
        };
        self.q.scores(kernels, &mut self.s, ld, k, m, left, right);
        self.dout
            .scores(kernels, &mut self.dp, ld, v, m, left, right);
        for b in group.clone() {
            let at = (b - group.start) * ld;
            let (s, dp) = (&mut self.s[at..][..columns], &mut self.dp[at..][..columns]);
            self.queries.mask(s, left, visible(b), token(b));
            let factors = &mut self.factors[..if rules.drops() { used } else { 0 }];
            if rules.drops() {
                rules.factors(kernels, factors, token(b), &self.queries, left);
                kernels.multiply(&mut dp[..used], factors);
            }
            let (lse, delta) = (&self.lse[left..right], &self.delta[left..right]);
            kernels.gradient_of_column(s, dp, lse, delta);
            if rules.drops() {
                kernels.multiply(&mut s[..used], factors);
            }
        }
        let p = Matrix { data: &self.s, ld };
        let ds = Matrix { data: &self.dp, ld };
        let (dv, dout) = (&mut self.dv[top * d_v..], self.dout.tail(left));
        kernels.product(dv, step * d_v, p, dout, [m, d_v, used], true);
        let (dk, q) = (&mut self.dk[top * d..], self.q.tail(left));
        kernels.product(dk, step * d, ds, q, [m, d, used], true);
    }
}
