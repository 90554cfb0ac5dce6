//! From a config to a finished run.

use super::steps::{Outcome, Steps};
use super::{TrainError, Trainee};
use crate::checkpoint::LOG;
use crate::config::Resolved;
use crate::data::{self, Fingerprint, Mixture, Split, Tokens, Windows};
use crate::entropy::Entropy;
use crate::evaluate::{Evaluation, evaluate};
use crate::loader::Loader;
use crate::metrics::Gauge;
use crate::optim::optimizer;
use crate::progress::{JsonLines, Progress};
use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Device, Tensor};
use burn_longnet::model::LongNetLM;
use burn_train::{Interrupter, SupervisedTraining, TrainingStrategy};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A run that has its text and its model, and has not begun.
pub struct Prepared {
    config: Resolved,
    lm: LongNetLM,
    /// The text.
    pub text: Split,
    fingerprint: Fingerprint,
    valid: Windows,
    /// Entropies of the validation text.
    pub entropy: Entropy,
}

/// A finished run.
pub struct Report {
    /// The trained model, for inference.
    pub lm: LongNetLM,
    /// Optimiser steps done; fewer than configured if the user stopped the run.
    pub steps: usize,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The model on all of the validation text.
    pub evaluation: Evaluation,
    /// Entropies of that text.
    pub entropy: Entropy,
}

impl Prepared {
    /// Reads the text and makes the model of `config` on `device`.
    ///
    /// # Errors
    ///
    /// The text cannot be used.
    pub fn new(mut config: Resolved, device: &Device) -> Result<Self, TrainError> {
        // What a checkpoint says of its text must not depend on where it is read.
        let data = &mut config.config.data;
        if let Ok(root) = std::path::absolute(&data.root) {
            data.root = root.to_string_lossy().into();
        }
        let c = &config.config;
        let text = data::load(&c.data)?;
        text.train.text().fits(c.model.vocab)?;
        let fingerprint = Fingerprint::of(text.train.text());
        let context = c.data.context;
        // Whether there is one window to learn from shows now.
        for (source, _) in &text.sources {
            Windows::new(Arc::new(source.clone()), context, "training")?;
        }
        let valid = Windows::new(Arc::new(text.valid.clone()), context, "validation")?;
        let entropy = text.valid.entropy()?;
        let device = device.clone().autodiff();
        device.seed(c.train.seed as u64);
        let lm = numbered(c.language_model().init(&device));
        Ok(Self {
            config,
            lm,
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

    /// Trains, with checkpoints and a log in the folder of the run, and evaluates. An earlier run in
    /// the folder should be [set aside](crate::checkpoint::set_aside) first.
    ///
    /// # Errors
    ///
    /// The folder or a checkpoint cannot be written, or the loss is not finite.
    pub fn train(self, progress: Progress) -> Result<Report, TrainError> {
        let settings = self.config.config.train.clone();
        let run = PathBuf::from(&settings.run_dir);
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| TrainError::Write { path, source }
        };
        fs::create_dir_all(&run).map_err(failed(&run))?;
        let path = run.join("config.toml");
        fs::write(&path, self.config.to_string()).map_err(failed(&path))?;
        let path = run.join(LOG);
        let log = fs::File::create(&path).map_err(failed(&path))?;

        let valid = Loader::in_order(self.valid.clone(), settings.batch, settings.eval_windows);
        let interrupter = Interrupter::new();
        let period = Duration::from_secs_f64(settings.log_seconds);
        let renderer = progress.renderer(&interrupter, settings.steps, period);
        let strategy = Arc::new(Steps {
            config: self.config.clone(),
            sources: Mixture::from(&self.text),
            text: self.fingerprint,
            outcome: Mutex::new(None),
        });
        let trainee = Trainee {
            lm: self.lm,
            bytes_per_token: self.text.train.bytes() as f64 / self.text.train.len() as f64,
        };
        let optimizer = optimizer(&settings, &trainee);
        let learner = burn_train::Learner::new(trainee, optimizer, settings.lr);
        // The loop has its own feed; what burn-train calls the training set is never read.
        let valid = Arc::new(valid);
        let result = SupervisedTraining::new(&run, valid.clone(), valid)
            .with_training_strategy(TrainingStrategy::Custom(strategy.clone()))
            .num_epochs(settings.steps.div_ceil(settings.eval_every))
            .metrics((
                Gauge::loss(),
                Gauge::bits_per_byte(),
                Gauge::perplexity(),
                Gauge::speed(),
            ))
            .metric_train_numeric(Gauge::grad_norm())
            .metric_train_numeric(Gauge::lr())
            .with_metric_logger(JsonLines::new(log))
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
        let Outcome { steps, checkpoint } = outcome.expect("the loop has run")?;
        let lm = result.model.lm;
        let evaluation = evaluate(&lm, &self.valid, settings.batch);
        Ok(Report {
            lm,
            steps,
            checkpoint,
            evaluation,
            entropy: self.entropy,
        })
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
