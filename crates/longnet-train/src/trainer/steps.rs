//! The loop over steps.

use super::parallel::{Mesh, Start, Word, Zero, guarded};
use super::{Control, Learner, TrainError, Trainee};
use crate::checkpoint::{self, Best, Contents, Optimizer, Point, Saved, State};
use crate::config::Resolved;
use crate::data::{Cursor, Fingerprint, Mixture, Tokenizer, Windows};
use crate::evaluate::Evaluation;
use crate::loader::{Feed, Loader};
use crate::metrics::Measured;
use crate::progress::Record;
use crate::schedule::context;
use burn::data::dataloader::{DataLoader, Progress};
use burn_longnet::model::LongNetLM;
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

/// What each rank of a run knows.
#[derive(Clone)]
pub(super) struct Run {
    pub config: Resolved,
    /// What is learned.
    pub sources: Mixture,
    /// What evaluations in the course of the run are on.
    pub valid: Loader,
    /// What the last one is on.
    pub all_valid: Windows,
    /// What the checkpoints say of the text.
    pub text: Fingerprint,
    /// Where the run goes on.
    pub point: Option<Arc<Point>>,
    pub control: Control,
    /// The other ranks.
    pub mesh: Mesh,
}

/// The strategy of burn-train, on the rank that writes and shows what is done. An "epoch" of its events is what lies
/// between two evaluations.
pub(super) struct Steps {
    pub run: Run,
    /// What the text is made of.
    pub tokenizer: Arc<dyn Tokenizer>,
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
        let model = learner.model();
        // The learner keeps its optimiser to itself; a checkpoint needs it.
        drop(learner);
        let mut fit = Fit::new(&self.run, model);
        fit.lead = Some(Lead {
            steps: self,
            events: components.event_processor,
            interrupter: components.interrupter,
        });
        let outcome = guarded(&self.run.mesh, || fit.run());
        *self.outcome.lock().expect("the loop did not panic") = Some(outcome);
        let lead = fit.lead.expect("it was put there");
        (fit.learner.into_model(), lead.events)
    }
}

impl Run {
    fn folder(&self) -> PathBuf {
        PathBuf::from(&self.config.config.train.run_dir)
    }

    /// A rank that writes nothing: its steps, and its part of the last evaluation.
    ///
    /// # Errors
    ///
    /// As [`Prepared::train`](super::Prepared::train).
    pub fn follow(&self, model: Trainee) -> Result<(), TrainError> {
        let result = guarded(&self.mesh, || {
            let mut fit = Fit::new(self, model);
            let outcome = fit.run()?;
            let lm = fit.learner.into_model().lm;
            self.last_evaluation(&lm, outcome.stopped.is_some())?;
            Ok(())
        });
        self.mesh.end_passes();
        result
    }

    /// The model on all of the validation text, unless the run was `stopped`, or is now. All ranks make this call.
    ///
    /// # Errors
    ///
    /// Text that has become unreadable, and a rank that does not come.
    pub fn last_evaluation(
        &self,
        lm: &LongNetLM,
        stopped: bool,
    ) -> Result<Option<Evaluation>, TrainError> {
        if stopped {
            return Ok(None);
        }
        let (batch, stop) = (self.config.config.train.batch, &self.control.stop);
        self.mesh
            .evaluate(lm, &self.all_valid, batch, &|| stop.is_asked())
    }
}

impl Steps {
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no panic while it is written")
    }

    /// Of the step of this number.
    fn utilisation(&self, step: usize, measured: &Measured) -> f64 {
        let flops = self.flops.get(&context(&self.run.config.config, step));
        let rate = flops.unwrap_or(&0.0) * measured.tokens as f64 / measured.seconds;
        let devices = self.run.mesh.devices as f64;
        self.peak.map_or(0.0, |peak| rate / (peak * devices))
    }
}

struct Fit<'a> {
    run: &'a Run,
    /// None on ranks that write and show nothing.
    lead: Option<Lead<'a>>,
    learner: Learner,
    feed: Feed,
    /// Where the data stood after the last whole step.
    cursor: Cursor,
    best: Option<Best>,
    /// Steps done at the last whole evaluation.
    evaluated: usize,
    /// When the newest checkpoint was written.
    saved: Instant,
    /// The newest checkpoint and its step.
    newest: Option<(usize, PathBuf)>,
    /// What several ranks have agreed on last.
    agreed: Word,
}

struct Lead<'a> {
    steps: &'a Steps,
    events: SupervisedTrainingEventProcessor<Trainee>,
    interrupter: Interrupter,
}

impl<'a> Fit<'a> {
    fn new(run: &'a Run, model: Trainee) -> Self {
        let config = &run.config.config;
        let start = run.point.as_ref().map(|point| point.state.clone());
        let start = start.unwrap_or_default();
        // In another folder the run has no checkpoint yet.
        let newest = run
            .point
            .as_ref()
            .filter(|point| point.is_of(&run.folder()));
        Self {
            learner: Learner::on(config, model, run.mesh.clone()),
            feed: Feed::new(run.sources.clone(), config.train.seed as u64, start.cursor),
            cursor: start.cursor,
            best: start.best,
            evaluated: start.evaluated,
            saved: Instant::now(),
            newest: newest.map(|point| (point.state.step, point.folder().to_path_buf())),
            agreed: Word::default(),
            lead: None,
            run,
        }
    }

    fn run(&mut self) -> Result<Outcome, TrainError> {
        let settings = &self.run.config.config.train;
        let every = settings.eval_every;
        self.begin()?;
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
                let single = self.run.mesh.is_single();
                let (own, interrupter) = (&self.run.control.stop, self.interrupter());
                // Several ranks stop between steps, where they agree on it.
                let stop = || {
                    let interrupted = || interrupter.as_ref().is_some_and(|i| i.should_stop());
                    single && (own.is_asked() || interrupted())
                };
                let Some(mut measured) = self.learner.step(&mut self.feed, &stop)? else {
                    break;
                };
                let step = self.learner.steps();
                self.cursor = self.feed.cursor();
                if let Some(lead) = &self.lead {
                    measured.utilisation = lead.steps.utilisation(step, &measured);
                    lead.steps.record().step(step, &measured);
                }
                let progress = Progress::new(number, steps, Some("steps".into()));
                let lr = Some(measured.lr.into());
                let item = TrainingItem::new(measured, progress, Some(step), lr);
                self.train_event(LearnerEvent::ProcessedItem(item));
                self.agree()?;
                // At the end of a period the evaluation comes first, and its result is saved, too.
                if number < steps && self.save_is_due() {
                    self.save(false)?;
                }
                if self.should_stop() {
                    break;
                }
            }
            self.train_event(LearnerEvent::EndSplit(period));
            if self.learner.steps() == done + steps && !self.is_asked() {
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
        let early = steps < settings.steps || self.is_asked();
        let stopped = early.then(|| self.reason());
        Ok(Outcome {
            steps,
            checkpoint,
            stopped,
        })
    }

    /// Takes the state of the checkpoint that the run goes on from, if there is one, and sees that all ranks begin at the
    /// same place.
    fn begin(&mut self) -> Result<(), TrainError> {
        if let Some(point) = &self.run.point {
            // Files may be large and far away.
            let learner = &mut self.learner;
            self.run.mesh.patiently(|| learner.resume(point))??;
        }
        let mesh = &self.run.mesh;
        if mesh.is_single() {
            return Ok(());
        }
        let newest = self.newest.as_ref().map(|(step, _)| *step);
        let (config, text) = (&self.run.config.config, self.run.text.to_string());
        let start = Start::new(config, self.learner.model(), text, newest);
        let newest = start.agree(mesh)?;
        self.newest = newest.map(|step| match self.newest.take() {
            Some((at, folder)) if at == step => (step, folder),
            _ => (step, PathBuf::new()),
        });
        self.agree()
    }

    fn interrupter(&self) -> Option<Interrupter> {
        self.lead.as_ref().map(|lead| lead.interrupter.clone())
    }

    /// Why this rank wants the run to end, if it does.
    fn wants_stop(&self) -> Option<String> {
        let stop = &self.run.control.stop;
        let interrupted = || {
            self.lead
                .as_ref()
                .is_some_and(|l| l.interrupter.should_stop())
        };
        match stop.is_asked() || interrupted() {
            true => Some(stop.reason().unwrap_or("the user").into()),
            false => None,
        }
    }

    /// Between steps: what any rank wants stopped, and rank 0 wants saved.
    fn agree(&mut self) -> Result<(), TrainError> {
        if !self.run.mesh.is_single() {
            self.agreed = self.run.mesh.agree(Word {
                stop: self.wants_stop(),
                save: self.wants_save(),
            })?;
        }
        Ok(())
    }

    /// Whether the run should end at once.
    fn is_asked(&self) -> bool {
        match self.run.mesh.is_single() {
            true => self.run.control.stop.is_asked(),
            false => self.agreed.stop.is_some(),
        }
    }

    fn should_stop(&self) -> bool {
        let at = self.run.control.stop_at;
        self.is_asked()
            || at.is_some_and(|at| self.learner.steps() >= at)
            || (self.run.mesh.is_single() && self.wants_stop().is_some())
    }

    /// Why the run ends now.
    fn reason(&self) -> String {
        let control = &self.run.control;
        let asked = control.stop.reason().map(String::from);
        match (asked.or(self.agreed.stop.clone()), control.stop_at) {
            (Some(reason), _) => reason,
            (None, Some(at)) if self.learner.steps() >= at => format!("--stop-at {at}"),
            _ => "the user".into(),
        }
    }

    fn save_is_due(&self) -> bool {
        match self.run.mesh.is_single() {
            true => self.wants_save(),
            false => self.agreed.save,
        }
    }

    fn wants_save(&self) -> bool {
        let settings = &self.run.config.config.train;
        let (every, minutes) = (settings.checkpoint_every, settings.checkpoint_minutes);
        let by_time = minutes > 0.0 && self.saved.elapsed().as_secs_f64() >= 60.0 * minutes;
        by_time || (every > 0 && self.learner.steps().is_multiple_of(every))
    }

    /// Evaluates; whether the result is the best so far.
    fn validate(&mut self, period: usize) -> Result<bool, TrainError> {
        let model = self.learner.evaluated();
        let total = self.run.valid.num_items();
        self.valid_event(LearnerEvent::StartSplit {
            epoch_number: period,
            total_items: total,
        });
        let (mut sum, mut bytes, mut tokens, mut taken, mut whole) = (0.0, 0.0, 0, 0, true);
        let mut all = Measured::default();
        for (number, batch) in self.run.valid.pass().enumerate() {
            // --stop-at is no hurry.
            if self.is_asked() || (self.run.mesh.is_single() && self.wants_stop().is_some()) {
                whole = false;
                break;
            }
            let batch = batch?;
            taken += batch.windows.len();
            let started = Instant::now();
            let mut measured = match self.run.mesh.is_single() {
                true => InferenceStep::step(&model, batch),
                false => {
                    let (measured, stop) =
                        self.run
                            .mesh
                            .measure(&model.lm, &batch, self.wants_stop())?;
                    self.agreed.stop = stop;
                    measured
                }
            };
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
            if let Some(lead) = &self.lead {
                lead.steps.record().evaluation("valid", step, &all);
            }
            self.evaluated = step;
        }
        // A part of the windows tells nothing beside all of them.
        let is_best = whole && loss.is_finite() && self.best.is_none_or(|best| loss < best.loss);
        if is_best {
            self.best = Some(Best { step, loss });
        }
        Ok(is_best && self.run.config.config.train.keep_best)
    }

    fn save(&mut self, is_best: bool) -> Result<PathBuf, TrainError> {
        self.learner.check_replicas()?;
        let shares = self.learner.shares()?;
        let contents = self.lead.as_ref().map(|lead| Contents {
            config: &self.run.config,
            model: &self.learner.model().lm,
            averaged: self.learner.average(),
            optimizer: Optimizer::Own(self.learner.optimizer()),
            tokenizer: lead.steps.tokenizer.file(),
            state: State {
                step: self.learner.steps(),
                cursor: self.cursor,
                text: self.run.text.clone(),
                best: self.best,
                evaluated: self.evaluated,
                learner: *self.learner.state(),
                ..State::default()
            },
        });
        let folder = self.run.folder();
        let save = || {
            contents.map(|mut contents| {
                if let Some(shares) = shares {
                    contents.optimizer = Optimizer::Gathered(Zero::merged(shares)?);
                }
                Ok::<_, TrainError>(checkpoint::save(&folder, contents, is_best)?)
            })
        };
        let saved = self.run.mesh.patiently(save)?.transpose()?;
        let saved = saved.unwrap_or(Saved {
            folder: PathBuf::new(),
            untidy: None,
        });
        let Saved { folder, untidy } = saved;
        if let Some(error) = untidy {
            // There is nowhere left to say that standard error is full.
            let _ = writeln!(stderr(), "warning: older checkpoints stay: {error}");
        }
        self.newest = Some((self.learner.steps(), folder.clone()));
        self.saved = Instant::now();
        self.agreed.save = false;
        Ok(folder)
    }

    fn train_event(&mut self, event: LearnerEvent<Measured>) {
        if let Some(lead) = &mut self.lead {
            let result = lead.events.process_train(event);
            lead.interrupter.fail_on_error(result);
        }
    }

    fn valid_event(&mut self, event: LearnerEvent<Measured>) {
        if let Some(lead) = &mut self.lead {
            let result = lead.events.process_valid(event);
            lead.interrupter.fail_on_error(result);
        }
    }
}
