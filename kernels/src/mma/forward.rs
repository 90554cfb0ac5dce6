//! Forward: one softmax over everything that a row sees.

use super::blueprint::MmaBlueprint;
use super::cursor::seek;
use super::fragment::*;
use super::mask::*;
use super::rows::*;
use super::stage::*;
use crate::rules::{Args, dropout_factor, dropout_key};
use crate::walk::{Role, Rows, bias_of, final_branch, ranges, slot_of, tile, zero_keys};
use cubecl::prelude::*;

/// Out and lse of a tile of queries; as [`crate::unit::attention()`], `out` and `partial_out` in pairs of
/// channels.
#[cube(
    launch,
    launch_unchecked,
    create_dummy_kernel,
    address_type = "dynamic"
)]
pub fn attention<E: Float, O: Float>(
    q: &Tensor<Eight<E>>,
    k: &Tensor<Eight<E>>,
    v: &Tensor<Eight<E>>,
    q_labels: &[i32],
    k_labels: &[i32],
    bias: &Tensor<f32>,
    table: &[u32],
    partial_out: &Tensor<Pair<f32>>,
    partial_lse: &Tensor<f32>,
    out: &mut Tensor<Pair<O>>,
    lse: &mut Tensor<f32>,
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
    let mut keys =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * k_line), 16usize);
    let mut values =
        Shared::<[Eight<E>]>::new_aligned_slice(comptime!(stages * columns * v_line), 16usize);
    let mut labels =
        Shared::<[i32]>::new_slice(comptime!(if blueprint.labels { 2 * columns } else { 1 }));

    let kv_head = (head / group) as usize;
    let q_rows = rows_of::<E>(q, batch as usize, head as usize);
    let k_rows = rows_of::<E>(k, batch as usize, kv_head);
    let v_rows = rows_of::<E>(v, batch as usize, kv_head);

    let (q_before, k_before) = (batch * table[2], batch * table[3]);

    let mut last = tile.k_high;
    if comptime!(causal) {
        last = last.min((tile.first + rows as u32).min(tile.q_high));
    }
    let (from_range, to_range) = ranges(table, &tile, head, Rows::Queries, blocks);
    let (number, begin, end) = seek(
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
    let (mut number, mut begin, mut end) = (number, begin, end);

    clear_tail::<E>(&mut queries, rows, d, blueprint);
    clear_tail::<E>(&mut keys, comptime!(stages * columns), d, blueprint);
    clear_tail::<E>(&mut values, comptime!(stages * columns), d_v, blueprint);
    if begin < end {
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
            partial_lse,
            0usize,
            &mut queries,
            0usize,
            rows,
            d,
            Hides::None,
            blueprint,
        );
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
                partial_lse,
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
    arrive(blueprint);
    sync_cube();
    let own = lefts::<E>(&queries, own_row, tiles, depth, k_line, resident);

    // Of each of the lane's rows: two a tile.
    let states = comptime!(tiles * 2);
    let mut max = Array::<f32>::new(states);
    let mut sum = Array::<f32>::new(states);
    #[unroll]
    for x in 0..states {
        max[x] = args.empty;
        sum[x] = 0.0f32;
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
    let mut acc = zeros(comptime!(tiles * v_depth * 2));
    let scale = args.scale * f32::new(LOG2_E);
    // What is left to multiply scores with when their maximum is known.
    let mut late = scale;
    if comptime!(blueprint.bias) {
        late = 1.0f32;
    }
    let drop_key = dropout_key(&args, CUBE_POS_Y);

    let mut at = 0usize;
    let mut labels_at = 0usize;
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
                partial_lse,
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
                    partial_lse,
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
                let of_range =
                    bias_of(bias, table, batch, head, number, Rows::Queries) * f32::new(LOG2_E);
                add_bias(&mut scores, scale, of_range, blueprint);
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
            #[unroll]
            for x in 0..states {
                let mut highest = max[x];
                #[unroll]
                for n in 0..comptime!(columns / 8) {
                    let pair = scores.index(comptime!(x / 2 * (columns / 8) + n))[comptime!(x % 2)];
                    highest = highest.max(pair.extract(0usize)).max(pair.extract(1usize));
                }
                highest = row_max(highest);
                // Of a row that has seen nothing yet, any number does: its weights are 0.
                let from = select(highest == args.empty, 0.0f32, highest * late);
                let shrink = exp2(fma(max[x], late, -from), ptx);
                max[x] = highest;
                let mut total = sum[x] * shrink;
                #[unroll]
                for n in 0..comptime!(columns / 8) {
                    let score = scores.index_mut(comptime!(x / 2 * (columns / 8) + n));
                    let mut pair = score[comptime!(x % 2)];
                    #[unroll]
                    for c in 0..2usize {
                        let mut weight = exp2(fma(pair.extract(c), late, -from), ptx);
                        total += weight;
                        if comptime!(blueprint.dropout) {
                            let column = begin + lane % 4 * 2 + (n * 8 + c) as u32;
                            let key = tile.k_row(column) + table[1];
                            let query = tile.q_row(lane_t + (x * 8) as u32) + table[0];
                            weight *= dropout_factor(&args, drop_key, query, key);
                        }
                        pair.insert(c, weight);
                    }
                    score[comptime!(x % 2)] = pair;
                }
                sum[x] = total;
                #[unroll]
                for n in 0..comptime!(v_depth * 2) {
                    let o = acc.index_mut(comptime!(x / 2 * v_depth * 2 + n));
                    o[comptime!(x % 2)] *= Pair::new(shrink);
                }
            }
            let weights = as_lefts::<E>(&scores, tiles, columns, ptx);
            accumulate::<E>(
                &mut acc, &weights, &values, at, 0usize, tiles, columns, v_depth, v_line,
            );
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

    let partial_rows = partial_lse.shape(2);
    let flat = CUBE_POS_Y as usize;
    #[unroll]
    for x in 0..states {
        let t = lane_t + (x * 8) as u32;
        let valid = t >= tile.q_low && t < tile.q_high;
        let mut row = 0u32;
        if valid {
            row = tile.q_row(t);
        }
        let mut total = row_sum(sum[x]);
        // From here on the maximum is one of exponents of 2.
        let mut high = select(max[x] == args.empty, args.empty, max[x] * late);
        let mut factor = 1.0f32;
        if comptime!(blueprint.zero_keys) {
            let zeros = zero_keys(table, &tile, head, t);
            if valid && zeros > 0u32 {
                let highest = high.max(0.0f32);
                factor = exp2(high - highest, ptx);
                total = total * factor + f32::cast_from(zeros) * exp2(0.0f32 - highest, ptx);
                high = highest;
            }
        }
        if comptime!(matches!(role, Role::Final) && blueprint.merges) {
            scale_row(&mut acc, factor, x, v_depth);
            factor = 1.0f32;
            let own_branch = final_branch(table, head);
            for branch in 0..table[4] {
                let (here, slot) = slot_of(table, branch, head, row, Rows::Queries);
                if branch != own_branch && here && valid {
                    let from = flat * partial_rows + slot as usize;
                    let other = partial_lse[from];
                    // A branch of which the row sees nothing left the lowest number.
                    let nothing = other == f32::MIN;
                    if !nothing {
                        let other = other * f32::new(LOG2_E);
                        let highest = high.max(other);
                        let (shrink, weight) =
                            (exp2(high - highest, ptx), exp2(other - highest, ptx));
                        high = highest;
                        total = total * shrink + weight;
                        scale_row(&mut acc, shrink, x, v_depth);
                        add_row(
                            &mut acc,
                            weight,
                            partial_out,
                            from * d_v,
                            0usize,
                            x,
                            d_v,
                            v_depth,
                        );
                    }
                }
            }
        }
        if valid {
            let mut to = flat * lse.shape(2) + row as usize;
            let mut value = args.empty;
            if comptime!(matches!(role, Role::Partial)) {
                to = flat * lse.shape(2) + (tile.slot + t - tile.first) as usize;
                value = f32::MIN;
            }
            let nothing = total == 0.0f32;
            if !nothing {
                factor /= total;
                value = high * f32::new(std::f32::consts::LN_2) + total.ln();
            } else {
                factor = 0.0f32;
            }
            store_row::<O>(&acc, factor, out, to * d_v, 0usize, x, d_v, v_depth);
            if lane % 4 == 0 {
                lse[to] = value;
            }
        }
    }
}
