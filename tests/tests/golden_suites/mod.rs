//! Counting cases, and the goldens of modules and models.

pub mod compare;
pub mod multi_head;
pub mod patterns;
pub mod torchscale_lm;
pub mod torchscale_module;

use longnet_tests::report::report;
use serde_json::Value;

/// What became of the cases of a manifest.
pub struct Tally {
    suite: &'static str,
    met: Vec<(String, f64)>,
    skipped: Vec<(String, String)>,
    failed: Vec<String>,
}

fn name(case: &Value) -> String {
    case["name"].as_str().expect("a name").to_owned()
}

impl Tally {
    /// Of a suite.
    pub fn new(suite: &'static str) -> Self {
        Self {
            suite,
            met: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Runs a case; it gives its largest error, or says what is wrong.
    pub fn meet(&mut self, case: &Value, run: impl FnOnce() -> Result<f64, String>) {
        match run() {
            Ok(error) => self.met.push((name(case), error)),
            Err(message) => self.failed.push(format!("{}: {message}", name(case))),
        }
    }

    /// Leaves a case out, because of its semantics.
    pub fn skip(&mut self, case: &Value, semantics: &str) {
        self.skipped.push((name(case), semantics.to_owned()));
    }

    /// Prints the count.
    ///
    /// # Panics
    ///
    /// If a case failed, or none was met.
    pub fn finish(self) {
        let worst = self.met.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut text = format!(
            "golden: {} met, {} skipped ({}",
            self.met.len(),
            self.skipped.len(),
            self.suite
        );
        if let Some((case, error)) = worst {
            text.push_str(&format!("; largest error {error:.2e} in {case}"));
        }
        text.push(')');
        for (case, semantics) in &self.skipped {
            text.push_str(&format!("\n  skipped {case}: {semantics}"));
        }
        report(&text);
        assert!(
            self.failed.is_empty(),
            "{} of {} cases failed:\n{}",
            self.failed.len(),
            self.failed.len() + self.met.len(),
            self.failed.join("\n")
        );
        assert!(worst.is_some(), "no case of {} was met", self.suite);
    }
}
