//! Times of several runs.

/// Seconds of each run, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// # Panics
    ///
    /// If there is no time, or one is not a number.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        assert!(
            !seconds.is_empty() && seconds.iter().all(|s| s.is_finite()),
            "times of at least one run, got {seconds:?}"
        );
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// Number of runs.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() % 2 {
            1 => self.0[middle],
            _ => (self.0[middle - 1] + self.0[middle]) / 2.0,
        }
    }

    /// The shortest.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The longest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Longest minus shortest, as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.max() - self.min()) / self.median()
    }

    /// All, ascending.
    pub fn all(&self) -> &[f64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_of_odd_and_even_counts() {
        let odd = Times::new(vec![5.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.min(), odd.max()), (2.0, 1.0, 5.0));
        assert_eq!(odd.spread(), 2.0);
        assert_eq!(Times::new(vec![4.0, 1.0, 2.0, 100.0]).median(), 3.0);
        assert_eq!(Times::new(vec![7.0]).median(), 7.0);
    }
}
