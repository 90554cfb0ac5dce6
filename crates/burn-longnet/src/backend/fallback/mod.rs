//! The op in plain tensor ops, for any backend.
//!
//! Branch by branch: the runs of all heads are gathered into padded tiles `[batch, heads, runs, rows,
//! keys]`, computed densely, and merged into the result; of a block mask each block is a run, and the parts
//! of a row or of a key are merged in pairs. Memory is in proportion to the visited pairs of one branch (of
//! the head with the most blocks, for each). Everything is computed in f32, f64 for f64 inputs.

mod bias;
mod branch;
mod collect;
mod tensors;

use crate::ops::{AttentionSpec, Bias, Labels};
use branch::{Branch, Inputs};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use longnet_pattern::MixGradient;
use tensors::{LOW, column, merge, wide};

/// Attention over the pairs of `spec.schedule`: `(out, lse)`. Shapes as in
/// [`SparseAttentionOps`](crate::ops::SparseAttentionOps).
pub fn forward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    labels: Labels<B>,
    bias: Bias<B>,
    spec: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [batch, heads, n_q, _] = q.shape().dims();
    let (device, dtype, d_v) = (q.device(), q.dtype(), v.shape()[3]);
    let inputs = Inputs::<B>::new(q, k, v, labels, bias, spec);
    let float = inputs.dtype.into();
    let mut out = B::float_zeros([batch, heads * n_q, d_v].into(), &device, float);
    let mut lse = B::float_full(
        [batch, heads * n_q, 1].into(),
        f64::NEG_INFINITY.into(),
        &device,
        float,
    );
    for b in 0..spec.schedule.branches() {
        if let Some(branch) = Branch::new(&inputs, b) {
            (out, lse) = merge::<B>((out, lse), branch.forward(&inputs));
        }
    }
    if let Some(zeros) = inputs.zero_keys_lse() {
        let empty = B::float_zeros(out.shape(), &device, float);
        (out, lse) = merge::<B>((out, lse), (empty, zeros));
    }
    let out = B::float_reshape(out, [batch, heads, n_q, d_v].into());
    (
        B::float_cast(out, dtype.into()),
        B::float_reshape(lse, [batch, heads, n_q].into()),
    )
}

/// The gradients of q, k, v and the bias; without a bias that is empty.
pub fn backward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    labels: Labels<B>,
    bias: Bias<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    dout: FloatTensor<B>,
    dlse: FloatTensor<B>,
    spec: &AttentionSpec,
) -> (
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
) {
    let ([batch, heads, n_q, d], [_, kv_heads, n_k, d_v]) =
        (q.shape().dims::<4>(), v.shape().dims::<4>());
    let (device, dtype) = (q.device(), q.dtype());
    let inputs = Inputs::<B>::new(q, k, v, labels, bias, spec);
    let float = inputs.dtype.into();
    let rows = |t: FloatTensor<B>, width| {
        B::float_reshape(wide::<B>(t), [batch, heads * n_q, width].into())
    };
    let (out, dout) = (rows(out, d_v), rows(dout, d_v));
    // -inf where a row sees nothing; its pairs are masked, so any finite value does.
    let lse = B::float_clamp_min(rows(lse, 1), LOW.into());
    let dlse = rows(dlse, 1);
    // Nothing is mixed of a block mask.
    let detached = spec.gradient == MixGradient::Detached && spec.schedule.mask().is_none();
    let delta = (!detached).then(|| B::float_sub(column::<B>(out, dout.clone()), dlse.clone()));
    let mut dq = B::float_zeros([batch, heads * n_q, d].into(), &device, float);
    // Per query head; summed over the heads that share a kv head at the end.
    let mut dk = B::float_zeros([batch, heads * n_k, d].into(), &device, float);
    let mut dv = B::float_zeros([batch, heads * n_k, d_v].into(), &device, float);
    let empty = match &inputs.bias {
        Some(bias) => B::float_zeros(bias.shape(), &device, float),
        None => B::float_empty([0].into(), &device, float),
    };
    let mut dbias = None;
    for b in 0..spec.schedule.branches() {
        if let Some(branch) = Branch::new(&inputs, b) {
            let grads = branch.backward(&inputs, &dout, &lse, &dlse, delta.as_ref());
            dq = B::float_add(dq, grads.q);
            dk = B::float_add(dk, grads.k);
            dv = B::float_add(dv, grads.v);
            // Only a block mask has a bias, and one branch.
            dbias = grads.bias;
        }
    }
    let group = heads / kv_heads;
    let share = |t: FloatTensor<B>, width| {
        let t = B::float_reshape(t, [batch, kv_heads, group, n_k, width].into());
        let t = B::float_reshape(B::float_sum_dim(t, 2), [batch, kv_heads, n_k, width].into());
        B::float_cast(t, dtype.into())
    };
    let dq = B::float_cast(
        B::float_reshape(dq, [batch, heads, n_q, d].into()),
        dtype.into(),
    );
    (dq, share(dk, d), share(dv, d_v), dbias.unwrap_or(empty))
}
