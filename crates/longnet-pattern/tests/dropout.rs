//! The dropout generator against committed vectors and its own statistics.

use longnet_pattern::{Dropout, dropout::mix};

#[test]
fn the_generator_draws_the_committed_vectors() {
    // Made by an independent implementation of the formulas in Python.
    assert_eq!([0, 1, 2, 0xdead_beef, u32::MAX].map(mix), MIX);
    let dropout = Dropout {
        p: 0.1,
        seed: 0x0123_4567_89ab_cdef,
    };
    assert_eq!(
        [(0, 1, 0), (0, 4, 3), (7, 12, 5)].map(|(b, heads, h)| dropout.key(b, heads, h)),
        KEYS
    );
    let draws = [(0, 0), (5, 3), (1_000_000, 999_999)].map(|(i, j)| Dropout::draw(KEYS[1], i, j));
    assert_eq!(draws, DRAWS);
}

#[test]
fn the_share_of_dropped_pairs_is_p() {
    for p in [0.0, 0.1, 0.5, 1.0] {
        let dropout = Dropout { p, seed: 42 };
        let pairs = (0..300).flat_map(|i| (0..300).map(move |j| (i, j)));
        let dropped = pairs
            .filter(|&(i, j)| dropout.factor(1, 4, 2, i, j) == 0.0)
            .count() as f64
            / 90_000.0;
        assert!((dropped - p).abs() < 0.005, "p = {p}, dropped {dropped}");
    }
}

const MIX: [u32; 5] = [0x0, 0x688990c0, 0xd1132181, 0xe628c683, 0x6768824a];

const KEYS: [u32; 3] = [0x1c62a4a3, 0x911193f, 0x7185ead3];

const DRAWS: [u32; 3] = [0x7241b15, 0x706d7be3, 0xeaa8c722];
