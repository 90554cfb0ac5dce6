//! Two steps of a run that leaves nothing behind, beside its plan.

use super::{Learner, Prepared, TrainError, Trainee};
use crate::checkpoint::{self, Contents, Optimizer, State};
use crate::data::{Cursor, Mixture, Tokens};
use crate::loader::Feed;
use crate::machine::Machine;
use crate::memory::{Resident, settle};
use crate::metrics::Measured;
use crate::plan::{Flops, Plan, largest_pass};
use burn::module::Module;
use std::path::{Path, PathBuf};

/// The largest deviation of a plan that held, as a share of what was measured.
pub const TOLERANCE: f64 = 0.1;

/// What two steps showed.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// What was planned.
    pub plan: Plan,
    /// The second step, with the context and batch of the run's largest pass, as in the plan; its
    /// utilisation is filled in.
    pub step: Measured,
    /// The machine, measured after the steps, whose memory it might exceed.
    pub machine: Option<Machine>,
    /// The most memory that the process had, in bytes, without the text.
    pub peak: Option<u64>,
    /// Memory that is the text's: pages of mapped files, which the system may drop.
    pub text: u64,
}

impl DryRun {
    /// By how much the plan was above what was measured, as a share of that.
    pub fn deviation(&self) -> Option<f64> {
        let peak = self.peak? as f64;
        Some(self.plan.worst.memory.total() / peak - 1.0)
    }

    /// Whether the plan held.
    pub fn held(&self) -> Option<bool> {
        Some(self.deviation()?.abs() <= TOLERANCE)
    }
}

/// The folder of `path` that is there, or the nearest one above it.
fn nearest(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
    there.map_or_else(std::env::temp_dir, Path::to_path_buf)
}

impl Prepared {
    /// Two steps and a checkpoint in a folder that is removed again, beside the run's own. `start` is the
    /// memory of the process before the text was read.
    ///
    /// # Errors
    ///
    /// What would end a run in its first steps.
    pub fn dry_run(self, start: Option<Resident>) -> Result<DryRun, TrainError> {
        let config = self.config.config.clone();
        let plan = Plan::of(&config, 1);
        // What more is mapped now: the text, and code that was run for the first time.
        let read = Resident::of_this_process();
        let mapped = start.zip(read);
        let mapped = mapped.map_or(0, |(start, read)| read.files.saturating_sub(start.files));
        let text = mapped.min(self.text.train.bytes() + self.text.valid.bytes());
        let device = self.lm.devices().into_iter().next();
        settle();
        let trainee = Trainee { lm: self.lm };
        let (context, batch) = largest_pass(&config);
        let mut largest = config.clone();
        (largest.data.context, largest.train.batch) = (context, batch);
        largest.data.context_schedule.clear();
        largest.train.batch_schedule.clear();
        let mut learner = Learner::new(&largest, trainee);
        let sources = Mixture::from(&self.text);
        let mut feed = Feed::new(sources, config.train.seed as u64, Cursor::default());
        let mut step = Measured::default();
        for _ in 0..2 {
            let measured = learner.step(&mut feed, &|| false)?;
            step = measured.expect("nothing stops it");
        }
        let beside = nearest(Path::new(&config.train.run_dir));
        let folder = tempfile::Builder::new()
            .prefix(".longnet-dry-run-")
            .tempdir_in(&beside)
            .map_err(|source| TrainError::Write {
                path: beside,
                source,
            })?;
        let contents = Contents {
            config: &self.config,
            model: &learner.model().lm,
            averaged: learner.average(),
            optimizer: Optimizer::Own(learner.optimizer()),
            tokenizer: self.text.train.text().tokenizer().file(),
            state: State {
                step: 2,
                cursor: feed.cursor(),
                learner: *learner.state(),
                text: self.fingerprint,
                ..State::default()
            },
        };
        checkpoint::save(folder.path(), contents, false)?;
        let end = Resident::of_this_process();
        let machine = device.and_then(|device| Machine::measure(&device));
        let flops = Flops::by_context(&config)[&context];
        if let Some(machine) = &machine {
            let rate = flops * step.tokens as f64 / step.seconds;
            step.utilisation = rate / machine.matmul_flops;
        }
        Ok(DryRun {
            plan,
            step,
            machine,
            peak: end.map(|end| end.peak.saturating_sub(text)),
            text,
        })
    }
}
