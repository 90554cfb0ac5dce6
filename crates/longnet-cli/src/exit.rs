//! Failures and their exit codes.

use longnet_train::backend::BackendError;
use longnet_train::checkpoint::{CheckpointError, OpenError};
use longnet_train::config::{ConfigErrors, Resolved};
use longnet_train::data::{DataError, TokenizerError};
use longnet_train::evaluate::EvalError;
use longnet_train::generate::SamplingError;
use longnet_train::plot::PlotError;
use longnet_train::trainer::TrainError;
use std::path::PathBuf;
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
    /// There is nothing to measure.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// No token can be drawn.
    #[error("no token can be drawn: {0}")]
    Sampling(#[from] SamplingError),
    /// A file of the command line cannot be read or written.
    #[error("{flag} {path}: {reason}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Two results for standard output.
    #[error("{flag} {}: standard output has the JSON already; name a file", path.display())]
    Twice {
        /// The flag of the second one.
        flag: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// A log cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A picture in a format that there is not.
    #[error("--out {}: a picture is SVG or PNG; name it .svg or .png", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A device that does not compute.
    #[error("--backend {name}: the device fails in a product of matrices; is its driver there?")]
    Device {
        /// The backend.
        name: String,
    },
    /// Two steps say nothing of several ranks.
    #[error(
        "--dry-run measures one rank; use --set parallel.ring=1 --set parallel.data=1, and 'longnet plan' for what each of several has"
    )]
    DryRun,
    /// Another rank has said what is wrong.
    #[error("")]
    Echo,
    /// Standard output cannot be written.
    #[error("cannot write standard output: {0}")]
    Output(std::io::Error),
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::Data(error.into())
    }
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
    /// `error` of a run or evaluation of `config`: with its place, if the config is to blame.
    pub fn of(config: &Resolved, error: impl Into<Self>) -> Self {
        let error = error.into();
        let field = match &error {
            Self::Data(error) => error.field(),
            Self::Checkpoint(error) => error.field(),
            Self::Train(error) => error.field(),
            Self::Eval(error) => Some(error.field()),
            _ => None,
        };
        // Its errors know their places.
        if let Self::Train(TrainError::Config(errors)) = error {
            return Self::Config(errors);
        }
        match field {
            Some(field) => Self::Config(config.blame(field, error)),
            None => error,
        }
    }

    /// 2 where clap, too, would have refused: the command line or the config is wrong. 3 where the ranks of a run cannot
    /// go on together. 1 otherwise.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Backend(_)
            | Self::DryRun
            | Self::Format { .. }
            | Self::Twice { .. }
            | Self::Plot(PlotError::Metric { .. }) => ExitCode::from(2),
            Self::Train(TrainError::Parallel(_)) | Self::Echo => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}
