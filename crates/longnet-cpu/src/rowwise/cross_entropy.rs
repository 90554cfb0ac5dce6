//! Softmax and cross entropy of rows of logits.

use super::blocks;
use super::level::per_level;
use super::math::{exp, sum};
use rayon::prelude::*;

/// The negative log-likelihood of each row's target, in nats; `logits` become their softmax less 1 at
/// the target, which is its gradient. A target of `None` does not count: its row becomes 0.
///
/// # Panics
///
/// If `logits` are not a row of equal length for each target, or a target is not in its row.
pub fn cross_entropy(logits: &mut [f32], targets: &[Option<usize>]) -> Vec<f32> {
    let width = logits.len() / targets.len().max(1);
    assert_eq!(logits.len(), width * targets.len(), "a row for each target");
    let mut nll = vec![0.0; targets.len()];
    let rows = blocks::rows(width);
    let work = |(logits, (nll, targets)): (&mut [f32], (&mut [f32], &[Option<usize>]))| {
        for (row, (nll, target)) in logits
            .chunks_mut(width.max(1))
            .zip(nll.iter_mut().zip(targets))
        {
            match *target {
                Some(target) => {
                    let picked = row[target];
                    let mut state = [0.0; 2];
                    softmax(row, &mut state);
                    let [largest, sum] = state;
                    *nll = sum.ln() + largest - picked;
                    row[target] -= 1.0;
                }
                None => row.fill(0.0),
            }
        }
    };
    let targets = targets.par_chunks(rows);
    let blocks = nll.par_chunks_mut(rows).zip(targets);
    logits
        .par_chunks_mut((rows * width).max(1))
        .zip(blocks)
        .for_each(work);
    nll
}

per_level! {
    /// Leaves the largest logit and the sum of the exponentials in `state`.
    fn softmax(row: &mut [f32], state: &mut [f32; 2]), FMA => {
        let mut tops = [f32::NEG_INFINITY; 16];
        let (chunks, rest) = row.as_chunks::<16>();
        for chunk in chunks {
            for (top, &x) in tops.iter_mut().zip(chunk) {
                *top = if x > *top { x } else { *top };
            }
        }
        let largest = tops.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &x| a.max(x));
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - largest);
        }
        let total = sum([row], |[x]| x);
        let inverse = 1.0 / total;
        for x in row.iter_mut() {
            *x *= inverse;
        }
        *state = [largest, total];
    }
}
