//! What every pair of a row subtracts in the backward pass.

use cubecl::prelude::*;

/// `delta = <dout, out> - dlse`, one unit a row of `[batch, heads, n_q]`.
#[cube(launch, create_dummy_kernel, address_type = "dynamic")]
pub fn deltas<E: Float>(
    out: &Tensor<E>,
    dout: &Tensor<E>,
    dlse: &Tensor<f32>,
    delta: &mut Tensor<f32>,
    #[comptime] d_v: usize,
    #[define(E)] _type: ElemType,
) {
    let row = ABSOLUTE_POS;
    if row >= delta.len() {
        terminate!();
    }
    let (heads, n) = (delta.shape(1), delta.shape(2));
    let (batch, head, i) = (row / n / heads, row / n % heads, row % n);
    let out_at = batch * out.stride(0) + head * out.stride(1) + i * out.stride(2);
    let dout_at = batch * dout.stride(0) + head * dout.stride(1) + i * dout.stride(2);
    let mut sum = 0.0f32;
    for x in 0..d_v {
        sum = fma(
            f32::cast_from(out[out_at + x]),
            f32::cast_from(dout[dout_at + x]),
            sum,
        );
    }
    delta[row] = sum - dlse[row];
}
