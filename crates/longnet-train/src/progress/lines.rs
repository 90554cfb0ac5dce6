//! Progress as lines of text.

use crate::metrics::{
    BITS_PER_BYTE, GRAD_NORM, LEARNING_RATE, LOSS, LOSS_SCALE, SKIPPED, SPEED, UTILISATION,
};
use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn_train::metric::{MetricDefinition, MetricId, MetricName, NumericEntry};
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

/// Writes one line a period, and one for each evaluation:
///
/// ```text
/// step    40/300  loss 2.4501  ppl 11.6  3.535 bits/byte  9840 tok/s  mfu 41 %  lr 2.00e-3  grad 0.61  left 1m52s
/// step   100/300  valid  loss 2.1034  ppl 8.19  3.035 bits/byte
/// ```
pub struct Lines<W> {
    out: W,
    steps: usize,
    period: Duration,
    names: HashMap<MetricId, MetricName>,
    train: Means,
    valid: Means,
    in_valid: bool,
    /// Steps done, and how many of them before this epoch.
    step: usize,
    before: usize,
    /// Steps that were done when the run went on.
    begun: usize,
    started: Option<Instant>,
    printed: Option<Instant>,
}

/// Weighted means and last values since they were last shown.
#[derive(Default)]
struct Means(HashMap<String, (f64, f64, f64)>);

impl Means {
    fn add(&mut self, name: &str, entry: &NumericEntry) {
        let (value, weight) = match entry {
            NumericEntry::Aggregated {
                aggregated_value,
                count,
            } => (*aggregated_value, *count as f64),
            NumericEntry::Value(value) => (*value, 1.0),
            // The mean of what was added already.
            NumericEntry::Final(_) => return,
        };
        // The mean of rates over time is the inverse of the mean of times.
        let summed = if is_rate(name) { value.recip() } else { value };
        // Of a skipped step, or a rate that is not known.
        if !summed.is_finite() {
            return;
        }
        let (sum, weights, last) = self.0.entry(name.into()).or_default();
        *sum += summed * weight;
        *weights += weight;
        *last = value;
    }

    fn mean(&self, name: &str) -> f64 {
        let found = self.0.get(name);
        let mean = found.map_or(f64::NAN, |(sum, weights, _)| sum / weights);
        if is_rate(name) { mean.recip() } else { mean }
    }

    fn last(&self, name: &str) -> f64 {
        let found = self.0.get(name);
        found.map_or(f64::NAN, |(_, _, last)| *last)
    }

    fn losses(&self) -> String {
        let (loss, bits) = (self.mean(LOSS), self.mean(BITS_PER_BYTE));
        let perplexity = significant(loss.exp());
        format!("loss {loss:.4}  ppl {perplexity}  {bits:.3} bits/byte")
    }
}

/// Whether this is an amount over time.
fn is_rate(name: &str) -> bool {
    name == SPEED || name == UTILISATION
}

/// Three significant digits, as long as that is short.
fn significant(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// 83 seconds as "1m23s".
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

impl<W: Write> Lines<W> {
    /// Writes to `out` about a run of `steps`, of which `done` are done, a line every `period`.
    pub fn new(out: W, done: usize, steps: usize, period: Duration) -> Self {
        Self {
            out,
            steps,
            period,
            names: HashMap::new(),
            train: Means::default(),
            valid: Means::default(),
            in_valid: false,
            step: done,
            before: done,
            begun: done,
            started: None,
            printed: None,
        }
    }

    fn line(&mut self, text: &str) {
        let width = self.steps.to_string().len();
        // A reader that went away must not end the training.
        let _ = writeln!(
            self.out,
            "step {:>width$}/{}  {text}",
            self.step, self.steps
        );
        let _ = self.out.flush();
    }

    fn train_line(&mut self) {
        let now = Instant::now();
        self.printed = Some(now);
        let spent = self.started.map_or(0.0, |at| (now - at).as_secs_f64());
        let steps_left = self.steps.saturating_sub(self.step);
        let left = duration(spent / (self.step - self.begun) as f64 * steps_left as f64);
        let means = std::mem::take(&mut self.train);
        let utilisation = match means.mean(UTILISATION) {
            share if share > 0.0 => format!("  mfu {share:.0} %"),
            _ => String::new(),
        };
        let skipped = match means.last(SKIPPED) {
            some if some > 0.0 => format!("  skipped {some}"),
            _ => String::new(),
        };
        // In f16 an overflow of the gradient is the loss scale's doing, and lowers it.
        let overflows = means.mean(LOSS).is_finite() && means.last(LOSS_SCALE).is_finite();
        let grad = match means.mean(GRAD_NORM) {
            none if none.is_nan() && overflows => "overflow".into(),
            norm => format!("{norm:.2}"),
        };
        self.line(&format!(
            "{}  {:.0} tok/s{utilisation}  lr {:.2e}  grad {grad}{skipped}  left {left}",
            means.losses(),
            means.mean(SPEED),
            means.last(LEARNING_RATE),
        ));
    }

    fn take(&mut self, state: MetricState, valid: bool) {
        if let MetricState::Numeric(entry, Some(value)) = state
            && let Some(name) = self.names.get(&entry.metric_id)
        {
            let means = if valid {
                &mut self.valid
            } else {
                &mut self.train
            };
            means.add(name, &value);
        }
    }
}

impl<W: Write + Send + Sync> MetricsRendererTraining for Lines<W> {
    fn update_train(&mut self, state: MetricState) {
        self.take(state, false);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.take(state, true);
    }
}

impl<W: Write + Send> TrainingProgressLogger for Lines<W> {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.started = Some(Instant::now());
        self.printed = self.started;
    }

    fn start_split(&mut self, split: &str, _: usize) {
        self.in_valid = split == "valid";
    }

    fn update_split(&mut self, items_processed: usize) {
        if self.in_valid {
            return;
        }
        self.step = self.before + items_processed;
        let due = self.printed.is_none_or(|at| at.elapsed() >= self.period);
        if due || self.step == self.begun + 1 {
            self.train_line();
        }
    }

    fn end_split(&mut self) {
        if self.in_valid {
            let means = std::mem::take(&mut self.valid);
            self.line(&format!("valid  {}", means.losses()));
        } else {
            if !self.train.0.is_empty() {
                self.train_line();
            }
            self.before = self.step;
        }
    }

    fn update_epoch(&mut self, _: usize) {}

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

impl<W: Write + Send + Sync> MetricsRenderer for Lines<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name);
    }
}

/// burn-train asks every renderer to show evaluations too; the trainer has none of that kind.
impl<W: Write + Send + Sync> MetricsRendererEvaluation for Lines<W> {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl<W: Write + Send> EvaluationProgressLogger for Lines<W> {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_tokens_over_time() {
        let mut means = Means::default();
        // 100 tokens in 1 s, and 100 in 4 s.
        for (loss, rate) in [(2.0, 100.0), (4.0, 25.0), (f64::NAN, 0.0)] {
            let of = |aggregated_value| NumericEntry::Aggregated {
                aggregated_value,
                count: 100,
            };
            means.add(LOSS, &of(loss));
            means.add(SPEED, &of(rate));
        }
        assert_eq!(means.mean(LOSS), 3.0);
        assert!((means.mean(SPEED) - 40.0).abs() < 1e-9);
        assert!(means.mean(UTILISATION).is_nan());
    }
}
