//! How far an implementation is from the oracle.
//!
//! The error of a tensor is `|got - want| / max(|want|, |sum of absolute terms| / 64)`, root mean
//! squares over the tensor. The second denominator only matters where a tensor cancels, as the
//! gradient of scores does in rows that see a single key: the error there is rounding of the terms,
//! and their sum no measure for it. The error of lse is measured against at least 1, since what
//! matters is `exp(lse)`. What nothing contributes to must be zero (-inf in lse) to the bit.

use crate::oracle::Reference;
use crate::problem::Outputs;

const CANCELLED: f64 = 1.0 / 64.0;

/// The error of each tensor, by name.
#[derive(Clone, Copy, Debug)]
pub struct Errors(pub [(&'static str, f64); 6]);

impl Errors {
    /// The largest error; NaN counts as infinite.
    pub fn worst(&self) -> (&'static str, f64) {
        self.0
            .map(|(name, e)| (name, if e.is_nan() { f64::INFINITY } else { e }))
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("six tensors")
    }
}

/// Root of the sum of squares.
pub fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Relative RMS error of `got`: `|got - want| / |want|`, and 0 where both are zero.
///
/// # Panics
///
/// If the lengths differ.
pub fn relative_rms(got: &[f64], want: &[f64]) -> f64 {
    relative_to(got, want, 0.0)
}

fn relative_to(got: &[f64], want: &[f64], floor: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "tensors of different size");
    let difference: Vec<f64> = got.iter().zip(want).map(|(g, w)| g - w).collect();
    match norm(&difference) {
        0.0 => 0.0,
        error => error / norm(want).max(floor),
    }
}

/// The errors of all tensors of `got`. Infinite for a tensor that is not zero (or -inf) where it must
/// be.
pub fn errors(got: &Outputs, reference: &Reference) -> Errors {
    let (want, magnitudes) = (reference.values.named(), reference.magnitudes.named());
    let mut i = 0;
    Errors(got.named().map(|(name, got)| {
        let (want, magnitude) = (want[i].1, magnitudes[i].1);
        i += 1;
        let error = if name == "lse" {
            lse_error(got, want)
        } else {
            tensor_error(got, want, magnitude)
        };
        (name, error)
    }))
}

fn tensor_error(got: &[f64], want: &[f64], magnitude: &[f64]) -> f64 {
    let untouched = |(g, m): (&f64, &f64)| *m != 0.0 || *g == 0.0;
    if !got.iter().zip(magnitude).all(untouched) {
        return f64::INFINITY;
    }
    relative_to(got, want, CANCELLED * norm(magnitude))
}

fn lse_error(got: &[f64], want: &[f64]) -> f64 {
    let empty = |x: f64| x == f64::NEG_INFINITY;
    if got.iter().zip(want).any(|(g, w)| empty(*g) != empty(*w)) {
        return f64::INFINITY;
    }
    let finite = |x: &[f64]| -> Vec<f64> {
        let rows = x.iter().zip(want);
        rows.filter(|(_, w)| !empty(**w)).map(|(x, _)| *x).collect()
    };
    let (got, want) = (finite(got), finite(want));
    relative_to(&got, &want, (want.len() as f64).sqrt())
}
