//! The loop over steps.

use super::{Learner, TrainError, Trainee};
use crate::checkpoint::{self, State};
use crate::config::Resolved;
use crate::data::{Cursor, Fingerprint, Mixture};
use crate::loader::{Batch, Feed};
use crate::metrics::Measured;
use burn::data::dataloader::{DataLoader, Progress};
use burn::module::Module;
use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
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
    /// What is learned.
    pub sources: Mixture,
    /// What the checkpoints say of the text.
    pub text: Fingerprint,
    pub outcome: Mutex<Option<Result<Outcome, TrainError>>>,
}

impl SupervisedLearningStrategy<Trainee> for Steps {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        learner: burn_train::Learner<Trainee>,
        _train: TrainLoader<Trainee>,
        valid: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, SupervisedTrainingEventProcessor<Trainee>) {
        let config = &self.config.config;
        let model = learner.model();
        // The learner keeps its optimiser to itself; a checkpoint needs it.
        drop(learner);
        let seed = config.train.seed as u64;
        let mut fit = Fit {
            strategy: self,
            learner: Learner::new(config, model),
            feed: Feed::new(self.sources.clone(), seed, Cursor::default()),
            events: components.event_processor,
            interrupter: components.interrupter,
            saved: None,
        };
        let outcome = fit.run(&*valid);
        *self.outcome.lock().expect("the loop did not panic") = Some(outcome);
        (fit.learner.into_model(), fit.events)
    }
}

struct Fit<'a> {
    strategy: &'a Steps,
    learner: Learner,
    feed: Feed,
    events: SupervisedTrainingEventProcessor<Trainee>,
    interrupter: Interrupter,
    /// The newest checkpoint and its step.
    saved: Option<(usize, PathBuf)>,
}

impl Fit<'_> {
    fn run(&mut self, valid: &dyn DataLoader<Batch>) -> Result<Outcome, TrainError> {
        let settings = &self.strategy.config.config.train;
        let mut period = 0;
        // Where the data stood after the last whole step.
        let mut cursor = self.feed.cursor();
        while self.learner.steps() < settings.steps && !self.interrupter.should_stop() {
            period += 1;
            let steps = settings
                .eval_every
                .min(settings.steps - self.learner.steps());
            self.train_event(LearnerEvent::StartSplit {
                epoch_number: period,
                total_items: steps,
            });
            for done in 1..=steps {
                let interrupter = self.interrupter.clone();
                let stop = || interrupter.should_stop();
                let Some(measured) = self.learner.step(&mut self.feed, &stop)? else {
                    break;
                };
                cursor = self.feed.cursor();
                let step = self.learner.steps();
                let progress = Progress::new(done, steps, Some("steps".into()));
                let lr = Some(measured.lr.into());
                let item = TrainingItem::new(measured, progress, Some(step), lr);
                self.train_event(LearnerEvent::ProcessedItem(item));
                let every = settings.checkpoint_every;
                if every > 0 && step.is_multiple_of(every) {
                    self.save(cursor)?;
                }
                if self.interrupter.should_stop() {
                    break;
                }
            }
            self.train_event(LearnerEvent::EndSplit(period));
            // The caller evaluates the final model on all of the validation text.
            if self.learner.steps() < settings.steps && !self.interrupter.should_stop() {
                self.validate(valid, period)?;
            }
            self.train_event(LearnerEvent::EndEpoch(period));
        }
        let steps = self.learner.steps();
        let checkpoint = match self.saved.take() {
            Some((step, folder)) if step == steps => folder,
            _ => self.save(cursor)?,
        };
        Ok(Outcome { steps, checkpoint })
    }

    fn validate(&mut self, valid: &dyn DataLoader<Batch>, period: usize) -> Result<(), TrainError> {
        let model = self.learner.model().valid();
        self.valid_event(LearnerEvent::StartSplit {
            epoch_number: period,
            total_items: valid.num_items(),
        });
        let mut batches = valid.iter();
        let mut number = 0;
        while let Some(batch) = batches.next() {
            let batch = batch.map_err(|e| TrainError::Framework(e.to_string()))?;
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
        Ok(())
    }

    fn save(&mut self, cursor: Cursor) -> Result<PathBuf, TrainError> {
        let config = &self.strategy.config;
        let run = PathBuf::from(&config.config.train.run_dir);
        let lm = &self.learner.model().lm;
        let state = State {
            step: self.learner.steps(),
            cursor,
            text: self.strategy.text.clone(),
            ..State::default()
        };
        let folder = checkpoint::save(&run, config, lm, self.learner.optimizer(), state)?;
        self.saved = Some((self.learner.steps(), folder.clone()));
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
