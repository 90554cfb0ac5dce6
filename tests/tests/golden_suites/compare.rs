//! Comparing many named tensors with a golden file.

use longnet_tests::check::Tolerance;
use longnet_tests::goldens::Goldens;

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

    /// The largest difference, or all tensors that differ too much.
    pub fn finish(self) -> Result<f64, String> {
        if self.wrong.is_empty() {
            Ok(self.largest)
        } else {
            Err(format!("differs in {}", self.wrong.join(", ")))
        }
    }
}
