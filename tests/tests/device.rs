//! The op on the device of a CubeCL backend, against the dense f64 oracle: out, lse and all gradients, through
//! fusion and autodiff.
//!
//! Each kernel is compiled for its head sizes and rules, and on a software device that takes longer than
//! running it: few sizes, and `LONGNET_ORACLE_CONFIGS` problems of them.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use burn_longnet::DropoutSeed;
use burn_longnet::attention::{
    MhaInput, MultiHeadAdaptiveAttention, MultiHeadAdaptiveAttentionConfig,
    MultiHeadBlockSparseAttention, MultiHeadBlockSparseAttentionConfig, MultiHeadSparseAttention,
    SparseAttention,
};
use burn_longnet::functional::{AttentionOptions, sparse_attention_with_lse};
use longnet_pattern::{DilatedPattern, Span};
use longnet_tests::compare::errors;
use longnet_tests::device::{under_test, with_dtype};
use longnet_tests::problem::Problem;
use longnet_tests::report::{number_from_env, report};
use longnet_tests::rng::Rng;
use longnet_tests::run::{Layout, numbers, through_autodiff};
use longnet_tests::{generate, oracle};

const SEED: u64 = 20_260_301;

fn hold(
    name: &str,
    count: u64,
    dtype: DType,
    tolerance: f64,
    round: fn(f64) -> f64,
    problem: impl Fn(u64) -> Problem,
) {
    let Some(device) = with_dtype(dtype) else {
        return;
    };
    let device = device.autodiff();
    let mut worst = ("none", 0.0, 0);
    let mut failures = Vec::new();
    for index in 0..number_from_env("LONGNET_ORACLE_CONFIGS", count) {
        let problem = problem(index);
        let inputs = generate::inputs(&problem, SEED, index).rounded(round);
        let reference = oracle::attention(&problem, &inputs);
        let rng = &mut Rng::new(SEED ^ 1, index);
        let layouts = [0; 4].map(|_| rng.pick(&Layout::ALL));
        let outputs = through_autodiff(&problem, &inputs, &device, dtype, layouts);
        let errors = errors(&outputs, &reference);
        let (tensor, error) = errors.worst();
        if error > worst.1 {
            worst = (tensor, error, index);
        }
        if error > tolerance {
            failures.push((index, errors, layouts, problem));
        }
    }
    let (tensor, error, index) = worst;
    report(&format!(
        "{name}: {count} configurations, largest error {error:.2e} ({tensor} of configuration {index})"
    ));
    if let Some(smallest) = failures.iter().min_by_key(|f| f.3.size()) {
        panic!(
            "{name}: {} are off; the smallest is {smallest:?}",
            failures.len()
        );
    }
}

/// `problem` with one of a few head sizes.
fn sized(index: u64, mut problem: Problem) -> Problem {
    (problem.d, problem.d_v) = [(16, 16), (7, 12), (40, 16)][index as usize % 3];
    problem
}

fn f32_round(x: f64) -> f64 {
    f64::from(x as f32)
}

fn f16_round(x: f64) -> f64 {
    half::f16::from_f64(x).to_f64()
}

fn bf16_round(x: f64) -> f64 {
    half::bf16::from_f64(x).to_f64()
}

#[test]
fn dilated_attention_meets_the_oracle_in_f32() {
    hold(
        "device, dilated, f32",
        10,
        DType::F32,
        1e-5,
        f32_round,
        |index| sized(index, generate::problem(SEED, index)),
    );
}

#[test]
fn block_masks_meet_the_oracle_in_f32() {
    hold(
        "device, blocks, f32",
        4,
        DType::F32,
        1e-5,
        f32_round,
        |index| sized(index, generate::block_problem(SEED, index)),
    );
}

#[test]
fn sequences_of_many_tiles_meet_the_oracle_in_f32() {
    hold(
        "device, long, f32",
        2,
        DType::F32,
        1e-5,
        f32_round,
        |index| match index % 2 {
            0 => sized(index, generate::long_problem(SEED, index)),
            _ => sized(index, generate::long_block_problem(SEED, index)),
        },
    );
}

/// Few queries against many keys: the launches that are split over keys, and their gradients.
#[test]
fn decoding_meets_the_oracle_in_f32() {
    hold(
        "device, decoding, f32",
        3,
        DType::F32,
        1e-5,
        f32_round,
        |index| {
            let mut problem = match index % 3 {
                2 => sized(index, generate::block_problem(SEED, index)),
                _ => sized(index, generate::problem(SEED, index)),
            };
            if problem.blocks.is_none() {
                // Documents and hidden keys are those of a length.
                let (n_q, n_k) = ([1, 5, 16][index as usize % 3], 700 + index as usize);
                problem.pattern.zero_keys = false;
                problem.pattern.branches = vec![(256, 1), (1000, 3), (640, 2)];
                problem.span = Span::decode(n_q, n_k);
                problem.hidden = None;
                problem.documents = None;
            }
            problem
        },
    );
}

/// The largest head, in several groups of channels.
#[test]
fn wide_heads_meet_the_oracle_in_f32() {
    hold(
        "device, wide, f32",
        1,
        DType::F32,
        1e-5,
        f32_round,
        |index| {
            let mut problem = generate::problem(SEED, 100 + index);
            (problem.d, problem.d_v) = [(256, 200), (96, 256)][index as usize % 2];
            problem
        },
    );
}

/// The result is rounded once, and `D` is computed from the rounded result: within 8 roundings.
#[test]
fn half_precision_meets_the_oracle() {
    hold(
        "device, f16",
        3,
        DType::F16,
        8.0 / 2048.0,
        f16_round,
        |index| sized(index, generate::problem(SEED, index)),
    );
}

/// As f16.
#[test]
fn bf16_meets_the_oracle() {
    hold(
        "device, bf16",
        3,
        DType::BF16,
        8.0 / 256.0,
        bf16_round,
        |index| sized(index, generate::problem(SEED, index)),
    );
}

/// The head sizes that tensor cores like, which take long to compile for a software device.
#[cfg(feature = "cuda")]
mod heads_of_tensor_cores {
    use super::*;

    fn wide(index: u64) -> Problem {
        let mut problem = match index % 3 {
            0 => generate::long_problem(SEED, index),
            1 => generate::problem(SEED, index),
            _ => generate::long_block_problem(SEED, index),
        };
        (problem.d, problem.d_v) = [(64, 64), (128, 128), (80, 96)][index as usize / 3 % 3];
        problem
    }

    #[test]
    fn half_precision_meets_the_oracle() {
        let name = "device, tensor cores, f16";
        hold(name, 18, DType::F16, 8.0 / 2048.0, f16_round, wide);
    }

    #[test]
    fn bf16_meets_the_oracle() {
        let name = "device, tensor cores, bf16";
        hold(name, 18, DType::BF16, 8.0 / 256.0, bf16_round, wide);
    }

    #[test]
    fn f32_meets_the_oracle() {
        let name = "device, tensor cores' head sizes, f32";
        hold(name, 9, DType::F32, 1e-5, f32_round, wide);
    }
}

/// A query of NaN: its row is NaN, in lse too, and no other. In one tile, and split over keys.
#[test]
fn nan_stays_in_sight() {
    let Some(device) = under_test() else { return };
    for span in [Span::full(40), Span::decode(3, 300)] {
        let branches = [(16, 1), (64, 2), (300, 3)];
        let pattern = DilatedPattern::new(1, branches).build().unwrap();
        let tensor = |n: usize| Tensor::<4>::random([1, 1, n, 16], Distribution::Default, &device);
        let q = tensor(span.n_q).slice_fill([0..1, 0..1, 1..2, 4..5], f32::NAN);
        let options = AttentionOptions {
            span: Some(span),
            ..Default::default()
        };
        let (k, v) = (tensor(span.n_k), tensor(span.n_k));
        let (out, lse) = sparse_attention_with_lse(q, k, v, &pattern, &options);
        for (row, out) in numbers(out).chunks(16).enumerate() {
            assert!(
                out.iter().all(|x| x.is_nan() == (row == 1)),
                "{span:?}, {row}: {out:?}"
            );
        }
        for (row, lse) in numbers(lse).into_iter().enumerate() {
            assert_eq!(lse.is_nan(), row == 1, "{span:?}, {row}: lse {lse}");
        }
    }
}

/// Numbers that are the same on every device.
fn fill<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let rng = &mut Rng::new(SEED, seed);
    let numbers = rng.normals(shape.iter().product());
    Tensor::from_data(TensorData::new(numbers, shape), (device, DType::F32))
}

/// Fills all parameters of a module; counts them.
struct Filled(u64);

impl ModuleMapper for Filled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.0 += 1;
        param.map(|x| {
            let requires = x.is_require_grad();
            let numbers = fill(x.dims(), self.0, &x.device()) * 0.2;
            numbers.detach().set_require_grad(requires)
        })
    }
}

/// The result of multi-head attention, and the gradients of its input and of some of its weights.
fn results<A: SparseAttention>(
    module: MultiHeadSparseAttention<A>,
    device: &Device,
    weights: impl Fn(&MultiHeadSparseAttention<A>) -> Vec<Tensor<2>>,
) -> Vec<Vec<f64>> {
    let module = module.map(&mut Filled(0));
    let x = fill([2, 75, 32], 100, device).require_grad();
    let input = MhaInput::self_attn(x.clone()).seed(DropoutSeed::Given(7));
    let out = module.forward(input).context;
    let weighted = out.clone() * fill([2, 75, 32], 101, device);
    let gradients = weighted.sum().backward();
    let mut results = vec![
        numbers(out.inner()),
        numbers(x.grad(&gradients).expect("of x")),
    ];
    results.extend(
        weights(&module)
            .into_iter()
            .map(|weight| numbers(weight.grad(&gradients).expect("of each weight"))),
    );
    results
}

fn compare(name: &str, on_device: Vec<Vec<f64>>, on_cpu: Vec<Vec<f64>>) {
    for (index, (got, want)) in on_device.into_iter().zip(on_cpu).enumerate() {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut got.iter().zip(&want).map(|(a, b)| a - b));
        let size = norm(&mut want.iter().copied());
        assert!(
            apart < 2e-5 * size,
            "{name}, {index}: {apart:e} of {size:e}"
        );
    }
}

/// Attention of listed and of chosen blocks, from the projections to the gradients, beside the CPU's.
#[test]
#[ignore = "not yet run on a device: with --ignored"]
fn modules_of_blocks_give_what_they_give_on_the_cpu() {
    let Some(device) = under_test() else { return };
    let devices = [device.autodiff(), Device::flex().autodiff()];
    let [got, want] = devices.each_ref().map(|device| {
        let pattern = "[branches(32/1, 64/2) x 1, window(32) | sink(16) x 1]";
        let config = MultiHeadBlockSparseAttentionConfig::new(32, 2, pattern.parse().unwrap())
            .with_block(16)
            .with_causal(true)
            .with_dropout(0.1);
        let weights = |m: &MultiHeadBlockSparseAttention| vec![m.output.weight.val()];
        results(config.init(device), device, weights)
    });
    compare("block-sparse", got, want);
    for causal in [false, true] {
        let [got, want] = devices.each_ref().map(|device| {
            let config = MultiHeadAdaptiveAttentionConfig::new(32, 2, 2)
                .with_block(16)
                .with_causal(causal)
                .with_dropout(0.0);
            let weights = |m: &MultiHeadAdaptiveAttention| {
                let scorer = [&m.attention.query_score, &m.attention.key_score];
                scorer
                    .map(|s| s.as_ref().expect("learned").weight.val())
                    .into()
            };
            results(config.init(device), device, weights)
        });
        compare("adaptive", got, want);
    }
}

/// What the other tests hold to the oracle are the kernels, not the fallback: a routine that does not exist
/// stops them.
#[test]
fn the_kernels_are_what_runs() {
    if under_test().is_none() {
        return;
    }
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "half_precision_meets_the_oracle", "--nocapture"])
        .env("LONGNET_ROUTINE", "none")
        .env("LONGNET_ORACLE_CONFIGS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success(), "{text}");
    assert!(
        text.contains("LONGNET_ROUTINE=none: not a routine"),
        "{text}"
    );
}
