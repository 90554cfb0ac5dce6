//! The launches of a forward pass of few queries against many keys.

use super::plan::Shape;
use super::tensors::{address, empty, labels, or_none};
use super::{Forward, Plan};
use crate::decode::{DecodeBlueprint, decode_chunks, decode_merge};
use cubecl::client::Client;
use cubecl::prelude::*;

/// Up to so many queries the keys are split.
pub(crate) const ROWS: usize = 16;
/// From so many keys on.
pub(crate) const KEYS: usize = 256;

const UNITS: usize = 64;
const CHUNK: usize = 128;
/// Chunks a branch at most: their results are merged one after the other.
const CHUNKS: usize = 64;

/// As [`super::forward`], split over keys.
pub(crate) fn decode(client: &Client, plan: &Plan, tensors: Forward) {
    let (dtype, flags) = (plan.dtype, plan.flags);
    let Shape {
        batch,
        heads,
        d,
        d_v,
        ..
    } = plan.shape;
    let (longest, n_q) = (plan.resident.table.longest, tensors.q.shape[2]);
    // Whole turns of keys; blocks of a list as they are.
    let least = if flags.blocks { 1 } else { CHUNK };
    let share = longest.div_ceil(CHUNKS).next_multiple_of(least).max(1);
    let of_branch = longest.div_ceil(share).max(1);
    let chunks = of_branch * plan.branches;
    let partial_out = empty(client, [batch * heads, n_q, chunks, d_v]);
    let partial_lse = empty(client, [batch * heads, n_q, chunks, 1]);
    let address = address(&[
        (&tensors.q, dtype.size()),
        (&tensors.k, dtype.size()),
        (&tensors.v, dtype.size()),
        (&partial_out, 4),
    ]);
    let (q_labels, k_labels) = labels(client, &tensors.labels);
    decode_chunks::launch(
        client,
        CubeCount::Static(chunks as u32, (batch * heads) as u32, n_q as u32),
        CubeDim::new_1d(UNITS as u32),
        address,
        tensors.q.into_tensor_arg(),
        tensors.k.into_tensor_arg(),
        tensors.v.into_tensor_arg(),
        q_labels,
        k_labels,
        or_none(client, &tensors.bias),
        plan.table_arg(),
        partial_out.clone().into_tensor_arg(),
        partial_lse.clone().into_tensor_arg(),
        plan.args(of_branch),
        share as u32,
        DecodeBlueprint {
            d,
            d_v,
            units: UNITS,
            chunk: CHUNK,
            causal: flags.causal,
            labels: flags.labels,
            dropout: flags.dropout,
            blocks: flags.blocks,
            bias: flags.bias,
        },
        dtype,
    );
    decode_merge::launch(
        client,
        CubeCount::Static(n_q as u32, (batch * heads) as u32, 1),
        CubeDim::new_1d(UNITS as u32),
        address,
        partial_out.into_tensor_arg(),
        partial_lse.into_tensor_arg(),
        tensors.out.into_tensor_arg(),
        tensors.lse.into_tensor_arg(),
        plan.args(of_branch),
        chunks as u32,
        d_v,
        UNITS,
        dtype,
    );
}
