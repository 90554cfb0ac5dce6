//! One row against a long cache.

use super::Bench;
use super::attention::{HEADS, WIDTH};
use crate::baselines::{Attention, OursDecode};
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::oracle::{Amount, samples};
use crate::problem::Problem;

/// The last position of `n`, whose segments are full.
pub fn decode(bench: &mut Bench, n: usize, branches: &[(usize, usize)]) -> Result<(), String> {
    let problem = Problem::dilated(HEADS, n, WIDTH, branches);
    let inputs = Inputs::<f32>::new(&problem);
    let mut samples = samples(&problem, &inputs, Amount::Rows);
    // The other rows are not asked for.
    samples.retain(|sample| sample.row + 1 == n);
    let mut contenders: Vec<Box<dyn Contender>> =
        vec![Box::new(OursDecode::new(&problem, &inputs))];
    if let Some(python) = bench.python {
        let folder = bench.folder;
        inputs
            .write(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let pytorch = Attention::<f32>::new(python, "decode", &problem, Pass::Forward, folder)?;
        contenders.push(Box::new(pytorch));
    }
    let name = format!("decode f32, row {n}");
    bench.case(name, &samples, contenders, Vec::new(), Vec::new())
}
