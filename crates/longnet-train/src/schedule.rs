//! What changes over a run: learning rate, batch and context. Each is a function of the config and the
//! step, so that a resumed run needs nothing else.

use crate::config::Config;
use crate::config::sections::{Decay, Train};
use crate::config::stage::value_at;

/// Sequences of each batch of `step`, counted from 1.
pub fn batch(config: &Config, step: usize) -> usize {
    value_at(&config.train.batch_schedule, config.train.batch, step)
}

/// Tokens of each sequence of `step`, counted from 1.
pub fn context(config: &Config, step: usize) -> usize {
    value_at(&config.data.context_schedule, config.data.context, step)
}

/// The learning rate of `step`, counted from 1.
///
/// It rises in a straight line from 0 to `lr` over the warm-up and falls to `lr_floor * lr` at the
/// last step, if a decay ends there.
pub fn learning_rate(train: &Train, step: usize) -> f64 {
    if step <= train.warmup {
        return train.lr * step as f64 / train.warmup as f64;
    }
    let rate = decayed(train, step);
    match cooled(train, step) {
        0.0 => train.lr * rate,
        cooled => train.lr * (rate + (train.lr_floor - rate) * cooled),
    }
}

/// The rate after the warm-up, as a share of `lr`, of decays alone.
fn decayed(train: &Train, step: usize) -> f64 {
    let left = train.steps.saturating_sub(train.warmup).max(1);
    let progress = ((step - train.warmup) as f64 / left as f64).min(1.0);
    let height = match train.decay {
        Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        Decay::Linear => 1.0 - progress,
        Decay::Polynomial => (1.0 - progress).powf(train.power.unwrap_or(2.0)),
        Decay::Constant => return 1.0,
        Decay::InverseSqrt => {
            let from = train.warmup.max(1) as f64;
            return (from / step as f64).sqrt().max(train.lr_floor);
        }
    };
    train.lr_floor + (1.0 - train.lr_floor) * height
}

/// The share of the cool-down that is over.
fn cooled(train: &Train, step: usize) -> f64 {
    let begins = train.steps.saturating_sub(train.cooldown);
    match train.cooldown {
        0 => 0.0,
        cooldown => (step.saturating_sub(begins) as f64 / cooldown as f64).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Stage;

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
    fn a_polynomial_falls_faster_than_a_line_and_is_one_at_power_one() {
        let power = |power| {
            let train = Train {
                decay: Decay::Polynomial,
                power,
                warmup: 4,
                steps: 12,
                lr: 1.0,
                lr_floor: 0.1,
                ..Train::default()
            };
            (1..=13).map(|step| learning_rate(&train, step)).collect()
        };
        let (line, square): (Vec<f64>, Vec<f64>) = (power(Some(1.0)), power(None));
        for (line, linear) in line.iter().zip(rates(Decay::Linear, 4)) {
            assert_near(*line, linear);
        }
        for (step, want) in [(4, 1.0), (8, 0.1 + 0.9 * 0.25), (12, 0.1), (13, 0.1)] {
            assert_near(square[step - 1], want);
        }
    }

    #[test]
    fn the_inverse_root_meets_the_warm_up_and_stays_above_the_floor() {
        let train = Train {
            decay: Decay::InverseSqrt,
            warmup: 4,
            steps: 1000,
            lr: 2.0,
            lr_floor: 0.1,
            ..Train::default()
        };
        for (step, want) in [(1, 0.5), (4, 2.0), (16, 1.0), (100, 0.4), (1000, 0.2)] {
            assert_near(learning_rate(&train, step), want);
        }
        let train = Train { warmup: 0, ..train };
        assert_near(learning_rate(&train, 1), 2.0);
        assert_near(learning_rate(&train, 4), 1.0);
    }

    #[test]
    fn a_cool_down_makes_a_trapezoid() {
        let train = Train {
            decay: Decay::Constant,
            warmup: 4,
            cooldown: 4,
            steps: 12,
            lr: 1.0,
            lr_floor: 0.2,
            ..Train::default()
        };
        let steps = [
            (2, 0.5),
            (4, 1.0),
            (8, 1.0),
            (10, 0.6),
            (12, 0.2),
            (13, 0.2),
        ];
        for (step, want) in steps {
            assert_near(learning_rate(&train, step), want);
        }
    }

    #[test]
    fn batch_and_context_are_those_of_the_last_stage_begun() {
        let mut config = Config::default();
        config.train.batch = 2;
        config.data.context = 64;
        assert_eq!((batch(&config, 9), context(&config, 9)), (2, 64));
        let stage = |from, value| Stage { from, value };
        config.train.batch_schedule = vec![stage(3, 4)];
        config.data.context_schedule = vec![stage(1, 16), stage(5, 64)];
        let at = |step| (batch(&config, step), context(&config, step));
        assert_eq!(
            [1, 2, 3, 4, 5].map(at),
            [(2, 16), (2, 16), (4, 16), (4, 16), (4, 64)]
        );
    }

    #[test]
    fn a_run_without_warm_up_starts_high_and_one_of_warm_up_alone_ends_high() {
        assert_near(rates(Decay::Linear, 0)[0], 0.1 + 0.9 * 11.0 / 12.0);
        assert_near(rates(Decay::Linear, 12)[11], 1.0);
    }
}
