//! Goldens of the op: a problem, its inputs, and what another project says should come out.

use crate::goldens::Golden;
use crate::problem::{Inputs, Outputs, Problem};

/// One comparison with a golden.
pub struct Check {
    /// Case, mode and which of its tensors.
    pub label: String,
    /// What is computed.
    pub problem: Problem,
    /// On what.
    pub inputs: Inputs,
    /// What should come out.
    pub wants: Vec<Want>,
}

/// One expected tensor.
pub struct Want {
    /// `out`, `lse`, `dq`, `dk` or `dv`.
    pub name: &'static str,
    /// Its numbers.
    pub golden: Vec<f64>,
    /// The golden is the result times this.
    pub factor: f64,
    /// Tolerance.
    pub tolerance: Tolerance,
}

/// A number may differ from the golden by `atol + rtol |golden|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Relative part.
    pub rtol: f64,
}

impl Tolerance {
    /// The largest difference, and the largest one as a share of what is allowed.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn measure(&self, got: &[f64], golden: &[f64]) -> (f64, f64) {
        assert_eq!(got.len(), golden.len(), "size of a golden");
        let mut worst = (0.0f64, 0.0f64);
        for (g, w) in got.iter().zip(golden) {
            let difference = if g == w { 0.0 } else { (g - w).abs() };
            let share = difference / (self.atol + self.rtol * w.abs());
            if difference.is_nan() {
                return (f64::INFINITY, f64::INFINITY);
            }
            worst = (worst.0.max(difference), worst.1.max(share));
        }
        worst
    }
}

impl Check {
    /// The largest difference over the expected tensors.
    ///
    /// # Errors
    ///
    /// A tensor is further from its golden than allowed; the message says which and how far.
    pub fn compare(&self, got: &Outputs) -> Result<f64, String> {
        let mut largest = 0f64;
        for want in &self.wants {
            let tensor = got.named().into_iter().find(|t| t.0 == want.name);
            let tensor: Vec<f64> = tensor
                .expect("a known tensor")
                .1
                .iter()
                .map(|x| x * want.factor)
                .collect();
            let (difference, share) = want.tolerance.measure(&tensor, &want.golden);
            if share > 1.0 {
                return Err(format!(
                    "{}: {} differs by {difference:.2e}, {share:.1} times what is allowed",
                    self.label, want.name
                ));
            }
            largest = largest.max(difference);
        }
        Ok(largest)
    }
}

/// Inputs from tensors of the layout `[batch, seq, heads, dim]`.
pub fn inputs(q: &Golden, k: &Golden, v: &Golden, dout: &Golden) -> Inputs {
    Inputs {
        q: q.heads_first().data,
        k: k.heads_first().data,
        v: v.heads_first().data,
        dout: dout.heads_first().data,
        dlse: None,
    }
}
