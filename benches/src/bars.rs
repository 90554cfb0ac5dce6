//! What the numbers must show.

use crate::report::{Case, Row};

/// The lengths over which the time per token is to stay the same.
const LENGTHS: [usize; 2] = [1 << 14, 1 << 20];

/// What is held to a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Our speed over that of a contender, at equal work.
    Over(&'static str),
    /// A contender's speed over ours, at equal work.
    Of(&'static str),
    /// The longest time per FLOP over the shortest, among the contenders whose names start so.
    PerFlop(&'static str),
    /// The longest time per token over the shortest, among the case's rows; [`LENGTHS`] must be among
    /// them.
    PerToken,
}

/// A bar of a case.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    pub measure: Measure,
    /// What must be reached: at least, or at most for [`Measure::PerToken`] and [`Measure::PerFlop`].
    pub must: f64,
    /// What is aimed for.
    pub aim: Option<f64>,
}

impl Bar {
    /// Our speed is at least `must` times that of `who`.
    pub fn over(who: &'static str, must: f64) -> Self {
        Self {
            measure: Measure::Over(who),
            must,
            aim: None,
        }
    }

    /// The speed of `who` is at least `must` times ours.
    pub fn of(who: &'static str, must: f64) -> Self {
        Self {
            measure: Measure::Of(who),
            must,
            aim: None,
        }
    }

    /// The times per FLOP of the contenders whose names start with `who` lie within a factor of `most`.
    pub fn per_flop(who: &'static str, most: f64) -> Self {
        Self {
            measure: Measure::PerFlop(who),
            must: most,
            aim: None,
        }
    }

    /// With an aim beyond what must be.
    pub fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    /// The times per token lie within a factor of `most`.
    pub fn per_token(most: f64) -> Self {
        Self {
            measure: Measure::PerToken,
            must: most,
            aim: None,
        }
    }

    /// What `case` shows; `None` if a contender or a length did not take part.
    pub fn value(&self, case: &Case) -> Option<f64> {
        match self.measure {
            Measure::Over(who) => case.ratio("ours", who),
            Measure::Of(who) => case.ratio(who, "ours"),
            Measure::PerFlop(who) => {
                let rows = case.rows.iter().filter(|row| row.who.starts_with(who));
                apart(rows.map(Row::gflops))
            }
            Measure::PerToken => {
                let has = |n: &usize| case.rows.iter().any(|row| row.tokens == Some(*n));
                if !LENGTHS.iter().all(has) {
                    return None;
                }
                apart(case.rows.iter().map(Row::token_rate))
            }
        }
    }

    /// Whether `value` reaches `limit`.
    pub fn reaches(&self, value: f64, limit: f64) -> bool {
        match self.measure {
            Measure::Over(_) | Measure::Of(_) => value >= limit,
            Measure::PerToken | Measure::PerFlop(_) => value <= limit,
        }
    }

    /// "met", "missed by 12 %", with the aim's share.
    pub fn verdict(&self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return "not measured".into();
        };
        let percent = (value / self.must - 1.0).abs() * 100.0;
        if !self.reaches(value, self.must) {
            return format!("MISSED by {percent:.0} %");
        }
        match self.aim {
            Some(aim) if self.reaches(value, aim) => format!("met by {percent:.0} %, aim met"),
            _ => format!("met by {percent:.0} %"),
        }
    }

    /// What is compared.
    pub fn text(&self) -> String {
        match self.measure {
            Measure::Over(who) => format!("speed over {who}"),
            Measure::Of(who) => format!("speed of {who} over ours, at equal FLOPs"),
            Measure::PerFlop(who) => format!("time per FLOP of {who}, longest over shortest"),
            Measure::PerToken => "time per token, longest over shortest".into(),
        }
    }
}

/// The largest of `rates` over the smallest.
fn apart(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let rates: Vec<f64> = rates.collect::<Option<_>>()?;
    let ends = |(a, b): (f64, f64), rate: &f64| (a.min(*rate), b.max(*rate));
    let (least, most) = rates.iter().fold((f64::INFINITY, 0.0), ends);
    (!rates.is_empty()).then(|| most / least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Times;

    fn row(who: &str, seconds: f64, flops: Option<f64>, tokens: usize) -> Row {
        Row {
            who: who.into(),
            note: String::new(),
            flops,
            tokens: Some(tokens),
            error: None,
            times: Ok(Times::new(vec![seconds])),
        }
    }

    fn case(rows: Vec<Row>) -> Case {
        Case {
            name: "case".into(),
            rows,
            bars: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn speeds_are_compared_at_equal_work() {
        let case = case(vec![
            row("ours", 1.0, Some(6e9), 1),
            row("other", 3.0, Some(12e9), 1),
        ]);
        let bar = Bar::over("other", 1.2).aim(1.6);
        assert_eq!(bar.value(&case), Some(1.5));
        assert_eq!(bar.verdict(Some(1.5)), "met by 25 %");
        assert_eq!(bar.verdict(Some(1.8)), "met by 50 %, aim met");
        assert_eq!(bar.verdict(Some(0.9)), "MISSED by 25 %");
        assert_eq!(Bar::over("absent", 1.0).value(&case), None);
        assert_eq!(Bar::of("other", 0.5).value(&case), Some(1.0 / 1.5));
        assert_eq!(Bar::per_flop("o", 2.0).value(&case), Some(1.5));
        assert_eq!(Bar::per_flop("absent", 2.0).value(&case), None);
    }

    #[test]
    fn times_per_token_are_held_together() {
        let [least, most] = LENGTHS;
        let bar = Bar::per_token(1.15);
        let rows = |second: usize| {
            let seconds = 1.2 * second as f64 / least as f64;
            vec![row("a", 1.0, None, least), row("b", seconds, None, second)]
        };
        // Not measured as far as it must be.
        assert_eq!(bar.value(&case(rows(most / 4))), None);
        let case = case(rows(most));
        let value = bar.value(&case).unwrap();
        assert!((value - 1.2).abs() < 1e-12);
        assert_eq!(bar.verdict(Some(value)), "MISSED by 4 %");
        assert_eq!(bar.verdict(Some(1.0)), "met by 13 %");
    }
}
