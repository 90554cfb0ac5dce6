//! Block masks.

use super::Bench;
use super::attention::{HEADS, WIDTH};
use crate::bars::Bar;
use crate::baselines::{Attention, Ours};
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::oracle::{Amount, Sample, samples};
use crate::problem::Problem;
use longnet_cpu::Walk;
use longnet_pattern::{BlockGrid, BlockMask, BlockPattern, hilbert as curve};

/// Random blocks around a window, so many of those that causality leaves.
fn scattered(block: usize, density: f64) -> BlockPattern {
    BlockPattern::Density {
        of: Box::new(BlockPattern::Window(2 * block)),
        target: density,
        seed: 1,
    }
}

fn amount(pass: Pass) -> Amount {
    match pass {
        Pass::Forward => Amount::RowsAndSegment,
        Pass::Both => Amount::Gradients,
    }
}

/// Dense attention by the kernels that dilated attention has too, as a mask of everything, PyTorch's, and masks of
/// fewer blocks.
pub fn sparsity(bench: &mut Bench, n: usize, pass: Pass) -> Result<(), String> {
    const BLOCK: usize = 128;
    let dense = Problem::dense(HEADS, n, WIDTH);
    let inputs = Inputs::<f32>::new(&dense);
    let masks = [
        ("0 %", BlockPattern::All),
        ("50 %", scattered(BLOCK, 0.5)),
        ("90 %", scattered(BLOCK, 0.1)),
        ("95 %", scattered(BLOCK, 0.05)),
        ("window of 90 %", BlockPattern::Window(n / 10)),
    ];
    // The dense kernel computes what a mask of everything does.
    let everything = dense.masked(dense.mask(&BlockPattern::All, BLOCK));
    let all = samples(&everything, &inputs, amount(pass));
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(Ours::new(&dense, pass, &inputs))];
    if let Some(python) = bench.python {
        let folder = bench.folder;
        (inputs.write(folder)).map_err(|error| format!("{}: {error}", folder.display()))?;
        let pytorch = Attention::<f32>::new(python, "dense", &dense, pass, folder)?;
        contenders.push(Box::new(pytorch));
    }
    for (name, pattern) in masks {
        let problem = dense.masked(dense.mask(&pattern, BLOCK));
        let samples = samples(&problem, &inputs, amount(pass));
        let ours = Ours::new(&problem, pass, &inputs).named(name.into(), samples);
        contenders.push(Box::new(ours));
    }
    let bars = vec![
        Bar::of("0 %", 1.0 / 1.1),
        Bar::of("90 %", 0.7),
        Bar::of("window of 90 %", 0.7),
        Bar::per_flop("9", 1.15),
    ];
    let name = format!("blocks of {BLOCK} f32 n {n}, {}", pass.name());
    bench.case(name, &all, contenders, bars, Vec::new())
}

/// From which density on scattered blocks are faster as a rule of dense attention.
pub fn crossover(bench: &mut Bench, n: usize, block: usize) -> Result<(), String> {
    let dense = Problem::dense(HEADS, n, WIDTH);
    let inputs = Inputs::<f32>::new(&dense);
    for pass in [Pass::Forward, Pass::Both] {
        let everything = dense.masked(dense.mask(&BlockPattern::All, block));
        let all: Vec<Sample> = samples(&everything, &inputs, amount(pass));
        let ours = Ours::new(&dense, pass, &inputs);
        let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(ours)];
        for density in [0.1, 0.3, 0.5, 0.7, 0.9] {
            let problem = dense.masked(dense.mask(&scattered(block, density), block));
            for (walk, how) in [
                (Walk::Blocks, "by blocks"),
                (Walk::Dense, "as dense"),
                (Walk::Fastest, "as is"),
            ] {
                let samples = samples(&problem, &inputs, amount(pass));
                let ours = Ours::new(&problem, pass, &inputs).walking(walk);
                contenders.push(Box::new(ours.named(format!("{density} {how}"), samples)));
            }
        }
        let name = format!("crossover, blocks of {block} f32 n {n}, {}", pass.name());
        bench.case(name, &all, contenders, Vec::new(), Vec::new())?;
    }
    Ok(())
}

/// An image of `side` by `side` tokens, row by row: blocks of a part of a row see those around them, in the order
/// of the sequence and along a Hilbert curve.
pub fn hilbert(bench: &mut Bench, side: usize) -> Result<(), String> {
    const BLOCK: usize = 64;
    let n = side * side;
    let dense = Problem::dense(HEADS, n, WIDTH);
    let inputs = Inputs::<f32>::new(&dense);
    let (width, reach) = (side / BLOCK, (side / 16, 1));
    let near = |i: usize, j: usize| {
        (i / width).abs_diff(j / width) <= reach.0 && (i % width).abs_diff(j % width) <= reach.1
    };
    let mask = BlockMask::new(HEADS, BlockGrid::square(n, BLOCK))
        .causal(true)
        .shared()
        .build_from_fn(|_, i, j| near(i, j))
        .expect("a valid mask");
    let order = curve::block_order(side, side, BLOCK);
    let plain = dense.masked(mask.clone());
    let along = dense.masked(mask.in_order(&order, &order));
    for pass in [Pass::Forward, Pass::Both] {
        let samples = || samples(&plain, &inputs, amount(pass));
        let ours = Ours::new(&plain, pass, &inputs);
        let hilbert = Ours::new(&along, pass, &inputs).named("Hilbert".into(), samples());
        let contenders: Vec<Box<dyn Contender>> = vec![Box::new(ours), Box::new(hilbert)];
        let name = format!("image of {side} x {side} f32, {}", pass.name());
        bench.case(name, &samples(), contenders, Vec::new(), Vec::new())?;
    }
    Ok(())
}
