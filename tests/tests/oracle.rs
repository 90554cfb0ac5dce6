//! The op against the dense f64 oracle, at thousands of small problems.
//!
//! `LONGNET_ORACLE_SEED` takes another stream of problems, `LONGNET_ORACLE_CONFIGS` another number of
//! them.

use burn::tensor::{DType, Device};
use longnet_tests::compare::{Errors, errors};
use longnet_tests::problem::{Inputs, Outputs, Problem};
use longnet_tests::report::{number_from_env, report};
use longnet_tests::rng::Rng;
use longnet_tests::run::{Layout, through_autodiff, through_fallback};
use longnet_tests::{generate, oracle};

/// An implementation: problem, inputs, layouts of q, k, v, dout -> results.
type Run = fn(&Problem, &Inputs, [Layout; 4]) -> Outputs;

struct Failure {
    index: u64,
    problem: Problem,
    layouts: [Layout; 4],
    errors: Errors,
}

fn seed() -> u64 {
    number_from_env("LONGNET_ORACLE_SEED", 20_260_101)
}

/// Holds `run` to the oracle at `count` problems, `tolerance` relative RMS a tensor.
fn hold(name: &str, count: u64, tolerance: f64, round: fn(f64) -> f64, run: Run) {
    let count = number_from_env("LONGNET_ORACLE_CONFIGS", count);
    let seed = seed();
    let mut worst = ("none", 0.0, 0);
    let mut failures: Vec<Failure> = Vec::new();
    for index in 0..count {
        let problem = generate::problem(seed, index);
        let inputs = generate::inputs(&problem, seed, index).rounded(round);
        let reference = oracle::attention(&problem, &inputs);
        let rng = &mut Rng::new(seed ^ 1, index);
        let layouts = [0; 4].map(|_| rng.pick(&Layout::ALL));
        let errors = errors(&run(&problem, &inputs, layouts), &reference);
        let (tensor, error) = errors.worst();
        if error > worst.1 {
            worst = (tensor, error, index);
        }
        if error > tolerance {
            failures.push(Failure {
                index,
                problem,
                layouts,
                errors,
            });
        }
    }
    let (tensor, error, index) = worst;
    report(&format!(
        "oracle: {count} configurations, largest error {error:.2e} ({name}: {tensor} of configuration {index}, seed {seed})"
    ));
    if let Some(smallest) = failures.iter().min_by_key(|f| f.problem.size()) {
        panic!(
            "{name}: {} of {count} configurations are off; the smallest is {}: {:?}\nlayouts {:?}\n{:?}",
            failures.len(),
            smallest.index,
            smallest.errors,
            smallest.layouts,
            smallest.problem
        );
    }
}

fn f32_round(x: f64) -> f64 {
    f64::from(x as f32)
}

#[test]
fn the_kernels_meet_the_oracle_in_f32() {
    hold("kernels, f32", 3000, 1e-5, f32_round, |p, x, layouts| {
        through_autodiff(p, x, &Device::flex().autodiff(), DType::F32, layouts)
    });
}

#[test]
fn the_kernels_meet_the_oracle_in_f64() {
    hold(
        "kernels, f64",
        500,
        1e-13,
        |x| x,
        |p, x, layouts| through_autodiff(p, x, &Device::flex().autodiff(), DType::F64, layouts),
    );
}

#[test]
fn the_fallback_meets_the_oracle_in_f32() {
    hold("fallback, f32", 1000, 1e-5, f32_round, |p, x, layouts| {
        through_fallback(p, x, &Device::flex(), DType::F32, layouts)
    });
}

#[test]
fn the_fallback_meets_the_oracle_in_f64() {
    hold(
        "fallback, f64",
        200,
        1e-13,
        |x| x,
        |p, x, layouts| through_fallback(p, x, &Device::flex(), DType::F64, layouts),
    );
}
