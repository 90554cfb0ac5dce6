//! f16 and bf16: not further from the f64 oracle than 2 times (out) and 3 times (gradients) a plain
//! dense implementation in the same dtype.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use longnet_tests::compare::{errors, relative_rms};
use longnet_tests::problem::{Inputs, Outputs, Problem};
use longnet_tests::report::report;
use longnet_tests::run::{Layout, differentiate, through_autodiff, through_fallback};
use longnet_tests::{generate, oracle};

const LAYOUTS: [Layout; 4] = [Layout::Plain; 4];

/// Softmax of the masked scores, every tensor in the dtype of q.
fn plain(problem: &Problem, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<3>) {
    let (span, pattern) = (problem.span, &problem.pattern);
    let (device, dtype) = (q.device(), q.dtype());
    let mut bias = Vec::new();
    for h in 0..pattern.heads {
        for a in 0..span.n_q {
            for b in 0..span.n_k {
                let (i, j) = (span.queries().at(a), span.keys().at(b));
                let m = (0..pattern.branches.len()).filter(|&x| pattern.sees(x, h, i, j));
                bias.push((m.count() as f64).ln());
            }
        }
    }
    let bias = TensorData::new(bias, [1, pattern.heads, span.n_q, span.n_k]);
    let bias = Tensor::from_data(bias, (&device, dtype));
    let scale = problem.scale.unwrap_or(1.0 / (problem.d as f64).sqrt());
    let scores = q.matmul(k.swap_dims(2, 3)) * scale + bias;
    let out = softmax(scores.clone(), 3).matmul(v);
    // Not compared: lse is f32 in the op.
    let lse = scores.max_dim(3).cast(DType::F32).squeeze_dim(3);
    (out, lse)
}

/// Problem `index`, without what the plain implementation lacks, and every row sees something.
fn problem(index: u64) -> Option<Problem> {
    let mut problem = generate::problem(5, index);
    problem.kv_heads = problem.pattern.heads;
    (problem.hidden, problem.documents, problem.dropout) = (None, None, None);
    (problem.pattern.zero_keys, problem.detached) = (false, false);
    problem.pattern.grouped = false;
    problem.pattern.branches[0].1 = 1;
    problem.span = longnet_pattern::Span::full(problem.span.n_k);
    (problem.span.n_k >= 16 && problem.d >= 8 && problem.d_v >= 8).then_some(problem)
}

/// An implementation in a dtype.
type Run<'a> = &'a dyn Fn(&Problem, &Inputs) -> Outputs;

fn law(dtype: DType, round: fn(f64) -> f64) {
    let device = Device::flex();
    let autodiff = device.clone().autodiff();
    let kernels: Run = &|problem, x| through_autodiff(problem, x, &autodiff, dtype, LAYOUTS);
    let fallback: Run = &|problem, x| through_fallback(problem, x, &device, dtype, LAYOUTS);
    let problems = (0..).filter_map(problem).take(80);
    hold(
        problems,
        dtype,
        round,
        &[("kernels", kernels), ("fallback", fallback)],
    );
}

fn hold(
    problems: impl Iterator<Item = Problem>,
    dtype: DType,
    round: fn(f64) -> f64,
    implementations: &[(&str, Run)],
) {
    let autodiff = Device::flex().autodiff();
    let (mut count, mut worst) = (0, [0f64; 4]);
    for (index, problem) in problems.enumerate() {
        let index = index as u64;
        let mut x = generate::inputs(&problem, 5, index).rounded(round);
        x.dlse = None;
        let want = oracle::attention(&problem, &x).values;
        let attend = |q, k, v| plain(&problem, q, k, v);
        let dense = differentiate(&problem, &x, &autodiff, dtype, LAYOUTS, attend);
        let relative = |got: &Outputs| {
            [
                relative_rms(&got.out, &want.out),
                relative_rms(&got.dq, &want.dq),
                relative_rms(&got.dk, &want.dk),
                relative_rms(&got.dv, &want.dv),
            ]
        };
        let dense = relative(&dense);
        for (name, run) in implementations {
            let got = relative(&run(&problem, &x));
            for (t, allowed) in [2.0, 3.0, 3.0, 3.0].into_iter().enumerate() {
                assert!(
                    got[t] <= allowed * dense[t],
                    "{name}, configuration {index}: errors {got:?} (out, dq, dk, dv), of a plain implementation {dense:?}\n{problem:?}"
                );
                worst[t] = worst[t].max(got[t] / dense[t]);
            }
        }
        count += 1;
    }
    let [out, dq, dk, dv] = worst;
    report(&format!(
        "half: {count} configurations in {dtype:?}, error at most {out:.2} (out), {dq:.2} (dq), {dk:.2} (dk), {dv:.2} (dv) times that of a plain implementation"
    ));
}

#[test]
fn f16_is_as_good_as_a_plain_implementation() {
    law(DType::F16, |x| f16::from_f64(x).to_f64());
}

#[test]
fn bf16_is_as_good_as_a_plain_implementation() {
    law(DType::BF16, |x| bf16::from_f64(x).to_f64());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn device_law(dtype: DType, round: fn(f64) -> f64) {
    let Some(device) = longnet_tests::device::with_dtype(dtype) else {
        return;
    };
    let autodiff = device.autodiff();
    let kernels: Run = &|problem, x| through_autodiff(problem, x, &autodiff, dtype, LAYOUTS);
    // Few, and of one head size: each is compiled for itself.
    let problems = (0..).filter_map(problem).take(3).map(|problem| Problem {
        d: 16,
        d_v: 16,
        ..problem
    });
    hold(problems, dtype, round, &[("device", kernels)]);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn f16_on_a_device_is_as_good_as_a_plain_implementation() {
    device_law(DType::F16, |x| f16::from_f64(x).to_f64());
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn bf16_on_a_device_is_as_good_as_a_plain_implementation() {
    device_law(DType::BF16, |x| bf16::from_f64(x).to_f64());
}

/// All that the plain implementation lacks: masks, documents, dropout, grouped heads, spans. The
/// result is rounded once, and `D` is computed from the rounded result: within 8 roundings.
fn everything(dtype: DType, round: fn(f64) -> f64, tolerance: f64) {
    let device = Device::flex();
    let mut worst = 0f64;
    for index in 0..400 {
        let problem = generate::problem(7, index);
        let x = generate::inputs(&problem, 7, index).rounded(round);
        let reference = oracle::attention(&problem, &x);
        let autodiff = device.clone().autodiff();
        for (name, got) in [
            (
                "kernels",
                through_autodiff(&problem, &x, &autodiff, dtype, LAYOUTS),
            ),
            (
                "fallback",
                through_fallback(&problem, &x, &device, dtype, LAYOUTS),
            ),
        ] {
            let errors = errors(&got, &reference);
            worst = worst.max(errors.worst().1);
            assert!(
                errors.worst().1 < tolerance,
                "{name}, configuration {index}: {errors:?}\n{problem:?}"
            );
        }
    }
    report(&format!(
        "oracle: 400 configurations, largest error {worst:.2e} (kernels and fallback, {dtype:?})"
    ));
}

#[test]
fn everything_works_in_f16() {
    everything(DType::F16, |x| f16::from_f64(x).to_f64(), 8.0 / 2048.0);
}

#[test]
fn everything_works_in_bf16() {
    everything(DType::BF16, |x| bf16::from_f64(x).to_f64(), 8.0 / 256.0);
}
