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
    for problem in too_long {
        println!(
            "\n{} of n {}: left out, {:.1} GiB of tensors do not fit the memory that is free",
            pass.name(),
            problem.n,
            bytes(&problem) / f64::from(1 << 30)
        );
    }
    let Some(largest) = fitting.last() else {
        return Ok(());
    };
    // The shorter sequences are the first elements of the same tensors.
    let inputs = Inputs::<f32>::new(largest);
    let contenders = fitting.iter().map(|problem| {
        let ours = Ours::new(problem, pass, &inputs);
        let samples = samples(problem, &inputs, amount);
        Box::new(ours.by_length(samples)) as Box<dyn Contender>
    });
    let contenders = contenders.collect();
    let name = format!("time per token f32, {}", pass.name());
    bench.case(name, &[], contenders, vec![Bar::per_token(1.15)])
}
