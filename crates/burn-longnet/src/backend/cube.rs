//! CubeCL's backends (CUDA, ROCm, Vulkan, Metal, WebGPU): `burn-longnet-kernels`, and the tensor-op
//! fallback for what they decline.

use super::fallback;
use crate::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_elem_type;
use burn::backend::ops::IntTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::TensorBinding;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_longnet_kernels::launch::{
    Backward, Forward, Pass, Plan, Problem, tuned_backward, tuned_forward,
};
use burn_longnet_kernels::mma::aligned;

const TAKEN: &str = "the kernels have taken this problem";

impl SparseAttentionOps for CubeBackend {
    fn sparse_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        labels: Labels<Self>,
        bias: Bias<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Some(problem) = taken(Pass::Forward, &q, &k, &v, &labels, &bias, &[], &spec) else {
            return fallback::forward::<Self>(q, k, v, labels, bias, &spec);
        };
        let [batch, heads, n_q, _] = q.shape().dims();
        let out = empty(&q, [batch, heads, n_q, v.shape()[3]], q.dtype);
        let lse = empty(&q, [batch, heads, n_q], DType::F32);
        let client = q.client.clone();
        let tensors = Forward {
            q: rows(q),
            k: rows(k),
            v: rows(v),
            labels: label_rows(labels),
            bias: bias_rows(bias, batch),
            out: out.clone().binding(),
            lse: lse.clone().binding(),
        };
        tuned_forward(&client, problem, tensors).expect(TAKEN);
        (out, lse)
    }

    fn sparse_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        labels: Labels<Self>,
        bias: Bias<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        dout: FloatTensor<Self>,
        dlse: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let Some(problem) = taken(
            Pass::Backward,
            &q,
            &k,
            &v,
            &labels,
            &bias,
            &[&out, &dout],
            &spec,
        ) else {
            return fallback::backward::<Self>(q, k, v, labels, bias, out, lse, dout, dlse, &spec);
        };
        let [dq, dk, dv] = [&q, &k, &v].map(|t| empty(t, t.shape(), t.dtype));
        let (client, batch) = (q.client.clone(), q.shape()[0]);
        // A bias that is absent has a gradient without elements.
        let (dbias, has_bias) = match &bias {
            Bias::None => (empty(&q, [0], DType::F32), false),
            Bias::Blocks(bias) => (empty(&q, bias.shape(), DType::F32), true),
        };
        let tensors = Backward {
            q: rows(q),
            k: rows(k),
            v: rows(v),
            labels: label_rows(labels),
            bias: bias_rows(bias, batch),
            out: rows(out),
            lse: into_contiguous(lse).binding(),
            dout: rows(dout),
            dlse: into_contiguous(dlse).binding(),
            dq: dq.clone().binding(),
            dk: dk.clone().binding(),
            dv: dv.clone().binding(),
            dbias: has_bias.then(|| dbias.clone().binding()),
        };
        tuned_backward(&client, problem, tensors).expect(TAKEN);
        (dq, dk, dv, dbias)
    }
}

/// The call as the kernels take it, or `None`, with the reason in the log, if they do not.
fn taken(
    pass: Pass,
    q: &CubeTensor,
    k: &CubeTensor,
    v: &CubeTensor,
    labels: &Labels<CubeBackend>,
    bias: &Bias<CubeBackend>,
    others: &[&CubeTensor],
    spec: &AttentionSpec,
) -> Option<Problem> {
    let problem = Problem {
        schedule: spec.schedule.clone(),
        scale: spec.scale,
        gradient: spec.gradient,
        dropout: spec.dropout,
        labels: matches!(labels, Labels::Pair { .. }),
        bias: matches!(bias, Bias::Blocks(_)),
        dtype: dtype_to_elem_type(q.dtype),
        aligned: [q, k, v].iter().chain(others).all(|t| is_aligned(t)),
        batch: q.shape()[0],
        kv_heads: k.shape()[1],
        d: q.shape()[3],
        d_v: v.shape()[3],
    };
    match Plan::new(&q.client, &problem, pass) {
        Ok(_) => Some(problem),
        Err(reason) => {
            log::warn!("sparse attention runs in plain tensor ops: {reason}");
            None
        }
    }
}

fn is_aligned(tensor: &CubeTensor) -> bool {
    let offset = tensor.handle.offset_start.unwrap_or(0);
    aligned(tensor.meta.shape(), tensor.meta.strides(), offset).is_ok()
}

fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        shape.into(),
        dtype,
    )
}

/// A tensor whose rows are contiguous, copied only if they are not.
fn rows(tensor: CubeTensor) -> TensorBinding {
    let [.., stride] = tensor.meta.strides()[..] else {
        panic!("attention tensors have rank 4");
    };
    match stride {
        1 => tensor,
        _ => into_contiguous(tensor),
    }
    .binding()
}

fn label_rows(labels: Labels<CubeBackend>) -> Option<(TensorBinding, TensorBinding)> {
    let rows = |t| into_contiguous(CubeBackend::int_cast(t, burn::tensor::IntDType::I32)).binding();
    match labels {
        Labels::None => None,
        Labels::Pair { q, k } => Some((rows(q), rows(k))),
    }
}

/// A bias `[1 or batch, blocks]`, one row for all through a stride of 0.
fn bias_rows(bias: Bias<CubeBackend>, batch: usize) -> Option<TensorBinding> {
    let Bias::Blocks(bias) = bias else {
        return None;
    };
    let mut binding = into_contiguous(bias).binding();
    if binding.shape[0] != batch {
        binding.strides[0] = 0;
    }
    Some(binding)
}
