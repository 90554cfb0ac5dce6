//! A small Burn classifier with dense attention, and the same one with dilated attention: `dense.rs`
//! and `dilated.rs` differ by their import of attention, and by nothing else.
//!
//! The task: two marks, each of four kinds, stand somewhere in a sequence of noise. Are they of the
//! same kind?
//!
//! `cargo run --release -p longnet-examples --bin sequence_classifier`

mod dense;
#[rustfmt::skip] // Its one line that differs from `dense.rs` stays one line.
mod dilated;

use burn::nn::attention::MultiHeadAttentionConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::TensorData;
use burn_longnet::attention::MultiHeadDilatedAttentionConfig;
use burn_longnet::pattern::Branch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::process::ExitCode;

const SYMBOLS: usize = 16;
const LENGTH: usize = 64;
const BATCH: usize = 32;
const STEPS: usize = 200;

fn main() -> ExitCode {
    let device = Device::flex().autodiff();
    let branches = [(16, 1), (64, 4)].map(Branch::from).to_vec();
    let dense = MultiHeadAttentionConfig::new(64, 4).with_dropout(0.0);
    let dilated = MultiHeadDilatedAttentionConfig::new(64, 4)
        .with_branches(branches)
        .with_dropout(0.0);
    device.seed(1);
    let dense = dense::Classifier::new(&dense, SYMBOLS, &device);
    device.seed(1);
    let dilated = dilated::Classifier::new(&dilated, SYMBOLS, &device);

    let dense = train("dense", dense, dense::Classifier::forward, &device);
    let dilated = train("dilated", dilated, dilated::Classifier::forward, &device);
    if dense.min(dilated) < 0.9 {
        eprintln!("a classifier did not learn the task");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Trains, and returns the accuracy on sequences that were not trained on.
fn train<M: Module>(
    name: &str,
    mut model: M,
    forward: fn(&M, Tensor<2, Int>) -> Tensor<2>,
    device: &Device,
) -> f32 {
    let mut rng = StdRng::seed_from_u64(2);
    let mut optimizer = AdamWConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(device);
    for step in 1..=STEPS {
        let (symbols, same) = batch(&mut rng, device);
        let loss = loss.forward(forward(&model, symbols), same);
        if step % 50 == 0 {
            println!(
                "{name}: step {step}, loss {:.3}",
                loss.clone().into_scalar::<f32>()
            );
        }
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(3e-3, model, grads);
    }
    let (mut right, rounds) = (0.0, 10);
    for _ in 0..rounds {
        let (symbols, same) = batch(&mut rng, device);
        let guess = forward(&model, symbols).argmax(1).squeeze_dim::<1>(1);
        right += guess.equal(same).float().mean().into_scalar::<f32>();
    }
    println!("{name}: accuracy {:.3}", right / rounds as f32);
    right / rounds as f32
}

/// Symbols `[BATCH, LENGTH]`, and 1 where the two marks are of the same kind.
fn batch(rng: &mut StdRng, device: &Device) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let (mut symbols, mut same) = (Vec::new(), Vec::new());
    for _ in 0..BATCH {
        let mut row: Vec<i32> = (0..LENGTH)
            .map(|_| rng.random_range(8..SYMBOLS as i32))
            .collect();
        let first = rng.random_range(0..4);
        let second = if rng.random() {
            first
        } else {
            rng.random_range(0..4)
        };
        let at = rng.random_range(0..LENGTH);
        row[at] = first;
        row[(at + rng.random_range(1..LENGTH)) % LENGTH] = 4 + second;
        symbols.extend(row);
        same.push(i32::from(first == second));
    }
    (
        Tensor::from_data(TensorData::new(symbols, [BATCH, LENGTH]), device),
        Tensor::from_data(TensorData::new(same, [BATCH]), device),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_two_versions_differ_by_one_line() {
        let (dense, dilated) = (include_str!("dense.rs"), include_str!("dilated.rs"));
        assert_eq!(dense.lines().count(), dilated.lines().count());
        let differ = dense.lines().zip(dilated.lines()).filter(|(a, b)| a != b);
        assert_eq!(differ.count(), 1);
    }
}
