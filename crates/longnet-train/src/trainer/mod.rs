//! A training run, on burn-train.
//!
//! [`Prepared`] holds what a run starts from, so that a mistake shows before anything is spent;
//! [`Prepared::train`] runs it. burn-train brings the events, the metrics and the display; the loop
//! over steps is ours (`steps` around a [`Learner`]), because its own counts epochs, clips each tensor for itself and
//! saves at the ends of epochs only.

mod error;
mod learner;
mod prepared;
mod steps;
mod trainee;

pub use error::TrainError;
pub use learner::Learner;
pub use prepared::{Prepared, Report};
pub use trainee::Trainee;
