//! Backward, a pass over queries: dq.

use super::rows::*;
use crate::address::{flat, head_at};
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{
    Role, Rows, bias_index, bias_of, class_of, final_branch, range, ranges, slot_of, tile,
    zero_keys,
};
use cubecl::prelude::*;

/// dq of a tile of queries.
///
/// Partial: `dq` `[batch, heads, partial rows, d]` in f32. Final: `[batch, heads, n_q, d]`, with what the
/// partial launch left in `partial` added.
///
/// `delta` is read, `[batch, heads, n_q]`; but with `blueprint.detached` it is written, one value a row and
/// branch: `[batch, heads, branch rows]`, from `dlse`.
///
/// `dbias` `[batch, blocks, tiles a query block]` has the sums of dS over each tile's part of a listed block.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn query_gradients<E: Float, O: Float>(
    q: &Tensor<E>,
    k: &Tensor<E>,
    v: &Tensor<E>,
    dout: &Tensor<E>,
    lse: &Tensor<f32>,
    dlse: &Tensor<f32>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial: &Tensor<f32>,
    delta: &mut Tensor<f32>,
    dq: &mut Tensor<O>,
    dbias: &mut Tensor<f32>,
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
    let (heads, group) = (table[5], table[6]);
    let (batch, head) = (CUBE_POS_Y / heads, CUBE_POS_Y % heads);
    let number = CUBE_POS_Z * CUBE_COUNT_X + CUBE_POS_X;
    if number >= args.tiles {
        terminate!();
    }
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
    let on_class = tile.class == class_of(table, tile.branch, head);

    let own = load_rows::<E>(q, head_at(q, batch, head), &held, part, d, blueprint);
    let own_dout = load_rows::<E>(
        dout,
        head_at(dout, batch, head),
        &held,
        part,
        d_v,
        blueprint,
    );
    let share = comptime!(blueprint.share(d));
    let mut acc = zero_rows(share, blueprint);

    let mut keys = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut values = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * each * blueprint.units()
    } else {
        1
    }));

    let mut of_rows =
        Shared::<[f32]>::new_slice(comptime!(if blueprint.bias { across } else { 1 }));

    let k_at = head_at(k, batch, head / group);
    let v_at = head_at(v, batch, head / group);
    let drop_key = dropout_key(&args, CUBE_POS_Y);

    let mut own_lse = Array::<f32>::new(each);
    let mut own_delta = Array::<f32>::new(each);
    let mut own_label = Array::<i32>::new(each);
    let mut row_end = Array::<u32>::new(each);
    let mut last = tile.k_high;
    if comptime!(causal) {
        last = last.min((tile.first + rows as u32).min(tile.q_high));
    }
    #[unroll]
    for r in 0..each {
        let at = flat(CUBE_POS_Y, lse.shape(2), held.row[r]);
        own_lse[r] = lse[at];
        own_delta[r] = 0.0f32;
        if comptime!(!detached) {
            own_delta[r] = delta[at];
        }
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

    // Detached needs delta first: sum_j P_ij c_ij <dout_i, v_j> over sum_j P_ij, of this branch.
    #[unroll]
    for sweep in 0..comptime!(if detached { 2usize } else { 1 }) {
        let measures = comptime!(detached && sweep == 0);
        let mut weights = Array::<f32>::new(each);
        let mut weighted = Array::<f32>::new(each);
        #[unroll]
        for r in 0..each {
            weights[r] = 0.0f32;
            weighted[r] = 0.0f32;
        }
        for number in from_range..to_range {
            let (mut begin, high) = range(table, &tile, number, Rows::Queries, blocks);
            let mut end = high.min(last);
            let mut of_range = 0.0f32;
            let mut dof_range = 0.0f32;
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
                    let met_values = meet(&values, from, part, d_v, blueprint);
                    let mut dweights =
                        products(&own_dout, &met_values, &values, from, part, d_v, blueprint);
                    share_sums(&mut dweights, &mut exchange, part, unit, blueprint);
                    #[unroll]
                    for r in 0..each {
                        #[unroll]
                        for j in 0..STEP {
                            let at = comptime!(r * STEP + j);
                            let index = begin + (from + j) as u32;
                            let mut seen = index < row_end[r].min(end);
                            if comptime!(blueprint.labels) {
                                seen = seen && labels_match(own_label[r], labels[from + j]);
                            }
                            let exponent = scores[at] * args.scale + of_range - own_lse[r];
                            let weight = select(seen, exponent.exp(), 0.0f32);
                            let mut dweight = dweights[at];
                            if comptime!(blueprint.dropout) {
                                let query = held.row[r] + table[0];
                                let key = tile.k_row(index) + table[1];
                                dweight *= dropout_factor(&args, drop_key, query, key);
                            }
                            if measures {
                                weights[r] += weight;
                                weighted[r] += select(seen, weight * dweight, 0.0f32);
                            } else {
                                let dscore = weight * (dweight - own_delta[r]);
                                scores[at] = select(seen, dscore, 0.0f32);
                                dof_range += scores[at];
                            }
                        }
                    }
                    if !measures {
                        accumulate(&mut acc, &scores, &met, &keys, from, part, d, blueprint);
                    }
                }
                begin += staged as u32;
            }
            if comptime!(blueprint.bias && !measures) {
                sync_cube();
                if part == 0 {
                    of_rows[unit] = dof_range;
                }
                sync_cube();
                if UNIT_POS == 0 {
                    let mut sum = 0.0f32;
                    for other in 0..across {
                        sum += of_rows[other];
                    }
                    let at = bias_index(table, head, number, Rows::Queries) as usize;
                    let (places, values) = (dbias.shape(2), dbias.shape(1));
                    dbias[(batch as usize * values + at) * places + tile.within as usize] = sum;
                }
            }
        }
        if measures {
            #[unroll]
            for r in 0..each {
                if comptime!(blueprint.zero_keys) {
                    let zeros = zero_keys(table, &tile, head, held.t[r]);
                    if held.valid[r] && zeros > 0u32 {
                        weights[r] += f32::cast_from(zeros) * (0.0f32 - own_lse[r]).exp();
                    }
                }
                if weights[r] > 0.0f32 {
                    own_delta[r] = weighted[r] / weights[r];
                }
                own_delta[r] -= dlse[flat(CUBE_POS_Y, lse.shape(2), held.row[r])];
                if held.valid[r] && on_class && part == 0 {
                    let slot = tile.slot + (unit + comptime!(r * across)) as u32;
                    let at = flat(CUBE_POS_Y, delta.shape(2), slot);
                    delta[at] = own_delta[r];
                }
            }
        }
    }

    let partial_rows = partial.shape(2);
    #[unroll]
    for r in 0..each {
        let row = held.row[r];
        scale_row(&mut acc, r, args.scale, share);
        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            let own_branch = final_branch(table, head);
            for branch in 0..table[4] {
                let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
                if branch != own_branch && here && held.valid[r] {
                    let at = flat(CUBE_POS_Y, partial_rows, slot);
                    add_row(&mut acc, r, 1.0f32, partial, at * d, part, d, blueprint);
                }
            }
        }
        if held.valid[r] {
            let mut into = row;
            if comptime!(matches!(role, Role::Partial)) {
                into = tile.slot + (unit + comptime!(r * across)) as u32;
            }
            let at = flat(CUBE_POS_Y, dq.shape(2), into);
            store_row::<O>(&acc, r, 1.0f32, dq, at * d, part, d, blueprint);
        }
    }
}
