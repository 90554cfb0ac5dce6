//! The forward pass.

use crate::buffer::Buffer;
use crate::context::{Context, check_len};
use crate::decode;
use crate::element::Element;
use crate::kernels::{Matrix, PANEL, STEP};
use crate::pack::{consecutive, gather, scatter};
use crate::panels::Panels;
use crate::problem::Problem;
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::view::View;
use crate::work;
use longnet_pattern::Run;
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 256;
/// Query rows of a tile: its scores stay in the first-level cache.
const GROUP: usize = 28;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, E: Element> {
    batch: usize,
    head: usize,
    rows: Range<usize>,
    out: &'a mut [E],
    lse: &'a mut [E::Acc],
}

/// Scratch of a thread. The state of an item's rows: `o` is relative to `2^m`, as is `l`.
struct Scratch<R> {
    q: Buffer<R>,
    o: Buffer<R>,
    m: Buffer<R>,
    l: Buffer<R>,
    k: Buffer<R>,
    k_panels: Panels<R>,
    v: Buffer<R>,
    s: Buffer<R>,
    factors: Buffer<R>,
    keys: Columns,
}

pub fn forward<E: Element>(
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
    let scratch = || Scratch {
        q: Buffer::new(rows * cx.d_pad),
        o: Buffer::new(rows * cx.d_v_pad),
        m: Buffer::new(rows),
        l: Buffer::new(rows),
        k: Buffer::new(keys * cx.d_pad),
        k_panels: Panels::new(keys, cx.d),
        v: Buffer::new(keys * cx.d_v_pad),
        s: Buffer::new(GROUP * (keys + STEP)),
        factors: factor_row(problem.dropout.is_some(), keys),
        keys: Columns::default(),
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

impl<R: Real> Scratch<R> {
    fn item<E: Element<Acc = R>>(&mut self, cx: &Context<E>, item: Item<E>) {
        let Item {
            batch,
            head,
            rows,
            out,
            lse,
        } = item;
        let (schedule, rules) = (cx.schedule(), cx.rules(batch, head));
        let indices = consecutive(&rows);
        gather(
            &mut self.q,
            cx.d_pad,
            &cx.q,
            [batch, head],
            indices,
            |_| false,
            cx.scale_base_2(),
        );
        self.o.fill(R::ZERO);
        for (i, row) in rows.clone().enumerate() {
            // Zero keys have a score of 0 and add nothing to the output.
            let zeros: usize = (0..schedule.branches())
                .map(|b| schedule.zero_keys(b, head, row))
                .sum();
            self.l[i] = R::from_f64(zeros as f64);
            self.m[i] = if zeros > 0 { R::ZERO } else { R::NEG_INFINITY };
        }
        for branch in 0..schedule.branches() {
            for run in schedule.query_runs(branch, head, rows.clone()) {
                self.run(cx, &rules, [batch, cx.kv_head(head)], rows.start, &run);
            }
        }
        scatter(out, cx.d_v, &self.o, cx.d_v_pad, |i| {
            if self.l[i] == R::ZERO {
                R::ZERO
            } else {
                R::ONE / self.l[i]
            }
        });
        for ((lse, &m), &l) in lse.iter_mut().zip(&*self.m).zip(&*self.l) {
            let base_2 = m.to_f64() + l.to_f64().log2();
            *lse = R::from_f64(base_2 * std::f64::consts::LN_2);
        }
    }

    /// Adds the keys of a run to the state of its rows. `first` is the item's first row.
    fn run<E: Element<Acc = R>>(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        at: [usize; 2],
        first: usize,
        run: &Run,
    ) {
        for start in (0..run.k.len).step_by(KEYS) {
            let block = run.k.slice(start..run.k.len.min(start + KEYS));
            self.keys.load(block, |b| rules.key(b));
            let hides = |b: usize| rules.hides(b);
            gather(&mut self.k, cx.d_pad, &cx.k, at, block, hides, R::ONE);
            gather(&mut self.v, cx.d_v_pad, &cx.v, at, block, hides, R::ONE);
            let k = Matrix {
                data: &self.k,
                ld: cx.d_pad,
            };
            self.k_panels.load(cx.kernels, 0, k, block.len);
            for group in (run.first_row(start)..run.q.len).step_by(GROUP) {
                let group = group..run.q.len.min(group + GROUP);
                self.tile(cx, rules, first, run, group, start, block.len);
            }
        }
    }

    /// Adds the packed keys, `start..start + len` of the run, to the rows `group` of the run.
    fn tile<E: Element<Acc = R>>(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        first: usize,
        run: &Run,
        group: Range<usize>,
        start: usize,
        len: usize,
    ) {
        let visible = |a: usize| (run.visible(a) - start).min(len);
        let used = visible(group.end - 1);
        let columns = used.next_multiple_of(STEP);
        let (m, lds) = (group.len(), columns + STEP / 2);
        // Where the item keeps row `a` of the run.
        let slot = |a: usize| run.q.at(a) - first;
        let token = |a: usize| rules.query(run.q.at(a));
        if group
            .clone()
            .all(|a| self.keys.sight(token(a)) == Sight::Nothing)
        {
            return;
        }
        let q = Matrix {
            data: &self.q[slot(group.start) * cx.d_pad..],
            ld: run.q.step * cx.d_pad,
        };
        self.k_panels
            .product(cx.kernels, &mut self.s, lds, q, m, 0..columns);
        for a in group.clone() {
            let (i, s) = (slot(a), &mut self.s[(a - group.start) * lds..][..columns]);
            self.keys.mask(s, 0, 0..visible(a), token(a));
            let (top, sum) = cx.kernels.softmax(s, self.m[i]);
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
                rules.factors(cx.kernels, factors, token(a), &self.keys, 0);
                cx.kernels.multiply(&mut s[..used], factors);
            }
        }
        let p = Matrix {
            data: &self.s,
            ld: lds,
        };
        let o = &mut self.o[slot(group.start) * cx.d_v_pad..];
        let sizes = [m, cx.d_v_pad, used];
        let v = Matrix {
            data: &self.v,
            ld: cx.d_v_pad,
        };
        cx.kernels
            .product(o, run.q.step * cx.d_v_pad, p, v, sizes, true);
    }
}
