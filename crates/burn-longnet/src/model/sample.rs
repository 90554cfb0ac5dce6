//! Drawing a token from logits.

use crate::dropout::split_mix;

/// How [`LongNetLM::generate`](super::LongNetLM::generate) chooses tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 always takes the likeliest token. Default: 1
    pub temperature: f64,
    /// Only the likeliest so many tokens. Default: all
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability. Default: all
    pub top_p: Option<f64>,
    /// Determines the draws. Default: 0
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the likeliest token; of equals, the first.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// The token of draw number `step`.
    ///
    /// # Panics
    ///
    /// If `logits` is empty, holds NaN or has no finite maximum; if the temperature is negative or not
    /// finite, or `top_p` is outside `0..=1`.
    pub fn choose(&self, logits: &[f32], step: u64) -> usize {
        assert!(
            self.temperature.is_finite() && self.temperature >= 0.0,
            "temperature is {}; give 0 for the likeliest token, or a finite number above 0",
            self.temperature
        );
        if let Some(p) = self.top_p {
            assert!(
                (0.0..=1.0).contains(&p),
                "top_p is {p}; a probability is in 0..=1"
            );
        }
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(
            highest.is_finite() && !logits.iter().any(|logit| logit.is_nan()),
            "a token needs logits without NaN and with a finite maximum; the model has diverged, or there are none"
        );
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature == 0.0 {
            return order[0];
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX).max(1));
        let top = f64::from(logits[order[0]]);
        let weight = |&token: &usize| ((f64::from(logits[token]) - top) / self.temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        if let Some(p) = self.top_p {
            let enough = weights.iter().sum::<f64>() * p;
            let reached = weights.iter().scan(0.0, |sum, w| {
                *sum += w;
                Some(*sum)
            });
            let kept = 1 + reached.take_while(|sum| *sum < enough).count();
            weights.truncate(kept);
        }
        let mut left = uniform(self.seed, step) * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            if left < *weight {
                return *token;
            }
            left -= weight;
        }
        order[weights.len() - 1]
    }
}

/// Number `step` of a stream of uniform numbers in `0..1`.
fn uniform(seed: u64, step: u64) -> f64 {
    (split_mix(seed, step) >> 11) as f64 / 2f64.powi(53)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.1, 0.4, 0.2, 0.3.
    fn logits() -> [f32; 4] {
        [0.1f32, 0.4, 0.2, 0.3].map(f32::ln)
    }

    fn shares(sampling: Sampling) -> [f64; 4] {
        let draws = 20_000;
        let mut counts = [0.0; 4];
        for step in 0..draws {
            counts[sampling.choose(&logits(), step)] += 1.0 / draws as f64;
        }
        counts
    }

    fn assert_shares(sampling: Sampling, expected: [f64; 4]) {
        let found = shares(sampling);
        let off = |(a, b): (&f64, &f64)| (a - b).abs() > 0.015 || (*b == 0.0 && *a > 0.0);
        assert!(!found.iter().zip(&expected).any(off), "{found:?}");
    }

    #[test]
    fn tokens_come_in_proportion_to_what_the_filters_leave() {
        let plain = Sampling::default();
        assert_shares(plain.clone(), [0.1, 0.4, 0.2, 0.3]);
        assert_shares(Sampling::greedy(), [0.0, 1.0, 0.0, 0.0]);
        let two = Sampling {
            top_k: Some(2),
            ..plain.clone()
        };
        assert_shares(two, [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        let most = Sampling {
            top_p: Some(0.75),
            ..plain.clone()
        };
        assert_shares(most, [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        let nucleus = Sampling {
            top_p: Some(0.3),
            ..plain.clone()
        };
        assert_shares(nucleus, [0.0, 1.0, 0.0, 0.0]);
        let hot = Sampling {
            temperature: 1e9,
            ..plain
        };
        assert_shares(hot, [0.25; 4]);
    }

    #[test]
    fn the_seed_determines_the_draws() {
        let drawn = |seed| {
            let sampling = Sampling {
                seed,
                ..Sampling::default()
            };
            (0..50)
                .map(|step| sampling.choose(&logits(), step))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn what_has_no_likeliest_token_is_refused() {
        let temperature = |temperature| Sampling {
            temperature,
            ..Sampling::default()
        };
        let top_p = |p| Sampling {
            top_p: Some(p),
            ..Sampling::default()
        };
        let refused = |sampling: Sampling, logits: &[f32], said: &str| {
            let panic = std::panic::catch_unwind(|| sampling.choose(logits, 0)).unwrap_err();
            let message = match panic.downcast_ref::<String>() {
                Some(message) => message.as_str(),
                None => panic.downcast_ref::<&str>().unwrap(),
            };
            assert!(message.contains(said), "{message}");
        };
        for sampling in [Sampling::default(), Sampling::greedy()] {
            for logits in [
                [1.0, f32::NAN],
                [f32::NEG_INFINITY; 2],
                [f32::INFINITY, 0.0],
            ] {
                refused(sampling.clone(), &logits, "diverged");
            }
        }
        for broken in [f64::NAN, f64::INFINITY, -1.0] {
            refused(temperature(broken), &[0.0, 1.0], "temperature is");
            refused(top_p(broken), &[0.0, 1.0], "top_p is");
        }
        let masked = [0.0, f32::NEG_INFINITY];
        assert_eq!(Sampling::default().choose(&masked, 0), 0);
    }
}
