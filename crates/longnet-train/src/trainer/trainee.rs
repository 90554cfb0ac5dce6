//! The model as burn-train sees it.

use crate::loader::Batch;
use crate::metrics::Measured;
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_longnet::model::{ChunkedLoss, LmInput, LongNetLM};
use burn_train::{InferenceStep, TrainOutput, TrainStep};

/// A language model with what its steps need.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The model.
    pub lm: LongNetLM,
    /// Bytes of text that a token stands for.
    pub bytes_per_token: f64,
}

impl Trainee {
    /// The loss of `batch` and its gradients, dropout drawn from `seed`.
    pub fn learn(&self, batch: &Batch, seed: u64) -> TrainOutput<Measured> {
        let (input, targets) = batch.input(&self.lm.devices()[0]);
        let loss = self.loss(batch, input.seed(seed), targets);
        let measured = self.measured(batch, loss.clone().into_scalar());
        TrainOutput::new(self, loss.backward(), measured)
    }

    fn loss(&self, batch: &Batch, input: LmInput, targets: Tensor<2, Int>) -> Tensor<1> {
        let options = ChunkedLoss {
            chunk: self.lm.config().loss_chunk,
            ignore_index: batch.ignored(),
        };
        self.lm.loss_with(input, targets, &options)
    }

    fn measured(&self, batch: &Batch, loss: f64) -> Measured {
        Measured {
            loss,
            tokens: batch.targets(),
            bytes_per_token: self.bytes_per_token,
            ..Measured::default()
        }
    }
}

/// burn-train asks for a step of its own; the loop here calls [`Trainee::learn`].
impl TrainStep for Trainee {
    type Input = Batch;
    type Output = Measured;

    fn step(&self, batch: Batch) -> TrainOutput<Measured> {
        self.learn(&batch, 0)
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = Measured;

    fn step(&self, batch: Batch) -> Measured {
        let (input, targets) = batch.input(&self.lm.devices()[0]);
        let loss = self.loss(&batch, input, targets);
        self.measured(&batch, loss.into_scalar())
    }
}
