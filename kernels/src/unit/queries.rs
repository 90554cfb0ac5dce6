//! Backward, a pass over queries: dq.

use super::rows::*;
use crate::blueprint::Blueprint;
use crate::rules::{Args, dropout_factor, dropout_key, labels_match};
use crate::walk::{
    Role, Rows, bias_index, class_of, final_branch, range, ranges, slot_of, tile, zero_keys,
};
use cubecl::prelude::*;

/// Keys that are met at a time.
const STEP: usize = 4;

/// dq of a tile of queries.
///
/// Partial: `dq` `[batch, heads, partial rows, d]` in f32. Final: `[batch, heads, n_q, d]`, with what the
/// partial launch left in `partial` added.
///
/// `delta` is read, `[batch, heads, n_q]`; but with `blueprint.detached` it is written, one value a row and
/// branch: `[batch, heads, branch rows]`, from `dlse`.
///
/// `dbias` `[batch, blocks, tiles a query block]` has the sums of dS over each tile's part of a listed block.
#[cube(launch, create_dummy_kernel, address_type = "dynamic")]
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
    let (unit, part) = (UNIT_POS as usize % rows, UNIT_POS as usize / rows);
    let t = tile.first + unit as u32;
    let valid = t >= tile.q_low && t < tile.q_high;
    let mut row = 0u32;
    if valid {
        row = tile.q_row(t);
    }
    let on_class = tile.class == class_of(table, tile.branch, head);

    let (b, h, i) = (batch as usize, head as usize, row as usize);
    let q_at = b * q.stride(0) + h * q.stride(1) + i * q.stride(2);
    let dout_at = b * dout.stride(0) + h * dout.stride(1) + i * dout.stride(2);
    let own = load_row::<E>(q, q_at, part, valid, d, blueprint);
    let own_dout = load_row::<E>(dout, dout_at, part, valid, d_v, blueprint);
    let flat = CUBE_POS_Y as usize * lse.shape(2) + i;
    let own_lse = lse[flat];
    let mut own_delta = 0.0f32;
    if comptime!(!detached) {
        own_delta = delta[flat];
    }
    let share = comptime!(blueprint.share(d));
    let mut acc = zero_row(share);

    let mut keys = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d)));
    let mut values = Shared::<[Four]>::new_slice(comptime!(staged * blueprint.padded(d_v)));
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { staged } else { 1 }));
    let mut exchange = Shared::<[f32]>::new_slice(comptime!(if blueprint.split > 1 {
        STEP * blueprint.units()
    } else {
        1
    }));

    let mut of_rows = Shared::<[f32]>::new_slice(comptime!(if blueprint.bias { rows } else { 1 }));

    let kv_head = (head / group) as usize;
    let k_at = b * k.stride(0) + kv_head * k.stride(1);
    let v_at = b * v.stride(0) + kv_head * v.stride(1);
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

    // Detached needs delta first: sum_j P_ij c_ij <dout_i, v_j> over sum_j P_ij, of this branch.
    #[unroll]
    for sweep in 0..comptime!(if detached { 2usize } else { 1 }) {
        let measures = comptime!(detached && sweep == 0);
        let mut weights = 0.0f32;
        let mut weighted = 0.0f32;
        for number in from_range..to_range {
            let (mut begin, high) = range(table, &tile, number, Rows::Queries, blocks);
            let end = high.min(last);
            let mut of_range = 0.0f32;
            let mut dof_range = 0.0f32;
            if comptime!(blueprint.bias) {
                let at = bias_index(table, head, number, Rows::Queries) as usize;
                of_range = bias[b * bias.stride(0) + at];
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
                    let mut dweights =
                        products(&own_dout, &values, from, part, d_v, STEP, blueprint);
                    share_sums(&mut dweights, &mut exchange, part, unit, STEP, blueprint);
                    #[unroll]
                    for j in 0..STEP {
                        let index = begin + (from + j) as u32;
                        let mut seen = index < row_end.min(end);
                        if comptime!(blueprint.labels) {
                            seen = seen && labels_match(own_label, labels[from + j]);
                        }
                        let weight = select(
                            seen,
                            (scores[j] * args.scale + of_range - own_lse).exp(),
                            0.0f32,
                        );
                        let mut dweight = dweights[j];
                        if comptime!(blueprint.dropout) {
                            let key = tile.k_row(index) + table[1];
                            dweight *= dropout_factor(&args, drop_key, row + table[0], key);
                        }
                        if measures {
                            weights += weight;
                            weighted += select(seen, weight * dweight, 0.0f32);
                        } else {
                            scores[j] = select(seen, weight * (dweight - own_delta), 0.0f32);
                            dof_range += scores[j];
                        }
                    }
                    if !measures {
                        accumulate(&mut acc, &scores, &keys, from, part, d, STEP, blueprint);
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
                    for other in 0..rows {
                        sum += of_rows[other];
                    }
                    let at = bias_index(table, head, number, Rows::Queries) as usize;
                    let (places, values) = (dbias.shape(2), dbias.shape(1));
                    dbias[(b * values + at) * places + tile.within as usize] = sum;
                }
            }
        }
        if measures {
            if comptime!(blueprint.zero_keys) {
                let zeros = zero_keys(table, &tile, head, t);
                if valid && zeros > 0u32 {
                    weights += f32::cast_from(zeros) * (0.0f32 - own_lse).exp();
                }
            }
            if weights > 0.0f32 {
                own_delta = weighted / weights;
            }
            own_delta -= dlse[flat];
            if valid && on_class && part == 0 {
                let slots = delta.shape(2);
                let slot = (tile.slot + unit as u32) as usize;
                delta[CUBE_POS_Y as usize * slots + slot] = own_delta;
            }
        }
    }

    scale_row(&mut acc, args.scale, share);
    if comptime!(matches!(role, Role::Final) && blueprint.merges) {
        let own_branch = final_branch(table, head);
        let partial_rows = partial.shape(2);
        for branch in 0..table[4] {
            let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
            if branch != own_branch && here && valid {
                let at = CUBE_POS_Y as usize * partial_rows + slot as usize;
                add_row(&mut acc, 1.0f32, partial, at * d, part, d, blueprint);
            }
        }
    }
    if valid {
        let mut at = flat;
        if comptime!(matches!(role, Role::Partial)) {
            at = CUBE_POS_Y as usize * dq.shape(2) + (tile.slot + unit as u32) as usize;
        }
        store_row::<O>(&acc, 1.0f32, dq, at * d, part, d, blueprint);
    }
}
