//! The launches of a forward pass.

use super::plan::Shape;
use super::tensors::{address, empty, labels, none, or_none};
use super::{Plan, decode};
use crate::walk::{Role, Rows};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// The tensors of a forward pass. The last axis of each has stride 1.
#[derive(Clone)]
pub struct Forward {
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
    /// Written: `[batch, heads, n_q, d_v]`, contiguous.
    pub out: TensorBinding,
    /// Written: f32 `[batch, heads, n_q]`, contiguous.
    pub lse: TensorBinding,
}

/// Attention over the pairs of the plan's schedule.
pub fn forward(client: &Client, plan: &Plan, tensors: Forward) {
    if plan.decodes() {
        return decode::decode(client, plan, tensors);
    }
    let dtype = plan.dtype;
    let Shape {
        batch, heads, d_v, ..
    } = plan.shape;
    let side = plan.side(Rows::Queries);
    let float = ElemType::Float(FloatKind::F32);
    let launch = |role,
                  tiles: usize,
                  partial: (TensorBinding, TensorBinding),
                  out: &TensorBinding,
                  lse: &TensorBinding| {
        if tiles == 0 || batch * heads == 0 {
            return;
        }
        let Forward { q, k, v, .. } = tensors.clone();
        let size = dtype.size();
        let address = address(&[
            (&q, size),
            (&k, size),
            (&v, size),
            (&partial.0, 4),
            (out, size),
        ]);
        let (q_labels, k_labels) = labels(client, &tensors.labels);
        let types = [dtype, if role == Role::Partial { float } else { dtype }];
        launch!(
            attention,
            plan.queries,
            role,
            client,
            plan.cubes(client, tiles, batch * heads),
            address,
            [
                q.into_tensor_arg(),
                k.into_tensor_arg(),
                v.into_tensor_arg(),
                q_labels,
                k_labels,
                or_none(client, &tensors.bias),
                plan.table_arg(),
                partial.0.into_tensor_arg(),
                partial.1.into_tensor_arg(),
                out.clone().into_tensor_arg(),
                lse.clone().into_tensor_arg(),
                plan.args(tiles),
            ],
            types
        );
    };
    let mut partial = (none(client), none(client));
    if side.partial_tiles > 0 {
        let rows = [batch, heads, side.partial_rows];
        let [a, b, c] = rows;
        partial = (empty(client, [a, b, c, d_v]), empty(client, [a, b, c, 1]));
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
        &tensors.out,
        &tensors.lse,
    );
}
