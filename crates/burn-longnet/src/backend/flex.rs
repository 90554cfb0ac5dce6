//! Flex, Burn's CPU backend: `longnet-cpu` on its buffers.

use crate::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Bytes, DType, Element, FloatDType, IntDType, Shape, bf16, f16};
use burn_flex::{FlexTensor, Layout};
use bytemuck::Pod;
use longnet_cpu::{Problem, View, Walk};

/// Runs `$body` with `$E` the element type of `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            DType::F64 => {
                type $E = f64;
                $body
            }
            DType::F32 => {
                type $E = f32;
                $body
            }
            DType::F16 => {
                type $E = f16;
                $body
            }
            DType::BF16 => {
                type $E = bf16;
                $body
            }
            other => panic!("attention takes f64, f32, f16 or bf16 tensors, got {other:?}"),
        }
    };
}

impl SparseAttentionOps for Flex {
    fn sparse_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        labels: Labels<Self>,
        bias: Bias<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (labels, bias) = (HostLabels::new(labels), HostBias::new(bias));
        let [batch, heads, n_q, _] = q.shape().dims();
        let d_v = v.shape()[3];
        with_element!(q.dtype(), E => {
            type Acc = <E as longnet_cpu::Element>::Acc;
            let mut out = vec![E::default(); batch * heads * n_q * d_v];
            let mut lse = vec![Acc::default(); batch * heads * n_q];
            let problem = problem(&labels, &bias, &spec);
            longnet_cpu::forward::<E>(&problem, view(&q), view(&k), view(&v), &mut out, &mut lse);
            (tensor(out, [batch, heads, n_q, d_v]), tensor(lse, [batch, heads, n_q]))
        })
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
        let (labels, bias) = (HostLabels::new(labels), HostBias::new(bias));
        let mut dbias = bias.zeros();
        let (lse, dlse) = (lse.to_contiguous(), dlse.to_contiguous());
        with_element!(q.dtype(), E => {
            type Acc = <E as longnet_cpu::Element>::Acc;
            let zeros = |t: &FlexTensor| vec![E::default(); t.shape().num_elements()];
            let (mut dq, mut dk, mut dv) = (zeros(&q), zeros(&k), zeros(&v));
            longnet_cpu::backward::<E>(
                &problem(&labels, &bias, &spec),
                view(&q),
                view(&k),
                view(&v),
                view(&out),
                contiguous::<Acc>(&lse),
                view(&dout),
                Some(contiguous::<Acc>(&dlse)),
                &mut dq,
                &mut dk,
                &mut dv,
                dbias.as_deref_mut(),
            );
            let dbias = bias.gradient(dbias, lse.dtype());
            (tensor(dq, q.shape()), tensor(dk, k.shape()), tensor(dv, v.shape()), dbias)
        })
    }
}

/// Labels as host buffers.
struct HostLabels(Option<(FlexTensor, FlexTensor)>);

impl HostLabels {
    fn new(labels: Labels<Flex>) -> Self {
        let host = |t| Flex::int_cast(t, IntDType::I32).to_contiguous();
        Self(match labels {
            Labels::None => None,
            Labels::Pair { q, k } => Some((host(q), host(k))),
        })
    }
}

/// A bias as a host buffer, with its shape.
struct HostBias(Option<(Vec<f64>, Shape)>);

impl HostBias {
    fn new(bias: Bias<Flex>) -> Self {
        let Bias::Blocks(bias) = bias else {
            return Self(None);
        };
        let bias = Flex::float_cast(bias, FloatDType::F64).to_contiguous();
        Self(Some((contiguous::<f64>(&bias).to_vec(), bias.shape())))
    }

    /// For the gradient.
    fn zeros(&self) -> Option<Vec<f64>> {
        self.0.as_ref().map(|(values, _)| vec![0.0; values.len()])
    }

    /// The gradient as a tensor.
    fn gradient(&self, dbias: Option<Vec<f64>>, dtype: DType) -> FlexTensor {
        match (dbias, &self.0) {
            (Some(dbias), Some((_, shape))) => {
                Flex::float_cast(tensor(dbias, shape.clone()), dtype.into())
            }
            _ => Flex::float_cast(tensor(Vec::<f64>::new(), [0]), dtype.into()),
        }
    }
}

fn problem<'a>(labels: &'a HostLabels, bias: &'a HostBias, spec: &'a AttentionSpec) -> Problem<'a> {
    Problem {
        schedule: &spec.schedule,
        scale: spec.scale,
        labels: labels.0.as_ref().map(|(q, k)| longnet_cpu::Labels {
            q: contiguous(q),
            k: contiguous(k),
        }),
        bias: (bias.0.as_ref()).map(|(values, _)| longnet_cpu::Bias { values }),
        dropout: spec.dropout,
        gradient: spec.gradient,
        precision: spec.precision,
        walk: Walk::Fastest,
    }
}

/// The elements of a contiguous tensor.
fn contiguous<E: Element + Pod>(t: &FlexTensor) -> &[E] {
    let start = t.layout().start_offset();
    &t.storage::<E>()[start..start + t.shape().num_elements()]
}

/// A tensor of rank 4 where it lies.
fn view<E: Element + Pod>(t: &FlexTensor) -> View<'_, E> {
    let layout = t.layout();
    View {
        data: t.storage::<E>(),
        offset: layout.start_offset(),
        shape: t.shape().dims(),
        strides: layout
            .strides()
            .try_into()
            .expect("attention tensors have rank 4"),
    }
}

fn tensor<E: Element + Pod + Send + Sync>(data: Vec<E>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(data),
        Layout::contiguous(shape.into()),
        E::dtype(),
    )
}
