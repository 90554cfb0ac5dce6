//! Comparing many named tensors with a golden file.

use longnet_tests::check::Tolerance;
use longnet_tests::goldens::Goldens;
use std::collections::BTreeMap;

/// Named tensors against those of a file; remembers the largest error.
pub struct Comparison<'a> {
    goldens: &'a Goldens,
    largest: f64,
    wrong: Vec<String>,
}

impl<'a> Comparison<'a> {
    /// Against `goldens`.
    pub fn new(goldens: &'a Goldens) -> Self {
        Self {
            goldens,
            largest: 0.0,
            wrong: Vec::new(),
        }
    }

    /// Compares one tensor.
    pub fn tensor(&mut self, name: &str, got: &[f64], tolerance: Tolerance) {
        let (difference, share) = tolerance.measure(got, &self.goldens.get(name).data);
        self.largest = self.largest.max(difference);
        if share > 1.0 {
            self.wrong
                .push(format!("{name} by {difference:.2e} ({share:.1}x)"));
        }
    }

    /// Compares the gradients of all parameters: `grad.<name>`.
    pub fn gradients(&mut self, gradients: &BTreeMap<String, Vec<f64>>, tolerance: Tolerance) {
        let stored = self.goldens.under("grad.");
        let ours: Vec<&str> = gradients.keys().map(String::as_str).collect();
        if ours != stored.names() {
            let theirs = stored.names();
            self.wrong
                .push(format!("its parameters: {ours:?}, theirs {theirs:?}"));
            return;
        }
        for (name, gradient) in gradients {
            self.tensor(&format!("grad.{name}"), gradient, tolerance);
        }
    }

    /// The largest difference, or all tensors that differ too much.
    pub fn finish(self) -> Result<f64, String> {
        if self.wrong.is_empty() {
            Ok(self.largest)
        } else {
            Err(format!("differs in {}", self.wrong.join(", ")))
        }
    }
}
