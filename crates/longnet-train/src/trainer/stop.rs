//! Asking a run to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A request that a run may see at any time: it then saves and ends. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    asked: AtomicBool,
    reason: OnceLock<String>,
}

impl Stop {
    /// Asks for `reason`, such as "SIGTERM". The first reason stays.
    pub fn ask(&self, reason: &str) {
        let _ = self.0.reason.set(reason.into());
        self.0.asked.store(true, Ordering::Release);
    }

    /// Whether the run should end.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Why.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(String::as_str)
    }
}
