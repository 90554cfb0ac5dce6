//! The op against the dense f64 oracle, at thousands of small problems.
//!
//! `LONGNET_ORACLE_SEED` takes another stream of problems, `LONGNET_ORACLE_CONFIGS` another number of
//! them.

use burn::tensor::{DType, Device};
use longnet_pattern::{BlockGrid, BlockPattern};
use longnet_tests::blocks::Blocks;
use longnet_tests::compare::{Errors, errors};
use longnet_tests::dilated::Dilated;
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

/// The patterns of the table, combined and by heads, and some that leave rows without keys.
const PATTERNS: [&str; 22] = [
    "all",
    "empty",
    "window(24)",
    "dilated([1, 3], 40)",
    "global(16)",
    "global_rows(8)",
    "global_columns(8)",
    "sink(16)",
    "hierarchical(8/16, 16/40, 32/all)",
    "strided(24)",
    "fixed(32, 8)",
    "random(2, seed = 3)",
    "density(window(16), 0.4, seed = 5)",
    "blocks(0:0, 2:1, 3:7, 5:0, 7:2)",
    "block_branch(32, 2)",
    "branches(16/1)",
    "bigbird(24, 8, 1)",
    "longformer(24, 8)",
    "streaming(8, 24)",
    "window(40) & strided(16)",
    "all - window(24)",
    "[window(16) x 1, all - sink(8) - window(40) x 1, random(1) x 2]",
];

/// Rows of every pattern are finite, and zero where they see nothing.
#[test]
fn every_pattern_of_the_table_meets_the_oracle() {
    let (heads, block, n) = (4, 8, 61);
    let grid = BlockGrid::square(n, block);
    let mut blind = 0;
    for (index, text) in PATTERNS.iter().enumerate() {
        let pattern: BlockPattern = text.parse().expect("a pattern");
        for causal in [true, false] {
            let mask = pattern.mask(heads, grid, causal).expect("pairs of blocks");
            let row = |h, i| {
                (0..grid.k_blocks)
                    .map(|j| mask.bias_index(h, i, j).is_some())
                    .collect()
            };
            let plane = |h| (0..grid.q_blocks).map(|i| row(h, i)).collect();
            let problem = Problem {
                kv_heads: 2,
                blocks: Some(Blocks {
                    size: [block; 2],
                    set: (0..heads).map(plane).collect(),
                    bias: None,
                }),
                ..Problem::new(Dilated::new(heads, &[], causal), n, 6)
            };
            let inputs = generate::inputs(&problem, 1, index as u64).rounded(f32_round);
            let reference = oracle::attention(&problem, &inputs);
            let layouts = [Layout::Plain; 4];
            let (cpu, dtype) = (Device::flex(), DType::F32);
            let kernels =
                through_autodiff(&problem, &inputs, &cpu.clone().autodiff(), dtype, layouts);
            for got in [
                kernels,
                through_fallback(&problem, &inputs, &cpu, dtype, layouts),
            ] {
                let errors = errors(&got, &reference);
                assert!(
                    errors.worst().1 <= 1e-5,
                    "{text}, causal {causal}: {errors:?}"
                );
                for (name, numbers) in got.named() {
                    let is_sound =
                        |x: &f64| x.is_finite() || name == "lse" && *x == f64::NEG_INFINITY;
                    assert!(
                        numbers.iter().all(is_sound),
                        "{text}, causal {causal}: {name}"
                    );
                }
                for (row, _) in got
                    .lse
                    .iter()
                    .enumerate()
                    .filter(|(_, lse)| !lse.is_finite())
                {
                    let of = |x: &[f64]| x[row * problem.d..][..problem.d].to_vec();
                    assert_eq!(
                        [of(&got.out), of(&got.dq)],
                        [(); 2].map(|()| vec![0.0; problem.d])
                    );
                    blind += 1;
                }
            }
        }
    }
    assert!(blind > 1000, "{blind} rows see nothing");
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
