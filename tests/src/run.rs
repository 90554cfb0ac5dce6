//! Running the op on a problem, through Burn.

use crate::problem::{Inputs, Outputs, Problem};
use burn::backend::Dispatch;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use burn_longnet::backend::fallback;
use burn_longnet::functional::{AttentionOptions, Documents, sparse_attention_with_lse};
use burn_longnet::ops::{AttentionSpec, Bias, Labels};
use longnet_pattern::{Dropout, HIDDEN, MixGradient, Precision};

/// How a tensor lies in memory. The op must give the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Contiguous.
    Plain,
    /// `[batch, rows, heads, width]`, dims 1 and 2 swapped.
    RowsFirst,
    /// `[batch, heads, width, rows]`, dims 2 and 3 swapped.
    Transposed,
    /// A slice, in every dimension, of a larger tensor that holds NaN around it.
    Window,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::RowsFirst, Self::Transposed, Self::Window];

    /// The tensor that holds `data` of `shape`, to be seen through [`Self::view`].
    fn store(self, data: &[f64], shape: [usize; 4], options: (&Device, DType)) -> Tensor<4> {
        let plain = Tensor::from_data(TensorData::new(data.to_vec(), shape), options);
        match self {
            Self::Plain => plain,
            // `into_data` copies to contiguous order, so that the view is truly strided.
            Self::RowsFirst => Tensor::from_data(plain.swap_dims(1, 2).into_data(), options),
            Self::Transposed => Tensor::from_data(plain.swap_dims(2, 3).into_data(), options),
            Self::Window => {
                let [b, h, n, d] = shape;
                let around = Tensor::full([b + 1, h + 2, n + 3, d + 2], f64::NAN, options);
                around.slice_assign([1..b + 1, 1..h + 1, 2..n + 2, 0..d], plain)
            }
        }
    }

    /// The problem's tensor, of `shape`, out of what [`Self::store`] made.
    fn view(self, stored: Tensor<4>, [b, h, n, d]: [usize; 4]) -> Tensor<4> {
        match self {
            Self::Plain => stored,
            Self::RowsFirst => stored.swap_dims(1, 2),
            Self::Transposed => stored.swap_dims(2, 3),
            Self::Window => stored.slice([1..b + 1, 1..h + 1, 2..n + 2, 0..d]),
        }
    }
}

/// The numbers of a tensor.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let data = tensor.into_data().convert::<f64>();
    data.try_to_vec().expect("f64 numbers")
}

/// A tensor of `shape`.
pub fn tensor<const D: usize>(
    data: &[f64],
    shape: [usize; D],
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), (device, dtype))
}

/// What [`AttentionOptions`] say of `problem`.
pub fn options(problem: &Problem, device: &Device) -> AttentionOptions {
    let (n_q, n_k) = (problem.span.n_q, problem.span.n_k);
    let ids = |ids: &[i32], n| {
        Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [problem.batch, n]), device)
    };
    AttentionOptions {
        scale: problem.scale,
        gradient: gradient(problem),
        precision: Precision::Highest,
        dropout: dropout(problem),
        mask_pad: problem.hidden.as_ref().map(|hidden| {
            let data = TensorData::new(hidden.clone(), [problem.batch, n_k]);
            Tensor::<2, Bool>::from_data(data, device)
        }),
        documents: problem.documents.as_ref().map(|(query, key)| Documents {
            query: ids(query, n_q),
            key: ids(key, n_k),
        }),
        bias: bias(problem, device, DType::F64),
        span: Some(problem.span),
    }
}

/// `[1 or batch, blocks]`.
fn bias(problem: &Problem, device: &Device, dtype: DType) -> Option<Tensor<2>> {
    let bias = problem.bias()?;
    let listed = (problem.blocks.as_ref()).map(|b| b.listed(problem.pattern.causal).len());
    let blocks = listed.expect("a bias has blocks");
    // Without listed blocks both shapes are empty.
    let entries = bias.len().checked_div(blocks).unwrap_or(1);
    Some(tensor(bias, [entries, blocks], device, dtype))
}

fn gradient(problem: &Problem) -> MixGradient {
    if problem.detached {
        MixGradient::Detached
    } else {
        MixGradient::Exact
    }
}

fn dropout(problem: &Problem) -> Option<Dropout> {
    problem.dropout.map(|(p, seed)| Dropout { p, seed })
}

/// The dtype of lse.
pub fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 {
        dtype
    } else {
        DType::F32
    }
}

/// Out, lse and gradients by the functional API and autodiff, on the autodiff device `device`, with
/// q, k, v and the gradient of out in these layouts.
pub fn through_autodiff(
    problem: &Problem,
    inputs: &Inputs,
    device: &Device,
    dtype: DType,
    layouts: [Layout; 4],
) -> Outputs {
    let pattern = problem.op_pattern();
    let mut options = options(problem, device);
    let attend = |q, k, v, bias| {
        options.bias = bias;
        sparse_attention_with_lse(q, k, v, &pattern, &options)
    };
    differentiate_all(problem, inputs, device, dtype, layouts, attend)
}

/// As [`through_autodiff`], of any differentiable function `(q, k, v) -> (out, lse)`.
pub fn differentiate(
    problem: &Problem,
    inputs: &Inputs,
    device: &Device,
    dtype: DType,
    layouts: [Layout; 4],
    attend: impl FnOnce(Tensor<4>, Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<3>),
) -> Outputs {
    let attend = |q, k, v, _: Option<Tensor<2>>| attend(q, k, v);
    differentiate_all(problem, inputs, device, dtype, layouts, attend)
}

/// The same of a function `(q, k, v, bias)`.
fn differentiate_all(
    problem: &Problem,
    inputs: &Inputs,
    device: &Device,
    dtype: DType,
    layouts: [Layout; 4],
    attend: impl FnOnce(Tensor<4>, Tensor<4>, Tensor<4>, Option<Tensor<2>>) -> (Tensor<4>, Tensor<3>),
) -> Outputs {
    let shapes = [problem.q_shape(), problem.k_shape(), problem.v_shape()];
    let data = [&inputs.q, &inputs.k, &inputs.v];
    let leaves = [0, 1, 2].map(|x| {
        let stored = layouts[x].store(data[x], shapes[x], (device, dtype));
        stored.require_grad()
    });
    let [q, k, v] = [0, 1, 2].map(|x| layouts[x].view(leaves[x].clone(), shapes[x]));
    let bias = bias(problem, device, wide(dtype)).map(Tensor::require_grad);
    let (out, lse) = attend(q, k, v, bias.clone());

    // Burn's rule for a product hands `dout` on with the strides it has here.
    let dout = layouts[3].store(&inputs.dout, problem.out_shape(), (device, dtype));
    let dout = layouts[3].view(dout, problem.out_shape());
    let mut loss = (out.clone() * dout).cast(wide(dtype)).sum();
    if let Some(dlse) = &inputs.dlse {
        let dlse = tensor(dlse, problem.lse_shape(), device, wide(dtype));
        loss = loss + (lse.clone() * dlse).sum();
    }
    let gradients = loss.backward();
    let [dq, dk, dv] = [0, 1, 2].map(|x| {
        let gradient = leaves[x].grad(&gradients).expect("a gradient of each leaf");
        numbers(layouts[x].view(gradient, shapes[x]))
    });
    Outputs {
        out: numbers(out.detach()),
        lse: numbers(lse.detach()),
        dq,
        dk,
        dv,
        dbias: bias.map_or_else(Vec::new, |bias| {
            numbers(bias.grad(&gradients).expect("a gradient of the bias"))
        }),
    }
}

/// Out, lse and gradients by the plain tensor ops that backends without kernels run, on `device`
/// (without autodiff: the hand-written backward is called).
pub fn through_fallback(
    problem: &Problem,
    inputs: &Inputs,
    device: &Device,
    dtype: DType,
    layouts: [Layout; 4],
) -> Outputs {
    let make = |data: &[f64], shape, layout: Layout| {
        let stored = layout.store(data, shape, (device, dtype));
        layout.view(stored, shape).into_dispatch()
    };
    let q = make(&inputs.q, problem.q_shape(), layouts[0]);
    let k = make(&inputs.k, problem.k_shape(), layouts[1]);
    let v = make(&inputs.v, problem.v_shape(), layouts[2]);
    let dout = make(&inputs.dout, problem.out_shape(), layouts[3]);
    let zeros = vec![0.0; problem.lse_shape().iter().product()];
    let dlse = inputs.dlse.as_ref().unwrap_or(&zeros);
    let dlse = tensor(dlse, problem.lse_shape(), device, wide(dtype)).into_dispatch();
    let spec = AttentionSpec {
        schedule: (problem.op_pattern().schedule(problem.span)).expect("a valid span"),
        scale: problem.scale.unwrap_or(1.0 / (problem.d as f64).sqrt()),
        gradient: gradient(problem),
        precision: Precision::Highest,
        dropout: dropout(problem),
    };
    let labels = labels(problem, device);
    let bias = match bias(problem, device, wide(dtype)) {
        Some(bias) => Bias::Blocks(bias.into_dispatch()),
        None => Bias::None,
    };
    let (out, lse) = fallback::forward::<Dispatch>(
        q.clone(),
        k.clone(),
        v.clone(),
        labels.clone(),
        bias.clone(),
        &spec,
    );
    let (dq, dk, dv, dbias) = fallback::backward::<Dispatch>(
        q,
        k,
        v,
        labels,
        bias,
        out.clone(),
        lse.clone(),
        dout,
        dlse,
        &spec,
    );
    let [out, dq, dk, dv] = [out, dq, dk, dv].map(|x| numbers(Tensor::<4>::from_dispatch(x)));
    Outputs {
        out,
        lse: numbers(Tensor::<3>::from_dispatch(lse)),
        dq,
        dk,
        dv,
        dbias: match problem.bias() {
            Some(_) => numbers(Tensor::<2>::from_dispatch(dbias)),
            None => numbers(Tensor::<1>::from_dispatch(dbias)),
        },
    }
}

fn labels(problem: &Problem, device: &Device) -> Labels<Dispatch> {
    if problem.hidden.is_none() && problem.documents.is_none() {
        return Labels::None;
    }
    let (n_q, n_k) = (
        problem.batch * problem.span.n_q,
        problem.batch * problem.span.n_k,
    );
    let (q, mut k) = match &problem.documents {
        Some(documents) => documents.clone(),
        None => (vec![0; n_q], vec![0; n_k]),
    };
    for (label, hidden) in k.iter_mut().zip(problem.hidden.iter().flatten()) {
        if *hidden {
            *label = HIDDEN;
        }
    }
    let tensor = |labels: Vec<i32>| {
        let shape = [problem.batch, labels.len() / problem.batch];
        let data = TensorData::new(labels, shape);
        Tensor::<2, Int>::from_data(data, (device, DType::I32)).into_dispatch()
    };
    Labels::Pair {
        q: tensor(q),
        k: tensor(k),
    }
}
