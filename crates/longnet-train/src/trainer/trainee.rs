//! The model as burn-train sees it.

use super::Mesh;
use crate::loader::{Batch, Part};
use crate::metrics::Measured;
use burn::module::Module;
use burn::tensor::Tensor;
use burn_longnet::model::{ChunkedLoss, LongNetLM};
use burn_train::{InferenceStep, TrainOutput, TrainStep};

/// A language model that learns.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The model.
    pub lm: LongNetLM,
}

impl Trainee {
    /// The loss of `batch` and the gradients of `factor` times it, dropout drawn from `seed`.
    pub fn learn(
        &self,
        batch: &Batch,
        seed: u64,
        options: &ChunkedLoss,
        factor: f64,
    ) -> TrainOutput<Measured> {
        self.learn_part(
            batch,
            &Part::whole(batch),
            &Mesh::single(),
            seed,
            options,
            factor,
        )
    }

    /// As [`learn`](Self::learn), of the part of `batch` that this rank of `mesh` takes: the mean over its targets.
    pub fn learn_part(
        &self,
        batch: &Batch,
        part: &Part<'_>,
        mesh: &Mesh,
        seed: u64,
        options: &ChunkedLoss,
        factor: f64,
    ) -> TrainOutput<Measured> {
        let (input, targets) = part.input(&self.lm.devices()[0]);
        let input = mesh.input(input, part);
        let options = &ChunkedLoss {
            ignore_index: batch.ignored(),
            ..options.clone()
        };
        let terms = self.lm.loss_terms(input.seed(seed), targets, options);
        let added = |x: Tensor<1>, is_on: bool| if is_on { x.into_scalar() } else { 0.0 };
        let measured = Measured {
            z_loss: added(terms.z_loss, options.z_loss > 0.0),
            smoothing: added(terms.smoothing, options.label_smoothing > 0.0),
            ..Self::measured(batch, part.targets(), terms.cross_entropy.into_scalar())
        };
        let loss = match factor {
            1.0 => terms.total,
            factor => terms.total * factor,
        };
        TrainOutput::new(self, loss.backward(), measured)
    }

    fn measured(batch: &Batch, tokens: usize, loss: f64) -> Measured {
        Measured {
            loss,
            tokens,
            bytes_per_token: batch.bytes_per_token(),
            ..Measured::default()
        }
    }
}

/// burn-train asks for a step of its own; the loop here calls [`Trainee::learn`].
impl TrainStep for Trainee {
    type Input = Batch;
    type Output = Measured;

    fn step(&self, batch: Batch) -> TrainOutput<Measured> {
        self.learn(&batch, 0, &ChunkedLoss::default(), 1.0)
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = Measured;

    fn step(&self, batch: Batch) -> Measured {
        Self::measured(&batch, batch.targets(), batch.loss(&self.lm).into_scalar())
    }
}
