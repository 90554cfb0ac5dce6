//! Numbers in random order.

use super::Random;

/// A random order of the numbers below `n`.
pub enum Permutation {
    /// Of few numbers: shuffled, so that every order is as likely as any other.
    Listed(Vec<u64>),
    /// Of many: computed one by one, without memory, by four rounds of a Feistel network over the next
    /// power of 4, walked until it leads back below `n` (at most four times on average).
    Computed { n: u64, half: u32, keys: [u64; 4] },
}

/// The most numbers that are listed.
const LISTED: u64 = 1 << 20;

impl Permutation {
    /// The order of the numbers below `n` that `random` gives.
    pub fn new(n: u64, random: Random) -> Self {
        match n <= LISTED {
            true => Self::listed(n, random),
            false => Self::computed(n, random),
        }
    }

    fn listed(n: u64, mut random: Random) -> Self {
        let mut numbers: Vec<u64> = (0..n).collect();
        random.shuffle(&mut numbers);
        Self::Listed(numbers)
    }

    fn computed(n: u64, mut random: Random) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self::Computed {
            n,
            half: bits.div_ceil(2).max(1),
            keys: [(); 4].map(|()| random.next()),
        }
    }

    /// The number at place `index`. None beyond the last.
    pub fn at(&self, index: u64) -> Option<u64> {
        match self {
            Self::Listed(numbers) => numbers.get(usize::try_from(index).ok()?).copied(),
            Self::Computed { n, half, keys } => {
                let walk = std::iter::successors(Some(index), |&x| Some(feistel(x, *half, keys)));
                let below = |x: &u64| x < n;
                (index < *n).then(|| walk.skip(1).find(below).expect("the walk leads back"))
            }
        }
    }
}

/// A bijection of the numbers of `2 half` bits.
fn feistel(x: u64, half: u32, keys: &[u64; 4]) -> u64 {
    let mask = (1 << half) - 1;
    let (left, right) = keys
        .iter()
        .fold((x >> half, x & mask), |(left, right), key| {
            (right, left ^ (Random::new(right ^ key).next() & mask))
        });
    (left << half) | right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_give_each_number_once_in_an_order_set_by_the_seed() {
        let kinds: [fn(u64, Random) -> Permutation; 2] =
            [Permutation::listed, Permutation::computed];
        for make in kinds {
            for n in [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 5000] {
                let order = |seed| {
                    let permutation = make(n, Random::new(seed));
                    assert_eq!(permutation.at(n), None);
                    let all = (0..n).map(|i| permutation.at(i).unwrap());
                    all.collect::<Vec<u64>>()
                };
                let first = order(1);
                assert_eq!(first, order(1));
                let mut sorted = first.clone();
                sorted.sort_unstable();
                assert!(sorted.into_iter().eq(0..n));
                if n >= 1000 {
                    assert_ne!(first, order(2));
                    // About one number is where it was, and about half of the neighbours rise.
                    let fixed = first.iter().zip(0..).filter(|(x, i)| **x == *i).count();
                    let rises = first.windows(2).filter(|w| w[0] < w[1]).count();
                    assert!(fixed < 8, "{fixed}");
                    let share = rises as f64 / n as f64;
                    assert!((0.45..0.55).contains(&share), "{share}");
                }
            }
        }
    }

    #[test]
    fn many_numbers_take_no_memory() {
        let permutation = Permutation::new(1 << 50, Random::new(3));
        assert!(matches!(permutation, Permutation::Computed { .. }));
        let last = permutation.at((1 << 50) - 1).unwrap();
        assert!(last < 1 << 50);
        assert_eq!(permutation.at(1 << 50), None);
        let largest = Permutation::new(u64::MAX, Random::new(3));
        assert!(largest.at(u64::MAX - 1).unwrap() < u64::MAX);
        assert_eq!(Permutation::new(0, Random::new(3)).at(0), None);
    }
}
