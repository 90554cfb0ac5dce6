//! A training run, on burn-train.
//!
//! [`Prepared`] holds what a run starts from, so that a mistake shows before anything is spent;
//! [`Prepared::train`] runs it. burn-train brings the events, the metrics and the display; the loop
//! over steps is ours (`steps` around a [`Learner`]), because its own counts epochs, clips each tensor for itself and
//! saves at the ends of epochs only.

mod average;
mod dry_run;
mod error;
mod learner;
pub mod parallel;
mod passes;
mod precision;
mod prepared;
mod state;
mod steps;
mod stop;
#[cfg(test)]
mod tests;
mod trainee;

pub use average::Average;
pub use dry_run::{DryRun, TOLERANCE};
pub use error::TrainError;
pub use learner::Learner;
pub use parallel::{Mesh, ParallelError};
pub use precision::check as check_precision;
pub use prepared::{Control, Prepared, Report};
pub use state::{LearnerState, MOST_SKIPPED};
pub use stop::Stop;
pub use trainee::Trainee;
