//! The launches of a backward pass.

use super::Plan;
use super::plan::Shape;
use super::tensors::{address, empty, labels, none, or_none};
use crate::unit::{deltas, sum_bias, zeros};
use crate::walk::{Role, Rows};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// The tensors of a backward pass. The last axis of each has stride 1.
#[derive(Clone)]
pub struct Backward {
    /// `[batch, heads, n_q, d]`
    pub q: TensorBinding,
    /// `[batch, kv_heads, n_k, d]`
    pub k: TensorBinding,
    /// `[batch, kv_heads, n_k, d_v]`
    pub v: TensorBinding,
    /// i32 `[batch, n_q]` and `[batch, n_k]`, contiguous.
    pub labels: Option<(TensorBinding, TensorBinding)>,
    /// f32 `[batch, blocks]`, of stride 0 along the batch where it has one row for all.
    pub bias: Option<TensorBinding>,
    /// `[batch, heads, n_q, d_v]`
    pub out: TensorBinding,
    /// f32 `[batch, heads, n_q]`, contiguous.
    pub lse: TensorBinding,
    /// As `out`.
    pub dout: TensorBinding,
    /// As `lse`.
    pub dlse: TensorBinding,
    /// Written: the gradient of `q`, contiguous.
    pub dq: TensorBinding,
    /// Written: the gradient of `k`, contiguous.
    pub dk: TensorBinding,
    /// Written: the gradient of `v`, contiguous.
    pub dv: TensorBinding,
    /// Written: the gradient of `bias`, f32 `[1 or batch, blocks]`, contiguous.
    pub dbias: Option<TensorBinding>,
}

const FLOAT: ElemType = ElemType::Float(FloatKind::F32);

/// The gradients of q, k and v.
pub fn backward(client: &Client, plan: &Plan, tensors: Backward) {
    let rows = match plan.flags.detached {
        true => plan.side(Rows::Queries).branch_rows,
        false => tensors.q.shape[2],
    };
    let delta = empty(client, [plan.shape.batch, plan.shape.heads, rows, 1]);
    if !plan.flags.detached {
        of_rows(client, plan, &tensors, &delta);
    }
    of_queries(client, plan, &tensors, &delta);
    of_keys(client, plan, &tensors, &delta);
}

fn of_rows(client: &Client, plan: &Plan, tensors: &Backward, delta: &TensorBinding) {
    let rows = delta.size();
    if rows == 0 {
        return;
    }
    let Backward {
        out, dout, dlse, ..
    } = tensors.clone();
    let size = plan.dtype.size();
    let dim = CubeDim::new_1d(64);
    let cubes = rows.div_ceil(64);
    deltas::launch(
        client,
        spread(client, cubes),
        dim,
        address(&[(&out, size), (&dout, size), (delta, 4)]),
        out.into_tensor_arg(),
        dout.into_tensor_arg(),
        dlse.into_tensor_arg(),
        delta.clone().into_tensor_arg(),
        plan.shape.d_v,
        plan.dtype,
    );
}

/// `cubes` cubes, or a few more, within what the device takes along an axis.
fn spread(client: &Client, cubes: usize) -> CubeCount {
    let widest = (client.properties().hardware.max_cube_count.0 as usize).min(1 << 30);
    let x = cubes.min(widest);
    CubeCount::Static(x as u32, cubes.div_ceil(x) as u32, 1)
}

fn of_queries(client: &Client, plan: &Plan, tensors: &Backward, delta: &TensorBinding) {
    let dtype = plan.dtype;
    let Shape {
        batch, heads, d, ..
    } = plan.shape;
    let side = plan.side(Rows::Queries);
    let sums = bias_sums(client, plan, tensors);
    let launch = |role, tiles: usize, partial: TensorBinding, dq: &TensorBinding| {
        if tiles == 0 || batch * heads == 0 {
            return;
        }
        let Backward {
            q,
            k,
            v,
            dout,
            lse,
            dlse,
            ..
        } = tensors.clone();
        let size = dtype.size();
        let address = address(&[
            (&q, size),
            (&k, size),
            (&v, size),
            (&dout, size),
            (&partial, 4),
            (dq, size),
        ]);
        let (q_labels, k_labels) = labels(client, &tensors.labels);
        let types = [dtype, if role == Role::Partial { FLOAT } else { dtype }];
        launch!(
            query_gradients,
            plan.queries,
            role,
            client,
            plan.cubes(client, tiles, batch * heads),
            address,
            [
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                dout.into_tensor_arg(),
                lse.into_tensor_arg(),
                dlse.into_tensor_arg(),
                q_labels,
                k_labels,
                or_none(client, &tensors.bias),
                plan.table_arg(),
                partial.into_tensor_arg(),
                delta.clone().into_tensor_arg(),
                dq.clone().into_tensor_arg(),
                sums.clone().into_tensor_arg(),
                plan.args(tiles),
            ],
            types
        );
    };
    let mut partial = none(client);
    if side.partial_tiles > 0 {
        partial = empty(client, [batch, heads, side.partial_rows, d]);
        launch(Role::Partial, side.partial_tiles, none(client), &partial);
    }
    launch(Role::Final, side.final_tiles, partial, &tensors.dq);
    if let Some(dbias) = tensors.dbias.clone()
        && dbias.size() > 0
    {
        let cubes = dbias.size().div_ceil(64);
        sum_bias::launch(
            client,
            spread(client, cubes),
            CubeDim::new_1d(64),
            address(&[(&sums, 4)]),
            sums.into_tensor_arg(),
            dbias.into_tensor_arg(),
        );
    }
}

/// Where tiles leave their sums of dS over a listed block: zeros, since a span may not reach every block.
fn bias_sums(client: &Client, plan: &Plan, tensors: &Backward) -> TensorBinding {
    let Some(dbias) = tensors.dbias.as_ref().filter(|dbias| dbias.size() > 0) else {
        return none(client);
    };
    let sums = empty(
        client,
        [plan.shape.batch, dbias.shape[1], plan.tiles_a_block(), 1],
    );
    zeros::launch(
        client,
        spread(client, sums.size().div_ceil(64)),
        CubeDim::new_1d(64),
        address(&[(&sums, 4)]),
        sums.clone().into_buffer_arg(),
    );
    sums
}

fn of_keys(client: &Client, plan: &Plan, tensors: &Backward, delta: &TensorBinding) {
    let dtype = plan.dtype;
    let Shape {
        batch,
        heads,
        kv_heads,
        d,
        d_v,
    } = plan.shape;
    let side = plan.side(Rows::Keys);
    let launch = |role: Role,
                  tiles: usize,
                  partial: (TensorBinding, TensorBinding),
                  dk: &TensorBinding,
                  dv: &TensorBinding| {
        let heads = match role {
            Role::Partial => heads,
            Role::Final => kv_heads,
        };
        if tiles == 0 || batch * heads == 0 {
            return;
        }
        let Backward {
            q, k, v, dout, lse, ..
        } = tensors.clone();
        let size = dtype.size();
        let address = address(&[
            (&q, size),
            (&k, size),
            (&v, size),
            (&dout, size),
            (&partial.0, 4),
            (&partial.1, 4),
            (dk, size),
            (dv, size),
        ]);
        let (q_labels, k_labels) = labels(client, &tensors.labels);
        let types = [dtype, if role == Role::Partial { FLOAT } else { dtype }];
        launch!(
            key_gradients,
            plan.keys,
            role,
            client,
            plan.cubes(client, tiles, batch * heads),
            address,
            [
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                dout.into_tensor_arg(),
                lse.into_tensor_arg(),
                delta.clone().into_tensor_arg(),
                q_labels,
                k_labels,
                or_none(client, &tensors.bias),
                plan.table_arg(),
                partial.0.into_tensor_arg(),
                partial.1.into_tensor_arg(),
                dk.clone().into_tensor_arg(),
                dv.clone().into_tensor_arg(),
                plan.args(tiles),
            ],
            types
        );
    };
    let mut partial = (none(client), none(client));
    if side.partial_tiles > 0 {
        let partial_rows = |width| empty(client, [batch, heads, side.partial_rows, width]);
        partial = (partial_rows(d), partial_rows(d_v));
        let nothing = (none(client), none(client));
        launch(
            Role::Partial,
            side.partial_tiles,
            nothing,
            &partial.0,
            &partial.1,
        );
    }
    launch(
        Role::Final,
        side.final_tiles,
        partial,
        &tensors.dk,
        &tensors.dv,
    );
}
