//! Attention on the first CUDA device. `benches/pytorch/gpu.py` measures PyTorch's on the same problems, under
//! the same names.

use super::Bench;
use crate::baselines::{BurnCuda, OursCuda};
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Amount, Sample, samples};
use crate::problem::Problem;
use burn::tensor::Device;

/// Heads times head size.
const MODEL: usize = 1024;

/// Where the search for the longest sequence ends.
const LONGEST: usize = 1 << 20;

/// # Errors
///
/// There is no such device.
fn device() -> Result<Device, String> {
    longnet_tests::device::cuda().ok_or_else(|| "there is no CUDA device".into())
}

/// Dilated attention, forward and forward + backward.
pub fn dilated<E: Number>(
    bench: &mut Bench,
    d: usize,
    n: usize,
    branches: &[(usize, usize)],
) -> Result<(), String> {
    let problem = Problem::dilated(MODEL / d, n, d, branches);
    let (device, inputs) = (device()?, Inputs::<E>::new(&problem));
    let samples = samples(&problem, &inputs, Amount::Gradients);
    for pass in [Pass::Forward, Pass::Both] {
        let ours = OursCuda::new(&device, &problem, pass, &inputs)?;
        let name = name::<E>("dilated", &problem, pass);
        case(bench, name, &samples, vec![Box::new(ours)])?;
    }
    Ok(())
}

/// Dense causal attention, beside Burn's own forward.
pub fn dense<E: Number>(bench: &mut Bench, d: usize, n: usize) -> Result<(), String> {
    let problem = Problem::dense(MODEL / d, n, d);
    let (device, inputs) = (device()?, Inputs::<E>::new(&problem));
    let samples = samples(&problem, &inputs, Amount::Gradients);
    for pass in [Pass::Forward, Pass::Both] {
        let ours = OursCuda::new(&device, &problem, pass, &inputs)?;
        let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(ours)];
        // It computes in f16 whatever the inputs are, which is too coarse for f32.
        if E::HALF && pass == Pass::Forward {
            contenders.push(Box::new(BurnCuda::new(&device, &problem, &inputs)?));
        }
        case(
            bench,
            name::<E>("dense", &problem, pass),
            &samples,
            contenders,
        )?;
    }
    Ok(())
}

/// Forward + backward of ever longer sequences, from `n` on, until one fails: the last that did not is the
/// longest that trains, among those tried.
pub fn longest<E: Number>(
    bench: &mut Bench,
    d: usize,
    mut n: usize,
    branches: &[(usize, usize)],
) -> Result<(), String> {
    let device = device()?;
    while n <= LONGEST {
        let problem = Problem::dilated(MODEL / d, n, d, branches);
        let inputs = Inputs::<E>::new(&problem);
        let samples = samples(&problem, &inputs, Amount::Gradients);
        let name = name::<E>("longest", &problem, Pass::Both);
        match OursCuda::new(&device, &problem, Pass::Both, &inputs) {
            Ok(ours) => case(bench, name, &samples, vec![Box::new(ours)])?,
            Err(why) => {
                let left_out = vec![format!("n {n}: {why}")];
                return bench.case(name, &[], Vec::new(), Vec::new(), left_out);
            }
        }
        let failed = |case: &crate::report::Case| case.rows.iter().any(|row| row.times.is_err());
        if bench.cases.last().is_some_and(failed) {
            break;
        }
        n *= 2;
    }
    Ok(())
}

fn case(
    bench: &mut Bench,
    name: String,
    samples: &[Sample],
    contenders: Vec<Box<dyn Contender>>,
) -> Result<(), String> {
    bench.case(name, samples, contenders, Vec::new(), Vec::new())
}

fn name<E: Number>(kind: &str, problem: &Problem, pass: Pass) -> String {
    let (d, n) = (problem.d, problem.n);
    format!("cuda {kind} {} d {d} n {n}, {}", E::NAME, pass.name())
}
