//! What can be wrong with a checkpoint or its place.

use crate::config::ConfigErrors;
use std::path::{Path, PathBuf};

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

    pub(super) fn write(path: &Path, reason: impl ToString) -> Self {
        Self::Write {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable {
            path: path.into(),
            reason: reason.to_string(),
        }
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
