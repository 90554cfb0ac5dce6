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
    /// What was not tried, and why.
    pub left_out: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn case() -> Case {
        let row = |who: &str, times| Row {
            who: who.into(),
            note: "a < b".into(),
            flops: Some(2e9),
            tokens: Some(10),
            error: Some(1e-7),
            times,
        };
        Case {
            name: "case".into(),
            rows: vec![
                row("ours", Ok(Times::new(vec![1.0, 0.5, 4.0]))),
                row("other", Ok(Times::new(vec![2.0]))),
                row("wrong", Err("Out is wrong".into())),
            ],
            bars: vec![Bar::over("other", 1.5), Bar::over("wrong", 1.5)],
            left_out: vec!["n 9 does not fit".into()],
        }
    }

    #[test]
    fn tables_say_medians_repeats_ratios_and_why_something_was_not_timed() {
        let table = case_table(&case());
        let line = |start: &str| {
            let mut lines = table.lines();
            let line = lines.find(|line| line.starts_with(start)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let ours = "ours 1.000 s 500.0 ms..4.000 s 3 2.0 10 1e-7";
        assert!(line("ours").starts_with(ours), "{table}");
        assert!(line("other").contains("2.00x"), "{table}");
        assert_eq!(line("wrong"), "wrong not timed: Out is wrong");
        let bars = bars_table(&[case()]);
        assert!(bars.contains("met by 33 %") && bars.contains("not measured"));
    }

    #[test]
    fn files_hold_every_row_and_the_machine() {
        let (machine, cases) = (Machine::here(), [case()]);
        let json = json(&machine, "2.0", 2, &cases);
        assert_eq!(json["machine"]["torch"], "2.0");
        assert_eq!(json["machine"]["level"], longnet_cpu::level().unwrap());
        assert_eq!(json["cases"][0]["left_out"][0], "n 9 does not fit");
        let rows = &json["cases"][0]["rows"];
        assert_eq!(rows[0]["median_seconds"], 1.0);
        assert_eq!(rows[2]["not_timed"], "Out is wrong");
        assert_eq!(json["cases"][0]["bars"][0]["value"], 2.0);
        let svg = svg(&machine, "2.0 & <more>", 2, &cases);
        assert!(svg.contains("2.0 &amp; &lt;more>") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches(r#"class="ours""#).count(), 1);
    }
}
