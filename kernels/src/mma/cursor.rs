//! Where a tile is among the rows of the other side.

use crate::walk::{Rows, Tile, range};
use cubecl::prelude::*;

/// The first range from number `number` on, below `to`, that has indices in `low..high`: its number and these
/// indices; an empty range where there is none.
#[cube]
pub(crate) fn seek(
    table: &[u32],
    tile: &Tile,
    number: u32,
    to: u32,
    low: u32,
    high: u32,
    #[comptime] rows: Rows,
    #[comptime] blocks: bool,
) -> (u32, u32, u32) {
    let mut at = number;
    let mut begin = 0u32;
    let mut end = 0u32;
    if comptime!(blocks) {
        let mut looks = at < to;
        while looks {
            let (first, last) = range(table, tile, at, rows, blocks);
            begin = first.max(low);
            end = last.min(high);
            if begin >= end {
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
