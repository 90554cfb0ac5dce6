//! What a run knows beside its weights, its optimiser and its place in the data.

use crate::config::sections::{NumberFormat, Train};
use serde::{Deserialize, Serialize};

/// Bits of the first loss scale, and of the largest. The smallest is 1.
const FIRST_BITS: u32 = 16;
const MOST_BITS: u32 = 24;

/// Steps in a row that may be skipped.
pub const MOST_SKIPPED: usize = 100;

/// What steps hand on to the next beside weights and optimiser. It belongs into a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerState {
    /// In f16 the loss is multiplied by 2 to this power, so that small gradients do not become 0.
    pub scale_bits: u32,
    /// Steps without overflow since the scale last changed.
    pub good: usize,
    /// Steps that were skipped since their loss or gradient was not finite.
    pub skipped: usize,
    /// How many of them are the last ones.
    pub skipped_in_a_row: usize,
}

impl Default for LearnerState {
    fn default() -> Self {
        Self {
            scale_bits: FIRST_BITS,
            good: 0,
            skipped: 0,
            skipped_in_a_row: 0,
        }
    }
}

impl LearnerState {
    /// The factor of the loss.
    pub(super) fn scale(&self, train: &Train) -> f64 {
        match train.precision {
            NumberFormat::F16 => f64::from(self.scale_bits.min(MOST_BITS)).exp2(),
            NumberFormat::F32 | NumberFormat::Bf16 => 1.0,
        }
    }

    /// After a step whose gradients are finite.
    pub(super) fn succeed(&mut self, train: &Train) {
        self.skipped_in_a_row = 0;
        if train.precision != NumberFormat::F16 {
            return;
        }
        self.good += 1;
        if self.good >= train.scale_growth {
            self.good = 0;
            self.scale_bits = (self.scale_bits + 1).min(MOST_BITS);
        }
    }

    /// After finite losses with gradients that are not: halves the scale. False if it cannot be the
    /// scale's doing.
    pub(super) fn overflow(&mut self, train: &Train) -> bool {
        if train.precision != NumberFormat::F16 || self.scale_bits == 0 {
            return false;
        }
        self.good = 0;
        self.scale_bits -= 1;
        true
    }

    /// Counts a step that is not finite. False if they are too many.
    pub(super) fn skip(&mut self) -> bool {
        self.skipped += 1;
        self.skipped_in_a_row += 1;
        self.skipped_in_a_row < MOST_SKIPPED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_on_overflow_and_doubles_after_good_steps() {
        let train = Train {
            precision: NumberFormat::F16,
            scale_growth: 3,
            ..Train::default()
        };
        let mut state = LearnerState::default();
        assert_eq!(state.scale(&train), 65536.0);
        assert!(state.overflow(&train));
        assert_eq!(state.scale(&train), 32768.0);
        for _ in 0..2 {
            state.succeed(&train);
        }
        // An overflow begins the count anew.
        assert!(state.overflow(&train));
        for expected in [16384.0, 16384.0, 32768.0, 32768.0, 32768.0, 65536.0] {
            state.succeed(&train);
            assert_eq!(state.scale(&train), expected);
        }
        for _ in 0..100 {
            state.succeed(&train);
        }
        assert_eq!(state.scale(&train), 16777216.0);
        let halvings = (0..100).filter(|_| state.overflow(&train)).count();
        assert_eq!((halvings, state.scale(&train)), (24, 1.0));
    }

    #[test]
    fn without_f16_nothing_is_scaled_and_no_overflow_is_the_scale_s() {
        let train = Train::default();
        let mut state = LearnerState::default();
        assert_eq!(state.scale(&train), 1.0);
        assert!(!state.overflow(&train));
        state.succeed(&train);
        assert_eq!(state, LearnerState::default());
    }

    #[test]
    fn a_state_survives_its_text() {
        let state = LearnerState {
            scale_bits: 3,
            good: 9,
            skipped: 4,
            skipped_in_a_row: 2,
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<LearnerState>(&text).unwrap(), state);
    }
}
