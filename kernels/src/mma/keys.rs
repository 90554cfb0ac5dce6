//! Backward, a pass over keys on the transposed schedule: dk and dv.

use super::blueprint::MmaBlueprint;
use super::cursor::seek;
use super::fragment::*;
use super::mask::*;
use super::rows::*;
use super::stage::*;
use crate::rules::{Args, dropout_factor, dropout_key};
use crate::walk::{Role, Rows, Tile, bias_of, final_branch, ranges, slot_of, tile};
use cubecl::prelude::*;

/// What two neighbouring queries bring beside their rows.
#[derive(CubeType, Clone, Copy)]
struct Aside {
    /// Minus their lse as an exponent of 2: minus infinity where there is no query, or one without weights.
    exponents: Pair<f32>,
    deltas: Pair<f32>,
    label: i32,
    next_label: i32,
}

/// Of the queries `2 UNIT_POS` and the next, from index `begin` on.
#[cube]
fn aside(
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    q_labels: &[i32],
    table: &[u32],
    tile: &Tile,
    batch: u32,
    head: u32,
    begin: u32,
    end: u32,
    empty: f32,
    #[comptime] blueprint: MmaBlueprint,
) -> Aside {
    let flat = (batch * table[5] + head) as usize;
    let mut exponents = Pair::<f32>::new(empty);
    let mut deltas = Pair::<f32>::new(0.0f32);
    let mut labels = Array::<i32>::new(2usize);
    #[unroll]
    for c in 0..2usize {
        labels[c] = 0i32;
        let t = begin + UNIT_POS * 2 + c as u32;
        if UNIT_POS < comptime!(blueprint.stage as u32 / 2) && t < end {
            let query = tile.q_row(t);
            let value = lse[flat * lse.shape(2) + query as usize];
            let nothing = value == empty;
            if !nothing {
                exponents.insert(c, value * f32::new(-LOG2_E));
            }
            let mut of_delta = query;
            if comptime!(blueprint.detached) {
                let (_, slot) = slot_of(table, tile.branch, head, query, Rows::Queries);
                of_delta = slot;
            }
            deltas.insert(c, delta[flat * delta.shape(2) + of_delta as usize]);
            if comptime!(blueprint.labels) {
                labels[c] = q_labels[(batch * table[2] + query) as usize];
            }
        }
    }
    Aside {
        exponents,
        deltas,
        label: labels[0],
        next_label: labels[1],
    }
}

/// Leaves them to the cube at staged row `at` and on.
#[cube]
fn leave(
    aside: &Aside,
    at: usize,
    exponents: &mut Shared<[Pair<f32>]>,
    deltas: &mut Shared<[Pair<f32>]>,
    labels: &mut Shared<[i32]>,
    #[comptime] blueprint: MmaBlueprint,
) {
    if UNIT_POS < comptime!(blueprint.stage as u32 / 2) {
        let unit = UNIT_POS as usize;
        exponents[at / 2 + unit] = aside.exponents;
        deltas[at / 2 + unit] = aside.deltas;
        if comptime!(blueprint.labels) {
            labels[at + unit * 2] = aside.label;
            labels[at + unit * 2 + 1] = aside.next_label;
        }
    }
}

/// dk and dv of a tile of keys; as [`crate::unit::key_gradients()`], the results and what is merged in pairs of
/// channels.
///
/// Scores are computed transposed, keys as rows: weights and their gradients are then the left operands of
/// the products with dout and q.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn key_gradients<E: Float, O: Float>(
    q: &Tensor<Eight<E>>,
    k: &Tensor<Eight<E>>,
    v: &Tensor<Eight<E>>,
    dout: &Tensor<Eight<E>>,
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial_dk: &Tensor<Pair<f32>>,
    partial_dv: &Tensor<Pair<f32>>,
    dk: &mut Tensor<Pair<O>>,
    dv: &mut Tensor<Pair<O>>,
    args: Args,
    #[comptime] blueprint: MmaBlueprint,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let MmaBlueprint {
        d,
        d_v,
        tiles,
        share,
        stage: columns,
        stages,
        resident,
        role,
        causal,
        blocks,
        copy_async: ptx,
        ..
    } = comptime!(blueprint);
    let rows = comptime!(blueprint.rows());
    let own_rows = comptime!(tiles * 16);
    let (depth, v_depth) = comptime!((d.div_ceil(16), d_v.div_ceil(16)));
    let (part, v_part) = comptime!((blueprint.part(d), blueprint.part(d_v)));
    let (k_line, v_line) = comptime!((blueprint.line(d), blueprint.line(d_v)));

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
    let plane = UNIT_POS / 32;
    let lane = UNIT_POS % 32;
    let own_row = (plane / share as u32) as usize * own_rows;
    // Groups of 16 channels before those that the plane accumulates.
    let before = (plane % share as u32) as usize * part;
    let v_before = (plane % share as u32) as usize * v_part;
    // Index of the plane's first row, and of the lane's.
    let plane_t = tile.first + own_row as u32;
    let lane_t = plane_t + lane / 4;

    let mut keys = Shared::<[Eight<E>]>::new_aligned_slice(comptime!(rows * k_line), 16usize);
    let mut values = Shared::<[Eight<E>]>::new_aligned_slice(comptime!(rows * v_line), 16usize);
    let mut queries =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * k_line), 16usize);
    let mut douts =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * v_line), 16usize);
    // Two stages of these in any case.
    let mut exponents = Shared::<[Pair<f32>]>::new_slice(columns);
    let mut deltas = Shared::<[Pair<f32>]>::new_slice(columns);
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { 2 * columns } else { 1 }));

    let kv_head = (first_head / group) as usize;
    let k_rows = rows_of::<E>(k, batch as usize, kv_head);
    let v_rows = rows_of::<E>(v, batch as usize, kv_head);
    let k_before = batch * table[3];
    clear_tail::<E>(&mut keys, rows, d, blueprint);
    clear_tail::<E>(&mut values, rows, d_v, blueprint);
    clear_tail::<E>(&mut queries, comptime!(stages * columns), d, blueprint);
    clear_tail::<E>(&mut douts, comptime!(stages * columns), d_v, blueprint);
    stage::<E>(
        k,
        &k_rows,
        &tile,
        tile.k_start,
        tile.first,
        tile.k_low,
        tile.k_high,
        k_labels,
        k_before,
        lse,
        0usize,
        &mut keys,
        0usize,
        rows,
        d,
        comptime!(Hides::keys(&blueprint)),
        blueprint,
    );
    stage::<E>(
        v,
        &v_rows,
        &tile,
        tile.k_start,
        tile.first,
        tile.k_low,
        tile.k_high,
        k_labels,
        k_before,
        lse,
        0usize,
        &mut values,
        0usize,
        rows,
        d_v,
        comptime!(Hides::keys(&blueprint)),
        blueprint,
    );
    commit(blueprint);
    arrive(blueprint);
    sync_cube();
    let own = lefts::<E>(&keys, own_row, tiles, depth, k_line, resident);
    let own_values = lefts::<E>(&values, own_row, tiles, v_depth, v_line, resident);
    let own_labels = own_labels(
        k_labels,
        &tile,
        lane_t,
        tile.k_low,
        tile.k_high,
        tile.k_start,
        k_before,
        blueprint,
    );
    let mut acc = zeros(comptime!(tiles * part * 2));
    let mut v_acc = zeros(comptime!(tiles * v_part * 2));
    let scale = args.scale * f32::new(LOG2_E);
    // What is left to multiply scores with when their bias has been added.
    let mut late = scale;
    if comptime!(blueprint.bias) {
        late = 1.0f32;
    }
    // Causal: queries before the first key see none of them.
    let mut low = 0u32;
    if comptime!(causal) {
        low = tile.first.max(tile.k_low);
    }

    for of_group in 0..heads {
        let head = first_head + of_group;
        let q_rows = rows_of::<E>(q, batch as usize, head as usize);
        let dout_rows = rows_of::<E>(dout, batch as usize, head as usize);
        let drop_key = dropout_key(&args, batch * all_heads + head);
        let lse_at = (batch * all_heads + head) as usize * lse.shape(2);
        let (from_range, to_range) = ranges(table, &tile, head, Rows::Keys, blocks);
        let (number, begin, end) = seek(
            table,
            &tile,
            bias,
            batch,
            head,
            from_range,
            to_range,
            low,
            tile.q_high,
            args.empty,
            Rows::Keys,
            blueprint,
        );
        let (mut number, mut begin, mut end) = (number, begin, end);
        let mut at = 0usize;
        let mut aside_at = 0usize;
        // The last queries of the head before are still in use.
        sync_cube();
        if begin < end {
            if comptime!(stages == 2) {
                stage_two::<E>(
                    q,
                    dout,
                    &q_rows,
                    &dout_rows,
                    &tile,
                    tile.q_start,
                    begin,
                    end,
                    q_labels,
                    0u32,
                    lse,
                    lse_at,
                    &mut queries,
                    &mut douts,
                    0usize,
                    comptime!(Hides::queries(&blueprint)),
                    blueprint,
                );
            }
            let aside = aside(
                lse, delta, q_labels, table, &tile, batch, head, begin, end, args.empty, blueprint,
            );
            leave(
                &aside,
                0usize,
                &mut exponents,
                &mut deltas,
                &mut labels,
                blueprint,
            );
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
                        low,
                        tile.q_high,
                        args.empty,
                        Rows::Keys,
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
                    q,
                    dout,
                    &q_rows,
                    &dout_rows,
                    &tile,
                    tile.q_start,
                    begin,
                    end,
                    q_labels,
                    0u32,
                    lse,
                    lse_at,
                    &mut queries,
                    &mut douts,
                    0usize,
                    comptime!(Hides::queries(&blueprint)),
                    blueprint,
                );
                commit(blueprint);
            }
            arrive(blueprint);
            sync_cube();
            if comptime!(stages == 2) {
                if next < next_end {
                    stage_two::<E>(
                        q,
                        dout,
                        &q_rows,
                        &dout_rows,
                        &tile,
                        tile.q_start,
                        next,
                        next_end,
                        q_labels,
                        0u32,
                        lse,
                        lse_at,
                        &mut queries,
                        &mut douts,
                        columns - at,
                        comptime!(Hides::queries(&blueprint)),
                        blueprint,
                    );
                }
                commit(blueprint);
            }
            // Loaded now, left to the cube when the present ones are done with.
            let to_come = aside(
                lse, delta, q_labels, table, &tile, batch, head, next, next_end, args.empty,
                blueprint,
            );

            // Causal: a plane has nothing to do before its first key.
            let mut busy = true;
            if comptime!(causal) {
                busy = begin + columns as u32 > plane_t;
            }
            if busy {
                let mut scores = products::<E>(
                    &own, &keys, own_row, &queries, at, tiles, columns, depth, k_line, resident,
                );
                if comptime!(blueprint.bias) {
                    let of_range = bias_of(bias, table, batch, head, number, Rows::Keys);
                    add_bias(&mut scores, scale, of_range * f32::new(LOG2_E), blueprint);
                }
                let mut partial = false;
                if comptime!(causal) {
                    partial = begin + 1 < plane_t + own_rows as u32;
                }
                if comptime!(blueprint.labels) {
                    partial = true;
                }
                if partial {
                    hide_transposed(
                        &mut scores,
                        &own_labels,
                        &labels,
                        aside_at,
                        begin,
                        lane_t,
                        args.empty,
                        blueprint,
                    );
                }
                // Weights as they are for the gradient of the scores; with dropout for dv.
                let mut kept = zeros(comptime!(if blueprint.dropout {
                    tiles * columns / 8
                } else {
                    0
                }));
                #[unroll]
                for n in 0..comptime!(columns / 8) {
                    let minus = exponents[aside_at / 2 + n * 4 + (lane % 4) as usize];
                    #[unroll]
                    for x in 0..comptime!(tiles * 2) {
                        let which = comptime!(x / 2 * (columns / 8) + n);
                        let score = scores.index_mut(which);
                        let mut pair = score[comptime!(x % 2)];
                        #[unroll]
                        for c in 0..2usize {
                            let exponent = fma(pair.extract(c), late, minus.extract(c));
                            pair.insert(c, exp2(exponent, ptx));
                        }
                        score[comptime!(x % 2)] = pair;
                        if comptime!(blueprint.dropout) {
                            #[unroll]
                            for c in 0..2usize {
                                let column = begin + lane % 4 * 2 + (n * 8 + c) as u32;
                                let query = tile.q_row(column) + table[0];
                                let key = tile.k_row(lane_t + (x * 8) as u32) + table[1];
                                let factor = dropout_factor(&args, drop_key, query, key);
                                pair.insert(c, factor);
                            }
                            let factors = kept.index_mut(which);
                            factors[comptime!(x % 2)] = pair;
                        }
                    }
                }
                if comptime!(blueprint.dropout) {
                    let mut dropped = zeros(comptime!(tiles * columns / 8));
                    #[unroll]
                    for which in 0..comptime!(tiles * columns / 8) {
                        let into = dropped.index_mut(which);
                        #[unroll]
                        for i in 0..2usize {
                            into[i] = scores.index(which)[i] * kept.index(which)[i];
                        }
                    }
                    let weights = as_lefts::<E>(&dropped, tiles, columns, ptx);
                    accumulate::<E>(
                        &mut v_acc, &weights, &douts, at, v_before, tiles, columns, v_part, v_line,
                    );
                } else {
                    let weights = as_lefts::<E>(&scores, tiles, columns, ptx);
                    accumulate::<E>(
                        &mut v_acc, &weights, &douts, at, v_before, tiles, columns, v_part, v_line,
                    );
                }
                let mut dweights = products::<E>(
                    &own_values,
                    &values,
                    own_row,
                    &douts,
                    at,
                    tiles,
                    columns,
                    v_depth,
                    v_line,
                    resident,
                );
                #[unroll]
                for n in 0..comptime!(columns / 8) {
                    let own_deltas = deltas[aside_at / 2 + n * 4 + (lane % 4) as usize];
                    #[unroll]
                    for x in 0..comptime!(tiles * 2) {
                        let which = comptime!(x / 2 * (columns / 8) + n);
                        let weight = scores.index(which)[comptime!(x % 2)];
                        let into = dweights.index_mut(which);
                        let mut dweight = into[comptime!(x % 2)];
                        if comptime!(blueprint.dropout) {
                            dweight *= kept.index(which)[comptime!(x % 2)];
                        }
                        into[comptime!(x % 2)] = weight * (dweight - own_deltas);
                    }
                }
                let dscores = as_lefts::<E>(&dweights, tiles, columns, ptx);
                accumulate::<E>(
                    &mut acc, &dscores, &queries, at, before, tiles, columns, part, k_line,
                );
            }
            if comptime!(stages == 2) {
                at = columns - at;
            }
            aside_at = columns - aside_at;
            leave(
                &to_come,
                aside_at,
                &mut exponents,
                &mut deltas,
                &mut labels,
                blueprint,
            );
            number = next_number;
            begin = next;
            end = next_end;
        }
    }

    #[unroll]
    for x in 0..comptime!(tiles * 2) {
        let t = lane_t + (x * 8) as u32;
        let valid = t >= tile.k_low && t < tile.k_high;
        let mut row = 0u32;
        if valid {
            row = tile.k_row(t);
        }
        scale_row(&mut acc, args.scale, x, part);
        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            let own_branch = final_branch(table, first_head);
            let partial_rows = partial_dk.shape(2);
            for of_group in 0..heads {
                let head = first_head + of_group;
                for branch in 0..table[4] {
                    let (here, slot) = slot_of(table, branch, head, row, Rows::Keys);
                    if branch != own_branch && here && valid {
                        let from =
                            (batch * all_heads + head) as usize * partial_rows + slot as usize;
                        add_row(&mut acc, 1.0f32, partial_dk, from * d, before, x, d, part);
                        add_row(
                            &mut v_acc,
                            1.0f32,
                            partial_dv,
                            from * d_v,
                            v_before,
                            x,
                            d_v,
                            v_part,
                        );
                    }
                }
            }
        }
        if valid {
            let mut to = CUBE_POS_Y as usize * dk.shape(2) + row as usize;
            if comptime!(matches!(role, Role::Partial)) {
                to = CUBE_POS_Y as usize * dk.shape(2) + (tile.slot + t - tile.first) as usize;
            }
            store_row::<O>(&acc, 1.0f32, dk, to * d, before, x, d, part);
            store_row::<O>(&v_acc, 1.0f32, dv, to * d_v, v_before, x, d_v, v_part);
        }
    }
}
