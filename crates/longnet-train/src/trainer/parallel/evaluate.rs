//! Evaluations, each rank its part.

use super::super::TrainError;
use super::{Mesh, ParallelError};
use crate::data::Windows;
use crate::evaluate::{Evaluation, evaluate};
use crate::loader::{Batch, Loader};
use crate::metrics::Measured;
use burn::module::Module;
use burn_longnet::model::{ChunkedLoss, LongNetLM};
use std::time::Instant;

impl Mesh {
    /// The loss of `lm` on `batch`, and why the evaluation should end now, if a rank wants that; `stop` is this rank's
    /// reason.
    ///
    /// # Errors
    ///
    /// A rank does not come.
    pub fn measure(
        &self,
        lm: &LongNetLM,
        batch: &Batch,
        stop: Option<String>,
    ) -> Result<(Measured, Option<String>), ParallelError> {
        let part = self.part(batch);
        // One without targets still has keys that other ranks of the ring see.
        let sum = match part.is_empty() {
            true => 0.0,
            false => {
                let (input, targets) = part.input(&lm.devices()[0]);
                let options = ChunkedLoss {
                    chunk: lm.config().loss_chunk,
                    ignore_index: batch.ignored(),
                    ..ChunkedLoss::default()
                };
                let input = self.input(input, &part);
                let mean: f64 = lm.loss_with(input, targets, &options).into_scalar();
                mean * part.targets() as f64
            }
        };
        let all = self.exchange((f64::to_bits(sum), stop))?;
        let sum: f64 = all.iter().map(|(sum, _)| f64::from_bits(*sum)).sum();
        let tokens = batch.targets();
        let measured = Measured {
            loss: sum / tokens.max(1) as f64,
            tokens,
            bytes_per_token: batch.bytes_per_token(),
            ..Measured::default()
        };
        Ok((measured, all.into_iter().find_map(|(_, stop)| stop)))
    }

    /// As [`evaluate`], on all ranks.
    ///
    /// # Errors
    ///
    /// As there, and a rank that does not come.
    pub fn evaluate(
        &self,
        lm: &LongNetLM,
        windows: &Windows,
        batch: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Evaluation>, TrainError> {
        if self.is_single() {
            return Ok(evaluate(lm, windows, batch, stop)?);
        }
        let started = Instant::now();
        let (mut sum, mut bytes, mut tokens) = (0.0, 0.0, 0);
        for batch in Loader::in_order(windows.clone(), batch, 0).pass() {
            let batch = batch?;
            let (measured, stop) = self.measure(lm, &batch, stop().then(String::new))?;
            if stop.is_some() {
                return Ok(None);
            }
            sum += measured.loss * measured.tokens as f64;
            bytes += measured.bytes_per_token * measured.tokens as f64;
            tokens += measured.tokens;
        }
        Ok(Some(Evaluation {
            loss: sum / tokens.max(1) as f64,
            tokens,
            bytes_per_token: bytes / tokens.max(1) as f64,
            seconds: started.elapsed().as_secs_f64(),
            ..Evaluation::default()
        }))
    }
}
