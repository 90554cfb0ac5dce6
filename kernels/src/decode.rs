//! Decoding: few queries against many keys, split over keys.
//!
//! A cube takes one query row and one *chunk* of the keys that it sees in a branch (of its list, for a block
//! mask); a second launch merges the chunks of each row, in their order.

use crate::address::{flat, head_at, row_at};
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::unit::{Four, LOWEST, four};
use crate::walk::{Rows, bias_of, range, ranges, row_tile};
use cubecl::prelude::*;

/// What the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecodeBlueprint {
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub d_v: usize,
    /// Units of a cube, at least one for four channels of values.
    pub units: usize,
    /// Keys that are met at a time.
    pub chunk: usize,
    /// Keys after a query are not seen.
    pub causal: bool,
    /// There are labels.
    pub labels: bool,
    /// There is dropout.
    pub dropout: bool,
    /// The schedule is a block mask.
    pub blocks: bool,
    /// The blocks of the mask have a bias.
    pub bias: bool,
}

impl DecodeBlueprint {
    /// Units that share a group of four channels of the result, each with a part of the keys.
    fn lanes(&self) -> usize {
        (self.units / self.d_v.div_ceil(4)).max(1)
    }
}

/// Out and lse of each row over each chunk: `out` f32 `[batch, heads, n_q, chunks, d_v]`, `lse` without its
/// last axis. Cubes: chunks by batch entries and heads by rows; chunk `c` is number `c % args.tiles` of branch
/// `c / args.tiles`, of `share` keys, of a block mask `share` listed blocks.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn decode_chunks<E: Float>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    out: &mut Tensor<f32>,
    lse: &mut Tensor<f32>,
    args: Args,
    share: u32,
    #[comptime] blueprint: DecodeBlueprint,
    #[define(E)] _type: ElemType,
) {
    let DecodeBlueprint {
        d,
        d_v,
        units,
        chunk,
        causal,
        blocks,
        ..
    } = comptime!(blueprint);
    let unit = UNIT_POS as usize;
    let (heads, group) = (table[5], table[6]);
    let (batch, head) = (CUBE_POS_Y / heads, CUBE_POS_Y % heads);
    let row = CUBE_POS_Z;
    let (branch, number) = (CUBE_POS_X / args.tiles, CUBE_POS_X % args.tiles);
    let tile = row_tile(table, branch, head, row, blocks);

    let groups = comptime!(d.div_ceil(4));
    let mut own = Shared::<[Four]>::new_slice(groups);
    let q_at = row_at(q, head_at(q, batch, head), row);
    #[unroll]
    for turn in 0..comptime!(groups.div_ceil(units)) {
        let at = unit + turn * units;
        if at < groups {
            own[at] = four::<E>(q, q_at, at, d);
        }
    }
    let mut weights = Shared::<[f32]>::new_slice(chunk);
    let mut of_units = Shared::<[f32]>::new_slice(units);
    let mut own_label = 0i32;
    if comptime!(blueprint.labels) {
        own_label = q_labels[flat(batch, table[2] as usize, row)];
    }
    let drop_key = dropout_key(&args, CUBE_POS_Y);
    let k_at = head_at(k, batch, head / group);
    let v_at = head_at(v, batch, head / group);

    // A chunk is some of the listed blocks, or some keys of the one range.
    let (mut from_range, mut to_range) = ranges(table, &tile, head, Rows::Queries, blocks);
    let mut skip = 0u32;
    if comptime!(blocks) {
        from_range = (from_range + number * share).min(to_range);
        to_range = to_range.min(from_range + share);
    } else {
        skip = number * share;
    }
    if !tile.exists {
        to_range = from_range;
    }
    let mut last = tile.k_high;
    if comptime!(causal) {
        last = last.min(tile.first + 1);
    }

    let mut max = f32::new(LOWEST);
    let mut sum = 0.0f32;
    let v_groups = comptime!(d_v.div_ceil(4));
    let lanes = comptime!(blueprint.lanes());
    let (x4, lane) = (unit % v_groups, unit / v_groups);
    let mut acc = Four::new(0.0f32);
    for listed in from_range..to_range {
        let (low, high) = range(table, &tile, listed, Rows::Queries, blocks);
        let end = high.min(last);
        let mut begin = low + skip;
        let mut stop = end;
        if comptime!(!blocks) {
            stop = end.min(begin + share);
        }
        let mut of_range = 0.0f32;
        if comptime!(blueprint.bias) {
            of_range = bias_of(bias, table, batch, head, listed, Rows::Queries);
            // A hidden block.
            if of_range == args.empty {
                stop = begin;
            }
        }
        while begin < stop {
            let count = (stop - begin).min(chunk as u32);
            // Scores, a key a unit.
            sync_cube();
            let mut highest = f32::new(LOWEST);
            #[unroll]
            for turn in 0..comptime!(chunk.div_ceil(units)) {
                let at = unit + turn * units;
                if at < chunk {
                    let mut score = f32::new(LOWEST);
                    if (at as u32) < count {
                        let key = tile.k_row(begin + at as u32);
                        let mut seen = true;
                        if comptime!(blueprint.labels) {
                            seen = labels_match(
                                own_label,
                                k_labels[flat(batch, table[3] as usize, key)],
                            );
                        }
                        if seen {
                            let start = row_at(k, k_at, key);
                            let mut product = Four::new(0.0f32);
                            for x4 in 0..groups {
                                product = fma(own[x4], four::<E>(k, start, x4, d), product);
                            }
                            score = (product.extract(0usize) + product.extract(1usize))
                                + (product.extract(2usize) + product.extract(3usize));
                            score = score * args.scale + of_range;
                        }
                    }
                    weights[at] = score;
                    highest = highest.max(score);
                }
            }
            of_units[unit] = highest;
            sync_cube();
            let mut new = max;
            for other in 0..units {
                new = new.max(of_units[other]);
            }
            let shrink = (max - new).exp();
            max = new;
            sync_cube();
            let mut own_sum = 0.0f32;
            #[unroll]
            for turn in 0..comptime!(chunk.div_ceil(units)) {
                let at = unit + turn * units;
                if at < chunk {
                    // What is not seen has the lowest score.
                    let score = weights[at];
                    let mut weight = select(score == f32::new(LOWEST), 0.0f32, (score - max).exp());
                    own_sum += weight;
                    if comptime!(blueprint.dropout) {
                        let key = tile.k_row(begin + at as u32) + table[1];
                        weight *= dropout_factor(&args, drop_key, row + table[0], key);
                    }
                    weights[at] = weight;
                }
            }
            of_units[unit] = own_sum;
            sync_cube();
            sum *= shrink;
            for other in 0..units {
                sum += of_units[other];
            }
            // Values, a group of channels a unit, and a part of the keys where there are more units.
            acc *= Four::new(shrink);
            if lane < lanes {
                let mut at = lane;
                while (at as u32) < count {
                    let weight = weights[at];
                    // What a hidden key holds may be anything.
                    if weight != 0.0f32 {
                        let start = row_at(v, v_at, tile.k_row(begin + at as u32));
                        acc = fma(Four::new(weight), four::<E>(v, start, x4, d_v), acc);
                    }
                    at += lanes;
                }
            }
            begin += chunk as u32;
        }
    }

    let own_row = flat(CUBE_POS_Y, table[2] as usize, row);
    let at = own_row * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
    let mut factor = 0.0f32;
    let mut total = f32::new(LOWEST);
    // Not by its being greater, or different, which NaN is not in shaders: it stays in sight.
    let nothing = sum == 0.0f32;
    if !nothing {
        factor = 1.0f32 / sum;
        total = max + sum.ln();
    }
    let mut parts = Shared::<[Four]>::new_slice(units);
    parts[unit] = acc;
    sync_cube();
    if unit < v_groups {
        let mut value = Four::new(0.0f32);
        #[unroll]
        for other in 0..lanes {
            value += parts[unit + other * v_groups];
        }
        #[unroll]
        for x in 0..4usize {
            if unit * 4 + x < d_v {
                out[at * d_v + unit * 4 + x] = value.extract(x) * factor;
            }
        }
    }
    if unit == 0 {
        lse[at] = total;
    }
}

/// Merges the chunks of each row, a cube a row: `out` `[batch, heads, n_q, d_v]` and `lse` from what
/// [`decode_chunks()`] left.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn decode_merge<O: Float>(
    partial_out: &Tensor<f32>,
    partial_lse: &Tensor<f32>,
    out: &mut Tensor<O>,
    lse: &mut Tensor<f32>,
    args: Args,
    chunks: u32,
    #[comptime] d_v: usize,
    #[comptime] units: usize,
    #[define(O)] _type: ElemType,
) {
    let row = flat(CUBE_POS_Y, CUBE_COUNT_X as usize, CUBE_POS_X);
    let first = row * chunks as usize;
    let mut max = f32::new(LOWEST);
    for chunk in 0..chunks as usize {
        max = max.max(partial_lse[first + chunk]);
    }
    let mut sum = 0.0f32;
    for chunk in 0..chunks as usize {
        let other = partial_lse[first + chunk];
        sum += select(other == f32::new(LOWEST), 0.0f32, (other - max).exp());
    }
    let mut channel = UNIT_POS as usize;
    while channel < d_v {
        let mut value = 0.0f32;
        for chunk in 0..chunks as usize {
            let other = partial_lse[first + chunk];
            let weight = select(other == f32::new(LOWEST), 0.0f32, (other - max).exp());
            value = fma(weight, partial_out[(first + chunk) * d_v + channel], value);
        }
        let mut scaled = 0.0f32;
        let nothing = sum == 0.0f32;
        if !nothing {
            scaled = value / sum;
        }
        out[row * d_v + channel] = O::cast_from(scaled);
        channel += units;
    }
    if UNIT_POS == 0 {
        let mut total = args.empty;
        let nothing = sum == 0.0f32;
        if !nothing {
            total = max + sum.ln();
        }
        lse[row] = total;
    }
}
