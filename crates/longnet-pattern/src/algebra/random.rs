//! Seeded orders of the key blocks of a row.

use crate::dropout::mix;

/// All numbers below a count in an order that a key decides.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    count: usize,
    order: Order,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// A shuffled list: a network on few bits prefers some orders.
    Listed([u8; FEW]),
    /// Any number costs the same, so that drawing a few of many is cheap.
    Computed(Network),
}

/// Up to so many numbers are listed.
const FEW: usize = 64;

impl Shuffle {
    /// The order for a query block of a head.
    pub fn new(count: usize, seed: u64, head: usize, row: usize) -> Self {
        let key = mix(mix(seed as u32 ^ mix(head as u32)) ^ (seed >> 32) as u32);
        let key = mix(key ^ mix(row as u32));
        let order = match count {
            ..=FEW => Order::Listed(shuffled(count, key)),
            _ => Order::Computed(Network::new(count as u64, key)),
        };
        Self { count, order }
    }

    /// The number at a place below the count.
    pub fn at(&self, place: usize) -> usize {
        match &self.order {
            Order::Listed(list) => list[place].into(),
            Order::Computed(network) => network.at(place as u64) as usize,
        }
    }

    /// The numbers in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |place| self.at(place))
    }
}

/// The numbers below a count of few, each place exchanged with one that is not before it.
fn shuffled(count: usize, key: u32) -> [u8; FEW] {
    let mut list = std::array::from_fn(|x| x as u8);
    for place in 0..count {
        let drawn = u64::from(mix(key.wrapping_add(place as u32)));
        list.swap(
            place,
            place + ((drawn * (count - place) as u64) >> 32) as usize,
        );
    }
    list
}

/// A Feistel network on just enough bits, walked until the number is inside: twice on average at most.
#[derive(Clone, Copy, Debug)]
struct Network {
    count: u64,
    /// Bits of the upper and the lower part of a number.
    bits: [u32; 2],
    keys: [u32; 8],
}

impl Network {
    fn new(count: u64, key: u32) -> Self {
        let bits = u64::BITS - (count - 1).leading_zeros();
        Self {
            count,
            bits: [bits / 2, bits - bits / 2],
            keys: std::array::from_fn(|round| mix(key.wrapping_add(round as u32))),
        }
    }

    fn at(&self, place: u64) -> u64 {
        let mut x = place;
        loop {
            x = self.permute(x);
            if x < self.count {
                return x;
            }
        }
    }

    fn permute(&self, x: u64) -> u64 {
        let [high, low] = self.bits;
        let mask = |bits: u32| (1u64 << bits) - 1;
        let (mut left, mut right) = (x >> low, x & mask(low));
        // The parts change places in each round, so in an even number of rounds each is as wide as before.
        for (round, key) in self.keys.iter().enumerate() {
            let width = if round % 2 == 0 { high } else { low };
            let drawn = u64::from(mix(key ^ mix(right as u32)));
            (left, right) = (right, left ^ (drawn & mask(width)));
        }
        left << low | right
    }
}

#[cfg(test)]
mod tests {
    use super::Shuffle;

    #[test]
    fn every_number_comes_once() {
        for count in (1..70).chain([255, 256, 257, 1000, 8192]) {
            let mut seen = vec![false; count];
            for x in Shuffle::new(count, 3, 1, 2).iter() {
                assert!(!std::mem::replace(&mut seen[x], true));
            }
            assert!(seen.iter().all(|x| *x));
        }
    }

    #[test]
    fn neighbouring_rows_heads_and_seeds_have_nothing_to_do_with_each_other() {
        for count in [7, 16, 100] {
            let first = |seed, head, row| Shuffle::new(count, seed, head, row).at(0);
            let rows = 500 * count;
            for next in [|row| (5, 0, row + 1), |row| (5, 1, row), |row| (6, 0, row)] {
                let alike = |row: &usize| {
                    let (seed, head, other) = next(*row);
                    first(5, 0, *row) == first(seed, head, other)
                };
                let alike = (0..rows).filter(alike).count();
                // Six standard deviations of a count of 500.
                assert!(alike.abs_diff(500) < 135, "{count}: {alike}");
            }
        }
    }

    #[test]
    fn any_number_and_any_pair_comes_first_with_the_same_chance() {
        // Pairs of many numbers are told apart by their distance only.
        for (count, by) in [
            (2, 2),
            (3, 3),
            (4, 4),
            (5, 5),
            (9, 9),
            (64, 1),
            (65, 1),
            (100, 1),
            (1000, 1),
        ] {
            let mut numbers = vec![0u32; count];
            let mut pairs = vec![0u32; count * by];
            let rows = 1000 * count * by;
            for row in 0..rows {
                let shuffle = Shuffle::new(count, 11, 0, row);
                let (first, second) = (shuffle.at(0), shuffle.at(1));
                numbers[first] += 1;
                pairs[(second + count - first) % count * by + first % by] += 1;
            }
            // Six standard deviations of a mean.
            let near = |x: u32, mean: f64| (f64::from(x) - mean).abs() < 6.0 * mean.sqrt();
            let mean = rows as f64 / count as f64;
            assert!(
                numbers.iter().all(|x| near(*x, mean)),
                "{count}: {numbers:?}"
            );
            let (same, different) = pairs.split_at(by);
            assert!(same.iter().all(|x| *x == 0));
            let mean = mean / by as f64 * count as f64 / (count - 1) as f64;
            assert!(
                different.iter().all(|x| near(*x, mean)),
                "{count}: {pairs:?}"
            );
        }
    }
}
