//! The fused functions against Burn's ops, f32 against f64.

use super::*;
use crate::norm::LayerNormConfig;
use crate::position::Rotary;
use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData, activation, module};
use std::cell::Cell;

/// Numbers around 0 with a spread of 1: in every run of a test the same, since it has its own thread.
fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    thread_local!(static STATE: Cell<u32> = const { Cell::new(1) });
    let uniform = || {
        STATE.set(
            STATE
                .get()
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223),
        );
        (STATE.get() >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let numbers = (0..shape.iter().product()).map(|_| uniform() + uniform() + uniform());
    let data = TensorData::new(numbers.collect::<Vec<f32>>(), shape);
    Tensor::from_data(data, &Device::default().autodiff())
}

/// The same numbers in another dtype, as a leaf.
fn leaf<const D: usize>(x: &Tensor<D>, dtype: DType) -> Tensor<D> {
    x.clone().detach().cast(dtype).detach().require_grad()
}

/// The RMS of the error is within 1e-6 of the RMS of the exact numbers, or of 0.01: inputs are about 1, and a
/// single result that is much smaller has lost digits in f32 before any function sees it.
#[track_caller]
fn close<const D: usize>(ours: Tensor<D>, exact: Tensor<D>) {
    let numbers = |x: Tensor<D>| x.inner().cast(DType::F64).into_data().try_to_vec::<f64>();
    let (ours, exact) = (numbers(ours).unwrap(), numbers(exact).unwrap());
    assert_eq!(ours.len(), exact.len());
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = squares(&mut ours.iter().zip(&exact).map(|(x, y)| x - y));
    let size = squares(&mut exact.iter().copied());
    assert!(error <= 1e-6 * size.max(0.01), "{error} of {size}");
}

/// Compares `ours` in f32 with `exact` in f64: the value and the gradients of three inputs.
#[track_caller]
fn compare<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    ours: impl Fn(Tensor<D>, Tensor<2>, Tensor<1>) -> Tensor<D>,
    exact: impl Fn(Tensor<D>, Tensor<2>, Tensor<1>) -> Tensor<D>,
) {
    let inputs = |dtype| (leaf(&x, dtype), leaf(&weight, dtype), leaf(&bias, dtype));
    let a = inputs(DType::F32);
    let y = ours(a.0.clone(), a.1.clone(), a.2.clone());
    let b = inputs(DType::F64);
    let z = exact(b.0.clone(), b.1.clone(), b.2.clone());
    close(y.clone(), z.clone());
    let dy = random(y.dims());
    let grads = (y * dy.clone()).sum().backward();
    let exact = (z * dy.cast(DType::F64)).sum().backward();
    close(a.0.grad(&grads).unwrap(), b.0.grad(&exact).unwrap());
    both(a.1.grad(&grads), b.1.grad(&exact));
    both(a.2.grad(&grads), b.2.grad(&exact));
}

/// An input that one side uses is used by the other.
#[track_caller]
fn both<const D: usize>(ours: Option<Tensor<D>>, exact: Option<Tensor<D>>) {
    match (ours, exact) {
        (Some(ours), Some(exact)) => close(ours, exact),
        (ours, exact) => assert_eq!(ours.is_some(), exact.is_some(), "a gradient"),
    }
}

#[test]
fn a_projection_is_burn_s() {
    for [batch, n, d_in, d_out] in [[1, 1, 3, 2], [2, 5, 7, 1], [1, 300, 33, 65]] {
        let (x, w, b) = (
            random([batch, n, d_in]),
            random([d_in, d_out]),
            random([d_out]),
        );
        compare(
            x.clone(),
            w.clone(),
            b.clone(),
            |x, w, b| linear(x, w, Some(b)),
            |x, w, b| module::linear(x, w, Some(b)),
        );
        // Neither x nor the weight where they were made, and no bias.
        let turned = |f: fn(Tensor<3>, Tensor<2>) -> Tensor<3>| {
            move |x: Tensor<3>, w: Tensor<2>, _| f(x.swap_dims(0, 1), w.transpose())
        };
        let weight = random([d_out, d_in]);
        compare(
            x,
            weight,
            b,
            turned(|x, w| linear(x, w, None)),
            turned(|x, w| module::linear(x, w, None)),
        );
    }
}

#[test]
fn nothing_is_projected_to_nothing() {
    for [batch, n, d_in, d_out] in [[1, 0, 4, 8], [0, 3, 4, 8], [2, 3, 4, 0], [2, 3, 0, 5]] {
        let (x, w) = (random([batch, n, d_in]), random([d_in, d_out]));
        let (x, w) = (x.require_grad(), w.require_grad());
        for bias in [None, Some(random([d_out]))] {
            let y = linear(x.clone(), w.clone(), bias.clone());
            assert_eq!(y.dims(), [batch, n, d_out]);
            let y = gelu_of_sum(y, bias);
            assert_eq!(y.dims(), [batch, n, d_out]);
            let gradients = y.sum().backward();
            assert_eq!(x.grad(&gradients).unwrap().dims(), x.dims());
            assert_eq!(w.grad(&gradients).unwrap().dims(), w.dims());
        }
    }
}

#[test]
#[should_panic]
fn a_projection_refuses_a_bias_of_another_length() {
    linear(random([4, 3]), random([3, 6]), Some(random([4])));
}

#[test]
#[should_panic]
fn gelu_refuses_a_bias_of_another_length() {
    gelu_of_sum(random([4, 6]), Some(random([4])));
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let (x, w) = (random([2, 3]), random([3, 4]).require_grad());
    let grads = linear(x.clone(), w.clone(), None).sum().backward();
    assert!(w.grad(&grads).is_some());
    let x = x.require_grad();
    let frozen = w.clone().detach().set_require_grad(false);
    let grads = linear(x.clone(), frozen.clone(), None).sum().backward();
    assert!(frozen.grad(&grads).is_none());
    assert_eq!(x.grad(&grads).unwrap().dims(), [2, 3]);
}

#[test]
fn gelu_is_burn_s() {
    for [batch, n, d] in [[1, 1, 1], [2, 5, 7], [1, 300, 67]] {
        let (x, w, b) = (random([batch, n, d]), random([1, 1]), random([d]));
        compare(
            x.clone() * 3.0,
            w.clone(),
            b.clone(),
            |x, _, b| gelu_of_sum(x, Some(b)),
            |x, _, b| activation::gelu(x + b.unsqueeze()),
        );
        compare(
            x,
            w,
            b,
            |x, _, _| gelu_of_sum(x.swap_dims(0, 1), None),
            |x, _, _| activation::gelu(x.swap_dims(0, 1)),
        );
    }
}

#[test]
fn a_norm_in_f32_is_that_in_f64() {
    for [batch, n, d] in [[1, 1, 5], [2, 5, 7], [1, 300, 67]] {
        let norm = |x: Tensor<3>, gamma: Tensor<2>, beta: Tensor<1>| {
            let mut norm = LayerNormConfig::new(d).init(&x.device());
            norm.gamma = Param::from_tensor(random([d]));
            // Not leaves: the gradients go on to where they came from.
            norm.gamma = Param::initialized(norm.gamma.id, gamma.reshape([d]));
            norm.beta = Some(Param::initialized(norm.gamma.id, beta));
            norm.forward(x.swap_dims(0, 1))
        };
        compare(
            random([batch, n, d]),
            random([1, d]),
            random([d]),
            norm,
            norm,
        );
    }
}

#[test]
fn a_rotation_in_f32_is_that_in_f64() {
    for [batch, heads, n, d] in [[1, 1, 1, 2], [2, 3, 5, 6], [1, 2, 300, 16]] {
        let rotate = |x: Tensor<4>, _: Tensor<2>, _: Tensor<1>| {
            let table = Rotary::default().table(3..3 + n, d, x.dtype(), &x.device());
            table.apply(x.swap_dims(1, 2))
        };
        let x = random([batch, n, heads, d]);
        compare(x, random([1, 1]), random([1]), rotate, rotate);
    }
}

#[test]
fn gradients_that_are_views_or_shared_are_left_alone() {
    // The gradient of a sum goes to both summands; a narrowed one is part of a larger buffer.
    let x = random([4, 6]).require_grad();
    let y = gelu_of_sum(x.clone(), None);
    let both = (y.clone() + x.clone() * 2.0).slice([1..3, 0..6]);
    let grads = both.sum().backward();
    let exact = leaf(&x, DType::F64);
    let z = (activation::gelu(exact.clone()) + exact.clone() * 2.0).slice([1..3, 0..6]);
    let expected = z.sum().backward();
    close(x.grad(&grads).unwrap(), exact.grad(&expected).unwrap());
}

#[test]
fn half_types_go_through_burn() {
    for dtype in [DType::F16, DType::BF16] {
        let x = leaf(&random([2, 3]), dtype);
        let (w, b) = (leaf(&random([3, 4]), dtype), leaf(&random([4]), dtype));
        let y = gelu_of_sum(linear(x.clone(), w.clone(), None), Some(b.clone()));
        let z = activation::gelu(module::linear(x.clone(), w, Some(b)));
        assert_eq!(y.dtype(), dtype);
        y.clone().into_data().assert_eq(&z.into_data(), true);
        assert_eq!(x.grad(&y.sum().backward()).unwrap().dtype(), dtype);
    }
}
