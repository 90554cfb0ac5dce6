//! Rows in registers and in shared memory, by groups of four channels.

use crate::address::row_at;
use crate::blueprint::Blueprint;
pub(crate) use crate::blueprint::STEP;
use crate::rules::HIDDEN;
use crate::walk::{Rows, Tile};
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

/// The rows of a tile that a unit holds, `blueprint.each` of them: as many apart as there are units for them, so
/// that the units of a plane hold consecutive ones.
#[derive(CubeType)]
pub(crate) struct Held {
    /// Indices in the segment.
    pub t: Array<u32>,
    /// Rows of the tensor, 0 where there is none.
    pub row: Array<u32>,
    /// Whether there is a row.
    pub valid: Array<bool>,
}

/// What unit `unit` of a part holds of `tile`.
#[cube]
pub(crate) fn held(
    tile: &Tile,
    unit: usize,
    #[comptime] rows: Rows,
    #[comptime] blueprint: Blueprint,
) -> Held {
    let each = comptime!(blueprint.each);
    let mut t = Array::<u32>::new(each);
    let mut row = Array::<u32>::new(each);
    let mut valid = Array::<bool>::new(each);
    #[unroll]
    for r in 0..each {
        let index = tile.first + (unit + comptime!(r * blueprint.across())) as u32;
        let (low, high) = match comptime!(rows) {
            Rows::Queries => (tile.q_low, tile.q_high),
            Rows::Keys => (tile.k_low, tile.k_high),
        };
        let here = index >= low && index < high;
        t[r] = index;
        valid[r] = here;
        let mut of_tensor = 0u32;
        if here {
            of_tensor = match comptime!(rows) {
                Rows::Queries => tile.q_row(index),
                Rows::Keys => tile.k_row(index),
            };
        }
        row[r] = of_tensor;
    }
    Held { t, row, valid }
}

/// The unit's share of the rows that it holds of a head that begins at `start`.
#[cube]
pub(crate) fn load_rows<E: Float>(
    x: &Tensor<E>,
    start: usize,
    held: &Held,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<Four> {
    let share = comptime!(blueprint.share(width));
    let mut rows = zero_rows(share, blueprint);
    #[unroll]
    for r in 0..comptime!(blueprint.each) {
        if held.valid[r] {
            let at = row_at(x, start, held.row[r]);
            #[unroll]
            for x4 in 0..share {
                rows[comptime!(r * share + x4)] = four::<E>(x, at, part * share + x4, width);
            }
        }
    }
    rows
}

/// Rows of zeros.
#[cube]
pub(crate) fn zero_rows(#[comptime] share: usize, #[comptime] blueprint: Blueprint) -> Array<Four> {
    let count = comptime!(share * blueprint.each);
    let mut rows = Array::<Four>::new(count);
    #[unroll]
    for x4 in 0..count {
        rows[x4] = Four::new(0.0f32);
    }
    rows
}

/// Writes the unit's share of its row `r`, times `factor`.
#[cube]
pub(crate) fn store_row<O: Float>(
    rows: &Array<Four>,
    #[comptime] r: usize,
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
        let value = rows[comptime!(r * share + x4)] * Four::new(factor);
        #[unroll]
        for i in 0..4usize {
            let channel = (part * share + x4) * 4 + i;
            if channel < width {
                into[start + channel] = O::cast_from(value.extract(i));
            }
        }
    }
}

/// Adds `factor` times a row of f32 to the unit's share of its row `r`.
#[cube]
pub(crate) fn add_row(
    rows: &mut Array<Four>,
    #[comptime] r: usize,
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
        let at = comptime!(r * share + x4);
        rows[at] = fma(Four::new(factor), value, rows[at]);
    }
}

/// Multiplies row `r`.
#[cube]
pub(crate) fn scale_row(
    rows: &mut Array<Four>,
    #[comptime] r: usize,
    factor: f32,
    #[comptime] share: usize,
) {
    #[unroll]
    for x4 in 0..share {
        rows[comptime!(r * share + x4)] *= Four::new(factor);
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
    labels_at: usize,
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
                    here = labels[labels_at + row as usize] != HIDDEN;
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
        value = four::<E>(x, row_at(x, start, row), group, width);
    }
    value
}

/// The sums over the units of a row.
#[cube]
pub(crate) fn share_sums(
    sums: &mut Array<f32>,
    exchange: &mut Shared<[f32]>,
    part: usize,
    unit: usize,
    #[comptime] blueprint: Blueprint,
) {
    let across = comptime!(blueprint.across());
    let count = comptime!(STEP * blueprint.each);
    if comptime!(blueprint.split > 1) {
        #[unroll]
        for j in 0..count {
            exchange[(part * count + j) * across + unit] = sums[j];
        }
        sync_cube();
        #[unroll]
        for j in 0..count {
            let mut sum = 0.0f32;
            #[unroll]
            for other in 0..comptime!(blueprint.split) {
                sum += exchange[(other * count + j) * across + unit];
            }
            sums[j] = sum;
        }
        sync_cube();
    }
}

/// [`STEP`] staged rows from row `from` on, for [`products`] and [`accumulate`]: where units of a plane load
/// together, a group of channels for each of them, else nothing.
#[cube]
pub(crate) fn meet(
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<Four> {
    let share = comptime!(blueprint.share(width));
    let groups = comptime!(blueprint.padded(width));
    let lanes = comptime!(blueprint.broadcast);
    let turns = comptime!(blueprint.turns(width));
    let mut met = Array::<Four>::new(comptime!((STEP * turns).max(1)));
    #[unroll]
    for j in 0..STEP {
        #[unroll]
        for turn in 0..turns {
            let mut group = turn * lanes + UNIT_POS_PLANE as usize;
            if comptime!(share < (turn + 1) * lanes) {
                group = group.min(share - 1);
            }
            met[comptime!(j * turns + turn)] = staged[(from + j) * groups + part * share + group];
        }
    }
    met
}

/// Group `x4` of the unit's share of row `j` of those that it meets.
#[cube]
fn group(
    met: &Array<Four>,
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] j: usize,
    #[comptime] x4: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) -> Four {
    let lanes = comptime!(blueprint.broadcast);
    if comptime!(lanes > 0) {
        let at = comptime!(j * blueprint.turns(width) + x4 / lanes);
        plane_broadcast(met[at], comptime!((x4 % lanes) as u32))
    } else {
        let (share, groups) = comptime!((blueprint.share(width), blueprint.padded(width)));
        staged[(from + j) * groups + part * share + x4]
    }
}

/// Products of the unit's share of its rows with the rows that it meets: [`STEP`] for each of its rows.
#[cube]
pub(crate) fn products(
    rows: &Array<Four>,
    met: &Array<Four>,
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) -> Array<f32> {
    let share = comptime!(blueprint.share(width));
    let each = comptime!(blueprint.each);
    let mut out = Array::<f32>::new(comptime!(STEP * each));
    #[unroll]
    for j in 0..STEP {
        let mut sums = Array::<Four>::new(each);
        #[unroll]
        for r in 0..each {
            sums[r] = Four::new(0.0f32);
        }
        #[unroll]
        for x4 in 0..share {
            let other = group(met, staged, from, part, j, x4, width, blueprint);
            #[unroll]
            for r in 0..each {
                sums[r] = fma(rows[comptime!(r * share + x4)], other, sums[r]);
            }
        }
        #[unroll]
        for r in 0..each {
            let sum = sums[r];
            out[comptime!(r * STEP + j)] = (sum.extract(0usize) + sum.extract(1usize))
                + (sum.extract(2usize) + sum.extract(3usize));
        }
    }
    out
}

/// Adds the rows that the unit meets, each times its weight, to the unit's share of its rows.
#[cube]
pub(crate) fn accumulate(
    rows: &mut Array<Four>,
    weights: &Array<f32>,
    met: &Array<Four>,
    staged: &Shared<[Four]>,
    from: usize,
    part: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: Blueprint,
) {
    let share = comptime!(blueprint.share(width));
    #[unroll]
    for x4 in 0..share {
        #[unroll]
        for j in 0..STEP {
            let other = group(met, staged, from, part, j, x4, width, blueprint);
            #[unroll]
            for r in 0..comptime!(blueprint.each) {
                let at = comptime!(r * share + x4);
                let weight = Four::new(weights[comptime!(r * STEP + j)]);
                rows[at] = fma(weight, other, rows[at]);
            }
        }
    }
}
