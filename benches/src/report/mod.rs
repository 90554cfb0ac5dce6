//! What was measured, and how it is shown.

mod json;
mod svg;
mod table;

pub use json::json;
pub use svg::svg;
pub use table::{bars_table, case_table};

use crate::bars::Bar;
use crate::stats::Times;

/// One contender in a case.
pub struct Row {
    pub who: String,
    pub note: String,
    /// FLOPs of a run.
    pub flops: Option<f64>,
    /// Tokens of a run.
    pub tokens: Option<usize>,
    /// The largest relative error of its check.
    pub error: Option<f64>,
    /// Why there are no times, where there are none.
    pub times: Result<Times, String>,
}

/// Contenders that took turns.
pub struct Case {
    pub name: String,
    pub rows: Vec<Row>,
    pub bars: Vec<Bar>,
}

impl Row {
    pub fn median(&self) -> Option<f64> {
        self.times.as_ref().ok().map(Times::median)
    }

    /// GFLOP/s of the median.
    pub fn gflops(&self) -> Option<f64> {
        Some(self.flops? / self.median()? / 1e9)
    }

    /// Tokens a second of the median.
    pub fn token_rate(&self) -> Option<f64> {
        Some(self.tokens? as f64 / self.median()?)
    }
}

impl Case {
    pub fn row(&self, who: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.who == who)
    }

    /// How many times as fast `a` is as `b`, at equal FLOPs, or at equal tokens where FLOPs are not
    /// counted.
    pub fn ratio(&self, a: &str, b: &str) -> Option<f64> {
        let (a, b) = (self.row(a)?, self.row(b)?);
        match (a.gflops(), b.gflops()) {
            (Some(a), Some(b)) => Some(a / b),
            _ => Some(a.token_rate()? / b.token_rate()?),
        }
    }
}
