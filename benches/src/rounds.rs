//! Contenders take turns.

use crate::contender::Contender;
use crate::stats::Times;

/// How long and how often a case is timed.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Seconds that one case should take.
    pub seconds: f64,
    /// Rounds at least and at most.
    pub rounds: (usize, usize),
}

/// Times of every contender, in rounds in which each runs once: what drifts, drifts for all. They have
/// warmed up when they were checked. The first round tells how many fit the budget.
///
/// # Errors
///
/// A contender failed.
pub fn time(contenders: &mut [&mut dyn Contender], budget: Budget) -> Result<Vec<Times>, String> {
    let (least, most) = budget.rounds;
    let mut seconds = vec![Vec::new(); contenders.len()];
    let mut rounds = least;
    let mut done = 0;
    while done < rounds {
        let mut round = 0.0;
        for (contender, seconds) in contenders.iter_mut().zip(&mut seconds) {
            if done < least || !contender.is_slow() {
                seconds.push(contender.run()?);
            }
            if !contender.is_slow() {
                round += seconds[0];
            }
        }
        done += 1;
        rounds = ((budget.seconds / round) as usize).clamp(least, most);
    }
    Ok(seconds.into_iter().map(Times::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Sample;
    use std::cell::RefCell;

    /// Takes this long, says so, and is slow from 3 seconds on.
    struct Fake<'a>(f64, &'a RefCell<Vec<f64>>);

    impl Contender for Fake<'_> {
        fn name(&self) -> String {
            "fake".into()
        }
        fn is_slow(&self) -> bool {
            self.0 >= 3.0
        }
        fn check(&mut self, _: &[Sample]) -> Result<Option<f64>, String> {
            Ok(None)
        }
        fn run(&mut self) -> Result<f64, String> {
            self.1.borrow_mut().push(self.0);
            Ok(self.0)
        }
    }

    #[test]
    fn they_take_turns_as_often_as_the_budget_allows() {
        let log = RefCell::new(Vec::new());
        let (mut a, mut b) = (Fake(1.0, &log), Fake(2.0, &log));
        let budget = |seconds| Budget {
            seconds,
            rounds: (2, 4),
        };
        let times = time(&mut [&mut a, &mut b], budget(9.0)).unwrap();
        assert_eq!(*log.borrow(), [1.0, 2.0].repeat(3));
        assert_eq!((times[0].count(), times[1].median()), (3, 2.0));
        for (seconds, rounds) in [(0.0, 2), (100.0, 4)] {
            let times = time(&mut [&mut a, &mut b], budget(seconds)).unwrap();
            assert_eq!(times[0].count(), rounds);
        }
    }
    #[test]
    fn slow_ones_run_in_the_first_rounds_only() {
        let log = RefCell::new(Vec::new());
        let (mut a, mut slow) = (Fake(1.0, &log), Fake(50.0, &log));
        let budget = Budget {
            seconds: 3.0,
            rounds: (1, 4),
        };
        let times = time(&mut [&mut a, &mut slow], budget).unwrap();
        assert_eq!(*log.borrow(), [1.0, 50.0, 1.0, 1.0]);
        assert_eq!((times[0].count(), times[1].count()), (3, 1));
    }
}
