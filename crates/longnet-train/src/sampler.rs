//! Drawing a token from logits.

use crate::config::sections::Generate;
use crate::data::Random;

/// Draws tokens with a temperature, from the likeliest k.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f64,
    top_k: usize,
    random: Random,
}

impl Sampler {
    /// The sampler of a config.
    pub fn new(generate: &Generate) -> Self {
        Self {
            temperature: generate.temperature,
            top_k: generate.top_k,
            random: Random::new(generate.seed as u64),
        }
    }

    /// A token drawn by its `logits`, one for each token of the vocabulary.
    ///
    /// # Panics
    ///
    /// If `logits` is empty.
    pub fn draw(&mut self, logits: &[f32]) -> usize {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if self.temperature == 0.0 {
            return order[0];
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let largest = f64::from(logits[order[0]]);
        let weight = |&t: &usize| ((f64::from(logits[t]) - largest) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let mut left = self.random.uniform() * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding may leave a little.
        order[order.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(temperature: f64, top_k: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(&Generate {
            temperature,
            top_k,
            seed: 3,
            ..Generate::default()
        });
        let logits = [0.0, 2f32.ln(), 4f32.ln(), 1f32.ln()];
        let mut counts = vec![0; 4];
        for _ in 0..8000 {
            counts[sampler.draw(&logits)] += 1;
        }
        counts
    }

    #[test]
    fn tokens_come_as_often_as_their_probability() {
        for (count, share) in counts(1.0, 0).into_iter().zip([1.0, 2.0, 4.0, 1.0]) {
            let expected = 1000.0 * share;
            assert!(
                (count as f64 - expected).abs() < 150.0,
                "{count} for {expected}"
            );
        }
    }

    #[test]
    fn the_likeliest_k_share_the_draws_and_no_temperature_takes_the_first() {
        let two = counts(1.0, 2);
        assert_eq!((two[0], two[3]), (0, 0));
        assert!((two[2] as f64 / two[1] as f64 - 2.0).abs() < 0.2, "{two:?}");
        assert_eq!(counts(0.0, 0), [0, 0, 8000, 0]);
        let cold = counts(0.25, 0);
        assert!(cold[2] > 7400, "{cold:?}");
    }
}
