//! One optimiser step after the other.

use super::average::Average;
use super::parallel::{Mesh, ParallelError, Zero, fingerprint, reduced};
use super::passes::{Objective, Passes};
use super::precision;
use super::state::LearnerState;
use super::{TrainError, Trainee};
use crate::checkpoint::Point;
use crate::config::Config;
use crate::config::sections::OnNonFinite;
use crate::data::Random;
use crate::loader::Feed;
use crate::metrics::Measured;
use crate::optim::{self, optimizer, scale_and_clip};
use crate::schedule::{batch, context, learning_rate};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn_longnet::model::{ChunkedLoss, LongNetLM};
use std::time::Instant;

/// A model, its optimiser, the average of its weights, and how many steps they have done. All else that a
/// step needs is a function of the config and the step's number.
pub struct Learner {
    config: Config,
    /// Taken by the optimiser while it makes the next one, so that only one exists.
    model: Option<Trainee>,
    optimizer: ModuleOptimizer,
    average: Option<Average>,
    state: LearnerState,
    steps: usize,
    mesh: Mesh,
    /// Where the optimiser has the state of a share of the parameters.
    zero: Option<Zero>,
}

const BETWEEN_STEPS: &str = "there is a model between steps";

impl Learner {
    /// `model` before its first step.
    pub fn new(config: &Config, model: Trainee) -> Self {
        Self::on(config, model, Mesh::single())
    }

    /// One of the ranks of `mesh`. All of them have the same weights, and make the same steps.
    pub fn on(config: &Config, model: Trainee, mesh: Mesh) -> Self {
        Self {
            zero: mesh.zero.then(|| Zero::new(&model, &mesh)),
            mesh,
            config: config.clone(),
            optimizer: optimizer(&config.train, &model),
            average: average(config, &model.lm),
            model: Some(model),
            state: LearnerState::default(),
            steps: 0,
        }
    }

    /// Goes on at `point`, whose weights the model has already.
    ///
    /// # Errors
    ///
    /// A checkpoint of other parameters.
    pub fn resume(&mut self, point: &Point) -> Result<(), TrainError> {
        let fresh = optimizer(&self.config.train, self.model());
        let keep = |id: u64| self.zero.as_ref().is_none_or(|zero| zero.owns(id));
        let some = self.zero.is_some().then_some(&keep as &dyn Fn(u64) -> bool);
        self.optimizer = point.optimizer(fresh, &self.model().lm, some)?;
        // Where the run kept no average until now, one begins with the weights.
        let averaged = point.averaged(self.model().lm.valid())?;
        self.average = average(&self.config, averaged.as_ref().unwrap_or(&self.model().lm));
        self.state = point.state.learner;
        self.steps = point.state.step;
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &Trainee {
        self.model.as_ref().expect(BETWEEN_STEPS)
    }

    /// The averaged model, if the config asks for one.
    pub fn average(&self) -> Option<&LongNetLM> {
        self.average.as_ref().map(Average::lm)
    }

    /// The model that evaluations see, for inference: the averaged one, if there is one.
    pub fn evaluated(&self) -> Trainee {
        match self.average() {
            Some(lm) => Trainee { lm: lm.clone() },
            None => self.model().valid(),
        }
    }

    /// The model, at the end: the averaged one, if there is one.
    pub fn into_model(self) -> Trainee {
        match self.average {
            Some(_) => self.evaluated(),
            None => self.model.expect(BETWEEN_STEPS),
        }
    }

    /// What steps hand on beside weights and optimiser.
    pub fn state(&self) -> &LearnerState {
        &self.state
    }

    #[cfg(test)]
    pub(super) fn state_mut(&mut self) -> &mut LearnerState {
        &mut self.state
    }

    /// The optimiser, with its state; a share of it where ranks share that.
    pub fn optimizer(&self) -> &ModuleOptimizer {
        &self.optimizer
    }

    /// On rank 0 the shares of the optimiser's state, if it is shared.
    ///
    /// # Errors
    ///
    /// A rank does not come.
    pub(super) fn shares(&self) -> Result<Option<Vec<Vec<u8>>>, ParallelError> {
        match &self.zero {
            Some(zero) => zero.gather(&self.mesh, &self.optimizer),
            None => Ok(None),
        }
    }

    /// Whether all ranks have the same weights still.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn check_replicas(&self) -> Result<(), ParallelError> {
        if self.mesh.is_single() {
            return Ok(());
        }
        let all = self.mesh.exchange(fingerprint(self.model()))?;
        match all.iter().position(|other| *other != all[0]) {
            None => Ok(()),
            Some(rank) => Err(ParallelError::Drift {
                step: self.steps,
                rank,
            }),
        }
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
        let started = Instant::now();
        let (settings, step) = (&self.config.train, self.steps + 1);
        let half = precision::half(settings.precision);
        let objective = Objective {
            loss: ChunkedLoss {
                chunk: settings.loss_chunk,
                ignore_index: None,
                z_loss: settings.z_loss,
                label_smoothing: settings.label_smoothing,
            },
            scale: self.state.scale(settings),
            half,
        };
        let copy = half.map(|dtype| precision::copy(self.model(), dtype));
        let model = copy.as_ref().unwrap_or(self.model());
        let mut passes = Passes::new();
        for pass in 0..settings.accumulate {
            if pass > 0 && stop() {
                return Ok(None);
            }
            let batch = feed.next(batch(&self.config, step), context(&self.config, step))?;
            // The rest of a step that is lost is taken from the feed alone; but other ranks do not know of it yet.
            if !passes.is_broken() || !self.mesh.is_single() {
                let (seed, places) = (self.dropout_seed(pass), feed.places(&batch));
                passes.add(model, &self.mesh, &batch, places, seed, &objective);
            }
        }
        drop(copy);
        let (gradients, factor) = passes.gradients(&objective);
        let gradients = match self.mesh.is_single() {
            true => gradients,
            false => {
                let missing = passes.agree(&self.mesh, self.model(), &gradients)?;
                match passes.is_broken() {
                    true => gradients,
                    false => reduced(&self.mesh, self.model(), gradients, &missing)?,
                }
            }
        };
        // All ranks have the same gradients now; but a device need not add up twice alike.
        let own = factor * optim::norm(self.model(), &gradients);
        let norm = f64::from_bits(self.mesh.exchange(own.to_bits())?[0]);
        let gradients = scale_and_clip(self.model(), gradients, factor, norm, settings.clip);
        let measured = Measured {
            grad_norm: norm,
            lr: learning_rate(settings, step),
            loss_scale: objective.scale,
            ..passes.measured
        };
        if passes.is_broken() || !norm.is_finite() {
            self.lose(&passes, norm)?;
        } else {
            let model = self.model.take().expect(BETWEEN_STEPS);
            let (model, shared) = match &self.zero {
                None => (self.optimizer.step(measured.lr, model, gradients), Ok(())),
                Some(zero) => {
                    let own = zero.own(&model, gradients);
                    let model = self.optimizer.step(measured.lr, model, own);
                    zero.share(&self.mesh, model)
                }
            };
            if let Some(average) = &mut self.average {
                average.update(&model.lm, step);
            }
            self.model = Some(model);
            shared?;
            self.state.succeed(settings);
        }
        self.steps = step;
        Ok(Some(Measured {
            seconds: started.elapsed().as_secs_f64(),
            skipped: self.state.skipped,
            ..measured
        }))
    }

    /// A step that is not finite: nothing is learned from it.
    fn lose(&mut self, passes: &Passes, norm: f64) -> Result<(), TrainError> {
        let settings = &self.config.train;
        if !passes.is_broken() && self.state.overflow(settings) {
            return Ok(());
        }
        match settings.on_nonfinite {
            OnNonFinite::Skip if self.state.skip() => Ok(()),
            _ => {
                let row = self.state.skipped_in_a_row;
                Err(passes.error(self.steps + 1, norm, row, settings))
            }
        }
    }

    /// What is dropped is a function of the seed and the place in the run, so that a resumed run needs
    /// no generator's state.
    fn dropout_seed(&self, pass: usize) -> u64 {
        let run = Random::new(self.config.train.seed as u64).next();
        let step = Random::new(run ^ self.steps as u64).next();
        let seed = Random::new(step ^ pass as u64).next();
        match self.mesh.data {
            (_, 0) => seed,
            // Other rows: what is dropped in them is drawn apart.
            (_, at) => Random::new(seed ^ at as u64).next(),
        }
    }
}

/// An average that begins with `lm`, if `config` asks for one.
fn average(config: &Config, lm: &LongNetLM) -> Option<Average> {
    let decay = config.train.ema;
    (decay > 0.0).then(|| Average::new(lm, decay))
}
