//! Rows of a tensor to shared memory.

use super::blueprint::MmaBlueprint;
use super::fragment::Eight;
use crate::rules::HIDDEN;
use crate::walk::Tile;
use cubecl::frontend::barrier::copy_async_checked;
use cubecl::prelude::*;

/// Where the rows of one head lie in a tensor of vectors: position and distance of rows, in vectors.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Plane {
    start: usize,
    stride: usize,
}

/// The rows of head `head` of batch entry `batch`.
#[cube]
pub(crate) fn rows_of<E: Float>(x: &Tensor<Eight<E>>, batch: usize, head: usize) -> Plane {
    Plane {
        start: (batch * x.stride(0) + head * x.stride(1)) / 8,
        stride: x.stride(2) / 8,
    }
}

/// Which rows are zeros in shared memory, whatever they hold: 0 times NaN is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hides {
    None,
    /// Keys with a hidden label.
    Labels,
    /// Queries that saw nothing: their lse is minus infinity.
    Lse,
}

impl Hides {
    /// Of keys and values.
    pub fn keys(blueprint: &MmaBlueprint) -> Self {
        match blueprint.labels {
            true => Self::Labels,
            false => Self::None,
        }
    }

    /// Of queries and their gradients.
    pub fn queries(blueprint: &MmaBlueprint) -> Self {
        match blueprint.gaps {
            true => Self::Lse,
            false => Self::None,
        }
    }
}

#[cube]
fn shown(
    row: u32,
    labels: &[i32],
    labels_at: u32,
    lse: &Tensor<f32>,
    lse_at: usize,
    #[comptime] hides: Hides,
) -> bool {
    let mut shown = true;
    if comptime!(hides == Hides::Labels) {
        shown = labels[(labels_at + row) as usize] != HIDDEN;
    }
    if comptime!(hides == Hides::Lse) {
        // Not by its being greater: NaN stays in sight.
        let nothing = lse[lse_at + row as usize] < f32::new(f32::MIN);
        shown = !nothing;
    }
    shown
}

/// Copies the rows at the tile's indices `from..from + rows` to staged rows `into_row..`; zeros where the
/// index is not in `low..high`, and where `hides` says so, whatever the row holds: by `labels`, from `labels_at`
/// on those of the tensor's rows, or by `lse`, likewise. `first` is the position of the tensor's first row.
///
/// Copies may still be on their way afterwards: [`commit`], [`arrive`], then `sync_cube`.
#[cube]
pub(crate) fn stage<E: Float>(
    x: &Tensor<Eight<E>>,
    plane: &Plane,
    tile: &Tile,
    first: u32,
    from: u32,
    low: u32,
    high: u32,
    labels: &[i32],
    labels_at: u32,
    lse: &Tensor<f32>,
    lse_at: usize,
    into: &mut Shared<[Eight<E>]>,
    into_row: usize,
    #[comptime] rows: usize,
    #[comptime] width: usize,
    #[comptime] hides: Hides,
    #[comptime] blueprint: MmaBlueprint,
) {
    let units = comptime!(blueprint.units());
    let line = comptime!(blueprint.line(width));
    let groups = comptime!(width / 8);
    let total = comptime!(rows * groups);
    if comptime!(units.is_multiple_of(groups) && total.is_multiple_of(units)) {
        // A unit keeps to one group of channels, and its rows are equally far apart.
        let apart = comptime!(units / groups);
        let (row, group) = (UNIT_POS as usize / groups, UNIT_POS as usize % groups);
        let target = (into_row + row) * line + group;
        let t = from + row as u32;
        let any = plane.start + group;
        let source = any + (tile.base + t * tile.step - first) as usize * plane.stride;
        let far = (apart as u32 * tile.step) as usize * plane.stride;
        #[unroll]
        for turn in 0..comptime!(total / units) {
            let t = t + (turn * apart) as u32;
            let mut inside = t >= low && t < high;
            if comptime!(hides != Hides::None) {
                if inside {
                    let row = tile.base + t * tile.step - first;
                    inside = shown(row, labels, labels_at, lse, lse_at, hides);
                }
            }
            // Nothing is read of the row that stands in.
            let source = select(inside, source + turn * far, any);
            copy::<E>(
                x,
                source,
                inside,
                into,
                target + turn * apart * line,
                blueprint,
            );
        }
    } else {
        #[unroll]
        for turn in 0..comptime!(total.div_ceil(units)) {
            let at = UNIT_POS as usize + turn * units;
            if at < total {
                let (row, group) = (at / groups, at % groups);
                let t = from + row as u32;
                let mut inside = t >= low && t < high;
                if comptime!(hides != Hides::None) {
                    if inside {
                        let row = tile.base + t * tile.step - first;
                        inside = shown(row, labels, labels_at, lse, lse_at, hides);
                    }
                }
                let source = select(inside, tile.base + t * tile.step - first, 0u32);
                copy::<E>(
                    x,
                    plane.start + source as usize * plane.stride + group,
                    inside,
                    into,
                    (into_row + row) * line + group,
                    blueprint,
                );
            }
        }
    }
}

/// Stages the rows at indices `from..from + blueprint.stage` of two tensors, zeros from `end` on.
#[cube]
pub(crate) fn stage_two<E: Float>(
    x: &Tensor<Eight<E>>,
    y: &Tensor<Eight<E>>,
    x_plane: &Plane,
    y_plane: &Plane,
    tile: &Tile,
    first: u32,
    from: u32,
    end: u32,
    labels: &[i32],
    labels_at: u32,
    lse: &Tensor<f32>,
    lse_at: usize,
    x_into: &mut Shared<[Eight<E>]>,
    y_into: &mut Shared<[Eight<E>]>,
    into_row: usize,
    #[comptime] hides: Hides,
    #[comptime] blueprint: MmaBlueprint,
) {
    let MmaBlueprint {
        d,
        d_v,
        stage: rows,
        ..
    } = comptime!(blueprint);
    stage::<E>(
        x, x_plane, tile, first, from, from, end, labels, labels_at, lse, lse_at, x_into, into_row,
        rows, d, hides, blueprint,
    );
    stage::<E>(
        y, y_plane, tile, first, from, from, end, labels, labels_at, lse, lse_at, y_into, into_row,
        rows, d_v, hides, blueprint,
    );
}

/// Copies a group of channels, zeros where it is not `inside`.
#[cube]
fn copy<E: Float>(
    x: &Tensor<Eight<E>>,
    source: usize,
    inside: bool,
    into: &mut Shared<[Eight<E>]>,
    target: usize,
    #[comptime] blueprint: MmaBlueprint,
) {
    if comptime!(blueprint.copy_async) {
        let count = select(inside, 1usize, 0usize);
        copy_async_checked(
            &x[source..source + count],
            &mut into[target..target + 1],
            8u32,
        );
    } else {
        let mut value = Eight::<E>::new(E::from_int(0));
        if inside {
            value = x[source];
        }
        into[target] = value;
    }
}

/// Zeros in the channels from `width` to the next multiple of 16, of all `rows` staged rows; copies leave
/// them alone.
#[cube]
pub(crate) fn clear_tail<E: Float>(
    into: &mut Shared<[Eight<E>]>,
    #[comptime] rows: usize,
    #[comptime] width: usize,
    #[comptime] blueprint: MmaBlueprint,
) {
    let units = comptime!(blueprint.units());
    let line = comptime!(blueprint.line(width));
    let (groups, padded) = comptime!((width / 8, line - 1));
    if comptime!(padded > groups) {
        let total = comptime!(rows * (padded - groups));
        #[unroll]
        for turn in 0..comptime!(total.div_ceil(units)) {
            let at = UNIT_POS as usize + turn * units;
            if at < total {
                let (row, group) = (
                    at / comptime!(padded - groups),
                    at % comptime!(padded - groups),
                );
                into[row * line + groups + group] = Eight::<E>::new(E::from_int(0));
            }
        }
    }
}

/// Closes the group of the copies so far.
#[cube]
pub(crate) fn commit(#[comptime] blueprint: MmaBlueprint) {
    if comptime!(blueprint.copy_async) {
        gpu_asm!("cp.async.commit_group;");
    }
}

/// Waits for the unit's own copies.
#[cube]
pub(crate) fn arrive(#[comptime] blueprint: MmaBlueprint) {
    if comptime!(blueprint.copy_async) {
        gpu_asm!("cp.async.wait_group 0;");
    }
}
