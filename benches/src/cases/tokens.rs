//! The same branches over ever longer sequences: time per token.

use super::Bench;
use super::attention::{HEADS, WIDTH};
use crate::bars::Bar;
use crate::baselines::Ours;
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::machine::available_memory;
use crate::oracle::{Amount, samples};
use crate::problem::Problem;

/// The most bytes that tensors may take.
const MOST: f64 = 20.0 * (1u64 << 30) as f64;

/// Each of `lengths` that fits the memory.
pub fn tokens(
    bench: &mut Bench,
    pass: Pass,
    lengths: &[usize],
    branches: &[(usize, usize)],
) -> Result<(), String> {
    // q, k, v, the gradient of out, out; dq, dk, dv.
    let (tensors, amount) = match pass {
        Pass::Forward => (5, Amount::RowsAndSegment),
        Pass::Both => (8, Amount::Gradients),
    };
    let problems = lengths
        .iter()
        .map(|&n| Problem::dilated(HEADS, n, WIDTH, branches));
    // Some memory is left to the system.
    let free = available_memory().map_or(MOST, |free| (0.92 * free).min(MOST));
    let bytes = |problem: &Problem| (4 * tensors * problem.len()) as f64;
    let (fitting, too_long): (Vec<_>, Vec<_>) = problems.partition(|problem| bytes(problem) < free);
    let left_out = too_long.iter().map(|problem| {
        let gib = bytes(problem) / f64::from(1 << 30);
        let n = problem.n;
        format!("n {n}: {gib:.1} GiB of tensors do not fit the memory that is free")
    });
    let left_out: Vec<String> = left_out.collect();
    // The shorter sequences are the first elements of the same tensors.
    let inputs = fitting.last().map(Inputs::<f32>::new);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for (problem, inputs) in fitting.iter().zip(inputs.iter().cycle()) {
        let samples = samples(problem, inputs, amount);
        let ours = Ours::new(problem, pass, inputs).named(format!("n {}", problem.n), samples);
        contenders.push(Box::new(ours));
    }
    let name = format!("time per token f32, {}", pass.name());
    bench.case(name, &[], contenders, vec![Bar::per_token(1.15)], left_out)
}
