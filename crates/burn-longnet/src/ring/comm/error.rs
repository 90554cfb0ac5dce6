//! What can go wrong between ranks, and how it leaves code that cannot return errors.

use super::Comm;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Why ranks cannot work together any more. Ranks are named by their number in the whole job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// A rank did not come.
    #[error(
        "rank {rank} waited {deadline:?} for rank {other} in {operation}: rank {other} is stuck or much slower; \
         look at what it last printed, raise the deadline if it only needs longer, and resume from the last checkpoint"
    )]
    Late {
        /// The rank that waited.
        rank: usize,
        /// The rank that did not come.
        other: usize,
        /// In what.
        operation: String,
        /// For how long.
        deadline: Duration,
    },
    /// Two ranks do not do the same.
    #[error(
        "rank {rank} and rank {other} disagree in {operation}: {problem}; \
         start all ranks with the same program, configuration and data"
    )]
    Disagree {
        /// The rank that noticed.
        rank: usize,
        /// The other.
        other: usize,
        /// In what.
        operation: String,
        /// What differs.
        problem: String,
    },
    /// A rank has ended.
    #[error(
        "rank {rank} needs rank {other} in {operation}, but rank {other} has ended; \
         look at what it last printed, and resume from the last checkpoint"
    )]
    Gone {
        /// The rank that waited.
        rank: usize,
        /// The rank that is no more.
        other: usize,
        /// In what.
        operation: String,
    },
    /// This process cannot become a rank.
    #[error("{problem}")]
    Setup {
        /// Why, and what would do.
        problem: String,
    },
    /// Another rank failed, or ended the job on purpose.
    #[error("rank {rank} stops because rank {by} did: {why}")]
    Aborted {
        /// This rank.
        rank: usize,
        /// The rank that ended the job.
        by: usize,
        /// Its reason.
        why: String,
    },
}

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Leaves a function that cannot return an error, up to [`catch`].
///
/// # Panics
///
/// Always: inside of [`catch`] silently with the error as payload, elsewhere with its message.
pub fn raise(error: CommError) -> ! {
    if CATCHES.get() {
        resume_unwind(Box::new(error))
    }
    panic!("{error}")
}

/// Runs a rank's program, `f`, and turns what was [`raise`]d in it back into an error.
///
/// However `f` fails, by that or by any other panic, the other ranks of the job fail too, at once.
///
/// # Errors
///
/// What was raised.
///
/// # Panics
///
/// With whatever else `f` panics with.
pub fn catch<T>(comm: &dyn Comm, f: impl FnOnce() -> T) -> Result<T, CommError> {
    let outer = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHES.set(outer);
    result.map_err(|payload| match payload.downcast::<CommError>() {
        Ok(error) => {
            comm.abort(&error.to_string());
            *error
        }
        Err(payload) => {
            let said = payload.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
            comm.abort(&format!("it panicked: {}", said.unwrap_or("(no message)")));
            resume_unwind(payload)
        }
    })
}
