//! Which scores of a tile count.

use super::blueprint::MmaBlueprint;
use super::fragment::{Fragment, Pair};
use crate::rules::labels_match;
use crate::walk::Tile;
use cubecl::prelude::*;

/// The labels of the lane's rows, from `labels` of which batch entry `batch` has `n`; `low..high` are the
/// indices that exist, `start` the position of the first row of the tensor.
#[cube]
pub(crate) fn own_labels(
    labels: &[i32],
    tile: &Tile,
    lane_t: u32,
    low: u32,
    high: u32,
    start: u32,
    before: u32,
    #[comptime] blueprint: MmaBlueprint,
) -> Array<i32> {
    let rows = comptime!(blueprint.tiles * 2);
    let mut own = Array::<i32>::new(rows);
    if comptime!(blueprint.labels) {
        #[unroll]
        for x in 0..rows {
            let t = lane_t + (x * 8) as u32;
            own[x] = 0i32;
            if t >= low && t < high {
                own[x] = labels[(before + tile.base + t * tile.step - start) as usize];
            }
        }
    }
    own
}

/// Sets the scores of pairs that are not seen to minus infinity, where the rows are queries and the columns
/// keys from index `begin` on, staged from row `at` on.
#[cube]
pub(crate) fn hide(
    scores: &mut Sequence<Fragment<f32>>,
    own_labels: &Array<i32>,
    labels: &Shared<[i32]>,
    at: usize,
    begin: u32,
    end: u32,
    lane_t: u32,
    empty: f32,
    #[comptime] blueprint: MmaBlueprint,
) {
    let columns = comptime!(blueprint.stage);
    #[unroll]
    for x in 0..comptime!(blueprint.tiles * 2) {
        let mut row_end = end;
        if comptime!(blueprint.causal) {
            row_end = row_end.min(lane_t + (x * 8) as u32 + 1);
        }
        #[unroll]
        for n in 0..comptime!(columns / 8) {
            let score = scores.index_mut(comptime!(x / 2 * (columns / 8) + n));
            let mut pair = score[comptime!(x % 2)];
            #[unroll]
            for c in 0..2usize {
                let column = UNIT_POS % 4 * 2 + (n * 8 + c) as u32;
                let mut seen = begin + column < row_end;
                if comptime!(blueprint.labels) {
                    seen = seen && labels_match(own_labels[x], labels[at + column as usize]);
                }
                pair.insert(c, select(seen, pair.extract(c), empty));
            }
            score[comptime!(x % 2)] = pair;
        }
    }
}

/// As [`hide`], where the rows are keys and the columns queries; columns that do not exist are left to their
/// lse.
#[cube]
pub(crate) fn hide_transposed(
    scores: &mut Sequence<Fragment<f32>>,
    own_labels: &Array<i32>,
    labels: &Shared<[i32]>,
    at: usize,
    begin: u32,
    lane_t: u32,
    empty: f32,
    #[comptime] blueprint: MmaBlueprint,
) {
    let columns = comptime!(blueprint.stage);
    #[unroll]
    for x in 0..comptime!(blueprint.tiles * 2) {
        let t = lane_t + (x * 8) as u32;
        #[unroll]
        for n in 0..comptime!(columns / 8) {
            let score = scores.index_mut(comptime!(x / 2 * (columns / 8) + n));
            let mut pair = score[comptime!(x % 2)];
            #[unroll]
            for c in 0..2usize {
                let column = UNIT_POS % 4 * 2 + (n * 8 + c) as u32;
                let mut seen = true;
                if comptime!(blueprint.causal) {
                    seen = t <= begin + column;
                }
                if comptime!(blueprint.labels) {
                    seen = seen && labels_match(labels[at + column as usize], own_labels[x]);
                }
                pair.insert(c, select(seen, pair.extract(c), empty));
            }
            score[comptime!(x % 2)] = pair;
        }
    }
}

/// Makes scores exponents of 2 with the bias of their range added; without a bias this waits until the
/// maximum is known.
#[cube]
pub(crate) fn add_bias(
    scores: &mut Sequence<Fragment<f32>>,
    scale: f32,
    of_range: f32,
    #[comptime] blueprint: MmaBlueprint,
) {
    if comptime!(blueprint.bias) {
        #[unroll]
        for n in 0..comptime!(blueprint.tiles * blueprint.stage / 8) {
            let score = scores.index_mut(n);
            #[unroll]
            for i in 0..2usize {
                score[i] = fma(score[i], Pair::new(scale), Pair::new(of_range));
            }
        }
    }
}

/// The label of row `begin + UNIT_POS` of those that are staged together, of `labels` from `before` on.
#[cube]
pub(crate) fn staged_label(
    labels: &[i32],
    tile: &Tile,
    begin: u32,
    end: u32,
    start: u32,
    before: u32,
    #[comptime] blueprint: MmaBlueprint,
) -> i32 {
    let mut label = 0i32;
    if comptime!(blueprint.labels) {
        let t = begin + UNIT_POS;
        if UNIT_POS < comptime!(blueprint.stage as u32) && t < end {
            label = labels[(before + tile.base + t * tile.step - start) as usize];
        }
    }
    label
}

/// Leaves it to the cube, for staged row `at` and on.
#[cube]
pub(crate) fn leave_label(
    label: i32,
    at: usize,
    labels: &mut Shared<[i32]>,
    #[comptime] blueprint: MmaBlueprint,
) {
    if comptime!(blueprint.labels) {
        if UNIT_POS < comptime!(blueprint.stage as u32) {
            labels[at + UNIT_POS as usize] = label;
        }
    }
}
