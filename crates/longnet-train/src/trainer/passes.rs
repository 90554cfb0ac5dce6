//! The batches of one step, added up.

use super::precision::widened;
use super::{TrainError, Trainee};
use crate::config::sections::{NumberFormat, Train};
use crate::loader::Batch;
use crate::metrics::Measured;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::FloatDType;
use burn_longnet::model::ChunkedLoss;

/// Gradients and measurements of a step, as if all its batches had been one: each token counts alike.
pub(super) struct Passes {
    gradients: GradientsAccumulator<Trainee>,
    /// Of each token: the mean over them.
    pub measured: Measured,
    /// Predicted tokens of the first batch that has any.
    first: usize,
    /// Where the batches are from.
    places: Vec<String>,
    /// Which batch has a loss that is not finite.
    broken: Option<usize>,
}

/// How a batch becomes a loss.
pub(super) struct Objective {
    /// What is added to the cross entropy.
    pub loss: ChunkedLoss,
    /// The factor of the loss.
    pub scale: f64,
    /// The dtype of the passes, if it is not f32.
    pub half: Option<FloatDType>,
}

impl Passes {
    pub(super) fn new() -> Self {
        Self {
            gradients: GradientsAccumulator::new(),
            measured: Measured::default(),
            first: 0,
            places: Vec::new(),
            broken: None,
        }
    }

    /// Whether a loss was not finite, so that nothing more need be computed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Adds a batch from `places` to the step of `model`.
    pub(super) fn add(
        &mut self,
        model: &Trainee,
        batch: &Batch,
        places: Vec<String>,
        seed: u64,
        objective: &Objective,
    ) {
        let tokens = batch.targets();
        if self.first == 0 {
            self.first = tokens;
        }
        // 1 exactly where all batches are alike. A batch without targets has no gradient.
        let share = match self.first {
            0 => 1.0,
            first => tokens as f64 / first as f64,
        };
        let output = model.learn(batch, seed, &objective.loss, objective.scale * share);
        let new = output.item;
        let whole = new.loss + new.z_loss + new.smoothing;
        if !whole.is_finite() {
            self.broken = Some(self.places.len());
        }
        self.places.push(places.join(", "));
        let old = self.measured;
        let all = old.tokens + new.tokens;
        let mean = |of: fn(&Measured) -> f64| {
            let sum = of(&old) * old.tokens as f64 + of(&new) * new.tokens as f64;
            sum / all.max(1) as f64
        };
        self.measured = Measured {
            loss: mean(|m| m.loss),
            z_loss: mean(|m| m.z_loss),
            smoothing: mean(|m| m.smoothing),
            bytes_per_token: mean(|m| m.bytes_per_token),
            tokens: all,
            ..new
        };
        let gradients = match objective.half {
            Some(_) => widened(model, output.grads),
            None => output.grads,
        };
        self.gradients.accumulate(model, gradients);
    }

    /// The sum of gradients, and the factor that makes it a mean over tokens.
    pub(super) fn gradients(&mut self, objective: &Objective) -> (GradientsParams, f64) {
        let factor = match self.measured.tokens {
            // There was nothing to learn.
            0 => 1.0,
            tokens => self.first as f64 / tokens as f64,
        };
        (self.gradients.grads(), factor / objective.scale)
    }

    /// That step `step` is not finite, the last of `in_a_row` such steps.
    pub(super) fn error(
        &self,
        step: usize,
        norm: f64,
        in_a_row: usize,
        train: &Train,
    ) -> TrainError {
        let batch = match self.broken {
            _ if train.accumulate == 1 => self.places.join(", "),
            Some(at) => format!("{} of {}, {}", at + 1, train.accumulate, self.places[at]),
            None => format!("one of {}, {}", train.accumulate, self.places.join(", ")),
        };
        let clip = match train.clip > 0.0 {
            true => "a lower train.clip",
            false => "clipping (train.clip = 1.0)",
        };
        let range = match train.precision {
            NumberFormat::F16 => "; train.precision = \"bf16\" has the range that f16 lacks",
            NumberFormat::F32 | NumberFormat::Bf16 => "",
        };
        let skip = match in_a_row {
            0 => "train.on_nonfinite = \"skip\" leaves out such batches".into(),
            steps => format!("{steps} steps in a row were like this and were skipped"),
        };
        TrainError::NotFinite {
            step,
            loss: self.measured.loss,
            norm,
            batch,
            help: format!(
                "a lower train.lr, a longer train.warmup or {clip} may help{range}; {skip}"
            ),
        }
    }
}
