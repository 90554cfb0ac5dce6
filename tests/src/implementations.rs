//! The two implementations that run on the CPU, in f32, and problems for them.

use crate::generate;
use crate::problem::{Inputs, Outputs, Problem};
use crate::run::{Layout, through_autodiff, through_fallback};
use burn::tensor::{DType, Device};

/// Contiguous tensors.
pub const PLAIN: [Layout; 4] = [Layout::Plain; 4];

/// Their names, and how to run them.
pub const IMPLEMENTATIONS: [(&str, fn(&Problem, &Inputs) -> Outputs); 2] =
    [("kernels", kernels), ("fallback", fallback)];

/// `longnet-cpu`, through autodiff.
pub fn kernels(problem: &Problem, x: &Inputs) -> Outputs {
    through_autodiff(problem, x, &Device::flex().autodiff(), DType::F32, PLAIN)
}

/// The plain tensor ops of backends without kernels.
pub fn fallback(problem: &Problem, x: &Inputs) -> Outputs {
    through_fallback(problem, x, &Device::flex(), DType::F32, PLAIN)
}

/// Numbers that are exact in f32.
pub fn inputs(problem: &Problem, index: u64) -> Inputs {
    generate::inputs(problem, 3, index).rounded(|x| f64::from(x as f32))
}

/// The first `count` generated problems that `keep` accepts, changed by it.
pub fn problems(count: usize, keep: impl Fn(&mut Problem) -> bool) -> Vec<(u64, Problem)> {
    let all = (0..).map(|index| (index, generate::problem(3, index)));
    all.filter_map(|(index, mut problem)| keep(&mut problem).then_some((index, problem)))
        .take(count)
        .collect()
}

/// The bits of the rows of `[batch * heads, n, width]` for which `keep` holds.
pub fn bits(x: &[f64], n: usize, width: usize, keep: impl Fn(usize) -> bool) -> Vec<u64> {
    let rows = x.chunks(width).enumerate();
    rows.filter(|(row, _)| keep(row % n))
        .flat_map(|(_, row)| row.iter().map(|x| x.to_bits()))
        .collect()
}
