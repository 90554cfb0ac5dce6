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

/// What an implementation is held to.
struct Test {
    name: &'static str,
    /// Problems, if the environment does not say otherwise.
    count: u64,
    problem: fn(u64, u64) -> Problem,
    /// Relative RMS error a tensor.
    tolerance: f64,
    /// Makes inputs representable.
    round: fn(f64) -> f64,
    run: Run,
}

fn hold(test: Test) {
    let Test {
        name,
        tolerance,
        run,
        ..
    } = test;
    let count = number_from_env("LONGNET_ORACLE_CONFIGS", test.count);
    let seed = seed();
    let mut worst = ("none", 0.0, 0);
    let mut failures: Vec<Failure> = Vec::new();
    for index in 0..count {
        let problem = (test.problem)(seed, index);
        let inputs = generate::inputs(&problem, seed, index).rounded(test.round);
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
    hold(Test {
        name: "kernels, f32",
        count: 8000,
        problem: generate::problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F32, layouts)
        },
    });
}

#[test]
fn the_kernels_meet_the_oracle_in_f64() {
    hold(Test {
        name: "kernels, f64",
        count: 1500,
        problem: generate::problem,
        tolerance: 1e-13,
        round: |x| x,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F64, layouts)
        },
    });
}

#[test]
fn the_kernels_meet_the_oracle_beyond_their_blocks() {
    hold(Test {
        name: "kernels, long, f32",
        count: 40,
        problem: generate::long_problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F32, layouts)
        },
    });
}

#[test]
fn the_fallback_meets_the_oracle_in_f32() {
    hold(Test {
        name: "fallback, f32",
        count: 2000,
        problem: generate::problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| through_fallback(p, x, &Device::flex(), DType::F32, layouts),
    });
}

#[test]
fn the_fallback_meets_the_oracle_in_f64() {
    hold(Test {
        name: "fallback, f64",
        count: 500,
        problem: generate::problem,
        tolerance: 1e-13,
        round: |x| x,
        run: |p, x, layouts| through_fallback(p, x, &Device::flex(), DType::F64, layouts),
    });
}

#[test]
fn the_kernels_meet_the_oracle_with_block_masks_in_f32() {
    hold(Test {
        name: "kernels, blocks, f32",
        count: 3000,
        problem: generate::block_problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F32, layouts)
        },
    });
}

#[test]
fn the_kernels_meet_the_oracle_with_block_masks_in_f64() {
    hold(Test {
        name: "kernels, blocks, f64",
        count: 600,
        problem: generate::block_problem,
        tolerance: 1e-13,
        round: |x| x,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F64, layouts)
        },
    });
}

#[test]
fn the_kernels_meet_the_oracle_with_block_masks_beyond_their_blocks() {
    hold(Test {
        name: "kernels, long, blocks, f32",
        count: 24,
        problem: generate::long_block_problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| {
            through_autodiff(p, x, &Device::flex().autodiff(), DType::F32, layouts)
        },
    });
}

#[test]
fn the_fallback_meets_the_oracle_with_block_masks_in_f32() {
    hold(Test {
        name: "fallback, blocks, f32",
        count: 1000,
        problem: generate::block_problem,
        tolerance: 1e-5,
        round: f32_round,
        run: |p, x, layouts| through_fallback(p, x, &Device::flex(), DType::F32, layouts),
    });
}

#[test]
fn the_fallback_meets_the_oracle_with_block_masks_in_f64() {
    hold(Test {
        name: "fallback, blocks, f64",
        count: 300,
        problem: generate::block_problem,
        tolerance: 1e-13,
        round: |x| x,
        run: |p, x, layouts| through_fallback(p, x, &Device::flex(), DType::F64, layouts),
    });
}
