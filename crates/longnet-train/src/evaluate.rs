//! A model on text it has not seen, and on tasks that need context.
//!
//! | module | concept |
//! |---|---|
//! | [`by_length`] | loss on text with windows of chosen lengths |
//! | [`probe`] | sequences in which some tokens are asked for |
//! | [`passkey`], [`recall`] | such sequences: a key in filler text, values by their keys |
//! | [`results`] | what was measured, as JSON |
//! | [`figure`] | what was measured, as SVG |

pub mod by_length;
mod error;
pub mod figure;
mod lengths;
pub mod passkey;
pub mod probe;
pub mod recall;
pub mod results;

pub use burn_longnet::model::LongNetLM;
pub use error::EvalError;
pub use lengths::{Length, lengths};

use crate::data::{DataError, Windows};
use crate::loader::Loader;
use crate::metrics::Measured;
use std::time::Instant;

/// Mean loss over a text, each token but the first predicted once.
pub type Evaluation = Measured;

/// Evaluates `lm` on all of `windows`, `batch` at a time. None if `stop` became true before the end.
///
/// # Errors
///
/// Text that has become unreadable.
pub fn evaluate(
    lm: &LongNetLM,
    windows: &Windows,
    batch: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Evaluation>, DataError> {
    let started = Instant::now();
    let (mut sum, mut bytes, mut tokens) = (0.0, 0.0, 0);
    for batch in Loader::in_order(windows.clone(), batch, 0).pass() {
        if stop() {
            return Ok(None);
        }
        let batch = batch?;
        let loss: f64 = batch.loss(lm).into_scalar();
        sum += loss * batch.targets() as f64;
        bytes += batch.bytes_per_token() * batch.targets() as f64;
        tokens += batch.targets();
    }
    Ok(Some(Evaluation {
        loss: sum / tokens.max(1) as f64,
        tokens,
        bytes_per_token: bytes / tokens.max(1) as f64,
        seconds: started.elapsed().as_secs_f64(),
        ..Evaluation::default()
    }))
}

/// Which bucket `n`, above 0, falls into: up to 1, 2, 4, 8, and so on. So the last bucket of a length
/// that is a power of two is as full as any.
fn bucket(n: usize) -> usize {
    n.next_power_of_two().ilog2() as usize
}

/// The least and the greatest number in a bucket.
fn ends(bucket: usize) -> (usize, usize) {
    let to = 1 << bucket;
    (to / 2 + 1, to)
}

#[cfg(test)]
mod tests {
    use super::{bucket, ends};

    #[test]
    fn buckets_have_the_numbers_between_their_ends() {
        assert_eq!([0, 1, 2, 3].map(ends), [(1, 1), (2, 2), (3, 4), (5, 8)]);
        for n in 1..1000 {
            let (from, to) = ends(bucket(n));
            assert!((from..=to).contains(&n), "{n} in {from} to {to}");
        }
    }
}
