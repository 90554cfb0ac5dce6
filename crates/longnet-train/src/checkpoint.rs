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

use crate::config::{ConfigErrors, Resolved};
use crate::data::Cursor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const LATEST: &str = "latest";
const MODEL: &str = "model.safetensors";
const CONFIG: &str = "config.toml";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
/// Of the run, beside its checkpoints.
pub(crate) const LOG: &str = "log.jsonl";

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A folder that is not there.
    #[error(
        "there is no run at {path}; 'longnet train CONFIG' makes one (train.run_dir says where)"
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run without a checkpoint.
    #[error(
        "{path} holds no finished checkpoint: it has no file 'latest'; name a checkpoint folder with --checkpoint, or train until the first one (train.checkpoint_every)"
    )]
    NoCheckpoint {
        /// The folder of the run.
        path: PathBuf,
    },
    /// A checkpoint that lacks a part.
    #[error(
        "checkpoint {path} has no {part}; take another checkpoint of the run with --checkpoint"
    )]
    Missing {
        /// The folder of the checkpoint.
        path: PathBuf,
        /// The file that is not there.
        part: &'static str,
    },
    /// A part that cannot be read.
    #[error(
        "cannot read {path}: {reason}; if the file is damaged, take another checkpoint of the run with --checkpoint"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Weights of another model.
    #[error(
        "the weights in {path} do not fit the config: {reason}; --set must not change the size of the model"
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// What is in the place of a new run.
    #[error(
        "cannot set aside what is at {path}: {reason}; give the run a folder of its own with train.run_dir"
    )]
    SetAside {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A part that cannot be written.
    #[error("cannot write {path}: {reason}; the checkpoint before it is untouched")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl CheckpointError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        matches!(self, Self::SetAside { .. }).then_some("train.run_dir")
    }

    fn write(path: &Path, reason: impl ToString) -> Self {
        Self::Write {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Optimiser steps done.
    pub step: usize,
    /// Place in the training text.
    pub cursor: Cursor,
    /// The id of each parameter, which the optimiser's file refers to.
    pub parameters: BTreeMap<String, u64>,
}

/// Writes the checkpoint of `step` into the folder `run` and points `latest` at it.
///
/// # Errors
///
/// A file that cannot be written. Earlier checkpoints are then as they were.
pub fn save<M: Module>(
    run: &Path,
    config: &Resolved,
    model: &M,
    optimizer: &ModuleOptimizer,
    step: usize,
    cursor: Cursor,
) -> Result<PathBuf, CheckpointError> {
    let name = format!("step-{step:06}");
    let (folder, draft) = (run.join(&name), run.join(format!(".{name}.tmp")));
    clear(&draft)?;
    fs::create_dir_all(&draft).map_err(|e| CheckpointError::write(&draft, e))?;

    let path = draft.join(MODEL);
    // One entry: several come in random order, and the same weights must make the same file.
    let mut store = SafetensorsStore::from_file(&path)
        .clear_metadata()
        .metadata("producer", "burn-longnet");
    model
        .save_into(&mut store)
        .map_err(|e| CheckpointError::write(&path, e))?;
    let path = draft.join(OPTIMIZER);
    optimizer
        .save(&path)
        .map_err(|e| CheckpointError::write(&path, e))?;
    write(&draft.join(CONFIG), &config.to_string())?;
    let mut ids = Ids::default();
    model.visit(&mut ids);
    let state = State {
        step,
        cursor,
        parameters: ids.found,
    };
    let state = serde_json::to_string_pretty(&state).expect("a state is plain data");
    write(&draft.join(STATE), &state)?;

    for part in [MODEL, OPTIMIZER, CONFIG, STATE] {
        sync(&draft.join(part))?;
    }
    sync(&draft)?;
    clear(&folder)?;
    fs::rename(&draft, &folder).map_err(|e| CheckpointError::write(&folder, e))?;
    let pointer = run.join(".latest.tmp");
    write(&pointer, &name)?;
    sync(&pointer)?;
    let latest = run.join(LATEST);
    fs::rename(&pointer, &latest).map_err(|e| CheckpointError::write(&latest, e))?;
    sync(run)?;
    Ok(folder)
}

/// A checkpoint on disk.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    /// The config that it was trained with, and changes to it.
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
    /// A part is missing, or the config is wrong.
    pub fn open(folder: &Path, sets: &[String]) -> Result<Self, OpenError> {
        for part in [CONFIG, MODEL] {
            if !folder.join(part).is_file() {
                let path = folder.into();
                return Err(CheckpointError::Missing { path, part }.into());
            }
        }
        let config = Resolved::load(Some(&folder.join(CONFIG)), sets)?;
        let folder = folder.into();
        Ok(Self { folder, config })
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

/// Why a checkpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its config, with the changes to it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// Moves an earlier run in `run` out of the way, to the first free `run.1`, `run.2`, ... An empty
/// folder stays.
///
/// # Errors
///
/// What is there is no run, or cannot be moved.
pub fn set_aside(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    // Without a slash at the end, which would make a number the name of a new entry.
    let run: PathBuf = run.components().collect();
    if !run.exists() {
        return Ok(None);
    }
    let failed = |reason: String| CheckpointError::SetAside {
        path: run.clone(),
        reason,
    };
    if !run.is_dir() {
        return Err(failed("it is a file".into()));
    }
    let entries = fs::read_dir(&run).map_err(|e| failed(e.to_string()))?;
    if entries.count() == 0 {
        return Ok(None);
    }
    let has = |name| run.join(name).is_file();
    let is_run = has(LATEST) || (has(CONFIG) && has(LOG));
    if !is_run {
        return Err(failed(
            "it holds files but no run ('latest', or config.toml and log.jsonl)".into(),
        ));
    }
    let Some(name) = run.file_name() else {
        return Err(failed("it has no name that could be changed".into()));
    };
    let numbered = |i: usize| {
        let mut name = name.to_owned();
        name.push(format!(".{i}"));
        run.with_file_name(name)
    };
    let aside = (1..).map(numbered).find(|p| p.symlink_metadata().is_err());
    let aside = aside.expect("numbers do not end");
    fs::rename(&run, &aside).map_err(|e| failed(e.to_string()))?;
    Ok(Some(aside))
}

fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, text).map_err(|e| CheckpointError::write(path, e))
}

fn clear(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CheckpointError::write(folder, e)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| CheckpointError::write(path, e))
}

#[derive(Default)]
struct Ids {
    path: Vec<String>,
    found: BTreeMap<String, u64>,
}

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.join("."), param.id.val());
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}
