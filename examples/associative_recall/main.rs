//! Associative recall over 8192 bytes: the same small model with four kinds of attention.
//!
//! 64 facts (a key, its value) and 64 questions (a mark, a key) stand anywhere among noise; the model answers each
//! question with the value of its key. It first learns on short sequences, then on long ones.
//!
//! `cargo run --release -p longnet-examples --bin associative_recall -- [dense | window | dilated | adaptive | mean]...`

mod model;
mod task;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::prelude::*;
use burn_longnet::attention::BlockScorer;
use burn_longnet::model::LayerAttention;
use model::Encoder;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::process::ExitCode;
use std::time::Instant;

/// Bytes, sequences of a step, steps.
const STAGES: [(usize, usize, usize); 3] = [(256, 32, 600), (1024, 8, 300), (8192, 1, 300)];
const RATE: f64 = 2e-3;
/// Sequences of the last length that the accuracy is measured on.
const TESTS: usize = 16;
/// How far a window reaches to either side.
const NEAR: usize = 512;

/// The kinds of attention, and for the dilated one its branches.
fn kinds() -> Vec<(&'static str, LayerAttention, Vec<(usize, usize)>)> {
    let blocks = |pattern: &str| LayerAttention::BlockSparse {
        pattern: pattern.parse().expect("a pattern"),
        block: 32,
    };
    let adaptive = |scorer| LayerAttention::Adaptive {
        top_k: 2 * NEAR / 32,
        block: 32,
        scorer,
    };
    let none = vec![(1, 1)];
    vec![
        ("dense", blocks("all"), none.clone()),
        ("window", blocks("window(1024)"), none.clone()),
        (
            "dilated",
            LayerAttention::Dilated,
            vec![(512, 1), (2048, 2), (8192, 4)],
        ),
        ("adaptive", adaptive(BlockScorer::Learned), none.clone()),
        ("mean", adaptive(BlockScorer::Mean), none),
    ]
}

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let kinds = kinds();
    let is_known = |name: &&String| kinds.iter().any(|kind| kind.0 == **name);
    if let Some(name) = asked.iter().find(|name| !is_known(name)) {
        eprintln!(
            "{name} is no kind of attention; there are dense, window, dilated, adaptive and mean"
        );
        return ExitCode::FAILURE;
    }
    for (name, kind, branches) in kinds {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            run(name, &kind, &branches);
        }
    }
    ExitCode::SUCCESS
}

fn run(name: &str, kind: &LayerAttention, branches: &[(usize, usize)]) {
    let device = Device::flex().autodiff();
    device.seed(1);
    let model = Encoder::new(kind, branches, &device);
    println!("{name}: {} parameters", model.num_params());
    let start = Instant::now();
    let model = train(name, model, &device);
    let seconds = start.elapsed().as_secs_f64();
    let [all, near, far] = accuracy(&model.valid(), &Device::flex());
    println!(
        "{name}: accuracy {all:.3}, of facts within {NEAR} bytes {near:.3}, beyond {far:.3}; {seconds:.0} s of training"
    );
}

fn train(name: &str, mut model: Encoder, device: &Device) -> Encoder {
    let mut rng = StdRng::seed_from_u64(2);
    let mut optimizer = AdamWConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(device);
    let mut seed = 0;
    for (n, sequences, steps) in STAGES {
        for step in 1..=steps {
            let batch = task::batch(&mut rng, sequences, n, device);
            seed += 1;
            let logits = model.forward(batch.bytes, batch.places, Some(seed));
            let loss = loss.forward(logits, batch.values);
            if step % 50 == 0 {
                let loss = loss.clone().into_scalar::<f32>();
                println!("{name}: {n} bytes, step {step}, loss {loss:.3}");
            }
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            // Each stage begins and ends gently.
            let rate = RATE
                * (step as f64 / 50.0)
                    .min((steps - step + 1) as f64 / 100.0)
                    .min(1.0);
            model = optimizer.step(rate, model, grads);
        }
    }
    model
}

/// The share of questions that are answered: of all, of those near their fact, and of the others.
fn accuracy(model: &Encoder, device: &Device) -> [f64; 3] {
    let mut rng = StdRng::seed_from_u64(3);
    let (n, ..) = STAGES[STAGES.len() - 1];
    let (mut right, mut asked) = ([0; 2], [0; 2]);
    for _ in 0..TESTS {
        let batch = task::batch(&mut rng, 1, n, device);
        let logits = model.forward(batch.bytes, batch.places, None);
        let answers = logits.argmax(1).squeeze_dim::<1>(1).equal(batch.values);
        for (is_right, distance) in answers.into_data().iter::<bool>().zip(batch.distances) {
            let group = usize::from(distance > NEAR);
            right[group] += usize::from(is_right);
            asked[group] += 1;
        }
    }
    let share = |right: usize, asked: usize| right as f64 / asked as f64;
    [
        share(right[0] + right[1], asked[0] + asked[1]),
        share(right[0], asked[0]),
        share(right[1], asked[1]),
    ]
}
