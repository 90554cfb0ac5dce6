//! Streams cut into sequences.

use super::permutation::Permutation;
use super::{DataError, Random, Tokens};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// `context + 1` tokens (or fewer at the end of a stream): all but the last are the input, all but
/// the first the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Position of the first token in the stream.
    pub start: u64,
    /// The tokens.
    pub tokens: Vec<i32>,
    /// Bytes of text that those stand for that are to be predicted.
    pub bytes: u64,
    /// Which document each token is of, if documents must not see each other.
    pub documents: Option<Vec<i32>>,
    /// Which source of a mixture it is from.
    pub source: usize,
}

/// Where a run stands in its data: with the seed, all that decides about what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the text that are done. Of a mixture, whose sources end their passes at different
    /// times, how often the context has changed.
    pub epoch: u64,
    /// Windows taken in this pass. Of a mixture, since the context has changed.
    pub taken: u64,
    /// Tokens of the windows of this pass. 0 before the first.
    #[serde(default)]
    pub context: usize,
}

/// The windows of a stream.
#[derive(Clone)]
pub struct Windows {
    tokens: Arc<dyn Tokens>,
    context: u64,
}

impl Windows {
    /// Cuts `tokens`, which messages call `name`, such as "training text", into windows of `context + 1`.
    ///
    /// # Errors
    ///
    /// The stream has no whole window.
    pub fn new(tokens: Arc<dyn Tokens>, context: usize, name: &str) -> Result<Self, DataError> {
        let context = context as u64;
        if tokens.len() <= context {
            return Err(DataError::NoWindow {
                name: name.into(),
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

    /// The order of the windows of one pass: where each begins. Each pass has its own order and its own
    /// phase, so that a token is not always at the same place in its window.
    pub fn shuffled(&self, seed: u64, epoch: u64) -> Order {
        let mut random = Random::new(Random::new(seed).next() ^ epoch);
        let windows = self.per_epoch();
        let slack = self.tokens.len() - 1 - windows * self.context;
        // Up to the end, so that the last tokens have their turn, too.
        let phase = random.below(slack + 1);
        Order {
            phase,
            context: self.context,
            permutation: Permutation::new(windows, random),
        }
    }

    /// The window at `start`.
    ///
    /// # Errors
    ///
    /// Text that has become unreadable, or a token that is not in the vocabulary.
    ///
    /// # Panics
    ///
    /// If `start` is not within the stream.
    pub fn at(&self, start: u64) -> Result<Window, DataError> {
        let end = (start + self.context + 1).min(self.tokens.len());
        Window::read(&*self.tokens, start..end)
    }
}

impl Window {
    /// The tokens of `range`, which is not empty.
    ///
    /// # Errors
    ///
    /// Text that has become unreadable, or a token that is not in the vocabulary.
    ///
    /// # Panics
    ///
    /// If `range` is not within the stream.
    pub fn read(stream: &dyn Tokens, range: Range<u64>) -> Result<Self, DataError> {
        let Range { start, end } = range;
        let mut tokens = Vec::with_capacity((end - start) as usize);
        stream.read(start..end, &mut tokens)?;
        let documents = stream.documents(start..end)?;
        let mut bytes = stream.bytes_of(start + 1..end);
        if let Some(documents) = &documents {
            for (at, pair) in (start + 1..).zip(documents.windows(2)) {
                if pair[0] != pair[1] {
                    bytes = bytes.saturating_sub(stream.bytes_of(at..at + 1));
                }
            }
        }
        Ok(Self {
            start,
            tokens,
            bytes,
            documents,
            source: 0,
        })
    }
}

/// Where the windows of one pass begin, in the order of the pass.
pub struct Order {
    phase: u64,
    context: u64,
    permutation: Permutation,
}

impl Order {
    /// Where window `index` of the pass begins. None after the last one.
    pub fn start(&self, index: u64) -> Option<u64> {
        let window = self.permutation.at(index)?;
        Some(self.phase + window * self.context)
    }

    /// All of them.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        (0..).map_while(|index| self.start(index))
    }
}
