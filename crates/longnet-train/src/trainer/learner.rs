//! One optimiser step after the other.

use super::{TrainError, Trainee};
use crate::config::Config;
use crate::data::Random;
use crate::loader::Feed;
use crate::metrics::Measured;
use crate::optim::{optimizer, scale_and_clip};
use crate::schedule::learning_rate;
use burn::optim::{GradientsAccumulator, ModuleOptimizer};
use std::time::Instant;

/// A model, its optimiser, and how many steps they have done.
pub struct Learner {
    config: Config,
    /// Taken by the optimiser while it makes the next one, so that only one exists.
    model: Option<Trainee>,
    optimizer: ModuleOptimizer,
    steps: usize,
}

const BETWEEN_STEPS: &str = "there is a model between steps";

impl Learner {
    /// `model` before its first step.
    pub fn new(config: &Config, model: Trainee) -> Self {
        Self {
            config: config.clone(),
            optimizer: optimizer(&config.train, &model),
            model: Some(model),
            steps: 0,
        }
    }

    /// Goes on after `steps` steps, with the optimiser's state after them.
    pub fn resumed(self, steps: usize, optimizer: ModuleOptimizer) -> Self {
        Self {
            optimizer,
            steps,
            ..self
        }
    }

    /// The model.
    pub fn model(&self) -> &Trainee {
        self.model.as_ref().expect(BETWEEN_STEPS)
    }

    /// The model, at the end.
    pub fn into_model(self) -> Trainee {
        self.model.expect(BETWEEN_STEPS)
    }

    /// The optimiser, with its state.
    pub fn optimizer(&self) -> &ModuleOptimizer {
        &self.optimizer
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// One optimiser step over `train.accumulate` batches of `feed`. None if `stop` became true before
    /// the last of them: nothing but the feed has changed then.
    ///
    /// # Errors
    ///
    /// Text that cannot be read, and a loss or gradient that is not finite.
    pub fn step(
        &mut self,
        feed: &mut Feed,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Measured>, TrainError> {
        let settings = &self.config.train;
        let started = Instant::now();
        let mut accumulator = GradientsAccumulator::new();
        let mut measured = Measured::default();
        let mut places = Vec::new();
        for pass in 0..settings.accumulate {
            if pass > 0 && stop() {
                return Ok(None);
            }
            let batch = feed.next(settings.batch, self.config.data.context)?;
            places.extend(feed.places(&batch));
            let output = self.model().learn(&batch, self.dropout_seed(pass));
            let tokens = measured.tokens + output.item.tokens;
            measured = Measured {
                loss: (measured.loss * measured.tokens as f64
                    + output.item.loss * output.item.tokens as f64)
                    / tokens as f64,
                tokens,
                ..output.item
            };
            accumulator.accumulate(self.model(), output.grads);
        }
        let scale = 1.0 / settings.accumulate as f64;
        let (grads, norm) = scale_and_clip(self.model(), accumulator.grads(), scale, settings.clip);
        if !(measured.loss.is_finite() && norm.is_finite()) {
            return Err(TrainError::NotFinite {
                step: self.steps + 1,
                loss: measured.loss,
                norm,
                clip: settings.clip,
                batch: places.join(", "),
            });
        }
        self.steps += 1;
        let lr = learning_rate(settings, self.steps);
        let model = self.model.take().expect(BETWEEN_STEPS);
        self.model = Some(self.optimizer.step(lr, model, grads));
        Ok(Some(Measured {
            seconds: started.elapsed().as_secs_f64(),
            grad_norm: norm,
            lr,
            ..measured
        }))
    }

    /// What is dropped is a function of the seed and the place in the run, so that a resumed run needs
    /// no generator's state.
    fn dropout_seed(&self, pass: usize) -> u64 {
        let run = Random::new(self.config.train.seed as u64).next();
        let step = Random::new(run ^ self.steps as u64).next();
        Random::new(step ^ pass as u64).next()
    }
}
