//! From the number of a tile to its rows, and to the rows of the other side that it meets.
//!
//! Inside one segment of a branch, *index* `t` of a residue class sits at position `base + t * step`, for
//! queries and keys alike: causality compares indices, and tiles are consecutive indices.

use crate::table::{BRANCH, HEADER, List, MASK, SIDE};
use cubecl::prelude::*;

/// Which side a tile's rows are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Queries: forward, and the pass for dq.
    Queries,
    /// Keys: the pass for dk and dv.
    Keys,
}

/// What a launch does with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Each branch for itself, rows of the head's class only: f32 results that a final launch merges.
    Partial,
    /// The branch that covers most rows, all classes of it, merged with the partial results.
    Final,
}

/// The segment that a tile lies in, by one residue class.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Tile {
    /// False past the last tile.
    pub exists: bool,
    pub branch: u32,
    pub class: u32,
    /// Position of index 0, and the distance between indices.
    pub base: u32,
    pub step: u32,
    /// Index of the tile's first row, and the row of that index among the branch's own rows.
    pub first: u32,
    pub slot: u32,
    /// Indices of the queries and of the keys in the segment.
    pub q_low: u32,
    pub q_high: u32,
    pub k_low: u32,
    pub k_high: u32,
    /// Positions of the first query and key of the tensors.
    pub q_start: u32,
    pub k_start: u32,
    /// The block of a block mask that the rows lie in, and the tile's place in it.
    pub block: u32,
    pub within: u32,
}

#[cube]
impl Tile {
    /// The row of the query tensor at index `t`.
    pub fn q_row(&self, t: u32) -> u32 {
        self.base + t * self.step - self.q_start
    }

    /// The row of the key tensor at index `t`.
    pub fn k_row(&self, t: u32) -> u32 {
        self.base + t * self.step - self.k_start
    }
}

/// Where the words of `branch` begin.
#[cube]
pub(crate) fn words_of(branch: u32) -> usize {
    HEADER + branch as usize * BRANCH
}

/// The residue class of `head` in `branch`.
#[cube]
pub(crate) fn class_of(table: &[u32], branch: u32, head: u32) -> u32 {
    let (branches, heads) = (table[4], table[5]);
    table[HEADER + branches as usize * BRANCH + (branch * heads + head) as usize]
}

/// The branch that the final launch of `head` computes.
#[cube]
pub(crate) fn final_branch(table: &[u32], head: u32) -> u32 {
    let (branches, heads, group) = (table[4], table[5], table[6]);
    table[HEADER + branches as usize * (BRANCH + heads as usize) + (head / group) as usize]
}

/// The first index whose position is at least `position`.
#[cube]
fn first_index(position: u32, base: u32, step: u32) -> u32 {
    let mut index = 0u32;
    if position > base {
        index = (position - base).div_ceil(step);
    }
    index
}

/// Tile `number` of `head`, of `size` rows.
#[cube]
pub(crate) fn tile(
    table: &[u32],
    number: u32,
    head: u32,
    #[comptime] size: u32,
    #[comptime] rows: Rows,
    #[comptime] role: Role,
    #[comptime] blocks: bool,
) -> Tile {
    if comptime!(blocks) {
        block_tile(table, number, size, rows)
    } else {
        residue_tile(table, number, head, size, rows, role)
    }
}

/// A tile of a block mask: of rows of one block, all in one segment with one class.
#[cube]
fn block_tile(table: &[u32], number: u32, #[comptime] size: u32, #[comptime] rows: Rows) -> Tile {
    let at = words_of(0u32);
    let (q_start, k_start) = (table[at + 2], table[at + 3]);
    let (mut q_low, mut q_high) = (q_start, q_start + table[2]);
    let (mut k_low, mut k_high) = (k_start, k_start + table[3]);
    let (length, start) = match comptime!(rows) {
        Rows::Queries => (table[mask_at(table)], q_start),
        Rows::Keys => (table[mask_at(table) + 1], k_start),
    };
    let tiles = length.div_ceil(size);
    let block = start / length + number / tiles;
    let within = number % tiles;
    let first = block * length + within * size;
    let (low, high) = (block * length, block * length + length);
    if comptime!(matches!(rows, Rows::Queries)) {
        q_low = q_low.max(low);
        q_high = q_high.min(high);
    } else {
        k_low = k_low.max(low);
        k_high = k_high.min(high);
    }
    Tile {
        exists: true,
        branch: 0u32,
        class: 0u32,
        base: 0u32,
        step: 1u32,
        first,
        slot: 0u32,
        q_low,
        q_high,
        k_low,
        k_high,
        q_start,
        k_start,
        block,
        within,
    }
}

#[cube]
fn residue_tile(
    table: &[u32],
    number: u32,
    head: u32,
    #[comptime] size: u32,
    #[comptime] rows: Rows,
    #[comptime] role: Role,
) -> Tile {
    let side = comptime!(match rows {
        Rows::Queries => 4usize,
        Rows::Keys => 4 + SIDE,
    });
    let mut branch = 0u32;
    let mut local = number;
    if comptime!(matches!(role, Role::Final)) {
        branch = final_branch(table, head);
    } else {
        let mut next = 1u32;
        while next < table[4] {
            if number >= table[words_of(next) + side + 3] {
                branch = next;
            }
            next += 1;
        }
        local = number - table[words_of(branch) + side + 3];
    }
    let at = words_of(branch);
    let (segment_length, step) = (table[at], table[at + 1]);
    let (q_start, k_start) = (table[at + 2], table[at + 3]);
    let (first_segment, capacity) = (table[at + side], table[at + side + 1]);
    let (tiles, first_row) = (table[at + side + 2], table[at + side + 4]);

    let mut class = class_of(table, branch, head);
    let mut exists = class != u32::MAX;
    let mut segment = local / tiles;
    if comptime!(matches!(role, Role::Final)) {
        class = segment % step;
        segment /= step;
        exists = true;
    }
    // Positions of the side's rows, and of the other's.
    let (q_end, k_end) = (q_start + table[2], k_start + table[3]);
    let (start, end) = match comptime!(rows) {
        Rows::Queries => (q_start, q_end),
        Rows::Keys => (k_start, k_end),
    };
    let begin = (first_segment + segment) * segment_length;
    if begin >= end {
        exists = false;
    }
    let base = begin + class;
    let stop = begin + segment_length;
    // The first index of any class with a row, so that slots do not depend on the class.
    let mut origin = 0u32;
    if start > begin {
        origin = (start - begin) / step;
    }
    let within = local % tiles * size;
    Tile {
        exists,
        branch,
        class,
        base,
        step,
        first: origin + within,
        slot: first_row + segment * capacity + within,
        q_low: first_index(q_start, base, step),
        q_high: first_index(q_end.min(stop), base, step),
        k_low: first_index(k_start, base, step),
        k_high: first_index(k_end.min(stop), base, step),
        q_start,
        k_start,
        block: 0u32,
        within: 0u32,
    }
}

/// The tile that is one query row of `head` in `branch`.
#[cube]
pub(crate) fn row_tile(
    table: &[u32],
    branch: u32,
    head: u32,
    row: u32,
    #[comptime] blocks: bool,
) -> Tile {
    let at = words_of(branch);
    let (segment_length, step) = (table[at], table[at + 1]);
    let (q_start, k_start) = (table[at + 2], table[at + 3]);
    let (q_end, k_end) = (q_start + table[2], k_start + table[3]);
    let class = class_of(table, branch, head);
    let position = q_start + row;
    let begin = position / segment_length * segment_length;
    let within = position - begin;
    let base = begin + class;
    let stop = begin + segment_length;
    let mut block = 0u32;
    if comptime!(blocks) {
        block = position / table[mask_at(table)];
    }
    Tile {
        exists: within % step == class,
        branch,
        class,
        base,
        step,
        first: within / step,
        slot: 0u32,
        q_low: first_index(q_start, base, step),
        q_high: first_index(q_end.min(stop), base, step),
        k_low: first_index(k_start, base, step),
        k_high: first_index(k_end.min(stop), base, step),
        q_start,
        k_start,
        block,
        within: 0u32,
    }
}

/// Where the words of a block mask begin.
#[cube]
fn mask_at(table: &[u32]) -> usize {
    let (branches, heads, group) = (table[4] as usize, table[5] as usize, table[6] as usize);
    HEADER + branches * (BRANCH + heads) + heads / group
}

/// A word of a list of a block mask.
#[cube]
fn list(table: &[u32], #[comptime] which: List, at: u32) -> u32 {
    table[(table[mask_at(table) + MASK + comptime!(which as usize)] + at) as usize]
}

/// Which ranges of the other side the tile's rows meet, by number: those of its block's list, or the whole
/// segment where the head has the tile's class.
#[cube]
pub(crate) fn ranges(
    table: &[u32],
    tile: &Tile,
    head: u32,
    #[comptime] rows: Rows,
    #[comptime] blocks: bool,
) -> (u32, u32) {
    let mut from = 0u32;
    let mut to = 0u32;
    if comptime!(blocks) {
        let of_head = list(table, List::TableOf, head);
        if comptime!(matches!(rows, Rows::Queries)) {
            let at = of_head * (table[mask_at(table) + 2] + 1) + tile.block;
            from = list(table, List::RowStarts, at);
            to = list(table, List::RowStarts, at + 1);
        } else {
            let at = of_head * (table[mask_at(table) + 3] + 1) + tile.block;
            from = list(table, List::ColumnStarts, at);
            to = list(table, List::ColumnStarts, at + 1);
        }
    } else if tile.class == class_of(table, tile.branch, head) {
        to = 1u32;
    }
    (from, to)
}

/// The indices of range `number` of the other side.
#[cube]
pub(crate) fn range(
    table: &[u32],
    tile: &Tile,
    number: u32,
    #[comptime] rows: Rows,
    #[comptime] blocks: bool,
) -> (u32, u32) {
    let (mut low, mut high) = match comptime!(rows) {
        Rows::Queries => (tile.k_low, tile.k_high),
        Rows::Keys => (tile.q_low, tile.q_high),
    };
    if comptime!(blocks) {
        let (block, length) = match comptime!(rows) {
            Rows::Queries => (
                list(table, List::Columns, number),
                table[mask_at(table) + 1],
            ),
            Rows::Keys => (list(table, List::Rows, number), table[mask_at(table)]),
        };
        low = low.max(block * length);
        high = high.min(block * length + length);
    }
    (low, high)
}

/// The place of range `number` in a bias.
#[cube]
pub(crate) fn bias_index(table: &[u32], head: u32, number: u32, #[comptime] rows: Rows) -> u32 {
    let mut entry = number;
    if comptime!(matches!(rows, Rows::Keys)) {
        entry = list(table, List::Entries, number);
    }
    let of_head = list(table, List::TableOf, head);
    let first = list(
        table,
        List::RowStarts,
        of_head * (table[mask_at(table) + 2] + 1),
    );
    list(table, List::BiasStarts, head) + entry - first
}

/// The bias of range `number`; minus infinity hides its block, which no kernel visits then.
#[cube]
pub(crate) fn bias_of(
    bias: &Tensor<f32>,
    table: &[u32],
    batch: u32,
    head: u32,
    number: u32,
    #[comptime] rows: Rows,
) -> f32 {
    bias[batch as usize * bias.stride(0) + bias_index(table, head, number, rows) as usize]
}

/// The row among the branches' own rows that belongs to row `row` of the tensor, if `head` has it in
/// `branch`.
#[cube]
pub(crate) fn slot_of(
    table: &[u32],
    branch: u32,
    head: u32,
    row: u32,
    #[comptime] rows: Rows,
) -> (bool, u32) {
    let side = comptime!(match rows {
        Rows::Queries => 4usize,
        Rows::Keys => 4 + SIDE,
    });
    let at = words_of(branch);
    let (segment_length, step) = (table[at], table[at + 1]);
    let start = match comptime!(rows) {
        Rows::Queries => table[at + 2],
        Rows::Keys => table[at + 3],
    };
    let position = start + row;
    let segment = position / segment_length;
    let within = position % segment_length;
    let begin = segment * segment_length;
    let mut origin = 0u32;
    if start > begin {
        origin = (start - begin) / step;
    }
    let slot =
        table[at + side + 4] + (segment - table[at + side]) * table[at + side + 1] + within / step
            - origin;
    (within % step == class_of(table, branch, head), slot)
}

/// How many zero keys the tile's branch adds to the row at index `t` of `head` (`Tail::ZeroKeys`: one whole
/// sequence from position 0).
#[cube]
pub(crate) fn zero_keys(table: &[u32], tile: &Tile, head: u32, t: u32) -> u32 {
    let at = words_of(tile.branch);
    let (segment_length, n) = (table[at], table[3]);
    let position = tile.base + t * tile.step;
    let begin = position / segment_length * segment_length;
    let full = n.min(segment_length);
    let filled = full.min(n - begin);
    let mut zeros = full.div_ceil(tile.step);
    if filled > tile.class {
        zeros -= (filled - tile.class).div_ceil(tile.step);
    }
    if tile.class != class_of(table, tile.branch, head) {
        zeros = 0u32;
    }
    zeros
}
