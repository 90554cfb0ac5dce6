//! The loop over steps.

use super::{Control, Learner, TrainError, Trainee};
use crate::checkpoint::{self, Best, Contents, Point, Saved, State};
use crate::config::Resolved;
use crate::data::{Cursor, Fingerprint, Mixture, Tokenizer};
use crate::loader::{Feed, Loader};
use crate::metrics::Measured;
use crate::progress::Record;
use crate::schedule::context;
use burn::data::dataloader::{DataLoader, Progress};
use burn_train::{
    EventProcessorTraining, InferenceStep, Interrupter, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// How far a run came.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub steps: usize,
    pub checkpoint: PathBuf,
    /// Why it ended before its last step.
    pub stopped: Option<String>,
}

/// The strategy of burn-train. An "epoch" of its events is what lies between two evaluations.
pub(super) struct Steps {
    pub config: Resolved,
    /// What is learned.
    pub sources: Mixture,
    /// What evaluations in the course of the run are on.
    pub valid: Loader,
    /// What it is made of.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// What the checkpoints say of the text.
    pub text: Fingerprint,
    /// Where the run goes on.
    pub point: Mutex<Option<Point>>,
    pub control: Control,
    pub record: Mutex<Record>,
    /// Model FLOPs of a token at each context of the run, and those that the device can do in a second.
    pub flops: BTreeMap<usize, f64>,
    pub peak: Option<f64>,
    pub outcome: Mutex<Option<Result<Outcome, TrainError>>>,
}

impl SupervisedLearningStrategy<Trainee> for Steps {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        learner: burn_train::Learner<Trainee>,
        _train: TrainLoader<Trainee>,
        _valid: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, SupervisedTrainingEventProcessor<Trainee>) {
        let config = &self.config.config;
        let model = learner.model();
        // The learner keeps its optimiser to itself; a checkpoint needs it.
        drop(learner);
        let point = self.point.lock().expect("nothing else holds it").take();
        let start = point.as_ref().map(|point| point.state.clone());
        let start = start.unwrap_or_default();
        let mut learner = Learner::new(config, model);
        let resumed = point.as_ref().map(|point| learner.resume(point));
        let mut fit = Fit {
            strategy: self,
            learner,
            feed: Feed::new(self.sources.clone(), config.train.seed as u64, start.cursor),
            cursor: start.cursor,
            best: start.best,
            evaluated: start.evaluated,
            events: components.event_processor,
            interrupter: components.interrupter,
            saved: Instant::now(),
            // In another folder the run has no checkpoint yet.
            newest: point
                .filter(|point| point.is_of(&self.run()))
                .map(|point| (point.state.step, point.folder().to_path_buf())),
        };
        let outcome = resumed.unwrap_or(Ok(())).and_then(|()| fit.run());
        *self.outcome.lock().expect("the loop did not panic") = Some(outcome);
        (fit.learner.into_model(), fit.events)
    }
}

impl Steps {
    fn run(&self) -> PathBuf {
        PathBuf::from(&self.config.config.train.run_dir)
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no panic while it is written")
    }

    /// Of the step of this number.
    fn utilisation(&self, step: usize, measured: &Measured) -> f64 {
        let flops = self.flops.get(&context(&self.config.config, step));
        let rate = flops.unwrap_or(&0.0) * measured.tokens as f64 / measured.seconds;
        self.peak.map_or(0.0, |peak| rate / peak)
    }
}

struct Fit<'a> {
    strategy: &'a Steps,
    learner: Learner,
    feed: Feed,
    /// Where the data stood after the last whole step.
    cursor: Cursor,
    best: Option<Best>,
    /// Steps done at the last whole evaluation.
    evaluated: usize,
    events: SupervisedTrainingEventProcessor<Trainee>,
    interrupter: Interrupter,
    /// When the newest checkpoint was written.
    saved: Instant,
    /// The newest checkpoint and its step.
    newest: Option<(usize, PathBuf)>,
}

impl Fit<'_> {
    fn run(&mut self) -> Result<Outcome, TrainError> {
        let settings = &self.strategy.config.config.train;
        let every = settings.eval_every;
        // A run that was stopped in an evaluation makes it now.
        let done = self.learner.steps();
        let is_due = done > 0 && (done.is_multiple_of(every) || done == settings.steps);
        if is_due && self.evaluated < done && !self.should_stop() {
            let is_best = self.validate(done.div_ceil(every))?;
            self.save(is_best)?;
        }
        while self.learner.steps() < settings.steps && !self.should_stop() {
            // A run that goes on evaluates at the steps at which it would have without a break.
            let done = self.learner.steps();
            let period = done / every + 1;
            let steps = (every - done % every).min(settings.steps - done);
            self.train_event(LearnerEvent::StartSplit {
                epoch_number: period,
                total_items: steps,
            });
            for number in 1..=steps {
                let control = self.strategy.control.clone();
                let interrupter = self.interrupter.clone();
                let stop = || control.stop.is_asked() || interrupter.should_stop();
                let Some(mut measured) = self.learner.step(&mut self.feed, &stop)? else {
                    break;
                };
                let step = self.learner.steps();
                measured.utilisation = self.strategy.utilisation(step, &measured);
                self.strategy.record().step(step, &measured);
                self.cursor = self.feed.cursor();
                let progress = Progress::new(number, steps, Some("steps".into()));
                let lr = Some(measured.lr.into());
                let item = TrainingItem::new(measured, progress, Some(self.learner.steps()), lr);
                self.train_event(LearnerEvent::ProcessedItem(item));
                // At the end of a period the evaluation comes first, and its result is saved, too.
                if number < steps && self.save_is_due() {
                    self.save(false)?;
                }
                if self.should_stop() {
                    break;
                }
            }
            self.train_event(LearnerEvent::EndSplit(period));
            let is_asked = self.strategy.control.stop.is_asked();
            if self.learner.steps() == done + steps && !is_asked {
                let is_best = self.validate(period)?;
                if is_best || self.save_is_due() {
                    self.save(is_best)?;
                }
            }
            self.train_event(LearnerEvent::EndEpoch(period));
        }
        let steps = self.learner.steps();
        let checkpoint = match self.newest.take() {
            Some((step, folder)) if step == steps => folder,
            _ => self.save(false)?,
        };
        let early = steps < settings.steps || self.strategy.control.stop.is_asked();
        let stopped = early.then(|| self.reason());
        Ok(Outcome {
            steps,
            checkpoint,
            stopped,
        })
    }

    fn should_stop(&self) -> bool {
        let control = &self.strategy.control;
        control.stop.is_asked()
            || control.stop_at.is_some_and(|at| self.learner.steps() >= at)
            || self.interrupter.should_stop()
    }

    /// Why the run ends now.
    fn reason(&self) -> String {
        let control = &self.strategy.control;
        match (control.stop.reason(), control.stop_at) {
            (Some(reason), _) => reason.into(),
            (None, Some(at)) if self.learner.steps() >= at => format!("--stop-at {at}"),
            _ => "the user".into(),
        }
    }

    fn save_is_due(&self) -> bool {
        let settings = &self.strategy.config.config.train;
        let (every, minutes) = (settings.checkpoint_every, settings.checkpoint_minutes);
        let by_time = minutes > 0.0 && self.saved.elapsed().as_secs_f64() >= 60.0 * minutes;
        by_time || (every > 0 && self.learner.steps().is_multiple_of(every))
    }

    /// Evaluates; whether the result is the best so far.
    fn validate(&mut self, period: usize) -> Result<bool, TrainError> {
        let model = self.learner.evaluated();
        let total = self.strategy.valid.num_items();
        self.valid_event(LearnerEvent::StartSplit {
            epoch_number: period,
            total_items: total,
        });
        let (mut sum, mut bytes, mut tokens, mut taken, mut whole) = (0.0, 0.0, 0, 0, true);
        let mut all = Measured::default();
        for (number, batch) in self.strategy.valid.pass().enumerate() {
            // --stop-at is no hurry.
            if self.strategy.control.stop.is_asked() || self.interrupter.should_stop() {
                whole = false;
                break;
            }
            let batch = batch?;
            taken += batch.windows.len();
            let started = Instant::now();
            let mut measured = InferenceStep::step(&model, batch);
            measured.seconds = started.elapsed().as_secs_f64();
            sum += measured.loss * measured.tokens as f64;
            tokens += measured.tokens;
            all.seconds += measured.seconds;
            bytes += measured.bytes_per_token * measured.tokens as f64;
            let progress = Progress::new(taken, total, Some("windows".into()));
            let item = TrainingItem::new(measured, progress, Some(number + 1), None);
            self.valid_event(LearnerEvent::ProcessedItem(item));
        }
        self.valid_event(LearnerEvent::EndSplit(period));
        let (step, loss) = (self.learner.steps(), sum / tokens as f64);
        if whole {
            let all = Measured {
                loss,
                tokens,
                bytes_per_token: bytes / tokens as f64,
                ..all
            };
            self.strategy.record().evaluation("valid", step, &all);
            self.evaluated = step;
        }
        // A part of the windows tells nothing beside all of them.
        let is_best = whole && loss.is_finite() && self.best.is_none_or(|best| loss < best.loss);
        if is_best {
            self.best = Some(Best { step, loss });
        }
        Ok(is_best && self.strategy.config.config.train.keep_best)
    }

    fn save(&mut self, is_best: bool) -> Result<PathBuf, TrainError> {
        let contents = Contents {
            config: &self.strategy.config,
            model: &self.learner.model().lm,
            averaged: self.learner.average(),
            optimizer: self.learner.optimizer(),
            tokenizer: self.strategy.tokenizer.file(),
            state: State {
                step: self.learner.steps(),
                cursor: self.cursor,
                text: self.strategy.text.clone(),
                best: self.best,
                evaluated: self.evaluated,
                learner: *self.learner.state(),
                ..State::default()
            },
        };
        let saved = checkpoint::save(&self.strategy.run(), contents, is_best)?;
        let Saved { folder, untidy } = saved;
        if let Some(error) = untidy {
            // There is nowhere left to say that standard error is full.
            let _ = writeln!(stderr(), "warning: older checkpoints stay: {error}");
        }
        self.newest = Some((self.learner.steps(), folder.clone()));
        self.saved = Instant::now();
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
