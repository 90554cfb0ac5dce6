//! Failures and their exit codes.

use longnet_train::config::ConfigErrors;
use longnet_train::data::DataError;
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the config is wrong: exit code 2, as clap's own errors.
    #[error("{0}")]
    Usage(String),
    /// The config is wrong: exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The text cannot be used: exit code 1.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl Failure {
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Config(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
