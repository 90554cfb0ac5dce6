//! The log of a run: one JSON object a line.

use burn_train::logger::MetricLogger;
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{MetricDefinition, MetricId, NumericEntry};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io::{Write, stderr};

/// Writes each training step and each evaluation:
///
/// ```text
/// {"bits_per_byte":7.99,"loss":5.54,...,"split":"train","step":1}
/// {"bits_per_byte":3.03,"loss":2.10,...,"split":"valid","step":100}
/// ```
pub struct JsonLines<W> {
    out: W,
    step: usize,
    names: HashMap<MetricId, String>,
    failed: bool,
}

/// The part of `log` that is about the first `steps` steps: its lines up to one that is about a later step,
/// or is not whole.
pub fn first_lines(log: &[u8], steps: usize) -> &[u8] {
    let mut end = 0;
    for line in log.split_inclusive(|&byte| byte == b'\n') {
        let value: Option<Value> = serde_json::from_slice(line).ok();
        let step = value.and_then(|value| value.get("step")?.as_u64());
        let kept = line.ends_with(b"\n") && step.is_some_and(|step| step <= steps as u64);
        if !kept {
            break;
        }
        end += line.len();
    }
    &log[..end]
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out` about a run that has done `step` steps.
    pub fn new(out: W, step: usize) -> Self {
        Self {
            out,
            step,
            names: HashMap::new(),
            failed: false,
        }
    }
}

impl<W: Write + Send> MetricLogger for JsonLines<W> {
    fn log(&mut self, update: MetricsUpdate, _epoch: usize, split: &Split) {
        let entries = update.entries_numeric.into_iter();
        let values: Vec<_> = entries
            .filter_map(|e| Some((self.names.get(&e.entry.metric_id)?, e.numeric_entry?)))
            .collect();
        let is_final = |(_, entry): &(_, NumericEntry)| matches!(entry, NumericEntry::Final(_));
        // Steps are logged one by one, evaluations by their mean.
        let train = *split == Split::Train;
        if values.is_empty() || values.iter().all(is_final) == train {
            return;
        }
        self.step += usize::from(train);
        let mut line = Map::new();
        line.insert("split".into(), split.to_string().into());
        line.insert("step".into(), self.step.into());
        for (name, entry) in values {
            line.insert(name.clone(), entry.current().into());
        }
        let written = writeln!(self.out, "{}", Value::Object(line)).and_then(|()| self.out.flush());
        if let Err(error) = written
            && !self.failed
        {
            // Once: the run goes on, and so would the complaints.
            self.failed = true;
            let _ = writeln!(stderr(), "warning: log.jsonl cannot be written: {error}");
        }
    }

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        // Only early stopping and summaries of burn-train ask, and neither is used.
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        let key = definition.name.to_lowercase();
        let key = key.replace('/', "_per_").replace(' ', "_");
        self.names.insert(definition.metric_id, key);
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
