//! A model on text it has not seen.

use crate::data::Windows;
use crate::loader::Loader;
use crate::metrics::Measured;
use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn_longnet::model::{ChunkedLoss, LongNetLM};
use std::time::Instant;

/// Mean loss over a text, each token but the first predicted once.
pub type Evaluation = Measured;

/// Evaluates `lm` on all of `windows`, `batch` at a time.
pub fn evaluate(lm: &LongNetLM, windows: &Windows, batch: usize) -> Evaluation {
    let device = lm.devices()[0].clone();
    let started = Instant::now();
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in Loader::in_order(windows.clone(), batch, 0).iter() {
        let batch = batch.expect("windows of a mapped text can be read");
        let (input, targets) = batch.input(&device);
        let options = ChunkedLoss {
            chunk: lm.config().loss_chunk,
            ignore_index: batch.ignored(),
        };
        let loss: f64 = lm.loss_with(input, targets, &options).into_scalar();
        sum += loss * batch.targets() as f64;
        tokens += batch.targets();
    }
    Evaluation {
        loss: sum / tokens as f64,
        tokens,
        bytes_per_token: windows.tokens().bytes() as f64 / windows.tokens().len() as f64,
        seconds: started.elapsed().as_secs_f64(),
        ..Evaluation::default()
    }
}
