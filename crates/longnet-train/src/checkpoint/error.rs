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
        part: String,
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
    /// Checkpoints, none of them whole.
    #[error(
        "no checkpoint of {path} is whole, so that there is nothing to resume; of the newest: {reason}; --resume never trains anew"
    )]
    NoneWhole {
        /// The folder of the run.
        path: PathBuf,
        /// What is wrong with the newest.
        reason: String,
    },
    /// A folder to resume that is no run.
    #[error(
        "--resume {path}: there is neither a run nor a checkpoint; name the folder of a run (runs/x) or of a checkpoint (runs/x/step-000300)"
    )]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// Later checkpoints, which would be written over.
    #[error(
        "--resume {path}: the run has later checkpoints, such as {later}, that the new one would write over; give the new one a folder of its own with train.run_dir, or remove them"
    )]
    Later {
        /// The checkpoint.
        path: PathBuf,
        /// A later one.
        later: PathBuf,
    },
    /// Another text.
    #[error(
        "the text is not the one that the run learns from ({before} then, {now} now), and its place in it would mean nothing; bring the text back, or train anew with --resume never"
    )]
    OtherText {
        /// Then.
        before: String,
        /// Now.
        now: String,
    },
    /// A run that is being trained.
    #[error(
        "the run at {path} is being trained by another process{pid}; wait for its end, or give this run a folder of its own with train.run_dir"
    )]
    InUse {
        /// The folder of the run.
        path: PathBuf,
        /// " (process 123)", where it is known.
        pid: String,
    },
    /// A folder of a run that cannot be written.
    #[error("cannot write {path}: {reason}; give the run another folder with train.run_dir")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
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
    #[error(
        "cannot write {path}: {reason}; the checkpoints before it are untouched, and --resume auto goes on from the newest"
    )]
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
        match self {
            Self::SetAside { .. } | Self::InUse { .. } | Self::Folder { .. } => {
                Some("train.run_dir")
            }
            Self::OtherText { .. } => Some("data.paths"),
            _ => None,
        }
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
