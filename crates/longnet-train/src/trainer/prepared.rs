//! From a config to a finished run.

use super::parallel::{Mesh, guarded, on_threads};
use super::steps::{Outcome, Run, Steps};
use super::{Stop, TrainError, Trainee, check_precision};
use crate::checkpoint::{LOG, Lock, OpenError, Point, occupied, point_at, set_aside};
use crate::config::Resolved;
use crate::config::sections::{NumberFormat, OnNonFinite};
use crate::data::{self, DataError, Fingerprint, Mixture, Split, Windows};
use crate::entropy::Entropy;
use crate::evaluate::Evaluation;
use crate::loader::Loader;
use crate::machine::Machine;
use crate::memory::settle;
use crate::metrics::Gauge;
use crate::optim::optimizer;
use crate::plan::Flops;
use crate::progress::{NoFiles, Progress, Record, first_lines, has_final};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Device, Tensor};
use burn_longnet::model::LongNetLM;
use burn_train::{Interrupter, SupervisedTraining, TrainingStrategy};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A run that has its text and its model, and has not begun.
pub struct Prepared {
    pub(super) config: Resolved,
    pub(super) lm: LongNetLM,
    /// Where it goes on, if it does not begin anew.
    point: Option<Arc<Point>>,
    /// What its config changes in a run that goes on.
    pub changes: Vec<String>,
    /// The text.
    pub text: Split,
    pub(super) fingerprint: Fingerprint,
    valid: Windows,
    /// Entropies of the validation text.
    pub entropy: Entropy,
}

/// How a run is watched and ended.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// How progress is shown.
    pub progress: Progress,
    /// Ends it early.
    pub stop: Stop,
    /// Ends it after the step of this number, as [`stop`](Self::stop) would.
    pub stop_at: Option<usize>,
    /// The devices of ranks that are threads, in turn. Empty: that of the model.
    pub devices: Vec<Device>,
}

/// A run that ended.
pub struct Report {
    /// The trained model, for inference.
    pub lm: LongNetLM,
    /// Optimiser steps done.
    pub steps: usize,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// Why it ended before its last step, if it did.
    pub stopped: Option<String>,
    /// The model on all of the validation text, after the last step.
    pub evaluation: Option<Evaluation>,
    /// Entropies of that text.
    pub entropy: Entropy,
}

impl Prepared {
    /// Reads the text and makes the model of `config` on `device`, as it was at `point`, if there is one.
    ///
    /// # Errors
    ///
    /// The text cannot be used, or the run cannot go on at `point` with this config.
    pub fn new(
        mut config: Resolved,
        device: &Device,
        point: Option<Point>,
    ) -> Result<Self, TrainError> {
        // What a checkpoint says of its text must not depend on where it is read.
        let data = &mut config.config.data;
        if let Ok(root) = std::path::absolute(&data.root) {
            data.root = root.to_string_lossy().into();
        }
        let changes = point.as_ref().map(|point| point.changes(&config));
        let changes = changes.transpose().map_err(OpenError::from)?;
        let mut point = point;
        if let (Some(point), Some(changes)) = (&mut point, &changes) {
            // Losses compare only on the same windows, and a best checkpoint must be in the run's own folder.
            let decides = ["data.", "attention.", "model.", "train.eval_windows"];
            let differs = |change: &String| decides.iter().any(|key| change.starts_with(key));
            let run = Path::new(&config.config.train.run_dir);
            if changes.iter().any(differs) || !point.is_of(run) {
                point.state.best = None;
            }
        }
        let c = &config.config;
        check_precision(c.train.precision, device)?;
        let tokenizer = match &point {
            Some(point) => point.tokenizer(&c.data),
            None => data::tokenizer::open(&c.data),
        };
        let tokenizer = tokenizer.map_err(DataError::from)?;
        let text = data::load_with(&c.data, tokenizer)?;
        text.train.text().fits(c.model.vocab)?;
        let fingerprint = Fingerprint::of(text.train.text());
        if let Some(point) = &point {
            point.expect_text(&fingerprint)?;
        }
        let context = c.data.context;
        // Whether there is one window to learn from shows now.
        for (number, (source, _)) in text.sources.iter().enumerate() {
            let name = match text.sources.len() {
                1 => "training text".into(),
                _ => format!("training text of '{}' in data.paths", c.data.paths[number]),
            };
            Windows::new(Arc::new(source.clone()), context, &name)?;
        }
        let valid = Windows::new(Arc::new(text.valid.clone()), context, "validation text")?;
        let entropy = text.valid.entropy()?;
        let device = device.clone().autodiff();
        device.seed(c.train.seed as u64);
        let lm = c.language_model().init(&device);
        let lm = match &point {
            Some(point) => point.weights(lm)?,
            None => lm,
        };
        Ok(Self {
            lm: numbered(lm),
            config,
            point: point.map(Arc::new),
            changes: changes.unwrap_or_default(),
            text,
            fingerprint,
            valid,
            entropy,
        })
    }

    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.lm.num_params()
    }

    /// The checkpoint that the run goes on from.
    pub fn point(&self) -> Option<&Point> {
        self.point.as_deref()
    }

    /// Steps that are done.
    pub fn done(&self) -> usize {
        self.point.as_ref().map_or(0, |point| point.state.step)
    }

    fn run(&self) -> PathBuf {
        PathBuf::from(&self.config.config.train.run_dir)
    }

    /// Whether a run that has done its steps has also been evaluated on all of the validation text.
    pub fn is_evaluated(&self) -> bool {
        has_final(&self.log_before(), self.done())
    }

    /// Whether the run goes on in the folder that it was in.
    pub fn goes_on_in_place(&self) -> bool {
        let run = self.run();
        self.point.as_ref().is_some_and(|point| point.is_of(&run))
    }

    /// Takes the folder of the run for this process, unless it is `held` already. An earlier run there that this one does not go on with
    /// is [set aside](crate::checkpoint::set_aside); the second result is its new place.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, holds something else, or is another process's.
    pub fn place(&self, held: Option<Lock>) -> Result<(Lock, Option<PathBuf>), TrainError> {
        let run = self.run();
        let goes_on = self.goes_on_in_place();
        // What is no run is not touched, not even by a lock.
        let occupied = !goes_on && occupied(&run)?;
        let lock = match held {
            Some(lock) => lock,
            None => Lock::take(&run)?,
        };
        match (occupied, &self.point) {
            (false, Some(point)) if goes_on => {
                let best = point.state.best.map(|best| best.step);
                let is_best = best == Some(point.state.step) && self.config.config.train.keep_best;
                point_at(&run, point, is_best)?;
                Ok((lock, None))
            }
            (false, _) => Ok((lock, None)),
            (true, _) => {
                drop(lock);
                let aside = set_aside(&run)?;
                Ok((Lock::take(&run)?, aside))
            }
        }
    }

    /// Trains, with checkpoints and a log in the folder of the run, which should have been
    /// [taken](Self::place) first, and evaluates.
    ///
    /// # Errors
    ///
    /// The folder or a checkpoint cannot be written, the text cannot be read, or the loss is not finite.
    pub fn train(self, control: Control) -> Result<Report, TrainError> {
        let control = self.for_ranks(control, Mesh::single());
        match control.config.config.parallel.ranks() {
            1 => self.lead(control),
            _ => {
                let lm = self.lm.clone();
                on_threads(control, lm, |run| self.lead(run))
            }
        }
    }

    /// As [`train`](Self::train), on the ranks of `mesh`, which all make this call; rank 0 has the report.
    ///
    /// # Errors
    ///
    /// As there, and a rank that fails or does not come.
    pub fn train_on(self, control: Control, mesh: Mesh) -> Result<Option<Report>, TrainError> {
        let run = self.for_ranks(control, mesh);
        match run.mesh.leads() {
            true => self.lead(run).map(Some),
            false => run.follow(Trainee { lm: self.lm }).map(|()| None),
        }
    }

    fn for_ranks(&self, control: Control, mesh: Mesh) -> Run {
        let settings = &self.config.config.train;
        let valid = Loader::in_order(self.valid.clone(), settings.batch, settings.eval_windows);
        Run {
            config: self.config.clone(),
            sources: Mixture::from(&self.text),
            valid,
            all_valid: self.valid.clone(),
            text: self.fingerprint.clone(),
            point: self.point.clone(),
            control,
            mesh,
        }
    }

    /// The rank that writes, and shows what is done.
    fn lead(self, ranks: Run) -> Result<Report, TrainError> {
        let mesh = ranks.mesh.clone();
        let result = guarded(&mesh, || self.write_and_train(ranks));
        mesh.end_passes();
        result
    }

    fn write_and_train(self, ranks: Run) -> Result<Report, TrainError> {
        let settings = self.config.config.train.clone();
        let run = self.run();
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| TrainError::Write { path, source }
        };
        fs::create_dir_all(&run).map_err(failed(&run))?;
        let path = run.join("config.toml");
        fs::write(&path, self.config.to_string()).map_err(failed(&path))?;
        let done = self.done();
        let path = run.join(LOG);
        let before = self.log_before();
        let record = Record::open(&run, &before, done, settings.steps).map_err(failed(&path))?;
        let peak = self.peak(&run);

        let valid = ranks.valid.clone();
        let control = &ranks.control;
        let stop = control.stop.clone();
        let interrupter = Interrupter::new();
        let period = Duration::from_secs_f64(settings.log_seconds);
        let renderer = control
            .progress
            .renderer(&interrupter, done, settings.steps, period);
        let strategy = Arc::new(Steps {
            tokenizer: self.text.train.text().tokenizer().clone(),
            run: ranks,
            record: Mutex::new(record),
            flops: Flops::by_context(&self.config.config),
            peak,
            outcome: Mutex::new(None),
        });
        let trainee = Trainee { lm: self.lm };
        let optimizer = optimizer(&settings, &trainee);
        let learner = burn_train::Learner::new(trainee, optimizer, settings.lr);
        // The loop reads its text by itself.
        let valid = Arc::new(valid);
        let training = SupervisedTraining::new(&run, valid.clone(), valid)
            .with_training_strategy(TrainingStrategy::Custom(strategy.clone()))
            .num_epochs(settings.steps.div_ceil(settings.eval_every))
            .metrics((
                Gauge::loss(),
                Gauge::bits_per_byte(),
                Gauge::perplexity(),
                Gauge::speed(),
            ))
            .metric_train_numeric(Gauge::utilisation())
            .metric_train_numeric(Gauge::grad_norm())
            .metric_train_numeric(Gauge::lr());
        let extra = [
            (settings.z_loss > 0.0, Gauge::z_loss()),
            (settings.label_smoothing > 0.0, Gauge::smoothing()),
            (settings.precision == NumberFormat::F16, Gauge::loss_scale()),
            (settings.on_nonfinite == OnNonFinite::Skip, Gauge::skipped()),
        ];
        let used = extra.into_iter().filter(|(is_used, _)| *is_used);
        let training = used.fold(training, |training, (_, gauge)| {
            training.metric_train_numeric(gauge)
        });
        let result = training
            .with_metric_logger(NoFiles)
            .with_application_logger(None)
            .with_interrupter(interrupter)
            .renderer(renderer)
            .launch(learner);
        if let Some(error) = result.error {
            return Err(TrainError::Framework(error.to_string()));
        }
        // The display ends with the renderer, before anything else is printed.
        drop(result.renderer);
        let outcome = strategy
            .outcome
            .lock()
            .expect("the loop did not panic")
            .take();
        let Outcome {
            steps,
            checkpoint,
            stopped,
        } = outcome.expect("the loop has run")?;
        let lm = result.model.lm;
        let evaluation = strategy.run.last_evaluation(&lm, stopped.is_some())?;
        let stopped = match evaluation {
            Some(_) => stopped,
            None => stopped
                .or_else(|| stop.reason().map(String::from))
                .or_else(|| Some("another rank".into())),
        };
        if let Some(evaluation) = &evaluation {
            strategy.record().evaluation("final", steps, evaluation);
        }
        Ok(Report {
            lm,
            steps,
            checkpoint,
            stopped,
            evaluation,
            entropy: self.entropy,
        })
    }

    /// The log of the run before, up to the step at which this one goes on.
    fn log_before(&self) -> Vec<u8> {
        let Some(point) = &self.point else {
            return Vec::new();
        };
        let before = fs::read(point.run().join(LOG)).unwrap_or_default();
        first_lines(&before, point.state.step).to_vec()
    }

    /// What the device can do: as the run's folder says, or measured now and said there.
    fn peak(&self, run: &Path) -> Option<f64> {
        let device = self.lm.devices().into_iter().next()?;
        let machine = Machine::of_run(run, &device);
        // Its matrices, and what it took to read the text, are no part of the run.
        settle();
        machine.map(|machine| machine.matmul_flops)
    }
}

/// `module` with ids that count its parameters, where Burn draws them at random: equal runs then have
/// equal ids in their checkpoints.
fn numbered<M: Module>(module: M) -> M {
    struct Count(u64);
    impl ModuleMapper for Count {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 1;
            let (_, value, mapper) = param.consume();
            Param::from_mapped_value(ParamId::from(self.0), value, mapper)
        }
    }
    module.map(&mut Count(0))
}
