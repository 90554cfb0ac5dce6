//! The small kernels around the backward pass: what every pair of a row subtracts, and sums of a bias's
//! gradient.

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

/// Zeros.
#[cube(launch, create_dummy_kernel, address_type = "dynamic")]
pub fn zeros(x: &mut [f32]) {
    if ABSOLUTE_POS < x.len() {
        x[ABSOLUTE_POS] = 0.0f32;
    }
}

/// The gradient of a bias: `sums` `[batch, blocks, tiles]` over tiles, and over the batch where `dbias`
/// `[1 or batch, blocks]` has one row for all.
#[cube(launch, create_dummy_kernel, address_type = "dynamic")]
pub fn sum_bias(sums: &Tensor<f32>, dbias: &mut Tensor<f32>) {
    if ABSOLUTE_POS >= dbias.len() {
        terminate!();
    }
    let (values, tiles) = (sums.shape(1), sums.shape(2));
    let (row, value) = (ABSOLUTE_POS / values, ABSOLUTE_POS % values);
    let rows = sums.shape(0) / dbias.shape(0);
    let mut sum = 0.0f32;
    for batch in row * rows..row * rows + rows {
        for tile in 0..tiles {
            sum += sums[(batch * values + value) * tiles + tile];
        }
    }
    dbias[ABSOLUTE_POS] = sum;
}
