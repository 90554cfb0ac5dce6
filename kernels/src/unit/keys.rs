//! Backward, a pass over keys on the transposed schedule: dk and dv.

use super::rows::*;
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{Role, Rows, bias_index, final_branch, range, ranges, slot_of, tile};
use cubecl::prelude::*;

/// Queries that are met at a time.
const STEP: usize = 4;

/// dk and dv of a tile of keys.
///
/// Partial: for each query head, `[batch, heads, partial rows, d]` and `[.., d_v]` in f32. Final: for each kv
/// head, the sum over its query heads, `[batch, kv_heads, n_k, ..]`, with what the partial launch left added.
///
/// `delta` is `[batch, heads, n_q]`, with `blueprint.detached` `[batch, heads, branch rows]`.
#[cube(launch, create_dummy_kernel, address_type = "dynamic")]
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
    let (unit, part) = (UNIT_POS as usize % rows, UNIT_POS as usize / rows);
    let t = tile.first + unit as u32;
    let valid = t >= tile.k_low && t < tile.k_high;
    let mut row = 0u32;
    if valid {
        row = tile.k_row(t);
    }

    let (b, j) = (batch as usize, row as usize);
    let kv_head = (first_head / group) as usize;
    let k_at = b * k.stride(0) + kv_head * k.stride(1) + j * k.stride(2);
    let v_at = b * v.stride(0) + kv_head * v.stride(1) + j * v.stride(2);
    let own_key = load_row::<E>(k, k_at, part, valid, d, blueprint);
    let own_value = load_row::<E>(v, v_at, part, valid, d_v, blueprint);
    let (share, v_share) = comptime!((blueprint.share(d), blueprint.share(d_v)));
    let mut acc = zero_row(share);
    let mut v_acc = zero_row(v_share);
    let mut own_label = 0i32;
    if comptime!(blueprint.labels) {
        own_label = k_labels[(batch * table[3] + row) as usize];
    }

    let mut queries = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut douts = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut lses = Shared::<[f32]>::new_slice(staged);
    let mut deltas = Shared::<[f32]>::new_slice(staged);
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * blueprint.units()
    } else {
        1
    }));

    for of_group in 0..heads {
        let head = first_head + of_group;
        let flat = (batch * all_heads + head) as usize;
        let q_at = b * q.stride(0) + head as usize * q.stride(1);
        let dout_at = b * dout.stride(0) + head as usize * dout.stride(1);
        let drop_key = dropout_key(&args, batch * all_heads + head);
        let (from_range, to_range) = ranges(table, &tile, head, Rows::Keys, blocks);
        for number in from_range..to_range {
            let (low, end) = range(table, &tile, number, Rows::Keys, blocks);
            let mut begin = low;
            if comptime!(causal) {
                begin = begin.max(tile.first.max(tile.k_low));
            }
            let mut of_range = 0.0f32;
            if comptime!(blueprint.bias) {
                let at = bias_index(table, head, number, Rows::Keys) as usize;
                of_range = bias[b * bias.stride(0) + at];
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
                    flat * lse.shape(2),
                    args.empty,
                    &mut queries,
                    d,
                    blueprint,
                );
                stage_seeing::<E>(
                    dout,
                    dout_at,
                    first,
                    tile.step,
                    count,
                    lse,
                    flat * lse.shape(2),
                    args.empty,
                    &mut douts,
                    d_v,
                    blueprint,
                );
                if UNIT_POS < staged as u32 && UNIT_POS < count {
                    let query = tile.q_row(begin + UNIT_POS);
                    lses[UNIT_POS as usize] = lse[flat * lse.shape(2) + query as usize];
                    let mut of_delta = query;
                    if comptime!(detached) {
                        let (_, slot) = slot_of(table, tile.branch, head, query, Rows::Queries);
                        of_delta = slot;
                    }
                    deltas[UNIT_POS as usize] = delta[flat * delta.shape(2) + of_delta as usize];
                    if comptime!(blueprint.labels) {
                        labels[UNIT_POS as usize] = q_labels[(batch * table[2] + query) as usize];
                    }
                }
                sync_cube();
                for turn in 0..comptime!(staged / STEP) {
                    let from = turn * STEP;
                    let mut scores = products(&own_key, &queries, from, part, d, STEP, blueprint);
                    share_sums(&mut scores, &mut exchange, part, unit, STEP, blueprint);
                    let mut weights =
                        products(&own_value, &douts, from, part, d_v, STEP, blueprint);
                    share_sums(&mut weights, &mut exchange, part, unit, STEP, blueprint);
                    #[unroll]
                    for j in 0..STEP {
                        let index = begin + (from + j) as u32;
                        let mut seen = valid && index < end;
                        if comptime!(causal) {
                            seen = seen && t <= index;
                        }
                        if comptime!(blueprint.labels) {
                            seen = seen && labels_match(labels[from + j], own_label);
                        }
                        let exponent = scores[j] * args.scale + of_range - lses[from + j];
                        let weight = select(seen, exponent.exp(), 0.0f32);
                        let mut factor = 1.0f32;
                        if comptime!(blueprint.dropout) {
                            let query = tile.q_row(index) + table[0];
                            factor = dropout_factor(&args, drop_key, query, row + table[1]);
                        }
                        let dweight = weights[j] * factor - deltas[from + j];
                        scores[j] = select(seen, weight * dweight, 0.0f32);
                        weights[j] = weight * factor;
                    }
                    accumulate(&mut acc, &scores, &queries, from, part, d, STEP, blueprint);
                    accumulate(
                        &mut v_acc, &weights, &douts, from, part, d_v, STEP, blueprint,
                    );
                }
                begin += staged as u32;
            }
        }
    }

    scale_row(&mut acc, args.scale, share);
    if comptime!(matches!(role, Role::Final) && blueprint.merges) {
        let own_branch = final_branch(table, first_head);
        let partial_rows = partial_dk.shape(2);
        for of_group in 0..heads {
            let head = first_head + of_group;
            for branch in 0..table[4] {
                let (here, slot) = slot_of(table, branch, head, row, Rows::Keys);
                if branch != own_branch && here && valid {
                    let at = (batch * all_heads + head) as usize * partial_rows + slot as usize;
                    add_row(&mut acc, 1.0f32, partial_dk, at * d, part, d, blueprint);
                    add_row(
                        &mut v_acc,
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
    if valid {
        let mut at = CUBE_POS_Y as usize * dk.shape(2) + row as usize;
        if comptime!(matches!(role, Role::Partial)) {
            at = CUBE_POS_Y as usize * dk.shape(2) + (tile.slot + unit as u32) as usize;
        }
        store_row::<O>(&acc, 1.0f32, dk, at * d, part, d, blueprint);
        store_row::<O>(&v_acc, 1.0f32, dv, at * d_v, part, d_v, blueprint);
    }
}
