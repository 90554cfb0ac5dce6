//! The loop over steps.

use super::{TrainError, Trainee};
use crate::checkpoint::{self, State};
use crate::config::Resolved;
use crate::data::{Cursor, Fingerprint, Windows};
use crate::loader::Batch;
use crate::metrics::Measured;
use crate::optim::{optimizer, scale_and_clip};
use crate::schedule::learning_rate;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::module::Module;
use burn::optim::{GradientsAccumulator, ModuleOptimizer};
use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainStep,
    TrainingComponents, TrainingItem, ValidLoader,
};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

/// How far a run came.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub steps: usize,
    pub checkpoint: PathBuf,
}

/// The strategy of burn-train. An "epoch" of its events is what lies between two evaluations.
pub(super) struct Steps {
    pub config: Resolved,
    /// Names the text of a batch in errors.
    pub windows: Windows,
    /// What the checkpoints say of the text.
    pub text: Fingerprint,
    pub outcome: Mutex<Option<Result<Outcome, TrainError>>>,
}

impl SupervisedLearningStrategy<Trainee> for Steps {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        learner: Learner<Trainee>,
        train: TrainLoader<Trainee>,
        valid: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, SupervisedTrainingEventProcessor<Trainee>) {
        let model = learner.model();
        // The learner keeps its optimiser to itself; a checkpoint needs it.
        drop(learner);
        let mut fit = Fit {
            strategy: self,
            optimizer: optimizer(&self.config.config.train, &model),
            model: Some(model),
            events: components.event_processor,
            interrupter: components.interrupter,
            step: 0,
            cursor: Cursor::default(),
            saved: None,
        };
        let outcome = fit.run(&*train, &*valid);
        *self.outcome.lock().expect("the loop did not panic") = Some(outcome);
        (fit.model.expect(BETWEEN_STEPS), fit.events)
    }
}

struct Fit<'a> {
    strategy: &'a Steps,
    /// Taken by the optimiser while it makes the next one, so that only one exists.
    model: Option<Trainee>,
    optimizer: ModuleOptimizer,
    events: SupervisedTrainingEventProcessor<Trainee>,
    interrupter: Interrupter,
    /// Steps done.
    step: usize,
    cursor: Cursor,
    /// The newest checkpoint and its step.
    saved: Option<(usize, PathBuf)>,
}

const BETWEEN_STEPS: &str = "there is a model between steps";

impl Fit<'_> {
    fn model(&self) -> &Trainee {
        self.model.as_ref().expect(BETWEEN_STEPS)
    }

    fn run(
        &mut self,
        train: &dyn DataLoader<Batch>,
        valid: &dyn DataLoader<Batch>,
    ) -> Result<Outcome, TrainError> {
        let settings = &self.strategy.config.config.train;
        let mut batches = train.iter();
        let mut period = 0;
        while self.step < settings.steps && !self.interrupter.should_stop() {
            period += 1;
            let steps = settings.eval_every.min(settings.steps - self.step);
            self.train_event(LearnerEvent::StartSplit {
                epoch_number: period,
                total_items: steps,
            });
            for done in 1..=steps {
                let measured = self.step(&mut *batches)?;
                let progress = Progress::new(done, steps, Some("steps".into()));
                let lr = Some(measured.lr.into());
                let item = TrainingItem::new(measured, progress, Some(self.step), lr);
                self.train_event(LearnerEvent::ProcessedItem(item));
                let every = settings.checkpoint_every;
                if every > 0 && self.step.is_multiple_of(every) {
                    self.save()?;
                }
                if self.interrupter.should_stop() {
                    break;
                }
            }
            self.train_event(LearnerEvent::EndSplit(period));
            // The caller evaluates the final model on all of the validation text.
            if self.step < settings.steps && !self.interrupter.should_stop() {
                self.validate(valid, period);
            }
            self.train_event(LearnerEvent::EndEpoch(period));
        }
        let checkpoint = match self.saved.take() {
            Some((step, folder)) if step == self.step => folder,
            _ => self.save()?,
        };
        Ok(Outcome {
            steps: self.step,
            checkpoint,
        })
    }

    /// One optimiser step over `accumulate` batches.
    fn step(
        &mut self,
        batches: &mut dyn DataLoaderIterator<Batch>,
    ) -> Result<Measured, TrainError> {
        let settings = &self.strategy.config.config.train;
        let started = Instant::now();
        let mut accumulator = GradientsAccumulator::new();
        let mut measured = Measured::default();
        let mut places = Vec::new();
        for _ in 0..settings.accumulate {
            let batch = match batches.next() {
                Some(Ok(batch)) => batch,
                Some(Err(error)) => return Err(TrainError::Framework(error.to_string())),
                None => unreachable!("shuffled batches do not end"),
            };
            self.cursor = batch.after;
            places.extend(batch.windows.iter().map(|w| w.start));
            let output = TrainStep::step(self.model(), batch);
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
        self.step += 1;
        if !(measured.loss.is_finite() && norm.is_finite()) {
            let tokens = self.strategy.windows.tokens();
            let places: Vec<String> = places.iter().map(|&at| tokens.place(at)).collect();
            return Err(TrainError::NotFinite {
                step: self.step,
                loss: measured.loss,
                norm,
                clip: settings.clip,
                batch: places.join(", "),
            });
        }
        let lr = learning_rate(settings, self.step);
        let model = self.model.take().expect(BETWEEN_STEPS);
        self.model = Some(self.optimizer.step(lr, model, grads));
        Ok(Measured {
            seconds: started.elapsed().as_secs_f64(),
            grad_norm: norm,
            lr,
            ..measured
        })
    }

    fn validate(&mut self, valid: &dyn DataLoader<Batch>, period: usize) {
        let model = self.model().valid();
        self.valid_event(LearnerEvent::StartSplit {
            epoch_number: period,
            total_items: valid.num_items(),
        });
        let mut batches = valid.iter();
        let mut number = 0;
        while let Some(Ok(batch)) = batches.next() {
            let started = Instant::now();
            let mut measured = InferenceStep::step(&model, batch);
            measured.seconds = started.elapsed().as_secs_f64();
            number += 1;
            let item = TrainingItem::new(measured, batches.progress(), Some(number), None);
            self.valid_event(LearnerEvent::ProcessedItem(item));
            if self.interrupter.should_stop() {
                break;
            }
        }
        self.valid_event(LearnerEvent::EndSplit(period));
    }

    fn save(&mut self) -> Result<PathBuf, TrainError> {
        let config = &self.strategy.config;
        let run = PathBuf::from(&config.config.train.run_dir);
        let lm = &self.model().lm;
        let state = State {
            step: self.step,
            cursor: self.cursor,
            text: self.strategy.text.clone(),
            ..State::default()
        };
        let folder = checkpoint::save(&run, config, lm, &self.optimizer, state)?;
        self.saved = Some((self.step, folder.clone()));
        Ok(folder)
    }

    fn train_event(&mut self, event: LearnerEvent<Measured>) {
        let result = self.events.process_train(event);
        self.interrupter.fail_on_error(result);
    }

    fn valid_event(&mut self, event: LearnerEvent<Measured>) {
        let result = self.events.process_valid(event);
        self.interrupter.fail_on_error(result);
    }
}
