//! Curves of runs, from their logs.

use crate::checkpoint::LOG;
use crate::config::closest;
use crate::picture::{Chart, Curve, Panel, Style};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What cannot be plotted.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The log cannot be read.
    #[error(
        "cannot read {path}: {source}; a run is the folder with its log.jsonl, such as runs/quickstart"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the log is not one.
    #[error("{path}:{line}: not a line of a run's log: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The log has no steps yet.
    #[error("{path} has no steps to draw yet")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A number that logs do not have.
    #[error("--metric {name}: no such number{hint}; there are {}", METRICS.map(|m| m.0).join(", "))]
    Metric {
        /// The name given.
        name: String,
        /// "; did you mean ...", or nothing.
        hint: String,
    },
}

/// Numbers in logs, short names for them, and what the axis says.
const METRICS: [(&str, &[&str], &str); 7] = [
    ("loss", &[], "loss (nats a token)"),
    ("perplexity", &["ppl"], "perplexity"),
    ("bits_per_byte", &["bits", "bpb"], "bits per byte"),
    ("tokens_per_s", &["speed"], "tokens a second"),
    ("mfu", &[], "model FLOPs utilisation"),
    ("gradient_norm", &["grad", "norm"], "norm of the gradient"),
    ("learning_rate", &["lr"], "learning rate"),
];

/// The number that `name` means.
///
/// # Errors
///
/// None.
pub fn metric(name: &str) -> Result<&'static str, PlotError> {
    let found = METRICS
        .iter()
        .find(|(full, short, _)| *full == name || short.contains(&name));
    found.map(|(full, ..)| *full).ok_or_else(|| {
        let guess = closest(name, METRICS.map(|m| m.0));
        PlotError::Metric {
            name: name.into(),
            hint: guess.map_or(String::new(), |guess| format!("; did you mean '{guess}'?")),
        }
    })
}

/// What the x axis is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Steps.
    #[default]
    Steps,
    /// Tokens that were learned from.
    Tokens,
    /// Hours of training.
    Hours,
}

impl Over {
    fn title(self) -> &'static str {
        match self {
            Self::Steps => "step",
            Self::Tokens => "tokens",
            Self::Hours => "hours",
        }
    }

    fn of(self, line: &Value) -> f64 {
        let field = |name: &str| line.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        match self {
            Self::Steps => field("step"),
            Self::Tokens => field("tokens"),
            Self::Hours => field("seconds") / 3600.0,
        }
    }
}

/// How curves are drawn.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One panel each, by [`metric`]'s names.
    pub metrics: Vec<&'static str>,
    /// The x axis.
    pub over: Over,
    /// Steps that are averaged into one point of a curve. None: a hundredth of them.
    pub smooth: Option<usize>,
    /// Whether y is logarithmic.
    pub logarithmic: bool,
}

/// The log of a run.
#[derive(Clone, Debug)]
pub struct Log {
    name: String,
    lines: Vec<Value>,
}

impl Log {
    /// Reads the log of `run`, the folder of a run or the log itself. A last line that is not whole is
    /// that of a step that is being written.
    ///
    /// # Errors
    ///
    /// The log cannot be read, is something else, or has no step.
    pub fn read(run: &Path) -> Result<Self, PlotError> {
        let path = match run.is_dir() {
            true => run.join(LOG),
            false => run.to_path_buf(),
        };
        let text = std::fs::read(&path).map_err(|source| PlotError::Read {
            path: path.clone(),
            source,
        })?;
        let mut lines = Vec::new();
        for (i, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let fault = |reason: String| PlotError::Line {
                path: path.clone(),
                line: i + 1,
                reason,
            };
            match serde_json::from_slice::<Value>(line) {
                Ok(value) if value.get("step").is_some_and(Value::is_u64) => lines.push(value),
                Ok(_) => return Err(fault("it has no step".into())),
                Err(_) if !line.ends_with(b"\n") => {}
                Err(error) => return Err(fault(error.to_string())),
            }
        }
        if lines.is_empty() {
            return Err(PlotError::Empty { path });
        }
        Ok(Self {
            name: run.display().to_string(),
            lines,
        })
    }

    /// The points of one number in one split.
    fn points(&self, split: &str, metric: &str, over: Over) -> Vec<(f64, f64)> {
        let lines = self.lines.iter().filter(|line| line["split"] == split);
        let points = lines.filter_map(|line| {
            // What JSON cannot say, such as an infinite loss, is null there: a gap.
            let value = line.get(metric)?.as_f64().unwrap_or(f64::NAN);
            Some((over.of(line), value))
        });
        points.collect()
    }
}

/// A sum of finite values, and how many they are.
#[derive(Clone, Copy, Default)]
struct Sum(f64, f64);

impl Sum {
    fn and(self, value: f64) -> Self {
        match value.is_finite() {
            true => Self(self.0 + value, self.1 + 1.0),
            false => self,
        }
    }
}

/// The mean of each point and those before it, `window` in all.
///
/// A window is the end of one part of `window` points and the begin of the next, so each point is added twice,
/// and none is subtracted, which would leave the error of a large one in all that follow.
fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let window = window.clamp(1, points.len().max(1));
    let mut ends = vec![Sum::default(); window + 1];
    let mut means = Vec::with_capacity(points.len());
    for part in points.chunks(window) {
        let mut begin = Sum::default();
        for (i, &(x, y)) in part.iter().enumerate() {
            begin = begin.and(y);
            let end = ends[i + 1];
            means.push((x, (begin.0 + end.0) / (begin.1 + end.1)));
        }
        // Only the last part is shorter, and nothing follows it.
        for (i, &(_, y)) in part.iter().enumerate().rev() {
            ends[i] = ends[i + 1].and(y);
        }
    }
    means
}

/// Parts that a faint curve has at most: more than a picture shows.
const PARTS: usize = 1000;

/// `points`, of each of [`PARTS`] parts the lowest and the highest alone.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(PARTS).max(1);
    if size <= 2 {
        return points.to_vec();
    }
    let mut thin = Vec::with_capacity(2 * PARTS);
    for part in points.chunks(size) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let finite = || part.iter().filter(|point| point.1.is_finite());
        match (finite().min_by(by_height), finite().max_by(by_height)) {
            (Some(low), Some(high)) if low.0 <= high.0 => thin.extend([*low, *high]),
            (Some(low), Some(high)) => thin.extend([*high, *low]),
            // A gap.
            _ => thin.extend(part.first()),
        }
    }
    thin
}

/// The curves of `logs`: lines for training, dots for validation.
pub fn chart(logs: &[Log], options: &Options) -> Chart {
    let panel = |metric: &&'static str| {
        let mut curves = Vec::new();
        for (color, log) in logs.iter().enumerate() {
            let points = log.points("train", metric, options.over);
            let window = options.smooth.unwrap_or(points.len() / 100).max(1);
            let mut add = |points: Vec<(f64, f64)>, style| {
                if !points.is_empty() {
                    curves.push(Curve {
                        points,
                        color,
                        style,
                    });
                }
            };
            if window > 1 {
                add(thinned(&points), Style::Faint);
            }
            add(smoothed(&points, window), Style::Line);
            add(log.points("valid", metric, options.over), Style::Dots);
        }
        let known = METRICS.iter().find(|(name, ..)| name == metric);
        let title = known.map_or(*metric, |(.., title)| *title);
        let has_valid = curves.iter().any(|curve| curve.style == Style::Dots);
        Panel {
            title: match has_valid {
                true => format!("{title}; dots: validation"),
                false => title.into(),
            },
            logarithmic: options.logarithmic,
            curves,
        }
    };
    let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
    Chart {
        title: match names.as_slice() {
            [one] => one.clone(),
            all => format!("{} runs", all.len()),
        },
        x_title: options.over.title().into(),
        legend: names,
        panels: options.metrics.iter().map(panel).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Result<Log, PlotError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOG), text).unwrap();
        Log::read(folder.path())
    }

    #[test]
    fn curves_are_those_of_the_log() {
        let log = log(concat!(
            r#"{"split":"train","step":1,"tokens":10,"loss":4.0,"seconds":3600}"#,
            "\n",
            r#"{"split":"train","step":2,"tokens":20,"loss":null,"seconds":7200}"#,
            "\n",
            r#"{"split":"train","step":3,"tokens":30,"loss":2.0,"seconds":7200}"#,
            "\n",
            r#"{"split":"valid","step":3,"tokens":30,"loss":2.5,"seconds":7200}"#,
            "\n",
            r#"{"split":"train","step":4,"tok"#,
        ))
        .unwrap();
        assert_eq!(log.points("valid", "loss", Over::Tokens), [(30.0, 2.5)]);
        let points = log.points("train", "loss", Over::Hours);
        assert_eq!(points[0], (1.0, 4.0));
        assert!(points.len() == 3 && points[1].1.is_nan());
        assert_eq!(smoothed(&points, 3)[2], (2.0, 3.0));
        let options = Options {
            metrics: vec![metric("loss").unwrap(), metric("lr").unwrap()],
            smooth: Some(2),
            ..Options::default()
        };
        let chart = chart(&[log], &options);
        assert_eq!(chart.panels[0].curves.len(), 3);
        assert!(chart.panels[1].curves.is_empty());
        chart.picture();
    }

    #[test]
    fn means_are_those_of_each_window_and_faint_curves_keep_their_extremes() {
        let at = |i: usize| match i {
            7 => f64::NAN,
            20 => 1e300,
            _ => (i * i % 13) as f64,
        };
        let points: Vec<_> = (0..50).map(|i| (i as f64, at(i))).collect();
        for window in [1, 2, 7, 50, usize::MAX] {
            for (i, (x, mean)) in smoothed(&points, window).into_iter().enumerate() {
                let part = &points[(i + 1).saturating_sub(window)..=i];
                let part = part.iter().map(|p| p.1).filter(|y| y.is_finite());
                let (sum, count) = part.fold((0.0, 0.0), |(s, n), y| (s + y, n + 1.0));
                let right = count == 0.0 && mean.is_nan()
                    || (mean - sum / count).abs() <= 1e-12 * mean.abs();
                assert!(x == i as f64 && right, "{window} {i}: {mean}");
            }
        }
        assert!(smoothed(&[], 3).is_empty());
        let mut many: Vec<_> = (0..12_345).map(|i| (i as f64, 1.0)).collect();
        (many[5000].1, many[5003].1, many[7000].1) = (9.0, -9.0, f64::NAN);
        let thin = thinned(&many);
        assert!(thin.len() <= 2 * PARTS && thin.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(thin.contains(&many[5000]) && thin.contains(&many[5003]));
        assert_eq!(thinned(&many[..1500]), many[..1500]);
    }

    #[test]
    fn what_is_no_log_is_named_with_its_place() {
        let message = |text: &str| log(text).unwrap_err().to_string();
        assert!(message("").ends_with("has no steps to draw yet"));
        assert!(message("{\"step\":1}\n{\n{\"step\":2}\n").contains("log.jsonl:2: not a line"));
        assert!(
            message("{\"a\":1}\n")
                .contains("log.jsonl:1: not a line of a run's log: it has no step")
        );
        let missing = Log::read(Path::new("no/such/run")).unwrap_err().to_string();
        assert!(
            missing.starts_with("cannot read no/such/run: "),
            "{missing}"
        );
        let error = metric("los").unwrap_err().to_string();
        assert!(
            error.starts_with("--metric los: no such number; did you mean 'loss'?"),
            "{error}"
        );
    }
}
