//! The batches of one step, added up.

use super::parallel::{ParallelError, missing};
use super::precision::widened;
use super::{Mesh, TrainError, Trainee};
use crate::config::sections::{NumberFormat, Train};
use crate::loader::Batch;
use crate::metrics::Measured;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::FloatDType;
use burn_longnet::model::ChunkedLoss;
use serde::{Deserialize, Serialize};

/// Gradients and measurements of a step, as if all its batches had been one: each token counts alike.
pub(super) struct Passes {
    gradients: GradientsAccumulator<Trainee>,
    /// Of each token: the mean over them. Until [`agree`](Self::agree) over those of this rank.
    pub measured: Measured,
    /// Predicted tokens of the batches, on all ranks.
    tokens: usize,
    /// Bytes that they stand for.
    bytes: f64,
    /// Predicted tokens of the first batch that has any.
    first: usize,
    /// Where the batches are from.
    places: Vec<String>,
    /// Which batch has a loss that is not finite.
    broken: Option<usize>,
}

/// What a rank says of its passes. JSON has no NaN: numbers are their bits.
#[derive(Serialize, Deserialize)]
struct Said {
    /// Sums over its tokens: of the loss, z-loss and smoothing.
    sums: [u64; 3],
    broken: Option<usize>,
    missing: Vec<usize>,
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
            tokens: 0,
            bytes: 0.0,
            first: 0,
            places: Vec::new(),
            broken: None,
        }
    }

    /// Whether a loss was not finite, so that nothing more need be computed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Adds this rank's part of a batch from `places` to the step of `model`.
    pub(super) fn add(
        &mut self,
        model: &Trainee,
        mesh: &Mesh,
        batch: &Batch,
        places: Vec<String>,
        seed: u64,
        objective: &Objective,
    ) {
        let all = batch.targets();
        self.tokens += all;
        self.bytes += batch.bytes_per_token() * all as f64;
        if self.first == 0 {
            self.first = all;
        }
        let part = mesh.part(batch);
        let tokens = part.targets();
        // 1 exactly where all batches are alike. A batch without targets has no gradient.
        let share = match self.first {
            0 => 1.0,
            first => tokens as f64 / first as f64,
        };
        let factor = objective.scale * share;
        let output = model.learn_part(batch, &part, mesh, seed, &objective.loss, factor);
        let new = output.item;
        let whole = new.loss + new.z_loss + new.smoothing;
        if !whole.is_finite() {
            self.broken.get_or_insert(self.places.len());
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

    /// Makes the measurements those of all ranks, and what is broken on one of them broken on all. Returns the parameters,
    /// counted in the order of `model`, that have no gradient anywhere.
    pub(super) fn agree(
        &mut self,
        mesh: &Mesh,
        model: &Trainee,
        gradients: &GradientsParams,
    ) -> Result<Vec<usize>, ParallelError> {
        let own = self.measured;
        let sum = |mean: f64| (mean * own.tokens as f64).to_bits();
        let all = mesh.exchange(Said {
            sums: [own.loss, own.z_loss, own.smoothing].map(sum),
            broken: self.broken,
            missing: missing(model, gradients),
        })?;
        let mean = |i: usize| {
            let sums = all.iter().map(|said| f64::from_bits(said.sums[i]));
            sums.sum::<f64>() / self.tokens.max(1) as f64
        };
        self.measured = Measured {
            loss: mean(0),
            z_loss: mean(1),
            smoothing: mean(2),
            bytes_per_token: self.bytes / self.tokens.max(1) as f64,
            tokens: self.tokens,
            ..own
        };
        self.broken = all.iter().filter_map(|said| said.broken).min();
        let mut missing = all[0].missing.clone();
        missing.retain(|number| all.iter().all(|said| said.missing.contains(number)));
        Ok(missing)
    }

    /// The sum of gradients, and the factor that makes it a mean over tokens.
    pub(super) fn gradients(&mut self, objective: &Objective) -> (GradientsParams, f64) {
        let factor = match self.tokens {
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
