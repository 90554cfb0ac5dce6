//! Rows in registers and in shared memory, by groups of four channels.

use crate::blueprint::Blueprint;
use crate::rules::HIDDEN;
use cubecl::prelude::*;

/// Four channels.
pub(crate) type Four = Vector<f32, Const<4>>;

/// The lowest finite number: the maximum of nothing.
pub(crate) const LOWEST: f32 = f32::MIN;

/// Group `group` of a row of `width` channels that begins at `start`; zeros past its end.
#[cube]
pub(crate) fn four<E: Float>(
    x: &Tensor<E>,
    start: usize,
    group: usize,
    #[comptime] width: usize,
) -> Four {
    let mut value = Four::new(0.0f32);
    if group * 4 < width {
        #[unroll]
        for i in 0..4usize {
            if comptime!(width.is_multiple_of(4)) {
                value.insert(i, f32::cast_from(x[start + group * 4 + i]));
            } else if group * 4 + i < width {
                value.insert(i, f32::cast_from(x[start + group * 4 + i]));
            }
        }
    }
    value
}

/// The unit's share of a row.
#[cube]
pub(crate) fn load_row<E: Float>(
    x: &Tensor<E>,
    start: usize,
    part: usize,
    valid: bool,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<Four> {
    let share = comptime!(blueprint.share(width));
    let mut row = Array::<Four>::new(share);
    #[unroll]
    for x4 in 0..share {
        row[x4] = Four::new(0.0f32);
        if valid {
            row[x4] = four::<E>(x, start, part * share + x4, width);
        }
    }
    row
}

/// A row of zeros.
#[cube]
pub(crate) fn zero_row(#[comptime] share: usize) -> Array<Four> {
    let mut row = Array::<Four>::new(share);
    #[unroll]
    for x4 in 0..share {
        row[x4] = Four::new(0.0f32);
    }
    row
}

/// Writes the unit's share of a row, times `factor`.
#[cube]
pub(crate) fn store_row<O: Float>(
    row: &Array<Four>,
    factor: f32,
    into: &mut Tensor<O>,
    start: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) {
    let share = comptime!(blueprint.share(width));
    #[unroll]
    for x4 in 0..share {
        let value = row[x4] * Four::new(factor);
        #[unroll]
        for i in 0..4usize {
            let channel = (part * share + x4) * 4 + i;
            if channel < width {
                into[start + channel] = O::cast_from(value.extract(i));
            }
        }
    }
}

/// Adds `factor` times a row of f32 to the unit's share.
#[cube]
pub(crate) fn add_row(
    row: &mut Array<Four>,
    factor: f32,
    from: &Tensor<f32>,
    start: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) {
    let share = comptime!(blueprint.share(width));
    #[unroll]
    for x4 in 0..share {
        let value = four::<f32>(from, start, part * share + x4, width);
        row[x4] = fma(Four::new(factor), value, row[x4]);
    }
}

/// Multiplies a row.
#[cube]
pub(crate) fn scale_row(row: &mut Array<Four>, factor: f32, #[comptime] share: usize) {
    #[unroll]
    for x4 in 0..share {
        row[x4] *= Four::new(factor);
    }
}

/// Brings `blueprint.stage` rows to shared memory, in f32: the rows from row `first` of the tensor on,
/// `step` apart, `count` of them; the rest are zeros. So are rows that `labels` hide, whatever they hold.
#[cube]
pub(crate) fn stage<E: Float>(
    x: &Tensor<E>,
    start: usize,
    first: u32,
    step: u32,
    count: u32,
    labels: &[i32],
    labels_at: u32,
    into: &mut Shared<[Four]>,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) {
    let groups = comptime!(blueprint.padded(width));
    let units = comptime!(blueprint.units());
    let total = comptime!(groups * blueprint.stage);
    for turn in 0..comptime!(total.div_ceil(units)) {
        let at = UNIT_POS as usize + turn * units;
        if at < total {
            let number = (at / groups) as u32;
            let row = first + number * step;
            let mut here = number < count;
            if comptime!(blueprint.labels) {
                if here {
                    here = labels[(labels_at + row) as usize] != HIDDEN;
                }
            }
            into[at] = row_or_zeros::<E>(x, start, row, at % groups, here, width);
        }
    }
}

/// As [`stage`], for rows of queries: zeros where nothing was seen, which `lse` tells (`empty`, minus infinity).
#[cube]
pub(crate) fn stage_seeing<E: Float>(
    x: &Tensor<E>,
    start: usize,
    first: u32,
    step: u32,
    count: u32,
    lse: &Tensor<f32>,
    lse_at: usize,
    empty: f32,
    into: &mut Shared<[Four]>,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) {
    let groups = comptime!(blueprint.padded(width));
    let units = comptime!(blueprint.units());
    let total = comptime!(groups * blueprint.stage);
    for turn in 0..comptime!(total.div_ceil(units)) {
        let at = UNIT_POS as usize + turn * units;
        if at < total {
            let number = (at / groups) as u32;
            let row = first + number * step;
            let mut here = number < count;
            if here {
                let nothing = lse[lse_at + row as usize] == empty;
                here = !nothing;
            }
            into[at] = row_or_zeros::<E>(x, start, row, at % groups, here, width);
        }
    }
}

#[cube]
fn row_or_zeros<E: Float>(
    x: &Tensor<E>,
    start: usize,
    row: u32,
    group: usize,
    here: bool,
    #[comptime] width: usize,
) -> Four {
    let mut value = Four::new(0.0f32);
    if here {
        value = four::<E>(x, start + row as usize * x.stride(2), group, width);
    }
    value
}

/// The sum over the units of a row.
#[cube]
pub(crate) fn share_sums(
    sums: &mut Array<f32>,
    exchange: &mut Shared<[f32]>,
    part: usize,
    row: usize,
    #[comptime] step: usize,
    #[comptime] blueprint: Blueprint,
) {
    let Blueprint { rows, split, .. } = comptime!(blueprint);
    if comptime!(split > 1) {
        #[unroll]
        for j in 0..step {
            exchange[(part * step + j) * rows + row] = sums[j];
        }
        sync_cube();
        #[unroll]
        for j in 0..step {
            let mut sum = 0.0f32;
            #[unroll]
            for other in 0..split {
                sum += exchange[(other * step + j) * rows + row];
            }
            sums[j] = sum;
        }
        sync_cube();
    }
}

/// Products of the unit's share of its row with `step` staged rows from row `from` on.
#[cube]
pub(crate) fn products(
    row: &Array<Four>,
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] step: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<f32> {
    let share = comptime!(blueprint.share(width));
    let groups = comptime!(blueprint.padded(width));
    let lanes = comptime!(blueprint.broadcast);
    let mut out = Array::<f32>::new(step);
    #[unroll]
    for j in 0..step {
        let at = (from + j) * groups + part * share;
        let mut sum = Four::new(0.0f32);
        if comptime!(lanes > 0) {
            #[unroll]
            for turn in 0..comptime!(share.div_ceil(lanes)) {
                let own = spread(staged, at, turn, share, lanes);
                #[unroll]
                for lane in 0..comptime!(lanes.min(share - turn * lanes)) {
                    let other = plane_broadcast(own, lane as u32);
                    sum = fma(row[turn * lanes + lane], other, sum);
                }
            }
        } else {
            #[unroll]
            for x4 in 0..share {
                sum = fma(row[x4], staged[at + x4], sum);
            }
        }
        out[j] = (sum.extract(0usize) + sum.extract(1usize))
            + (sum.extract(2usize) + sum.extract(3usize));
    }
    out
}

/// Adds `step` staged rows from row `from` on, each times its weight, to the unit's share of a row.
#[cube]
pub(crate) fn accumulate(
    row: &mut Array<Four>,
    weights: &Array<f32>,
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] step: usize,
    #[comptime] blueprint: Blueprint,
) {
    let share = comptime!(blueprint.share(width));
    let groups = comptime!(blueprint.padded(width));
    let lanes = comptime!(blueprint.broadcast);
    #[unroll]
    for j in 0..step {
        let at = (from + j) * groups + part * share;
        let weight = Four::new(weights[j]);
        if comptime!(lanes > 0) {
            #[unroll]
            for turn in 0..comptime!(share.div_ceil(lanes)) {
                let own = spread(staged, at, turn, share, lanes);
                #[unroll]
                for lane in 0..comptime!(lanes.min(share - turn * lanes)) {
                    let other = plane_broadcast(own, lane as u32);
                    let x4 = comptime!(turn * lanes + lane);
                    row[x4] = fma(weight, other, row[x4]);
                }
            }
        } else {
            #[unroll]
            for x4 in 0..share {
                row[x4] = fma(weight, staged[at + x4], row[x4]);
            }
        }
    }
}

/// A group of a staged share for each lane of a plane: turn `turn` of them.
#[cube]
fn spread(
    staged: &Shared<[Four]>,
    at: usize,
    #[comptime] turn: usize,
    #[comptime] share: usize,
    #[comptime] lanes: usize,
) -> Four {
    let mut group = turn * lanes + UNIT_POS_PLANE as usize;
    if comptime!(share < (turn + 1) * lanes) {
        group = group.min(share - 1);
    }
    staged[at + group]
}
