//! The op on the device of a CubeCL backend, against the dense f64 oracle: out, lse and all gradients, through
//! fusion and autodiff.
//!
//! Each kernel is compiled for its head sizes and rules, and on a software device that takes longer than
//! running it: few sizes, and `LONGNET_ORACLE_CONFIGS` problems of them.
#![cfg(feature = "wgpu")]

use burn::tensor::DType;
use longnet_tests::compare::errors;
use longnet_tests::device::wgpu;
use longnet_tests::problem::Problem;
use longnet_tests::report::{number_from_env, report};
use longnet_tests::rng::Rng;
use longnet_tests::run::{Layout, through_autodiff};
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
    let Some(device) = wgpu() else { return };
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

/// Problem `index` with one of a few head sizes.
fn problem(index: u64) -> Problem {
    let mut problem = generate::problem(SEED, index);
    (problem.d, problem.d_v) = [(16, 16), (7, 12), (40, 16)][index as usize % 3];
    problem
}

fn f32_round(x: f64) -> f64 {
    f64::from(x as f32)
}

#[test]
fn the_kernels_meet_the_oracle_in_f32() {
    hold("device, f32", 40, DType::F32, 1e-5, f32_round, problem);
}
