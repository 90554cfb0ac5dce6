//! Streams cut into sequences.

use super::{DataError, Random, Tokens};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `context + 1` tokens (or fewer at the end of a stream): all but the last are the input, all but
/// the first the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Position of the first token in the stream.
    pub start: u64,
    /// The tokens.
    pub tokens: Vec<i32>,
}

/// Where a run stands in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the text that are done.
    pub epoch: u64,
    /// Windows taken in this pass.
    pub taken: u64,
    /// Tokens of this pass's windows, less the last target; 0 before the first pass.
    pub context: usize,
}

/// The windows of a stream.
#[derive(Clone)]
pub struct Windows {
    tokens: Arc<dyn Tokens>,
    context: u64,
}

impl Windows {
    /// Cuts `tokens`, the `split` text, into windows of `context + 1`.
    ///
    /// # Errors
    ///
    /// The stream has no whole window.
    pub fn new(
        tokens: Arc<dyn Tokens>,
        context: usize,
        split: &'static str,
    ) -> Result<Self, DataError> {
        let context = context as u64;
        if tokens.len() <= context {
            return Err(DataError::NoWindow {
                split,
                tokens: tokens.len(),
                window: context + 1,
            });
        }
        Ok(Self { tokens, context })
    }

    /// The stream.
    pub fn tokens(&self) -> &dyn Tokens {
        &*self.tokens
    }

    /// Starts of windows that predict each token but the first exactly once. Only the last window may
    /// be shorter than the others.
    pub fn starts(&self) -> Vec<u64> {
        (0..self.tokens.len() - 1)
            .step_by(self.context as usize)
            .collect()
    }

    /// Whole windows of one pass over the text.
    pub fn per_epoch(&self) -> u64 {
        // One less than could be cut, for the phase; one at least.
        ((self.tokens.len() - 1) / self.context)
            .saturating_sub(1)
            .max(1)
    }

    /// The windows of one pass in the order that `seed` gives it. Each pass has its own order and
    /// its own phase, so that a token is not always at the same place in its window.
    pub fn shuffled(&self, seed: u64, epoch: u64) -> Vec<u64> {
        let mut random = Random::new(Random::new(seed).next() ^ epoch);
        let slack = self.tokens.len() - 1 - self.per_epoch() * self.context;
        let phase = random.below(slack.min(self.context - 1) + 1);
        let mut starts: Vec<u64> = (0..self.per_epoch())
            .map(|w| phase + w * self.context)
            .collect();
        random.shuffle(&mut starts);
        starts
    }

    /// The window at `start`.
    ///
    /// # Panics
    ///
    /// If `start` is not within the stream.
    pub fn at(&self, start: u64) -> Window {
        let end = (start + self.context + 1).min(self.tokens.len());
        let mut tokens = Vec::with_capacity((end - start) as usize);
        self.tokens.read(start..end, &mut tokens);
        Window { start, tokens }
    }
}
