//! Backward, a pass over keys on the transposed schedule: dk and dv.

use super::rows::*;
use crate::address::{flat, head_at};
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{Role, Rows, bias_of, final_branch, range, ranges, slot_of, tile};
use cubecl::prelude::*;

/// dk and dv of a tile of keys.
///
/// Partial: for each query head, `[batch, heads, partial rows, d]` and `[.., d_v]` in f32. Final: for each kv
/// head, the sum over its query heads, `[batch, kv_heads, n_k, ..]`, with what the partial launch left added.
///
/// `delta` is `[batch, heads, n_q]`, with `blueprint.detached` `[batch, heads, branch rows]`.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn key_gradients<E: Float, O: Float>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    dout: &Tensor<E>,
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial_dk: &Tensor<f32>,
    partial_dv: &Tensor<f32>,
    dk: &mut Tensor<O>,
    dv: &mut Tensor<O>,
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
        detached,
        blocks,
        ..
    } = comptime!(blueprint);
    let (all_heads, group) = (table[5], table[6]);
    let number = CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X;
    if number >= args.tiles {
        terminate!();
    }
    // Query heads of this cube: one of them, or all of a kv head.
    let mut heads = 1u32;
    if comptime!(matches!(role, Role::Final)) {
        heads = group;
    }
    let per_batch = all_heads / heads;
    let (batch, first_head) = (CUBE_POS_Y / per_batch, CUBE_POS_Y % per_batch * heads);
    let tile = tile(
        table,
        number,
        first_head,
        rows as u32,
        Rows::Keys,
        role,
        blocks,
    );
    if !tile.exists {
        terminate!();
    }
    let across = comptime!(blueprint.across());
    let (unit, part) = (UNIT_POS as usize % across, UNIT_POS as usize / across);
    let held = held(&tile, unit, Rows::Keys, blueprint);
    let kv_head = first_head / group;
    let own_key = load_rows::<E>(k, head_at(k, batch, kv_head), &held, part, d, blueprint);
    let own_value = load_rows::<E>(v, head_at(v, batch, kv_head), &held, part, d_v, blueprint);
    let (share, v_share) = comptime!((blueprint.share(d), blueprint.share(d_v)));
    let mut acc = zero_rows(share, blueprint);
    let mut v_acc = zero_rows(v_share, blueprint);
    let mut own_label = Array::<i32>::new(each);
    #[unroll]
    for r in 0..each {
        own_label[r] = 0i32;
        if comptime!(blueprint.labels) {
            own_label[r] = k_labels[flat(batch, table[3] as usize, held.row[r])];
        }
    }

    let mut queries = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut douts = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut lses = Shared::<[f32]>::new_slice(staged);
    let mut deltas = Shared::<[f32]>::new_slice(staged);
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * each * blueprint.units()
    } else {
        1
    }));

    for of_group in 0..heads {
        let head = first_head + of_group;
        let of_all = batch * all_heads + head;
        let q_at = head_at(q, batch, head);
        let dout_at = head_at(dout, batch, head);
        let lse_at = flat(of_all, lse.shape(2), 0u32);
        let drop_key = dropout_key(&args, of_all);
        let (from_range, to_range) = ranges(table, &tile, head, Rows::Keys, blocks);
        for number in from_range..to_range {
            let (low, end) = range(table, &tile, number, Rows::Keys, blocks);
            let mut begin = low;
            if comptime!(causal) {
                begin = begin.max(tile.first.max(tile.k_low));
            }
            let mut of_range = 0.0f32;
            if comptime!(blueprint.bias) {
                of_range = bias_of(bias, table, batch, head, number, Rows::Keys);
                // A hidden block.
                if of_range == args.empty {
                    begin = end;
                }
            }
            while begin < end {
                sync_cube();
                let (first, count) = (tile.q_row(begin), end - begin);
                stage_seeing::<E>(
                    q,
                    q_at,
                    first,
                    tile.step,
                    count,
                    lse,
                    lse_at,
                    args.empty,
                    &mut queries,
                    d,
                    blueprint,
                );
                stage_seeing::<E>(
                    dout, dout_at, first, tile.step, count, lse, lse_at, args.empty, &mut douts,
                    d_v, blueprint,
                );
                if UNIT_POS < staged as u32 && UNIT_POS < count {
                    let query = tile.q_row(begin + UNIT_POS);
                    lses[UNIT_POS as usize] = lse[lse_at + query as usize];
                    let mut of_delta = query;
                    if comptime!(detached) {
                        let (_, slot) = slot_of(table, tile.branch, head, query, Rows::Queries);
                        of_delta = slot;
                    }
                    deltas[UNIT_POS as usize] = delta[flat(of_all, delta.shape(2), of_delta)];
                    if comptime!(blueprint.labels) {
                        labels[UNIT_POS as usize] = q_labels[flat(batch, table[2] as usize, query)];
                    }
                }
                sync_cube();
                for turn in 0..comptime!(staged / STEP) {
                    let from = turn * STEP;
                    let met = meet(&queries, from, part, d, blueprint);
                    let mut scores = products(&own_key, &met, &queries, from, part, d, blueprint);
                    share_sums(&mut scores, &mut exchange, part, unit, blueprint);
                    let met_douts = meet(&douts, from, part, d_v, blueprint);
                    let mut weights =
                        products(&own_value, &met_douts, &douts, from, part, d_v, blueprint);
                    share_sums(&mut weights, &mut exchange, part, unit, blueprint);
                    #[unroll]
                    for j in 0..STEP {
                        let index = begin + (from + j) as u32;
                        let (of_lse, of_delta) = (lses[from + j], deltas[from + j]);
                        #[unroll]
                        for r in 0..each {
                            let at = comptime!(r * STEP + j);
                            let mut seen = held.valid[r] && index < end;
                            if comptime!(causal) {
                                seen = seen && held.t[r] <= index;
                            }
                            if comptime!(blueprint.labels) {
                                seen = seen && labels_match(labels[from + j], own_label[r]);
                            }
                            let exponent = scores[at] * args.scale + of_range - of_lse;
                            let weight = select(seen, exponent.exp(), 0.0f32);
                            let mut factor = 1.0f32;
                            if comptime!(blueprint.dropout) {
                                let query = tile.q_row(index) + table[0];
                                let key = held.row[r] + table[1];
                                factor = dropout_factor(&args, drop_key, query, key);
                            }
                            let dweight = weights[at] * factor - of_delta;
                            scores[at] = select(seen, weight * dweight, 0.0f32);
                            weights[at] = weight * factor;
                        }
                    }
                    accumulate(&mut acc, &scores, &met, &queries, from, part, d, blueprint);
                    accumulate(
                        &mut v_acc, &weights, &met_douts, &douts, from, part, d_v, blueprint,
                    );
                }
                begin += staged as u32;
            }
        }
    }

    let partial_rows = partial_dk.shape(2);
    #[unroll]
    for r in 0..each {
        let row = held.row[r];
        scale_row(&mut acc, r, args.scale, share);
        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            let own_branch = final_branch(table, first_head);
            for of_group in 0..heads {
                let head = first_head + of_group;
                for branch in 0..table[4] {
                    let (here, slot) = slot_of(table, branch, head, row, Rows::Keys);
                    if branch != own_branch && here && held.valid[r] {
                        let at = flat(batch * all_heads + head, partial_rows, slot);
                        add_row(&mut acc, r, 1.0f32, partial_dk, at * d, part, d, blueprint);
                        add_row(
                            &mut v_acc,
                            r,
                            1.0f32,
                            partial_dv,
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
            if comptime!(matches!(role, Role::Partial)) {
                into = tile.slot + (unit + comptime!(r * across)) as u32;
            }
            let at = flat(CUBE_POS_Y, dk.shape(2), into);
            store_row::<O>(&acc, r, 1.0f32, dk, at * d, part, d, blueprint);
            store_row::<O>(&v_acc, r, 1.0f32, dv, at * d_v, part, d_v, blueprint);
        }
    }
}
