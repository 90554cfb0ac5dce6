//! A block mask as a rule for the pairs of an area that is walked as dense: where most blocks are listed, small
//! and scattered ones cost more one by one.

use crate::context::Context;
use crate::element::Element;
use crate::kernels::Kernels;
use crate::problem::Walk;
use crate::real::Real;
use crate::tiles::Tiles;
use longnet_pattern::{BlockMask, Run, Span};
use std::ops::Range;

/// What a row of a run costs beside its pairs, in pairs: the crossover is where both walks cost the same. Random
/// blocks of 16 keys are walked as dense from a density of 0.35 on; those of 32 and more never, since more of
/// them are neighbours then. From `cargo xtask bench cpu --filter crossover`.
const ROW: u64 = 64;
/// What the rule costs, as a share of the pairs.
const RULE: f64 = 0.1;

/// Whether keys are walked as dense: `blocks` are the runs of a head's visible blocks with them, `areas` those of all
/// pairs with the query rows in question.
pub fn is_dense<E: Element, T: Tiles<E>>(
    tiles: T,
    cx: &Context<E>,
    blocks: impl Iterator<Item = (Run, Option<usize>)>,
    areas: impl IntoIterator<Item = Run>,
    bias: Option<&[f64]>,
) -> bool {
    // The bias is added to scores that lack this factor.
    let positive = tiles.factors(cx.scale_base_2())[1] > E::Acc::ZERO;
    if cx.problem.walk == Walk::Blocks || !positive {
        return false;
    }
    let (mut cost, mut keys) = (0, Vec::new());
    for (run, block) in blocks {
        // What such a block holds must not be read.
        if (bias.zip(block)).is_some_and(|(bias, block)| bias[block] == f64::NEG_INFINITY) {
            return false;
        }
        cost += cost_of(&run);
        keys.push(run.k.first..run.k.first + run.k.len);
    }
    let (mut area_cost, mut area_keys) = (0, 0..0);
    for area in areas {
        area_cost += cost_of(&area);
        area_keys = area.k.first..area_keys.end.max(area.k.first + area.k.len);
    }
    let dearer = cost as f64 > (1.0 + RULE) * area_cost as f64;
    (dearer || cx.problem.walk == Walk::Dense) && cover(keys, area_keys)
}

/// In pairs.
fn cost_of(run: &Run) -> u64 {
    run.pairs() + ROW * run.q.len as u64
}

/// Whether each key of `all` is in one of `ranges`.
fn cover(mut ranges: Vec<Range<usize>>, all: Range<usize>) -> bool {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut end = all.start;
    for range in ranges {
        if range.start > end {
            return false;
        }
        end = end.max(range.end);
    }
    end >= all.end && !all.is_empty()
}

/// The listed blocks of one head, and what is added to their scores.
pub struct BlockRule<'a> {
    mask: &'a BlockMask,
    head: usize,
    span: Span,
    /// Of the batch entry.
    bias: Option<&'a [f64]>,
    /// The query block and the keys that the lists below are for.
    known: Option<(usize, Range<usize>)>,
    /// Keys of these that are hidden, counted from the first.
    gaps: Vec<Range<usize>>,
    /// Keys of these that are seen, the place of their block in the bias, and the gradient there. Only where there
    /// is a bias.
    seen: Vec<(Range<usize>, usize, f64)>,
    /// Gradients of others.
    done: Vec<(usize, f64)>,
}

impl<'a> BlockRule<'a> {
    /// That of a query head of a batch entry.
    ///
    /// # Panics
    ///
    /// If the pattern is not a block mask.
    pub fn new<E: Element>(cx: &'a Context<E>, [batch, head]: [usize; 2]) -> Self {
        Self {
            mask: cx.schedule().mask().expect("a block mask"),
            head,
            span: cx.span,
            bias: cx.bias_of(batch),
            known: None,
            gaps: Vec::new(),
            seen: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Hides what query row `a` does not see of the keys `keys`, and adds the bias to what it sees. `s` are their
    /// scores, which lack `factor` still.
    pub fn apply<R: Real>(&mut self, s: &mut [R], factor: R, a: usize, keys: Range<usize>) {
        self.turn_to(a, keys);
        for gap in &self.gaps {
            s[gap.clone()].fill(R::NEG_INFINITY);
        }
        let Some(bias) = self.bias else { return };
        for (seen, place, _) in &self.seen {
            let bias = bias[*place] * std::f64::consts::LOG2_E / factor.to_f64();
            if bias != 0.0 {
                let bias = R::from_f64(bias);
                s[seen.clone()].iter_mut().for_each(|s| *s += bias);
            }
        }
    }

    /// Adds the gradients of the scores of query row `a` over `keys` to those of the bias.
    pub fn add<R: Real>(&mut self, kernels: &Kernels<R>, ds: &[R], a: usize, keys: Range<usize>) {
        if self.bias.is_some() {
            self.turn_to(a, keys);
            for (seen, _, sum) in &mut self.seen {
                *sum += kernels.sum(&ds[seen.clone()]).to_f64();
            }
        }
    }

    /// Gives the gradients of the bias that were added up.
    pub fn finish(mut self, dbias: &mut Vec<(usize, f64)>) {
        self.put_aside();
        dbias.extend(self.done);
    }

    fn put_aside(&mut self) {
        let sums = self.seen.drain(..).filter(|(.., sum)| *sum != 0.0);
        self.done.extend(sums.map(|(_, place, sum)| (place, sum)));
    }

    /// Makes the lists those of the block of query row `a` over `keys`.
    fn turn_to(&mut self, a: usize, keys: Range<usize>) {
        let (grid, positions) = (self.mask.grid(), self.span.keys());
        let row = self.span.queries().at(a) / grid.q_block;
        if self.known.as_ref() == Some(&(row, keys.clone())) {
            return;
        }
        self.put_aside();
        self.gaps.clear();
        // The first of the keys at or behind a position.
        let key_at = |position: usize| {
            let distance = position.saturating_sub(positions.first);
            let key = distance.div_ceil(positions.step);
            key.clamp(keys.start, keys.end) - keys.start
        };
        let list = self.mask.row(self.head, row);
        let first = list.partition_point(|j| key_at((j + 1) * grid.k_block) == 0);
        let place = (self.bias.filter(|_| !list.is_empty()))
            .and_then(|_| self.mask.bias_index(self.head, row, list.get(0)));
        let (mut next, len) = (0, keys.len());
        for at in first..list.len() {
            let start = list.get(at) * grid.k_block;
            let seen = key_at(start)..key_at(start + grid.k_block);
            if seen.start == len {
                break;
            }
            if seen.start > next {
                self.gaps.push(next..seen.start);
            }
            next = seen.end;
            if let Some(place) = place {
                self.seen.push((seen, place + at, 0.0));
            }
        }
        if next < len {
            self.gaps.push(next..len);
        }
        self.known = Some((row, keys));
    }
}
