//! The model as burn-train sees it.

use crate::loader::Batch;
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
        let (input, targets) = batch.input(&self.lm.devices()[0]);
        let options = &ChunkedLoss {
            ignore_index: batch.ignored(),
            ..options.clone()
        };
        let terms = self.lm.loss_terms(input.seed(seed), targets, options);
        let added = |x: Tensor<1>, is_on: bool| if is_on { x.into_scalar() } else { 0.0 };
        let measured = Measured {
            z_loss: added(terms.z_loss, options.z_loss > 0.0),
            smoothing: added(terms.smoothing, options.label_smoothing > 0.0),
            ..self.measured(batch, terms.cross_entropy.into_scalar())
        };
        let loss = match factor {
            1.0 => terms.total,
            factor => terms.total * factor,
        };
        TrainOutput::new(self, loss.backward(), measured)
    }

    fn measured(&self, batch: &Batch, loss: f64) -> Measured {
        Measured {
            loss,
            tokens: batch.targets(),
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
        self.measured(&batch, batch.loss(&self.lm).into_scalar())
    }
}
