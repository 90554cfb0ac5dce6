//! The learning rate over a run.

use crate::config::sections::{Decay, Train};

/// The learning rate of `step`, counted from 1.
///
/// It rises in a straight line from 0 to `lr` over the warm-up and falls to `lr_floor * lr` at the
/// last step.
pub fn learning_rate(train: &Train, step: usize) -> f64 {
    if step <= train.warmup {
        return train.lr * step as f64 / train.warmup as f64;
    }
    let left = train.steps.saturating_sub(train.warmup).max(1);
    let progress = ((step - train.warmup) as f64 / left as f64).min(1.0);
    let height = match train.decay {
        Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        Decay::Linear => 1.0 - progress,
        Decay::Constant => return train.lr,
    };
    train.lr * (train.lr_floor + (1.0 - train.lr_floor) * height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decay: Decay, warmup: usize) -> Vec<f64> {
        let train = Train {
            decay,
            warmup,
            steps: 12,
            lr: 1.0,
            lr_floor: 0.1,
            ..Train::default()
        };
        (1..=13).map(|step| learning_rate(&train, step)).collect()
    }

    fn assert_near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-12, "{got} is not {want}");
    }

    #[test]
    fn the_rate_rises_to_lr_and_falls_to_the_floor() {
        let linear = rates(Decay::Linear, 4);
        for (step, want) in [(1, 0.25), (4, 1.0), (8, 0.55), (12, 0.1), (13, 0.1)] {
            assert_near(linear[step - 1], want);
        }
        let cosine = rates(Decay::Cosine, 4);
        for (step, want) in [(2, 0.5), (4, 1.0), (8, 0.55), (12, 0.1)] {
            assert_near(cosine[step - 1], want);
        }
        assert!(cosine[5] > linear[5] && cosine[10] < linear[10]);
        assert_near(rates(Decay::Constant, 4)[12], 1.0);
    }

    #[test]
    fn a_run_without_warm_up_starts_high_and_one_of_warm_up_alone_ends_high() {
        assert_near(rates(Decay::Linear, 0)[0], 0.1 + 0.9 * 11.0 / 12.0);
        assert_near(rates(Decay::Linear, 12)[11], 1.0);
    }
}
