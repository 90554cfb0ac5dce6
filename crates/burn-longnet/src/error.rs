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

/// `Ok` if `value` is a finite number.
pub(crate) fn check_finite(field: &'static str, value: f64) -> Result<(), ConfigError> {
    check(value.is_finite(), field, value, "give a finite number")
}

/// `Ok` if `value` is a finite number above 0.
pub(crate) fn check_positive(field: &'static str, value: f64) -> Result<(), ConfigError> {
    let holds = value.is_finite() && value > 0.0;
    check(holds, field, value, "give a finite number above 0")
}

/// `Ok` if `epsilon` can be added to a variance.
pub(crate) fn check_epsilon(field: &'static str, epsilon: f64) -> Result<(), ConfigError> {
    let holds = epsilon.is_finite() && epsilon >= 0.0;
    check(holds, field, epsilon, "give a small number, such as 1e-5")
}

/// `Ok` if `size` is not 0.
pub(crate) fn check_size(field: &'static str, size: usize) -> Result<(), ConfigError> {
    check(size > 0, field, size, "give a number of at least 1")
}
