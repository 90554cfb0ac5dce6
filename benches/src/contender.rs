//! What is timed.

use crate::oracle::Sample;
use std::time::Instant;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    /// Forward and backward, one after the other.
    Both,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Both => "forward+backward",
        }
    }
}

/// One implementation on one problem.
pub trait Contender {
    /// The same in every case that it takes part in.
    fn name(&self) -> String;

    /// What was measured, where that is not clear from the case.
    fn note(&self) -> String {
        String::new()
    }

    /// FLOPs of a run: those of the visited pairs, for attention.
    fn flops(&self) -> Option<f64> {
        None
    }

    /// Tokens that a run handles.
    fn tokens(&self) -> Option<usize> {
        None
    }

    /// Whether it is there for orientation only and slow: then it runs in as few rounds as are allowed,
    /// so that the others can run in more.
    fn is_slow(&self) -> bool {
        false
    }

    /// Computes once, which also warms up, and compares with the samples. The largest relative error, where it can be told.
    ///
    /// # Errors
    ///
    /// The result is wrong, or the contender failed.
    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String>;

    /// Computes once; seconds.
    ///
    /// # Errors
    ///
    /// The contender failed.
    fn run(&mut self) -> Result<f64, String>;
}

/// The seconds that `work` takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
