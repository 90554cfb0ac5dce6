//! The online softmax of an item's rows.

use crate::block_rule::BlockRule;
use crate::buffer::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::kernels::STEP;
use crate::pack::{consecutive, scatter};
use crate::real::Real;
use crate::rules::{Columns, Rules, Sight, factor_row};
use crate::tiles::{Forms, Source, Tiles};
use longnet_pattern::Run;
use std::ops::Range;

/// The state of an item's rows: `o` is relative to `2^m`, as is `l`.
pub struct State<E: Element, T: Tiles<E>> {
    tiles: T,
    _thread: T::Thread,
    q: T::Side,
    p: T::Weights,
    o: Buffer<E::Acc>,
    m: Buffer<E::Acc>,
    l: Buffer<E::Acc>,
    factors: Buffer<E::Acc>,
}

/// Packed keys of a run.
pub struct Keys<'a, E: Element, T: Tiles<E>> {
    pub k: &'a T::Side,
    pub v: &'a T::Side,
    pub columns: &'a Columns,
    /// The first of them among the packed rows.
    pub at: usize,
    /// How many keys of the run come before them.
    pub start: usize,
    pub len: usize,
    /// What is added to their scores.
    pub bias: E::Acc,
}

impl<E: Element, T: Tiles<E>> State<E, T> {
    /// For `rows` rows and tiles of `keys` keys.
    pub fn new(tiles: T, cx: &Context<E>, rows: usize, keys: usize) -> Self {
        let left = Forms {
            left: true,
            ..Forms::default()
        };
        Self {
            tiles,
            _thread: tiles.thread(),
            q: tiles.side(rows, cx.d, left),
            p: tiles.weights(T::GROUPS[0], keys + STEP),
            o: Buffer::new(rows * cx.d_v_pad),
            m: Buffer::new(rows),
            l: Buffer::new(rows),
            factors: factor_row(cx.problem.dropout.is_some(), keys),
        }
    }

    /// Takes rows that have seen nothing.
    pub fn start(&mut self, cx: &Context<E>, at: [usize; 2], rows: &Range<usize>) {
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
    pub fn finish(&self, cx: &Context<E>, out: &mut [E], lse: &mut [E::Acc]) {
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

    /// Adds packed keys of a run to the state of its rows, of which `rule` may hide some. `first` is the item's
    /// first row.
    pub fn keys(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        first: usize,
        run: &Run,
        keys: &Keys<E, T>,
        mut rule: Option<&mut BlockRule>,
    ) {
        let first_row = run.first_row(keys.start) / T::ALIGN * T::ALIGN;
        for group in (first_row..run.q.len).step_by(T::GROUPS[0]) {
            let group = group..run.q.len.min(group + T::GROUPS[0]);
            self.tile(cx, rules, first, run, group, keys, rule.as_deref_mut());
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
        mut rule: Option<&mut BlockRule>,
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
            if let Some(rule) = &mut rule {
                let first = run.k.at(keys.start);
                rule.apply(s, factor, run.q.at(a), first..first + used);
            }
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
