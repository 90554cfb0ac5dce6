//! Forward: one softmax over everything that a row sees.

use super::rows::*;
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{Role, Rows, bias_index, final_branch, range, ranges, slot_of, tile, zero_keys};
use cubecl::prelude::*;

/// Keys that are met at a time.
const STEP: usize = 4;

/// Out and lse of a tile of queries.
///
/// Partial: `out` `[batch, heads, partial rows, d_v]` and `lse` without its last axis. Final: `out`
/// `[batch, heads, n_q, d_v]`, merged with what the partial launch left in `partial_out` and
/// `partial_lse`.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn attention<E: Float, O: Float>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial_out: &Tensor<f32>,
    partial_lse: &Tensor<f32>,
    out: &mut Tensor<O>,
    lse: &mut Tensor<f32>,
    args: Args,
    #[comptime] blueprint: Blueprint,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let Blueprint {
        d,
        d_v,
        rows,
        stage: staged,
        role,
        causal,
        blocks,
        ..
    } = comptime!(blueprint);
    let (heads, group) = (table[5], table[6]);
    let (batch, head) = (CUBE_POS_Y / heads, CUBE_POS_Y % heads);
    let number = CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X;
    if number >= args.tiles {
        terminate!();
    }
    // The last rows of a causal sequence see most: they go first.
    let tile = tile(
        table,
        args.tiles - 1 - number,
        head,
        rows as u32,
        Rows::Queries,
        role,
        blocks,
    );
    if !tile.exists {
        terminate!();
    }
    let (unit, part) = (UNIT_POS as usize % rows, UNIT_POS as usize / rows);
    let t = tile.first + unit as u32;
    let valid = t >= tile.q_low && t < tile.q_high;
    let mut row = 0u32;
    if valid {
        row = tile.q_row(t);
    }

    let q_at =
        batch as usize * q.stride(0) + head as usize * q.stride(1) + row as usize * q.stride(2);
    let own = load_row::<E>(q, q_at, part, valid, d, blueprint);
    let (mut max, mut sum) = (f32::new(LOWEST), 0.0f32);
    let v_share = comptime!(blueprint.share(d_v));
    let mut acc = zero_row(v_share);

    let mut keys = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut values = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * blueprint.units()
    } else {
        1
    }));

    let kv_head = (head / group) as usize;
    let k_at = batch as usize * k.stride(0) + kv_head * k.stride(1);
    let v_at = batch as usize * v.stride(0) + kv_head * v.stride(1);
    let mut own_label = 0i32;
    if comptime!(blueprint.labels) {
        own_label = q_labels[(batch * table[2] + row) as usize];
    }
    let drop_key = dropout_key(&args, CUBE_POS_Y);

    let mut last = tile.k_high;
    let mut row_end = tile.k_high;
    if comptime!(causal) {
        last = last.min((tile.first + rows as u32).min(tile.q_high));
        row_end = row_end.min(t + 1);
    }
    if !valid {
        row_end = 0u32;
    }
    let (from_range, to_range) = ranges(table, &tile, head, Rows::Queries, blocks);
    for number in from_range..to_range {
        let (mut begin, high) = range(table, &tile, number, Rows::Queries, blocks);
        let end = high.min(last);
        let mut of_range = 0.0f32;
        if comptime!(blueprint.bias) {
            let at = bias_index(table, head, number, Rows::Queries) as usize;
            of_range = bias[batch as usize * bias.stride(0) + at];
        }
        while begin < end {
            sync_cube();
            let (first, count) = (tile.k_row(begin), end - begin);
            stage::<E>(
                k,
                k_at,
                first,
                tile.step,
                count,
                k_labels,
                batch * table[3],
                &mut keys,
                d,
                blueprint,
            );
            stage::<E>(
                v,
                v_at,
                first,
                tile.step,
                count,
                k_labels,
                batch * table[3],
                &mut values,
                d_v,
                blueprint,
            );
            if comptime!(blueprint.labels) {
                if UNIT_POS < staged as u32 && UNIT_POS < count {
                    labels[UNIT_POS as usize] =
                        k_labels[(batch * table[3] + tile.k_row(begin + UNIT_POS)) as usize];
                }
            }
            sync_cube();
            for turn in 0..comptime!(staged / STEP) {
                let from = turn * STEP;
                let mut scores = products(&own, &keys, from, part, d, STEP, blueprint);
                share_sums(&mut scores, &mut exchange, part, unit, STEP, blueprint);
                let mut seen = Array::<bool>::new(STEP);
                let mut highest = max;
                #[unroll]
                for j in 0..STEP {
                    let index = begin + (from + j) as u32;
                    seen[j] = index < row_end.min(end);
                    if comptime!(blueprint.labels) {
                        seen[j] = seen[j] && labels_match(own_label, labels[from + j]);
                    }
                    scores[j] = scores[j] * args.scale + of_range;
                    highest = highest.max(select(seen[j], scores[j], f32::new(LOWEST)));
                }
                let shrink = (max - highest).exp();
                max = highest;
                sum *= shrink;
                scale_row(&mut acc, shrink, v_share);
                #[unroll]
                for j in 0..STEP {
                    let weight = select(seen[j], (scores[j] - max).exp(), 0.0f32);
                    sum += weight;
                    scores[j] = weight;
                    if comptime!(blueprint.dropout) {
                        let key = tile.k_row(begin + (from + j) as u32) + table[1];
                        scores[j] = weight * dropout_factor(&args, drop_key, row + table[0], key);
                    }
                }
                accumulate(&mut acc, &scores, &values, from, part, d_v, STEP, blueprint);
            }
            begin += staged as u32;
        }
    }

    if comptime!(blueprint.zero_keys) {
        let zeros = zero_keys(table, &tile, head, t);
        if valid && zeros > 0u32 {
            let highest = max.max(0.0f32);
            let shrink = (max - highest).exp();
            sum = sum * shrink + f32::cast_from(zeros) * (0.0f32 - highest).exp();
            max = highest;
            scale_row(&mut acc, shrink, v_share);
        }
    }

    let partial_rows = partial_lse.shape(2);
    if comptime!(matches!(role, Role::Final) && blueprint.merges) {
        let own_branch = final_branch(table, head);
        for branch in 0..table[4] {
            let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
            if branch != own_branch && here && valid {
                let at = CUBE_POS_Y as usize * partial_rows + slot as usize;
                let other = partial_lse[at];
                // A branch of which the row sees nothing left the lowest number.
                let nothing = other == f32::new(LOWEST);
                if !nothing {
                    let highest = max.max(other);
                    let (shrink, weight) = ((max - highest).exp(), (other - highest).exp());
                    max = highest;
                    sum = sum * shrink + weight;
                    scale_row(&mut acc, shrink, v_share);
                    add_row(
                        &mut acc,
                        weight,
                        partial_out,
                        at * d_v,
                        part,
                        d_v,
                        blueprint,
                    );
                }
            }
        }
    }

    if valid {
        let mut at = CUBE_POS_Y as usize * lse.shape(2) + row as usize;
        let mut total = args.empty;
        if comptime!(matches!(role, Role::Partial)) {
            at = CUBE_POS_Y as usize * lse.shape(2) + (tile.slot + unit as u32) as usize;
            total = f32::new(LOWEST);
        }
        let mut factor = 0.0f32;
        // Not by its being greater, or different, which NaN is not in shaders: it stays in sight.
        let nothing = sum == 0.0f32;
        if !nothing {
            factor = 1.0f32 / sum;
            total = max + sum.ln();
        }
        store_row::<O>(&acc, factor, out, at * d_v, part, d_v, blueprint);
        if part == 0 {
            lse[at] = total;
        }
    }
}
