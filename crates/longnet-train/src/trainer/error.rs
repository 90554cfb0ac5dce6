//! What can end a run.

use crate::checkpoint::{CheckpointError, OpenError};
use crate::config::ConfigErrors;
use crate::data::DataError;
use crate::trainer::ParallelError;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The text cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Ranks that cannot go on together.
    #[error(transparent)]
    Parallel(#[from] ParallelError),
    /// The run cannot go on with this config.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A loss or gradient that is infinite or not a number.
    #[error(
        "step {step}: the loss is {loss} and the norm of the gradient {norm}; the batch was {batch}; {help}"
    )]
    NotFinite {
        /// The step, counted from 1.
        step: usize,
        /// Its mean loss.
        loss: f64,
        /// The norm of its gradient.
        norm: f64,
        /// Which of the step's batches it was, if that is known, and where it is from.
        batch: String,
        /// What may help.
        help: String,
    },
    /// The device does not compute in a number format.
    #[error(
        "{device} does not compute in {dtype}; use train.precision = {usable}, or another --backend"
    )]
    NumberFormat {
        /// The device.
        device: String,
        /// The format.
        dtype: String,
        /// The formats that it does compute in.
        usable: String,
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
            Self::Parallel(error) => error.field(),
            Self::NumberFormat { .. } => Some("train.precision"),
            _ => None,
        }
    }
}

impl TrainError {
    /// Whether another rank failed, whose error is the one to be told.
    pub fn is_echo(&self) -> bool {
        matches!(self, Self::Parallel(error) if error.is_echo())
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
