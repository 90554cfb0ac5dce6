//! What a run leaves behind of its course: `log.jsonl` and TensorBoard's event files.

use super::events::{Events, now};
use crate::metrics::Measured;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write, stderr};
use std::path::Path;
use std::time::Instant;

/// The folder of event files in that of a run.
const EVENTS: &str = "tensorboard";

/// Writes each training step and each evaluation, before anything else happens:
///
/// ```text
/// {"bits_per_byte":7.99,"loss":5.54,...,"split":"train","step":1,"time":1763755200.5,"tokens":8192}
/// {"bits_per_byte":3.03,"loss":2.10,...,"split":"valid","step":100,...}
/// ```
///
/// The split "final" is the evaluation on all of the validation text at the end.
pub struct Record {
    log: Lines,
    events: Option<Events<File>>,
    steps: usize,
    done: usize,
    /// Predicted tokens of all training steps.
    tokens: u64,
    /// Seconds of the run before this process took it over.
    before: f64,
    started: Instant,
    failed: bool,
}

/// A file of whole lines.
struct Lines {
    file: File,
    /// Bytes of its whole lines.
    length: u64,
    /// Whether more than these may be there.
    torn: bool,
}

impl Lines {
    /// Writes `line` as a whole, or leaves the file as it was: half a line, as a full disk leaves it, would
    /// make what follows unreadable.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        // One write, so that a process that ends here leaves no half of a line on most systems.
        let written = self.file.write_all(line);
        match written {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => self.torn = self.mend().is_err(),
        }
        written
    }

    fn mend(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.torn = false;
        Ok(())
    }
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

/// Whether `log` has the evaluation on all of the validation text after `steps` steps.
pub fn has_final(log: &[u8], steps: usize) -> bool {
    log.rsplit(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .any(|line| line["split"] == "final" && line["step"] == steps)
}

impl Record {
    /// The record in the folder `run` of `steps` steps, of which `done` are done. `before` is the log up to
    /// there.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub fn open(run: &Path, before: &[u8], done: usize, steps: usize) -> io::Result<Self> {
        let path = run.join(crate::checkpoint::LOG);
        // Replaced in one step, so that a process that ends here loses nothing.
        let draft = path.with_extension("jsonl.tmp");
        let mut log = File::create(&draft)?;
        log.write_all(before)?;
        log.sync_all()?;
        fs::rename(&draft, &path)?;
        let last = |name: &str| {
            let lines = before.rsplit(|&byte| byte == b'\n');
            lines
                .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
                .find_map(|line| line.get(name)?.as_f64())
                .unwrap_or(0.0)
        };
        let mut record = Self {
            log: Lines {
                file: log,
                length: before.len() as u64,
                torn: false,
            },
            events: None,
            steps,
            done,
            tokens: last("tokens") as u64,
            before: last("seconds"),
            started: Instant::now(),
            failed: false,
        };
        match Events::create(&run.join(EVENTS), done) {
            Ok(events) => record.events = Some(events),
            Err(error) => record.complain(EVENTS, &error),
        }
        Ok(record)
    }

    /// A training step, counted from 1.
    pub fn step(&mut self, step: usize, measured: &Measured) {
        self.tokens += measured.tokens as u64;
        let here = self.started.elapsed().as_secs_f64();
        let rate = here / step.saturating_sub(self.done).max(1) as f64;
        let more = [
            ("gradient_norm", measured.grad_norm),
            ("learning_rate", measured.lr),
            ("mfu", measured.utilisation),
            (
                "seconds_left",
                rate * self.steps.saturating_sub(step) as f64,
            ),
            ("z_loss", measured.z_loss),
            ("smoothing", measured.smoothing),
            ("loss_scale", measured.loss_scale),
            ("skipped", measured.skipped as f64),
        ];
        self.write("train", step, measured, &more);
    }

    /// An evaluation after `step` steps: `split` is "valid", or "final" for that of all the text.
    pub fn evaluation(&mut self, split: &str, step: usize, measured: &Measured) {
        self.write(split, step, measured, &[]);
    }

    fn write(&mut self, split: &str, step: usize, measured: &Measured, more: &[(&str, f64)]) {
        let mut values = vec![
            ("loss", measured.loss),
            ("perplexity", measured.loss.exp()),
            ("bits_per_byte", measured.bits_per_byte()),
            ("tokens_per_s", measured.tokens as f64 / measured.seconds),
        ];
        values.extend(more);
        let mut line = Map::new();
        line.insert("split".into(), split.into());
        line.insert("step".into(), step.into());
        line.insert("tokens".into(), self.tokens.into());
        line.insert("time".into(), now().into());
        let seconds = self.before + self.started.elapsed().as_secs_f64();
        line.insert("seconds".into(), seconds.into());
        for (name, value) in &values {
            line.insert((*name).into(), (*value).into());
        }
        let line = Value::Object(line).to_string() + "\n";
        if let Err(error) = self.log.write(line.as_bytes()) {
            self.complain(crate::checkpoint::LOG, &error);
        }
        if let Some(events) = &mut self.events {
            let tags: Vec<_> = values
                .iter()
                .map(|(name, value)| (format!("{split}/{name}"), *value))
                .collect();
            let scalars = tags.iter().map(|(tag, value)| (tag.as_str(), *value));
            if let Err(error) = events.scalars(step, scalars) {
                // Half a record would make what follows unreadable.
                self.events = None;
                self.complain(EVENTS, &error);
            }
        }
    }

    /// Once: the run goes on, and so would the complaints.
    fn complain(&mut self, what: &str, error: &io::Error) {
        if !self.failed {
            self.failed = true;
            let _ = writeln!(stderr(), "warning: {what} cannot be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(run: &Path) -> Vec<Value> {
        let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_record_goes_on_where_the_kept_lines_end() {
        let run = tempfile::tempdir().unwrap();
        let measured = Measured {
            loss: 2.0,
            tokens: 100,
            bytes_per_token: 1.0,
            seconds: 0.5,
            grad_norm: 0.7,
            lr: 1e-3,
            utilisation: 0.4,
            ..Measured::default()
        };
        let mut record = Record::open(run.path(), b"", 0, 4).unwrap();
        for step in 1..=3 {
            record.step(step, &measured);
        }
        record.evaluation("valid", 3, &measured);
        let all = fs::read(run.path().join("log.jsonl")).unwrap();
        let kept = first_lines(&all, 2).to_vec();
        let seconds = lines(run.path())[1]["seconds"].as_f64().unwrap();
        drop(record);

        let mut record = Record::open(run.path(), &kept, 2, 4).unwrap();
        let infinite = Measured {
            loss: f64::INFINITY,
            ..measured
        };
        record.step(3, &infinite);
        let lines = lines(run.path());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["tokens"], 300);
        assert_eq!(lines[2]["step"], 3);
        // What JSON cannot say is null, and the line can still be read.
        assert!(lines[2]["loss"].is_null());
        assert!(lines[2]["seconds"].as_f64().unwrap() >= seconds);
        assert_eq!(lines[0]["mfu"], 0.4);
        assert_eq!(lines[0]["tokens_per_s"], 200.0);
        let files = fs::read_dir(run.path().join(EVENTS)).unwrap().count();
        assert_eq!(files, 2);
    }

    #[test]
    fn half_a_line_does_not_stay() {
        let run = tempfile::tempdir().unwrap();
        let measured = Measured {
            tokens: 100,
            seconds: 0.5,
            ..Measured::default()
        };
        let mut record = Record::open(run.path(), b"", 0, 4).unwrap();
        record.step(1, &measured);
        // As a disk that was full leaves it.
        record.log.file.write_all(b"{\"split\":\"tr").unwrap();
        record.log.torn = true;
        record.step(2, &measured);
        record.step(3, &measured);
        let steps: Vec<_> = lines(run.path())
            .iter()
            .map(|l| l["step"].clone())
            .collect();
        assert_eq!(steps, [1, 2, 3]);
    }

    #[test]
    fn a_failed_write_is_taken_back_when_that_works_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\n").unwrap();
        let mut log = Lines {
            file: File::open(&path).unwrap(),
            length: 4,
            torn: false,
        };
        // This file is open for reading alone: neither the line nor the mending succeeds.
        log.write(b"two\n").unwrap_err();
        assert!(log.torn && log.length == 4);
        log.file = File::options().write(true).open(&path).unwrap();
        log.write(b"two\n").unwrap();
        assert!(!log.torn && fs::read(&path).unwrap() == b"one\ntwo\n");
    }
}
