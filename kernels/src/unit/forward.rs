//! Forward: one softmax over everything that a row sees.

use super::rows::*;
use crate::address::{flat, head_at};
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{Role, Rows, bias_of, final_branch, range, ranges, slot_of, tile, zero_keys};
use cubecl::prelude::*;

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
        each,
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
    let across = comptime!(blueprint.across());
    let (unit, part) = (UNIT_POS as usize % across, UNIT_POS as usize / across);
    let held = held(&tile, unit, Rows::Queries, blueprint);
    let q_at = head_at(q, batch, head);
    let own = load_rows::<E>(q, q_at, &held, part, d, blueprint);
    let v_share = comptime!(blueprint.share(d_v));
    let mut acc = zero_rows(v_share, blueprint);

    let mut keys = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut values = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * each * blueprint.units()
    } else {
        1
    }));

    let k_at = head_at(k, batch, head / group);
    let v_at = head_at(v, batch, head / group);
    let drop_key = dropout_key(&args, CUBE_POS_Y);

    let mut max = Array::<f32>::new(each);
    let mut sum = Array::<f32>::new(each);
    let mut own_label = Array::<i32>::new(each);
    let mut row_end = Array::<u32>::new(each);
    let mut last = tile.k_high;
    if comptime!(causal) {
        last = last.min((tile.first + rows as u32).min(tile.q_high));
    }
    #[unroll]
    for r in 0..each {
        max[r] = f32::new(LOWEST);
        sum[r] = 0.0f32;
        own_label[r] = 0i32;
        if comptime!(blueprint.labels) {
            own_label[r] = q_labels[flat(batch, table[2] as usize, held.row[r])];
        }
        let mut end = tile.k_high;
        if comptime!(causal) {
            end = end.min(held.t[r] + 1);
        }
        row_end[r] = select(held.valid[r], end, 0u32);
    }
    let (from_range, to_range) = ranges(table, &tile, head, Rows::Queries, blocks);
    for number in from_range..to_range {
        let (mut begin, high) = range(table, &tile, number, Rows::Queries, blocks);
        let mut end = high.min(last);
        let mut of_range = 0.0f32;
        if comptime!(blueprint.bias) {
            of_range = bias_of(bias, table, batch, head, number, Rows::Queries);
            // A hidden block.
            if of_range == args.empty {
                end = begin;
            }
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
                flat(batch, table[3] as usize, 0u32),
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
                flat(batch, table[3] as usize, 0u32),
                &mut values,
                d_v,
                blueprint,
            );
            if comptime!(blueprint.labels) {
                if UNIT_POS < staged as u32 && UNIT_POS < count {
                    labels[UNIT_POS as usize] =
                        k_labels[flat(batch, table[3] as usize, tile.k_row(begin + UNIT_POS))];
                }
            }
            sync_cube();
            for turn in 0..comptime!(staged / STEP) {
                let from = turn * STEP;
                let met = meet(&keys, from, part, d, blueprint);
                let mut scores = products(&own, &met, &keys, from, part, d, blueprint);
                share_sums(&mut scores, &mut exchange, part, unit, blueprint);
                #[unroll]
                for r in 0..each {
                    let mut seen = Array::<bool>::new(STEP);
                    let mut highest = max[r];
                    #[unroll]
                    for j in 0..STEP {
                        let at = comptime!(r * STEP + j);
                        let index = begin + (from + j) as u32;
                        seen[j] = index < row_end[r].min(end);
                        if comptime!(blueprint.labels) {
                            seen[j] = seen[j] && labels_match(own_label[r], labels[from + j]);
                        }
                        scores[at] = scores[at] * args.scale + of_range;
                        highest = highest.max(select(seen[j], scores[at], f32::new(LOWEST)));
                    }
                    let shrink = (max[r] - highest).exp();
                    max[r] = highest;
                    sum[r] *= shrink;
                    scale_row(&mut acc, r, shrink, v_share);
                    #[unroll]
                    for j in 0..STEP {
                        let at = comptime!(r * STEP + j);
                        let weight = select(seen[j], (scores[at] - highest).exp(), 0.0f32);
                        sum[r] += weight;
                        scores[at] = weight;
                        if comptime!(blueprint.dropout) {
                            let query = held.row[r] + table[0];
                            let key = tile.k_row(begin + (from + j) as u32) + table[1];
                            scores[at] = weight * dropout_factor(&args, drop_key, query, key);
                        }
                    }
                }
                let met = meet(&values, from, part, d_v, blueprint);
                accumulate(&mut acc, &scores, &met, &values, from, part, d_v, blueprint);
            }
            begin += staged as u32;
        }
    }

    let partial_rows = partial_lse.shape(2);
    #[unroll]
    for r in 0..each {
        let row = held.row[r];
        if comptime!(blueprint.zero_keys) {
            let zeros = zero_keys(table, &tile, head, held.t[r]);
            if held.valid[r] && zeros > 0u32 {
                let highest = max[r].max(0.0f32);
                let shrink = (max[r] - highest).exp();
                sum[r] = sum[r] * shrink + f32::cast_from(zeros) * (0.0f32 - highest).exp();
                max[r] = highest;
                scale_row(&mut acc, r, shrink, v_share);
            }
        }

        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            let own_branch = final_branch(table, head);
            for branch in 0..table[4] {
                let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
                if branch != own_branch && here && held.valid[r] {
                    let at = flat(CUBE_POS_Y, partial_rows, slot);
                    let other = partial_lse[at];
                    // A branch of which the row sees nothing left the lowest number.
                    let nothing = other == f32::new(LOWEST);
                    if !nothing {
                        let highest = max[r].max(other);
                        let (shrink, weight) = ((max[r] - highest).exp(), (other - highest).exp());
                        max[r] = highest;
                        sum[r] = sum[r] * shrink + weight;
                        scale_row(&mut acc, r, shrink, v_share);
                        add_row(
                            &mut acc,
                            r,
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

        if held.valid[r] {
            let mut into = row;
            let mut total = args.empty;
            if comptime!(matches!(role, Role::Partial)) {
                into = tile.slot + (unit + comptime!(r * across)) as u32;
                total = f32::new(LOWEST);
            }
            let at = flat(CUBE_POS_Y, lse.shape(2), into);
            let mut factor = 0.0f32;
            // Not by its being greater, or different, which NaN is not in shaders: it stays in sight.
            let nothing = sum[r] == 0.0f32;
            if !nothing {
                factor = 1.0f32 / sum[r];
                total = max[r] + sum[r].ln();
            }
            store_row::<O>(&acc, r, factor, out, at * d_v, part, d_v, blueprint);
            if part == 0 {
                lse[at] = total;
            }
        }
    }
}
