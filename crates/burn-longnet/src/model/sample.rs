//! Drawing a token from logits.

use crate::dropout::split_mix;

/// How [`LongNetLM::generate`](super::LongNetLM::generate) chooses tokens.
///
/// The fields act in the order in which they stand here, which is that of Hugging Face's
/// transformers: what one leaves out is not there for the next, and each works on the
/// probabilities that the one before it left.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Only tokens below it: a model may have room for more tokens than its tokenizer has. Default: all
    pub vocabulary: Option<usize>,
    /// Of the tokens that were there before, positive logits are divided by it and negative ones
    /// multiplied (CTRL, Keskar et al. 2019); above 1 makes them less likely. Default: 1
    pub repetition_penalty: f64,
    /// How many of the last tokens, the prompt's included, the penalty counts. Default: all
    pub repetition_window: Option<usize>,
    /// Logits are divided by it; 0 always takes the likeliest token. Default: 1
    pub temperature: f64,
    /// Only the likeliest so many tokens; of equals, the first. Default: all
    pub top_k: Option<usize>,
    /// Only the fewest likeliest tokens that together reach this probability. Default: all
    pub top_p: Option<f64>,
    /// Only tokens at least this share as likely as the likeliest one (Nguyen et al. 2024). Default:
    /// all
    pub min_p: Option<f64>,
    /// Determines the draws. Default: 0
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            vocabulary: None,
            repetition_penalty: 1.0,
            repetition_window: None,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            seed: 0,
        }
    }
}

/// Why no token can be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Logits without a likeliest token.
    #[error(
        "a token needs logits without NaN and with a finite maximum; the model has diverged, or there are none"
    )]
    NotFinite,
    /// A field out of its range.
    #[error("{field} is {value}; give {remedy}")]
    Field {
        /// The field of [`Sampling`].
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        remedy: &'static str,
    },
}

impl Sampling {
    /// Always the likeliest token; of equals, the first.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// The tokens that may be drawn after `before` and their probabilities, the likeliest first.
    ///
    /// # Errors
    ///
    /// Logits that are empty, hold NaN or have no finite maximum; a field out of its range.
    pub fn probabilities(
        &self,
        logits: &[f32],
        before: &[usize],
    ) -> Result<Vec<(usize, f64)>, SamplingError> {
        self.check()?;
        let logits = &logits[..logits.len().min(self.vocabulary.unwrap_or(usize::MAX))];
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !highest.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            return Err(SamplingError::NotFinite);
        }
        let logits = self.penalised(logits, before);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature == 0.0 {
            return Ok(vec![(order[0], 1.0)]);
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX).max(1));
        // Relative to the likeliest token, so that its weight is 1.
        let top = logits[order[0]];
        let weight = |&token: &usize| ((logits[token] - top) / self.temperature).exp();
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
        if let Some(p) = self.min_p {
            weights.truncate(weights.partition_point(|weight| *weight >= p).max(1));
        }
        weights.truncate(weights.partition_point(|weight| *weight > 0.0));
        let sum: f64 = weights.iter().sum();
        let probabilities = weights.into_iter().map(|weight| weight / sum);
        Ok(order.into_iter().zip(probabilities).collect())
    }

    /// The token of draw number `step`, after the tokens `before`.
    ///
    /// # Errors
    ///
    /// As [`probabilities`](Self::probabilities).
    pub fn choose(
        &self,
        logits: &[f32],
        before: &[usize],
        step: u64,
    ) -> Result<usize, SamplingError> {
        let probabilities = self.probabilities(logits, before)?;
        let mut left = uniform(self.seed, step);
        for (token, probability) in &probabilities {
            if left < *probability {
                return Ok(*token);
            }
            left -= probability;
        }
        // Rounding may leave a little.
        Ok(probabilities[probabilities.len() - 1].0)
    }

    fn check(&self) -> Result<(), SamplingError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let share = |p: Option<f64>| p.is_none_or(|p| (0.0..=1.0).contains(&p));
        let shares = "a number from 0 to 1";
        for (ok, field, value, remedy) in [
            (
                self.temperature == 0.0 || positive(self.temperature),
                "temperature",
                self.temperature,
                "0 for the likeliest token, or a finite number above 0",
            ),
            (
                positive(self.repetition_penalty),
                "repetition_penalty",
                self.repetition_penalty,
                "a finite number above 0, such as 1.2; 1 does nothing",
            ),
            (
                share(self.top_p),
                "top_p",
                self.top_p.unwrap_or(1.0),
                shares,
            ),
            (
                share(self.min_p),
                "min_p",
                self.min_p.unwrap_or(0.0),
                shares,
            ),
        ] {
            if !ok {
                return Err(SamplingError::Field {
                    field,
                    value,
                    remedy,
                });
            }
        }
        Ok(())
    }

    /// The logits, those of repeated tokens less likely. Each token is penalised once, however often
    /// it was there.
    fn penalised(&self, logits: &[f32], before: &[usize]) -> Vec<f64> {
        let mut logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        if self.repetition_penalty == 1.0 {
            return logits;
        }
        let window = self.repetition_window.unwrap_or(usize::MAX);
        let mut seen = before[before.len().saturating_sub(window)..].to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            // A prompt may have tokens that cannot be drawn.
            let logit = logits.get_mut(token);
            if let Some(logit) = logit.filter(|logit| logit.is_finite()) {
                let penalised = match *logit > 0.0 {
                    true => *logit / self.repetition_penalty,
                    false => *logit * self.repetition_penalty,
                };
                *logit = penalised.clamp(f64::MIN, f64::MAX);
            }
        }
        logits
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

    fn plain() -> Sampling {
        Sampling::default()
    }

    /// The probability of each of the four tokens, found exactly, and from draws as well.
    fn assert_shares(sampling: Sampling, expected: [f64; 4]) {
        assert_shares_after(sampling, &[], expected);
    }

    fn assert_shares_after(sampling: Sampling, before: &[usize], expected: [f64; 4]) {
        let mut exact = [0.0; 4];
        for (token, probability) in sampling.probabilities(&logits(), before).unwrap() {
            assert!(
                probability > 0.0,
                "{sampling:?} keeps token {token} for nothing"
            );
            exact[token] = probability;
        }
        let draws = 20_000;
        let mut drawn = [0.0; 4];
        for step in 0..draws {
            drawn[sampling.choose(&logits(), before, step).unwrap()] += 1.0 / draws as f64;
        }
        for (found, tolerance) in [(exact, 1e-7), (drawn, 0.015)] {
            let off = |(a, b): (&f64, &f64)| (a - b).abs() > tolerance || (*b == 0.0 && *a > 0.0);
            let wrong = found.iter().zip(&expected).any(off);
            assert!(!wrong, "{sampling:?}: {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn tokens_come_in_proportion_to_what_each_filter_leaves() {
        assert_shares(plain(), [0.1, 0.4, 0.2, 0.3]);
        assert_shares(Sampling::greedy(), [0.0, 1.0, 0.0, 0.0]);
        let top_k = |k| Sampling {
            top_k: Some(k),
            ..plain()
        };
        assert_shares(top_k(2), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(top_k(9), [0.1, 0.4, 0.2, 0.3]);
        let top_p = |p| Sampling {
            top_p: Some(p),
            ..plain()
        };
        assert_shares(top_p(0.75), [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        assert_shares(top_p(0.3), [0.0, 1.0, 0.0, 0.0]);
        let min_p = |p| Sampling {
            min_p: Some(p),
            ..plain()
        };
        // 0.6 of 0.4 is 0.24, and 0.4 of it 0.16.
        assert_shares(min_p(0.6), [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_shares(min_p(0.4), [0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        assert_shares(min_p(0.0), [0.1, 0.4, 0.2, 0.3]);
        assert_shares(min_p(1.0), [0.0, 1.0, 0.0, 0.0]);
        let hot = Sampling {
            temperature: 1e9,
            ..plain()
        };
        assert_shares(hot, [0.25; 4]);
        let cool = Sampling {
            temperature: 0.5,
            ..plain()
        };
        assert_shares(cool, [1.0, 16.0, 4.0, 9.0].map(|square| square / 30.0));
    }

    #[test]
    fn filters_work_on_what_the_ones_before_them_left() {
        // Of 0.4, 0.3, 0.2, the first two are 0.78; of all four they would be 0.7.
        let both = Sampling {
            top_k: Some(3),
            top_p: Some(0.75),
            ..plain()
        };
        assert_shares(both, [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        // The temperature comes first: at 1/2 the shares are 1, 16, 4, 9 of 30, and 25/30 is enough.
        let cooled = Sampling {
            temperature: 0.5,
            top_p: Some(0.8),
            ..plain()
        };
        assert_shares(cooled, [0.0, 16.0 / 25.0, 0.0, 9.0 / 25.0]);
        // 9/16 is below 0.6, which 3/4 is not.
        let cooled = Sampling {
            temperature: 0.5,
            min_p: Some(0.6),
            ..plain()
        };
        assert_shares(cooled, [0.0, 1.0, 0.0, 0.0]);
        // The penalty comes before the temperature: squares of the penalised shares.
        let penalised = Sampling {
            temperature: 0.5,
            repetition_penalty: 2.0,
            top_k: Some(2),
            ..plain()
        };
        // Token 1 has 0.4^2 = 0.16 now: 2 and 3 are left, 0.2 and 0.3, squared.
        assert_shares_after(penalised, &[1], [0.0, 0.0, 4.0 / 13.0, 9.0 / 13.0]);
    }

    #[test]
    fn tokens_beyond_the_vocabulary_are_not_drawn_whatever_their_logits() {
        let of = |vocabulary| Sampling {
            vocabulary: Some(vocabulary),
            repetition_penalty: 2.0,
            ..plain()
        };
        // Token 3, which was in the prompt, is none that could be penalised.
        assert_shares_after(of(3), &[3], [1.0 / 7.0, 4.0 / 7.0, 2.0 / 7.0, 0.0]);
        assert_shares(of(9), [0.1, 0.4, 0.2, 0.3]);
        let greedy = Sampling {
            vocabulary: Some(1),
            ..Sampling::greedy()
        };
        assert_shares(greedy, [1.0, 0.0, 0.0, 0.0]);
        let unseen = [0.0, f32::NAN, f32::INFINITY];
        assert_eq!(of(1).probabilities(&unseen, &[]), Ok(vec![(0, 1.0)]));
        assert_eq!(of(0).choose(&unseen, &[], 0), Err(SamplingError::NotFinite));
    }

    #[test]
    fn repeated_tokens_are_penalised_once_within_the_window() {
        let penalty = |window| Sampling {
            repetition_penalty: 2.0,
            repetition_window: window,
            ..plain()
        };
        // Logits below 0 are doubled: 0.4 becomes 0.16.
        let once = [0.1, 0.16, 0.2, 0.3].map(|share| share / 0.76);
        assert_shares_after(penalty(None), &[1, 1, 1], once);
        assert_shares_after(penalty(Some(2)), &[0, 1, 1], once);
        assert_shares_after(penalty(Some(0)), &[1, 1], [0.1, 0.4, 0.2, 0.3]);
        assert_shares_after(penalty(None), &[], [0.1, 0.4, 0.2, 0.3]);
        // Logits above 0 are halved.
        let above = penalty(None).probabilities(&[2.0, 1.0], &[0]).unwrap();
        assert_eq!(above, [(0, 0.5), (1, 0.5)]);
        // The likeliest token is another one then, without a draw too.
        let greedy = Sampling {
            temperature: 0.0,
            ..penalty(None)
        };
        assert_eq!(greedy.choose(&logits(), &[], 0), Ok(1));
        assert_eq!(greedy.choose(&logits(), &[1], 0), Ok(3));
    }

    #[test]
    fn the_seed_determines_the_draws() {
        let drawn = |seed| {
            let sampling = Sampling { seed, ..plain() };
            (0..50)
                .map(|step| sampling.choose(&logits(), &[], step).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn what_has_no_likeliest_token_is_refused() {
        for sampling in [plain(), Sampling::greedy()] {
            for logits in [
                &[1.0, f32::NAN][..],
                &[f32::NEG_INFINITY; 2],
                &[f32::INFINITY, 0.0],
                &[],
            ] {
                let refused = sampling.choose(logits, &[], 0);
                assert_eq!(refused, Err(SamplingError::NotFinite), "{logits:?}");
            }
        }
        let masked = [0.0, f32::NEG_INFINITY];
        assert_eq!(plain().choose(&masked, &[], 0), Ok(0));
        let penalty = Sampling {
            repetition_penalty: 1.5,
            ..plain()
        };
        assert_eq!(penalty.choose(&masked, &[0, 1], 0), Ok(0));
    }

    #[test]
    fn fields_out_of_range_are_named_with_their_values() {
        for broken in [f64::NAN, f64::INFINITY, -1.0] {
            for (field, sampling) in [
                (
                    "temperature",
                    Sampling {
                        temperature: broken,
                        ..plain()
                    },
                ),
                (
                    "repetition_penalty",
                    Sampling {
                        repetition_penalty: broken,
                        ..plain()
                    },
                ),
                (
                    "top_p",
                    Sampling {
                        top_p: Some(broken),
                        ..plain()
                    },
                ),
                (
                    "min_p",
                    Sampling {
                        min_p: Some(broken),
                        ..plain()
                    },
                ),
            ] {
                let error = sampling.choose(&[0.0, 1.0], &[], 0).unwrap_err();
                let said = format!("{field} is {broken}; give ");
                assert!(error.to_string().starts_with(&said), "{error}");
            }
        }
    }
}
