//! Seeded orders of the key blocks of a row.

use crate::dropout::mix;

/// All numbers below a count in an order that a key decides: a Feistel network on just enough bits, walked
/// until it is inside. Each number costs the same, so that drawing a few of many is cheap.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    count: u64,
    /// Bits of half a number.
    half: u32,
    key: u32,
}

impl Shuffle {
    /// The order for a query block of a head.
    pub fn new(count: usize, seed: u64, head: usize, row: usize) -> Self {
        let bits = u64::BITS - (count as u64).saturating_sub(1).leading_zeros();
        let key = mix(mix(seed as u32 ^ mix(head as u32)) ^ (seed >> 32) as u32);
        Self {
            count: count as u64,
            half: bits.div_ceil(2).max(1),
            key: mix(key ^ mix(row as u32)),
        }
    }

    /// The number at a place below the count.
    pub fn at(&self, place: usize) -> usize {
        let mut x = place as u64;
        loop {
            x = self.permute(x);
            if x < self.count {
                return x as usize;
            }
        }
    }

    /// The numbers in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.count as usize).map(move |place| self.at(place))
    }

    fn permute(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for round in 0..4 {
            let drawn = mix(mix(self.key.wrapping_add(round)) ^ mix(right as u32));
            (left, right) = (right, left ^ (u64::from(drawn) & mask));
        }
        left << self.half | right
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
    fn the_first_number_is_any_with_the_same_chance() {
        for count in [2, 3, 5, 16, 100] {
            let mut counts = vec![0u32; count];
            let rows = 2000 * count;
            for row in 0..rows {
                counts[Shuffle::new(count, 11, 0, row).at(0)] += 1;
            }
            // Six standard deviations of a count of 2000.
            assert!(counts.iter().all(|x| x.abs_diff(2000) < 270), "{counts:?}");
        }
    }
}
