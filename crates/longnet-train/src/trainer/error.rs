//! What can end a run.

use crate::checkpoint::{CheckpointError, OpenError};
use crate::config::ConfigErrors;
use crate::data::DataError;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The text cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run cannot go on with this config.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A loss or gradient that is infinite or not a number.
    #[error(
        "step {step}: the loss is {loss} and the norm of the gradient {norm}; the batch was {batch}; a lower train.lr, a longer train.warmup or {} may help",
        if *clip > 0.0 { "a lower train.clip" } else { "clipping (train.clip = 1.0)" }
    )]
    NotFinite {
        /// The step, counted from 1.
        step: usize,
        /// Its mean loss.
        loss: f64,
        /// The norm of its gradient.
        norm: f64,
        /// The limit of the norm that was set, 0 for none.
        clip: f64,
        /// Where the batch is from.
        batch: String,
    },
    /// The folder of the run cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// burn-train stopped.
    #[error("the training framework stopped: {0}")]
    Framework(String),
}

impl TrainError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Data(error) => error.field(),
            Self::Checkpoint(error) => error.field(),
            _ => None,
        }
    }
}

impl From<OpenError> for TrainError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Checkpoint(error) => Self::Checkpoint(error),
            OpenError::Config(errors) => Self::Config(errors),
        }
    }
}
