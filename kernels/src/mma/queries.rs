//! Backward, a pass over queries: dq.

use super::blueprint::MmaBlueprint;
use super::cursor::seek;
use super::fragment::*;
use super::mask::*;
use super::rows::*;
use super::stage::*;
use crate::rules::{Args, dropout_factor, dropout_key};
use crate::walk::{
    Role, Rows, bias_index, bias_of, class_of, final_branch, ranges, slot_of, tile, zero_keys,
};
use cubecl::prelude::*;

/// dq of a tile of queries; as [`crate::unit::query_gradients()`], `dq` and `partial` in pairs of channels.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn query_gradients<E: Float, O: Float>(
    q: &Tensor<Eight<E>>,
    k: &Tensor<Eight<E>>,
    v: &Tensor<Eight<E>>,
    dout: &Tensor<Eight<E>>,
    lse: &Tensor<f32>,
    dlse: &Tensor<f32>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial: &Tensor<Pair<f32>>,
    delta: &mut Tensor<f32>,
    dq: &mut Tensor<Pair<O>>,
    dbias: &mut Tensor<f32>,
    args: Args,
    #[comptime] blueprint: MmaBlueprint,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let MmaBlueprint {
        d,
        d_v,
        tiles,
        stage: columns,
        stages,
        resident,
        role,
        causal,
        detached,
        blocks,
        copy_async: ptx,
        ..
    } = comptime!(blueprint);
    let rows = comptime!(blueprint.rows());
    let own_rows = comptime!(tiles * 16);
    let (depth, v_depth) = comptime!((d.div_ceil(16), d_v.div_ceil(16)));
    let (k_line, v_line) = comptime!((blueprint.line(d), blueprint.line(d_v)));

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
    let plane = UNIT_POS / 32;
    let lane = UNIT_POS % 32;
    let own_row = plane as usize * own_rows;
    // Index of the plane's first row, and of the lane's.
    let plane_t = tile.first + plane * own_rows as u32;
    let lane_t = plane_t + lane / 4;

    let mut queries = Shared::<[Eight<E>]>::new_aligned_slice(comptime!(rows * k_line), 16usize);
    let mut douts = Shared::<[Eight<E>]>::new_aligned_slice(comptime!(rows * v_line), 16usize);
    let mut keys =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * k_line), 16usize);
    let mut values =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * v_line), 16usize);
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { 2 * columns } else { 1 }));
    let mut of_planes = Shared::<[f32]>::new_slice(comptime!(blueprint.planes));

    let kv_head = (head / group) as usize;
    let q_rows = rows_of::<E>(q, batch as usize, head as usize);
    let dout_rows = rows_of::<E>(dout, batch as usize, head as usize);
    let k_rows = rows_of::<E>(k, batch as usize, kv_head);
    let v_rows = rows_of::<E>(v, batch as usize, kv_head);

    let on_class = tile.class == class_of(table, tile.branch, head);
    let (q_before, k_before) = (batch * table[2], batch * table[3]);

    let mut last = tile.k_high;
    if comptime!(causal) {
        last = last.min((tile.first + rows as u32).min(tile.q_high));
    }
    let (from_range, to_range) = ranges(table, &tile, head, Rows::Queries, blocks);
    let (first_number, first_begin, first_end) = seek(
        table,
        &tile,
        bias,
        batch,
        head,
        from_range,
        to_range,
        0u32,
        last,
        args.empty,
        Rows::Queries,
        blueprint,
    );

    clear_tail::<E>(&mut queries, rows, d, blueprint);
    clear_tail::<E>(&mut douts, rows, d_v, blueprint);
    clear_tail::<E>(&mut keys, comptime!(stages * columns), d, blueprint);
    clear_tail::<E>(&mut values, comptime!(stages * columns), d_v, blueprint);
    if first_begin < first_end {
        stage::<E>(
            q,
            &q_rows,
            &tile,
            tile.q_start,
            tile.first,
            tile.q_low,
            tile.q_high,
            q_labels,
            0u32,
            lse,
            0usize,
            &mut queries,
            0usize,
            rows,
            d,
            Hides::None,
            blueprint,
        );
        stage::<E>(
            dout,
            &dout_rows,
            &tile,
            tile.q_start,
            tile.first,
            tile.q_low,
            tile.q_high,
            q_labels,
            0u32,
            lse,
            0usize,
            &mut douts,
            0usize,
            rows,
            d_v,
            Hides::None,
            blueprint,
        );
    }
    commit(blueprint);
    arrive(blueprint);
    sync_cube();
    let own = lefts::<E>(&queries, own_row, tiles, depth, k_line, resident);
    let own_douts = lefts::<E>(&douts, own_row, tiles, v_depth, v_line, resident);

    // Of each of the lane's rows, two a tile: minus its lse as an exponent of 2, and its delta.
    let states = comptime!(tiles * 2);
    let mut exponents = Array::<f32>::new(states);
    let mut deltas = Array::<f32>::new(states);
    let flat = CUBE_POS_Y as usize;
    let n_q = lse.shape(2);
    #[unroll]
    for x in 0..states {
        let t = lane_t + (x * 8) as u32;
        exponents[x] = args.empty;
        deltas[x] = 0.0f32;
        if t >= tile.q_low && t < tile.q_high {
            let at = flat * n_q + tile.q_row(t) as usize;
            let value = lse[at];
            // A row that sees nothing has no weights.
            if value > args.empty {
                exponents[x] = value * f32::new(-LOG2_E);
            }
            if comptime!(!detached) {
                deltas[x] = delta[at];
            }
        }
    }
    let own_labels = own_labels(
        q_labels,
        &tile,
        lane_t,
        tile.q_low,
        tile.q_high,
        tile.q_start,
        q_before,
        blueprint,
    );
    let mut acc = zeros(comptime!(tiles * depth * 2));
    let scale = args.scale * f32::new(LOG2_E);
    // What is left to multiply scores with when their bias has been added.
    let mut late = scale;
    if comptime!(blueprint.bias) {
        late = 1.0f32;
    }
    let drop_key = dropout_key(&args, CUBE_POS_Y);

    // Detached needs delta first: sum_j P_ij c_ij <dout_i, v_j> over sum_j P_ij, of this branch.
    #[unroll]
    for sweep in 0..comptime!(if detached { 2usize } else { 1 }) {
        let measures = comptime!(detached && sweep == 0);
        let mut sums = Array::<f32>::new(states);
        let mut weighted = Array::<f32>::new(states);
        #[unroll]
        for x in 0..states {
            sums[x] = 0.0f32;
            weighted[x] = 0.0f32;
        }
        let (mut number, mut begin, mut end) = (first_number, first_begin, first_end);
        let mut at = 0usize;
        let mut labels_at = 0usize;
        // Of the present range, the lane's part of its bias's gradient.
        let mut dof_range = 0.0f32;
        if comptime!(detached) {
            // What the first sweep staged last is still in use.
            sync_cube();
        }
        if begin < end {
            if comptime!(stages == 2) {
                stage_two::<E>(
                    k,
                    v,
                    &k_rows,
                    &v_rows,
                    &tile,
                    tile.k_start,
                    begin,
                    end,
                    k_labels,
                    k_before,
                    lse,
                    0usize,
                    &mut keys,
                    &mut values,
                    0usize,
                    comptime!(Hides::keys(&blueprint)),
                    blueprint,
                );
            }
            let label = staged_label(
                k_labels,
                &tile,
                begin,
                end,
                tile.k_start,
                k_before,
                blueprint,
            );
            leave_label(label, 0usize, &mut labels, blueprint);
        }
        commit(blueprint);
        while begin < end {
            let mut next_number = number;
            let mut next = begin + columns as u32;
            let mut next_end = end;
            if comptime!(blocks) {
                if next >= end {
                    let (a, b, c) = seek(
                        table,
                        &tile,
                        bias,
                        batch,
                        head,
                        number + 1,
                        to_range,
                        0u32,
                        last,
                        args.empty,
                        Rows::Queries,
                        blueprint,
                    );
                    next_number = a;
                    next = b;
                    next_end = c;
                }
            }
            if comptime!(stages == 1) {
                sync_cube();
                stage_two::<E>(
                    k,
                    v,
                    &k_rows,
                    &v_rows,
                    &tile,
                    tile.k_start,
                    begin,
                    end,
                    k_labels,
                    k_before,
                    lse,
                    0usize,
                    &mut keys,
                    &mut values,
                    0usize,
                    comptime!(Hides::keys(&blueprint)),
                    blueprint,
                );
                commit(blueprint);
            }
            arrive(blueprint);
            sync_cube();
            if comptime!(stages == 2) {
                if next < next_end {
                    stage_two::<E>(
                        k,
                        v,
                        &k_rows,
                        &v_rows,
                        &tile,
                        tile.k_start,
                        next,
                        next_end,
                        k_labels,
                        k_before,
                        lse,
                        0usize,
                        &mut keys,
                        &mut values,
                        columns - at,
                        comptime!(Hides::keys(&blueprint)),
                        blueprint,
                    );
                }
                commit(blueprint);
            }
            let next_label = staged_label(
                k_labels,
                &tile,
                next,
                next_end,
                tile.k_start,
                k_before,
                blueprint,
            );

            // Causal: a plane has nothing to do past its last row.
            let mut busy = true;
            if comptime!(causal) {
                busy = begin < plane_t + own_rows as u32;
            }
            if busy {
                let mut scores = products::<E>(
                    &own, &queries, own_row, &keys, at, tiles, columns, depth, k_line, resident,
                );
                if comptime!(blueprint.bias) {
                    let of_range = bias_of(bias, table, batch, head, number, Rows::Queries);
                    add_bias(&mut scores, scale, of_range * f32::new(LOG2_E), blueprint);
                }
                let mut partial = begin + columns as u32 > end;
                if comptime!(causal) {
                    partial = partial || begin + columns as u32 > plane_t + 1;
                }
                if comptime!(blueprint.labels) {
                    partial = true;
                }
                if partial {
                    hide(
                        &mut scores,
                        &own_labels,
                        &labels,
                        labels_at,
                        begin,
                        end,
                        lane_t,
                        args.empty,
                        blueprint,
                    );
                }
                let dweights = products::<E>(
                    &own_douts, &douts, own_row, &values, at, tiles, columns, v_depth, v_line,
                    resident,
                );
                #[unroll]
                for x in 0..states {
                    #[unroll]
                    for n in 0..comptime!(columns / 8) {
                        let which = comptime!(x / 2 * (columns / 8) + n);
                        let dweight = dweights.index(which)[comptime!(x % 2)];
                        let score = scores.index_mut(which);
                        let mut pair = score[comptime!(x % 2)];
                        #[unroll]
                        for c in 0..2usize {
                            let weight = exp2(fma(pair.extract(c), late, exponents[x]), ptx);
                            let mut dweight = dweight.extract(c);
                            if comptime!(blueprint.dropout) {
                                let column = begin + lane % 4 * 2 + (n * 8 + c) as u32;
                                let key = tile.k_row(column) + table[1];
                                let query = tile.q_row(lane_t + (x * 8) as u32) + table[0];
                                dweight *= dropout_factor(&args, drop_key, query, key);
                            }
                            if measures {
                                sums[x] += weight;
                                weighted[x] += weight * dweight;
                            } else {
                                let dscore = weight * (dweight - deltas[x]);
                                if comptime!(blueprint.bias) {
                                    dof_range += dscore;
                                }
                                pair.insert(c, dscore);
                            }
                        }
                        score[comptime!(x % 2)] = pair;
                    }
                }
                if !measures {
                    let weights = as_lefts::<E>(&scores, tiles, columns, ptx);
                    accumulate::<E>(
                        &mut acc, &weights, &keys, at, 0usize, tiles, columns, depth, k_line,
                    );
                }
            }
            if comptime!(blueprint.bias && !measures) {
                if next_number != number || next >= next_end {
                    let sum = plane_sum(dof_range);
                    dof_range = 0.0f32;
                    if lane == 0 {
                        of_planes[plane as usize] = sum;
                    }
                    sync_cube();
                    if UNIT_POS == 0 {
                        let mut sum = 0.0f32;
                        #[unroll]
                        for other in 0..comptime!(blueprint.planes) {
                            sum += of_planes[other];
                        }
                        let place = bias_index(table, head, number, Rows::Queries) as usize;
                        let (places, values) = (dbias.shape(2), dbias.shape(1));
                        dbias[(batch as usize * values + place) * places + tile.within as usize] =
                            sum;
                    }
                }
            }
            if comptime!(stages == 2) {
                at = columns - at;
            }
            labels_at = columns - labels_at;
            leave_label(next_label, labels_at, &mut labels, blueprint);
            number = next_number;
            begin = next;
            end = next_end;
        }
        if measures {
            #[unroll]
            for x in 0..states {
                let t = lane_t + (x * 8) as u32;
                let valid = t >= tile.q_low && t < tile.q_high;
                let mut total = row_sum(sums[x]);
                let mut value = row_sum(weighted[x]);
                if comptime!(blueprint.zero_keys) {
                    let zeros = zero_keys(table, &tile, head, t);
                    if valid && zeros > 0u32 {
                        total += f32::cast_from(zeros) * exp2(exponents[x], ptx);
                    }
                }
                if total > 0.0f32 {
                    value /= total;
                }
                if valid && on_class {
                    value -= dlse[flat * n_q + tile.q_row(t) as usize];
                    if lane % 4 == 0 {
                        let slot = (tile.slot + t - tile.first) as usize;
                        let slots = delta.shape(2);
                        delta[flat * slots + slot] = value;
                    }
                }
                deltas[x] = value;
            }
        }
    }

    #[unroll]
    for x in 0..states {
        let t = lane_t + (x * 8) as u32;
        let valid = t >= tile.q_low && t < tile.q_high;
        let mut row = 0u32;
        if valid {
            row = tile.q_row(t);
        }
        scale_row(&mut acc, args.scale, x, depth);
        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            let own_branch = final_branch(table, head);
            for branch in 0..table[4] {
                let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
                if branch != own_branch && here && valid {
                    let from = flat * partial.shape(2) + slot as usize;
                    add_row(&mut acc, 1.0f32, partial, from * d, 0usize, x, d, depth);
                }
            }
        }
        if valid {
            let mut to = flat * n_q + row as usize;
            if comptime!(matches!(role, Role::Partial)) {
                to = flat * dq.shape(2) + (tile.slot + t - tile.first) as usize;
            }
            store_row::<O>(&acc, 1.0f32, dq, to * d, 0usize, x, d, depth);
        }
    }
}
