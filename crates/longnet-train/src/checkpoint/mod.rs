//! Checkpoints: folders that are whole or not there.
//!
//! ```text
//! runs/x/latest                          the name of the newest checkpoint
//! runs/x/best                            the name of the one with the lowest validation loss
//! runs/x/step-000300/model.safetensors   weights, loadable elsewhere
//! runs/x/step-000300/ema.safetensors     their average over steps, if train.ema is on
//! runs/x/step-000300/config.toml         the resolved config, with origins
//! runs/x/step-000300/optimizer.bpk       the optimiser's state, by parameter id
//! runs/x/step-000300/state.json          step, place in the data, parameter ids
//! runs/x/step-000300/manifest.json       sizes and hashes of these files
//! ```
//!
//! A checkpoint is written to a temporary folder, synced, and renamed; the pointers are replaced last.

mod aside;
mod error;
mod list;
mod lock;
mod manifest;
mod resume;
mod save;

pub use aside::{occupied, set_aside};
pub use error::{CheckpointError, OpenError};
pub use list::{best, checkpoints};
pub use lock::Lock;
pub use manifest::{Manifest, Part};
pub use resume::{Point, Resume};
pub use save::{Contents, Optimizer, Saved, point_at, recover, save};

use crate::config::{Config, ConfigError, ConfigErrors, Resolved, Section};
use crate::data::tokenizer::open_trained;
use crate::data::{Cursor, Fingerprint, Tokenizer, TokenizerError};
use crate::trainer::LearnerState;
use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LATEST: &str = "latest";
const BEST: &str = "best";
const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const CONFIG: &str = "config.toml";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
/// Of the run, beside its checkpoints.
pub(crate) const LOG: &str = "log.jsonl";

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: usize,
    /// Place in the training text.
    pub cursor: Cursor,
    /// The text, of which the config holds a part out.
    pub text: Fingerprint,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Steps done at the last whole evaluation.
    #[serde(default)]
    pub evaluated: usize,
    /// What steps hand on beside weights and optimiser.
    #[serde(default)]
    pub learner: LearnerState,
    /// The id of each parameter, which the optimiser's file refers to.
    pub parameters: BTreeMap<String, u64>,
}

impl State {
    /// Reads `state.json`.
    ///
    /// # Errors
    ///
    /// What is wrong with `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// The evaluation with the lowest loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done when it was made.
    pub step: usize,
    /// Its mean loss in nats per token.
    pub loss: f64,
}

/// A checkpoint on disk.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    manifest: Manifest,
    /// The config that it was trained with.
    pub trained: Config,
    /// That config with changes to it, none of them to the model.
    pub config: Resolved,
}

impl Checkpoint {
    /// The newest checkpoint of the run in the folder `run`.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`], and a run without a checkpoint.
    pub fn latest(run: &Path, sets: &[String]) -> Result<Self, OpenError> {
        if !run.is_dir() {
            return Err(CheckpointError::NoRun { path: run.into() }.into());
        }
        let folder = list::latest(run);
        let folder = folder.ok_or_else(|| CheckpointError::NoCheckpoint { path: run.into() })?;
        Self::open(&folder, sets)
    }

    /// The checkpoint in `folder`, its config changed by `sets`.
    ///
    /// # Errors
    ///
    /// A part is missing, or the config is wrong or has another model.
    pub fn open(folder: &Path, sets: &[String]) -> Result<Self, OpenError> {
        let manifest = Manifest::read(folder)?;
        for part in manifest.files.keys() {
            if !folder.join(part).is_file() {
                let (path, part) = (folder.into(), part.clone());
                return Err(CheckpointError::Missing { path, part }.into());
            }
        }
        manifest.verify_file(folder, CONFIG)?;
        let path = folder.join(CONFIG);
        let trained = Resolved::load(Some(&path), &[])?.config;
        let config = Resolved::load(Some(&path), sets)?;
        // Some changes would not even fail: the same weights, cut into other heads.
        let wrong = differences(&trained.model, &config.config.model).map(|change| ConfigError {
            origin: config.origin(&format!("model.{}", change.name)).clone(),
            key: format!("model.{}", change.name),
            message: format!(
                "the weights were trained with {}, and mean nothing to another model; leave [model] as it is, or train anew",
                change.before
            ),
        });
        let wrong: Vec<_> = wrong.collect();
        if !wrong.is_empty() {
            return Err(ConfigErrors(wrong).into());
        }
        Ok(Self {
            folder: folder.into(),
            manifest,
            trained,
            config,
        })
    }

    /// Changes of the attention pattern since training, such as "attention.segments = \[64\], trained
    /// with \[128\]": the weights fit, and the results are others.
    pub fn attention_changes(&self) -> Vec<String> {
        differences(&self.trained.attention, &self.config.config.attention)
            .map(|c| {
                format!(
                    "attention.{} = {}, trained with {}",
                    c.name, c.after, c.before
                )
            })
            .collect()
    }

    /// The tokenizer that it was trained with, unless the config was changed to another.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
        let (now, then) = (&self.config.config.data, &self.trained.data);
        open_trained(&self.folder, now, then)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `model` with the weights of the checkpoint: their average over steps, if the run kept one.
    ///
    /// # Errors
    ///
    /// A damaged file, or weights of another shape.
    pub fn weights<M: Module>(&self, model: M) -> Result<M, CheckpointError> {
        let averaged = self.manifest.files.contains_key(EMA);
        let name = if averaged { EMA } else { MODEL };
        self.manifest.verify_file(&self.folder, name)?;
        weights(&self.folder.join(name), model)
    }

    /// Where the run stood.
    ///
    /// # Errors
    ///
    /// The file is missing or damaged.
    pub fn state(&self) -> Result<State, CheckpointError> {
        self.manifest.verify_file(&self.folder, STATE)?;
        state(&self.folder)
    }
}

fn state(folder: &Path) -> Result<State, CheckpointError> {
    let path = folder.join(STATE);
    let bytes = fs::read(&path).map_err(|e| CheckpointError::unreadable(&path, e))?;
    State::parse(&bytes).map_err(|e| CheckpointError::unreadable(&path, e))
}

/// `model` with the weights in the file `path`.
fn weights<M: Module>(path: &Path, mut model: M) -> Result<M, CheckpointError> {
    // What does not fit is reported below, with names.
    let mut store = SafetensorsStore::from_file(path)
        .validate(false)
        .allow_partial(true);
    let applied = model
        .load_from(&mut store)
        .map_err(|e| CheckpointError::unreadable(path, e))?;
    let missing = applied
        .missing
        .iter()
        .map(|(name, _)| format!("{name} is missing"));
    let unused = applied
        .unused
        .iter()
        .map(|name| format!("{name} has no place"));
    let errors = applied.errors.iter().map(ToString::to_string);
    let path = path.into();
    match errors.chain(missing).chain(unused).next() {
        Some(reason) => Err(CheckpointError::Mismatch { path, reason }),
        None => Ok(model),
    }
}

/// A field with two values.
struct Change {
    name: &'static str,
    before: String,
    after: String,
}

fn differences<'a>(
    before: &'a dyn Section,
    after: &'a dyn Section,
) -> impl Iterator<Item = Change> + 'a {
    let shown = |section: &dyn Section, name| {
        let value = section.get(name);
        value.map_or("no value".to_string(), |value| value.to_string())
    };
    let change = move |name| Change {
        name,
        before: shown(before, name),
        after: shown(after, name),
    };
    let names = before.fields().iter().map(|field| field.name);
    names.map(change).filter(|c| c.before != c.after)
}
