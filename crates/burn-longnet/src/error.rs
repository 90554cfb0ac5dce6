//! What can be wrong with a configuration, and what to do about it.

use crate::pattern::PatternError;
use crate::position::XPosError;
use std::fmt::Display;

/// Why a module cannot be made from its configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A field has a value that cannot work.
    #[error("{field} = {value}: {problem}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it and what would do.
        problem: String,
    },
    /// The attention pattern cannot be built.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// xPos would leave the number format.
    #[error(transparent)]
    Position(#[from] XPosError),
}

/// `Ok` if `holds`, otherwise an error about `field`.
pub(crate) fn check(
    holds: bool,
    field: &'static str,
    value: impl Display,
    problem: impl Display,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Value {
        field,
        value: value.to_string(),
        problem: problem.to_string(),
    })
}

/// `Ok` if `p` is a probability below 1.
pub(crate) fn check_dropout(field: &'static str, p: f64) -> Result<(), ConfigError> {
    let problem = "a dropout rate is at least 0 and below 1";
    check((0.0..1.0).contains(&p), field, p, problem)
}
