//! Failures and their exit codes.

use longnet_train::backend::BackendError;
use longnet_train::checkpoint::{CheckpointError, OpenError};
use longnet_train::config::ConfigErrors;
use longnet_train::data::DataError;
use longnet_train::trainer::TrainError;
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There is no such backend.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The text cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run ended early.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Checkpoint(error) => Self::Checkpoint(error),
            OpenError::Config(errors) => Self::Config(errors),
        }
    }
}

impl Failure {
    /// 2 where clap, too, would have refused: the command line or the config is wrong. 1 otherwise.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Backend(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
