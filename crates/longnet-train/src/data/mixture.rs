//! Several sources of text, mixed by weights.

use super::{Split, Stream, Tokens};
use std::sync::Arc;

/// What to learn from: one source, or several with the share of each.
#[derive(Clone)]
pub struct Mixture {
    /// Each source, and its share: above 0, 1 together.
    sources: Vec<(Arc<dyn Tokens>, f64)>,
}

impl Mixture {
    /// Sources with weights, which need not be 1 together.
    ///
    /// # Panics
    ///
    /// If there is no source, or a weight is not above 0 and finite.
    pub fn new(sources: Vec<(Arc<dyn Tokens>, f64)>) -> Self {
        let sum: f64 = sources.iter().map(|(_, weight)| weight).sum();
        let good = sources.iter().all(|(_, weight)| *weight > 0.0);
        assert!(good && sum > 0.0 && sum.is_finite(), "weights of {sum}");
        let share = |(tokens, weight)| (tokens, weight / sum);
        Self {
            sources: sources.into_iter().map(share).collect(),
        }
    }

    /// Number of sources.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is no source: never.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// One of the sources.
    pub fn tokens(&self, source: usize) -> &Arc<dyn Tokens> {
        &self.sources[source].0
    }

    /// The share of a source.
    pub fn share(&self, source: usize) -> f64 {
        self.sources[source].1
    }

    /// Which sources the first `taken` windows are from, and how many of each.
    pub(crate) fn draws(&self, taken: u64) -> Draws {
        let mut draws = Draws {
            shares: self.sources.iter().map(|(_, share)| *share).collect(),
            counts: vec![0; self.len()],
            taken: 0,
        };
        while draws.taken < taken {
            draws.take(draws.next());
        }
        draws
    }
}

/// Windows drawn from a mixture so far.
///
/// Each is from the source that is furthest behind its share, so at any time the windows of a source are
/// its share of all but for less than the number of sources.
pub(crate) struct Draws {
    shares: Vec<f64>,
    counts: Vec<u64>,
    taken: u64,
}

impl Draws {
    /// The source of the next window.
    pub fn next(&self) -> usize {
        let behind = |source: usize| {
            self.shares[source] * (self.taken + 1) as f64 - self.counts[source] as f64
        };
        let sources = 0..self.counts.len();
        // Of equals, the first.
        let best = sources.max_by(|&a, &b| behind(a).total_cmp(&behind(b)).then(b.cmp(&a)));
        best.expect("a mixture has a source")
    }

    /// Windows of `source` so far.
    pub fn count(&self, source: usize) -> u64 {
        self.counts[source]
    }

    /// Takes a window of `source`.
    pub fn take(&mut self, source: usize) {
        self.counts[source] += 1;
        self.taken += 1;
    }
}

impl From<Arc<dyn Tokens>> for Mixture {
    fn from(tokens: Arc<dyn Tokens>) -> Self {
        Self::new(vec![(tokens, 1.0)])
    }
}

impl From<Arc<Stream>> for Mixture {
    fn from(stream: Arc<Stream>) -> Self {
        Self::new(vec![(stream, 1.0)])
    }
}

/// What there is to learn.
impl From<&Split> for Mixture {
    fn from(split: &Split) -> Self {
        let sources = split.sources.iter();
        let source = |(stream, weight): &(Stream, f64)| {
            let tokens: Arc<dyn Tokens> = Arc::new(stream.clone());
            (tokens, *weight)
        };
        Self::new(sources.map(source).collect())
    }
}
