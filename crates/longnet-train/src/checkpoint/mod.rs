//! Checkpoints: folders that are whole or not there.
//!
//! ```text
//! runs/x/latest                          the name of the newest checkpoint
//! runs/x/step-000300/model.safetensors   weights, loadable elsewhere
//! runs/x/step-000300/config.toml         the resolved config, with origins
//! runs/x/step-000300/optimizer.bpk       moments of AdamW, by parameter id
//! runs/x/step-000300/state.json          step, place in the data, parameter ids
//! ```
//!
//! A checkpoint is written to a temporary folder, synced, and renamed; `latest` is replaced last.

mod aside;
mod error;
mod save;

pub use aside::set_aside;
pub use error::{CheckpointError, OpenError};
pub use save::save;

use crate::config::{Config, ConfigError, ConfigErrors, Resolved, Section};
use crate::data::{Cursor, Fingerprint};
use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LATEST: &str = "latest";
const MODEL: &str = "model.safetensors";
const CONFIG: &str = "config.toml";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
/// Of the run, beside its checkpoints.
pub(crate) const LOG: &str = "log.jsonl";

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: usize,
    /// Place in the training text.
    pub cursor: Cursor,
    /// The text, of which the config holds a part out.
    pub text: Fingerprint,
    /// The id of each parameter, which the optimiser's file refers to.
    pub parameters: BTreeMap<String, u64>,
}

/// A checkpoint on disk.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
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
        let name = fs::read_to_string(run.join(LATEST))
            .map_err(|_| CheckpointError::NoCheckpoint { path: run.into() })?;
        Self::open(&run.join(name.trim()), sets)
    }

    /// The checkpoint in `folder`, its config changed by `sets`.
    ///
    /// # Errors
    ///
    /// A part is missing, or the config is wrong or has another model.
    pub fn open(folder: &Path, sets: &[String]) -> Result<Self, OpenError> {
        for part in [CONFIG, MODEL] {
            if !folder.join(part).is_file() {
                let path = folder.into();
                return Err(CheckpointError::Missing { path, part }.into());
            }
        }
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

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `model` with the weights of the checkpoint.
    ///
    /// # Errors
    ///
    /// A damaged file, or weights of another shape.
    pub fn weights<M: Module>(&self, mut model: M) -> Result<M, CheckpointError> {
        let path = self.folder.join(MODEL);
        // What does not fit is reported below, with names.
        let mut store = SafetensorsStore::from_file(&path)
            .validate(false)
            .allow_partial(true);
        let applied = model
            .load_from(&mut store)
            .map_err(|e| CheckpointError::unreadable(&path, e))?;
        let missing = applied
            .missing
            .iter()
            .map(|(name, _)| format!("{name} is missing"));
        let unused = applied
            .unused
            .iter()
            .map(|name| format!("{name} has no place"));
        let errors = applied.errors.iter().map(ToString::to_string);
        match errors.chain(missing).chain(unused).next() {
            Some(reason) => Err(CheckpointError::Mismatch { path, reason }),
            None => Ok(model),
        }
    }

    /// Where the run stood.
    ///
    /// # Errors
    ///
    /// The file is missing or damaged.
    pub fn state(&self) -> Result<State, CheckpointError> {
        let path = self.folder.join(STATE);
        let text = fs::read_to_string(&path).map_err(|e| CheckpointError::unreadable(&path, e))?;
        serde_json::from_str(&text).map_err(|e| CheckpointError::unreadable(&path, e))
    }
}

/// A field with two values.
struct Change {
    name: &'static str,
    before: String,
    after: String,
}

fn differences<S: Section>(before: &S, after: &S) -> impl Iterator<Item = Change> {
    let shown = |section: &S, name| {
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
