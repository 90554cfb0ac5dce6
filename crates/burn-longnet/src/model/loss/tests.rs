//! Tests of the chunked loss.

use super::*;
use burn::tensor::{Device, Distribution, TensorData, Tolerance, activation::log_softmax};

struct Case {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
}

const ROWS: usize = 23;

fn case() -> Case {
    let device = Device::default().autodiff();
    // The same in every run, so that roundoff is too.
    let numbers = |seed: i64, count: i64| {
        let number = move |i| ((i + seed) * 7919 % 1009) as f32 / 504.0 - 1.0;
        Tensor::<1>::from_data(
            TensorData::new((0..count).map(number).collect(), [count as usize]),
            &device,
        )
    };
    let (rows, width, vocab) = (ROWS as i64, 6, 11);
    let targets: [i64; ROWS] = std::array::from_fn(|i| if i % 5 == 2 { -7 } else { i as i64 % 11 });
    Case {
        hidden: numbers(1, rows * width).reshape([ROWS, 6]).require_grad(),
        weight: numbers(2, width * vocab).reshape([6, 11]).require_grad(),
        bias: numbers(3, vocab).require_grad(),
        targets: Tensor::from_data(targets, &device),
    }
}

/// With all logits at once, by Burn's own operations.
fn plain(case: &Case, ignored: Option<i64>) -> Tensor<1> {
    let logits = case.hidden.clone().matmul(case.weight.clone()) + case.bias.clone().unsqueeze();
    let kept = match ignored {
        Some(ignored) => case.targets.clone().not_equal_elem(ignored).float(),
        None => Tensor::ones([ROWS], &case.hidden.device()),
    };
    let targets = case.targets.clone().clamp_min(0).unsqueeze_dim::<2>(1);
    let nll = -log_softmax(logits, 1)
        .gather(1, targets)
        .squeeze_dim::<1>(1);
    (nll * kept.clone()).sum() / kept.sum()
}

#[test]
fn the_loss_and_its_gradients_are_those_of_all_logits_at_once() {
    for chunk in [1, 4, ROWS, 1000] {
        for ignored in [Some(-7), None] {
            let mut case = case();
            if ignored.is_none() {
                case.targets = case.targets.clamp_min(0);
            }
            let options = ChunkedLoss {
                chunk,
                ignore_index: ignored,
                ..ChunkedLoss::default()
            };
            let chunked = chunked_cross_entropy(
                case.hidden.clone(),
                case.weight.clone(),
                Some(case.bias.clone()),
                case.targets.clone(),
                &options,
            );
            let expected = plain(&case, ignored);
            let close = |a: Tensor<2>, b: Tensor<2>| {
                a.into_data()
                    .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-6));
            };
            close(
                chunked.clone().inner().unsqueeze(),
                expected.clone().inner().unsqueeze(),
            );
            let got = (chunked * 3.0).backward();
            let want = (expected * 3.0).backward();
            close(
                case.hidden.grad(&got).unwrap(),
                case.hidden.grad(&want).unwrap(),
            );
            close(
                case.weight.grad(&got).unwrap(),
                case.weight.grad(&want).unwrap(),
            );
            let bias = |grads| case.bias.grad(grads).unwrap().unsqueeze();
            close(bias(&got), bias(&want));
        }
    }
}

/// z-loss and smoothing as their papers have them, with all logits at once, in f64.
fn plain_terms(case: &Case, ignored: i64, options: &ChunkedLoss) -> [Tensor<1>; 3] {
    let logits = case.hidden.clone().matmul(case.weight.clone()) + case.bias.clone().unsqueeze();
    let kept = case.targets.clone().not_equal_elem(ignored).float();
    let kept = kept.cast(DType::F64);
    let mean = |rows: Tensor<2>| (rows.squeeze_dim(1) * kept.clone()).sum() / kept.clone().sum();
    let targets = case.targets.clone().clamp_min(0).unsqueeze_dim::<2>(1);
    let log = log_softmax(logits.clone(), 1);
    let nll = -log.clone().gather(1, targets);
    let log_z = logits.exp().sum_dim(1).log();
    let s = options.label_smoothing;
    let smoothed = nll.clone() * (1.0 - s) - log.mean_dim(1) * s;
    [
        mean(nll.clone()),
        mean(log_z.square()) * options.z_loss,
        mean(smoothed - nll),
    ]
}

#[test]
fn z_loss_and_label_smoothing_are_added_with_their_exact_gradients() {
    for (z_loss, label_smoothing) in [(0.3, 0.0), (0.0, 0.2), (0.05, 0.1), (0.0, 0.0)] {
        for (dtype, chunk, close) in [
            (DType::F32, 4, 1e-6),
            (DType::F32, 1000, 1e-6),
            (DType::F64, 4, 1e-12),
            (DType::F64, ROWS, 1e-12),
        ] {
            let options = ChunkedLoss {
                chunk,
                ignore_index: Some(-7),
                z_loss,
                label_smoothing,
            };
            let cast = |dtype: DType| {
                let case = case();
                Case {
                    hidden: case.hidden.cast(dtype).detach().require_grad(),
                    weight: case.weight.cast(dtype).detach().require_grad(),
                    bias: case.bias.cast(dtype).detach().require_grad(),
                    targets: case.targets,
                }
            };
            let (ours, exact) = (cast(dtype), cast(DType::F64));
            let number = |x: &Tensor<1>| x.clone().into_scalar::<f64>();
            let terms = chunked_loss(
                ours.hidden.clone(),
                ours.weight.clone(),
                Some(ours.bias.clone()),
                ours.targets.clone(),
                &options,
            );
            let plain = plain_terms(&exact, -7, &options);
            let found = [&terms.cross_entropy, &terms.z_loss, &terms.smoothing];
            for (found, plain) in found.into_iter().zip(&plain) {
                let error = (number(found) - number(plain)).abs();
                assert!(error <= close, "{error} in {options:?}, {dtype:?}");
            }
            let [a, b, c] = plain;
            let total = a + b + c;
            assert!((number(&terms.total) - number(&total)).abs() <= close);
            let (got, want) = ((terms.total * 3.0).backward(), (total * 3.0).backward());
            let mut seen = 0;
            let mut same = |ours: Option<Tensor<2>>, exact: Option<Tensor<2>>| {
                let difference = ours.unwrap().cast(DType::F64) - exact.unwrap();
                let largest = difference.abs().max().into_scalar::<f64>();
                assert!(largest <= close, "{largest} in {options:?}, {dtype:?}");
                seen += 1;
            };
            same(ours.hidden.grad(&got), exact.hidden.grad(&want));
            same(ours.weight.grad(&got), exact.weight.grad(&want));
            let row = |gradient: Option<Tensor<1>>| gradient.map(|g| g.unsqueeze());
            same(row(ours.bias.grad(&got)), row(exact.bias.grad(&want)));
            assert_eq!(seen, 3);
            // Evaluation goes another way.
            let inner = chunked_loss(
                ours.hidden.inner(),
                ours.weight.inner(),
                Some(ours.bias.inner()),
                ours.targets.inner(),
                &options,
            );
            assert_eq!(number(&inner.z_loss), number(&terms.z_loss));
            assert_eq!(number(&inner.smoothing), number(&terms.smoothing));
            assert_eq!(number(&inner.cross_entropy), number(&terms.cross_entropy));
        }
    }
}

#[test]
fn rows_that_do_not_count_add_nothing_either() {
    let case = case();
    let options = ChunkedLoss {
        chunk: 4,
        ignore_index: Some(-7),
        z_loss: 0.5,
        label_smoothing: 0.5,
    };
    let none = case.targets.zeros_like() - 7;
    let terms = chunked_loss(
        case.hidden.clone(),
        case.weight,
        Some(case.bias),
        none,
        &options,
    );
    assert_eq!(terms.total.clone().into_scalar::<f32>(), 0.0);
    let gradient = case.hidden.grad(&terms.total.backward()).unwrap();
    assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
}

#[test]
#[should_panic(expected = "the label smoothing is 1, but must be 0 or more and below 1")]
fn smoothing_that_leaves_the_target_nothing_is_refused() {
    let case = case();
    let options = ChunkedLoss {
        ignore_index: Some(-7),
        label_smoothing: 1.0,
        ..ChunkedLoss::default()
    };
    chunked_cross_entropy(case.hidden, case.weight, None, case.targets, &options);
}

#[test]
fn the_likelihoods_average_to_the_loss() {
    let Case {
        hidden,
        weight,
        targets,
        ..
    } = case();
    let options = ChunkedLoss {
        chunk: 5,
        ignore_index: Some(-7),
        ..ChunkedLoss::default()
    };
    let nll = chunked_nll(
        hidden.clone(),
        weight.clone(),
        None,
        targets.clone(),
        &options,
    );
    let counted = (0..ROWS).filter(|i| i % 5 != 2).count();
    let loss = chunked_cross_entropy(hidden, weight, None, targets, &options);
    let mean = nll.sum().into_scalar::<f32>() / counted as f32;
    assert!((mean - loss.into_scalar::<f32>()).abs() < 1e-6);
}

#[test]
fn nothing_that_counts_is_a_loss_of_zero_without_gradient() {
    let case = case();
    let options = ChunkedLoss {
        chunk: 4,
        ignore_index: Some(-7),
        ..ChunkedLoss::default()
    };
    let none = case.targets.zeros_like() - 7;
    let loss = chunked_cross_entropy(case.hidden.clone(), case.weight, None, none, &options);
    assert_eq!(loss.clone().into_scalar::<f32>(), 0.0);
    let gradient = case.hidden.grad(&loss.backward()).unwrap();
    assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
}

#[test]
fn half_precision_keeps_the_gradients_of_means_of_many_rows() {
    let device = Device::default().autodiff();
    let rows = 4096;
    let hidden = Tensor::<2>::random([rows, 2], Distribution::Uniform(0.5, 1.5), &device);
    let bias = Tensor::<1>::from_data([8.0, 0.5, 0.0, -0.5, -1.0], &device);
    let gradients = |dtype: DType| {
        let leaf = |x: Tensor<2>| x.cast(dtype).detach().require_grad();
        let (hidden, bias) = (leaf(hidden.clone()), leaf(bias.clone().unsqueeze()));
        let weight = leaf(Tensor::zeros([2, 5], &device));
        let loss = chunked_cross_entropy(
            hidden,
            weight.clone(),
            Some(bias.clone().squeeze_dim(0)),
            Tensor::zeros([rows], &device),
            &ChunkedLoss {
                chunk: 512,
                ignore_index: None,
                ..ChunkedLoss::default()
            },
        );
        // As loss scaling does.
        let gradients = (loss * 4096.0).backward();
        [&weight, &bias].map(|leaf| leaf.grad(&gradients).unwrap().cast(DType::F32))
    };
    for (half, full) in gradients(DType::F16).into_iter().zip(gradients(DType::F32)) {
        half.into_data()
            .assert_approx_eq::<f32>(&full.into_data(), Tolerance::relative(5e-3));
    }
}

#[test]
fn half_precision_sums_any_number_of_rows() {
    let device = Device::default().autodiff();
    let rows = 200_000;
    let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, (&device, DType::F16));
    let weight = ones([1, 4]).require_grad();
    let options = ChunkedLoss {
        chunk: rows,
        ignore_index: None,
        ..ChunkedLoss::default()
    };
    let targets = Tensor::zeros([rows], &device);
    let loss = chunked_cross_entropy(ones([rows, 1]), weight.clone(), None, targets, &options);
    let gradient = weight.grad(&loss.backward()).unwrap().cast(DType::F32);
    let expected = burn::tensor::TensorData::from([[-0.75f32, 0.25, 0.25, 0.25]]);
    gradient
        .into_data()
        .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-3));
}

#[test]
fn rows_that_do_not_count_may_hold_anything() {
    for dtype in [DType::F32, DType::F64] {
        let case = case();
        let strange = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY, 1.0, 2.0, 3.0];
        let strange = Tensor::<1>::from_data(strange, &case.hidden.device());
        let hidden = case.hidden.clone().inner().cast(dtype);
        let ignored = case.targets.clone().inner().equal_elem(-7);
        let ignored = ignored.unsqueeze_dim::<2>(1).expand([ROWS, 6]);
        let strange = strange
            .inner()
            .cast(dtype)
            .unsqueeze::<2>()
            .expand([ROWS, 6]);
        let leaf = |x: Tensor<2>| Tensor::from_inner(x).require_grad();
        let options = ChunkedLoss {
            chunk: 4,
            ignore_index: Some(-7),
            ..ChunkedLoss::default()
        };
        let run = |hidden: Tensor<2>| {
            let hidden = leaf(hidden);
            let weight = leaf(case.weight.clone().inner().cast(dtype));
            let targets = || case.targets.clone();
            let nll = chunked_nll(hidden.clone(), weight.clone(), None, targets(), &options);
            let loss =
                chunked_cross_entropy(hidden.clone(), weight.clone(), None, targets(), &options);
            let gradients = loss.clone().backward();
            let dhidden = hidden.grad(&gradients).unwrap();
            let dweight = weight.grad(&gradients).unwrap();
            [
                nll.inner().unsqueeze(),
                loss.inner().unsqueeze(),
                dhidden,
                dweight,
            ]
        };
        let expected = run(hidden.clone());
        for (a, b) in run(hidden.mask_where(ignored, strange))
            .into_iter()
            .zip(expected)
        {
            assert!(!b.clone().is_nan().any().into_scalar::<bool>());
            a.into_data().assert_eq(&b.into_data(), true);
        }
    }
}

fn with_target(row: usize, target: i64) {
    let mut case = case();
    let device = case.hidden.device();
    let mut targets: Vec<_> = case.targets.into_data().iter::<i64>().collect();
    targets[row] = target;
    case.targets = Tensor::from_data(targets.as_slice(), &device);
    let options = ChunkedLoss {
        chunk: 4,
        ignore_index: Some(-7),
        ..ChunkedLoss::default()
    };
    chunked_nll(case.hidden, case.weight, None, case.targets, &options);
}

#[test]
#[should_panic(expected = "target 11 of row 9 is outside the vocabulary of 11")]
fn a_target_after_the_vocabulary_is_named() {
    with_target(9, 11);
}

#[test]
#[should_panic(expected = "target -1 of row 20 is outside the vocabulary of 11")]
fn a_target_before_the_vocabulary_is_named() {
    with_target(20, -1);
}
