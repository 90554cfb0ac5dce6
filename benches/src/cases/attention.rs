//! Attention over a whole sequence.

use super::Bench;
use crate::bars::Bar;
use crate::baselines::{Attention, Flex, Gemm, Op, Ours};
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Amount, samples};
use crate::problem::Problem;

pub const HEADS: usize = 8;
pub const WIDTH: usize = 64;

/// The fallback's scores of a longer sequence need more memory than machines of this kind have.
const FALLBACK: usize = 8192;

/// Dense causal attention, forward.
pub fn dense(bench: &mut Bench, n: usize) -> Result<(), String> {
    let problem = Problem::dense(HEADS, n, WIDTH);
    let bars = |_| vec![Bar::over("PyTorch", 1.0), Bar::over("sgemm", 0.7).aim(0.85)];
    let others = |bench: &Bench, pass, _: &Inputs<f32>| vec![flex(bench, pass), gemm(bench)];
    passes(bench, "dense", &problem, &[Pass::Forward], others, bars)
}

/// Dilated attention in f32.
pub fn dilated_f32(bench: &mut Bench, n: usize, branches: &[(usize, usize)]) -> Result<(), String> {
    let problem = Problem::dilated(HEADS, n, WIDTH, branches);
    let bars = |pass| match pass {
        Pass::Forward => vec![
            Bar::over("PyTorch", 1.15).aim(1.4),
            Bar::over("Flex dense", 4.0),
            Bar::over("sgemm", 0.7).aim(0.85),
        ],
        Pass::Both => vec![
            Bar::over("PyTorch", 1.15).aim(1.3),
            Bar::over("Flex dense", 4.0),
            Bar::over("sgemm", 0.6).aim(0.8),
        ],
    };
    let others = |bench: &Bench, pass, inputs: &Inputs<f32>| {
        let mut others = vec![flex(bench, pass), gemm(bench)];
        if n <= FALLBACK {
            others.push(Box::new(Op::fallback(&problem, pass, inputs)));
        }
        others
    };
    let both = [Pass::Forward, Pass::Both];
    passes(bench, "dilated", &problem, &both, others, bars)
}

/// Dilated attention in half precision.
pub fn dilated_half<E: Number>(
    bench: &mut Bench,
    n: usize,
    branches: &[(usize, usize)],
) -> Result<(), String> {
    let problem = Problem::dilated(HEADS, n, WIDTH, branches);
    let bars = |pass| match (E::NAME, pass) {
        ("bf16", Pass::Forward) => vec![Bar::over("PyTorch", 1.5).aim(2.5)],
        ("bf16", Pass::Both) => vec![Bar::over("PyTorch", 2.0).aim(4.0)],
        _ => Vec::new(),
    };
    let both = [Pass::Forward, Pass::Both];
    let others = |_: &Bench, _, _: &Inputs<E>| Vec::new();
    passes(bench, "dilated", &problem, &both, others, bars)
}

/// A case for each pass: ours, PyTorch's `kind`, and `others`.
fn passes<E: Number>(
    bench: &mut Bench,
    kind: &str,
    problem: &Problem,
    passes: &[Pass],
    others: impl Fn(&Bench, Pass, &Inputs<E>) -> Vec<Box<dyn Contender>>,
    bars: impl Fn(Pass) -> Vec<Bar>,
) -> Result<(), String> {
    let inputs = Inputs::<E>::new(problem);
    let amount = match passes.contains(&Pass::Both) {
        true => Amount::Gradients,
        false => Amount::RowsAndSegment,
    };
    let samples = samples(problem, &inputs, amount);
    // In f16 ours is alone.
    let python = bench.python.filter(|_| E::NAME != "f16");
    let folder = bench.folder;
    if python.is_some() {
        inputs
            .write(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    for &pass in passes {
        let mut contenders: Vec<Box<dyn Contender>> =
            vec![Box::new(Ours::new(problem, pass, &inputs))];
        if let Some(python) = python {
            let pytorch = Attention::<E>::new(python, kind, problem, pass, folder)?;
            contenders.push(Box::new(pytorch));
        }
        contenders.extend(others(bench, pass, &inputs));
        let name = format!("{kind} {} n {}, {}", E::NAME, problem.n, pass.name());
        bench.case(name, &samples, contenders, bars(pass), Vec::new())?;
    }
    Ok(())
}

/// Burn's own attention, at a size that it does in about a second.
fn flex(bench: &Bench, pass: Pass) -> Box<dyn Contender> {
    let n = match (bench.args.quick, pass) {
        (true, _) => 256,
        (false, Pass::Forward) => 4096,
        (false, Pass::Both) => 2048,
    };
    Box::new(Flex::new(&Problem::dense(HEADS, n, WIDTH), pass))
}

fn gemm(bench: &Bench) -> Box<dyn Contender> {
    let size = if bench.args.quick { 512 } else { 2048 };
    Box::new(Gemm::new(size, bench.args.threads.into()))
}
