//! Where a tile is among the rows of the other side.

use super::blueprint::MmaBlueprint;
use crate::walk::{Rows, Tile, bias_of, range};
use cubecl::prelude::*;

/// The first range from number `number` on, below `to`, that has indices in `low..high` and that no bias hides:
/// its number and these indices; an empty range where there is none.
#[cube]
pub(crate) fn seek(
    table: &[u32],
    tile: &Tile,
    bias: &Tensor<f32>,
    batch: u32,
    head: u32,
    number: u32,
    to: u32,
    low: u32,
    high: u32,
    empty: f32,
    #[comptime] rows: Rows,
    #[comptime] blueprint: MmaBlueprint,
) -> (u32, u32, u32) {
    let blocks = comptime!(blueprint.blocks);
    let mut at = number;
    let mut begin = 0u32;
    let mut end = 0u32;
    if comptime!(blocks) {
        let mut looks = at < to;
        while looks {
            let (first, last) = range(table, tile, at, rows, blocks);
            begin = first.max(low);
            end = last.min(high);
            let mut hidden = begin >= end;
            if comptime!(blueprint.bias) {
                hidden = hidden || bias_of(bias, table, batch, head, at, rows) == empty;
            }
            if hidden {
                begin = 0u32;
                end = 0u32;
                at += 1;
                looks = at < to;
            } else {
                looks = false;
            }
        }
    } else if at < to {
        let (first, last) = range(table, tile, at, rows, blocks);
        begin = first.max(low);
        end = last.min(high);
    }
    (at, begin, end)
}
