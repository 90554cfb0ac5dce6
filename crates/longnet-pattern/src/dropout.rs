//! Attention dropout, the same pair by pair on every backend: a counter-based generator in 32-bit
//! arithmetic.

/// Drops attention weights with probability [`p`](Self::p).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a weight is dropped, in `0..=1`.
    pub p: f64,
    /// One seed a layer and step.
    pub seed: u64,
}

/// A 32-bit finaliser with full avalanche.
#[inline]
pub fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

impl Dropout {
    /// The key of batch entry `batch` and query head `head` of `heads`.
    #[inline]
    pub fn key(&self, batch: usize, heads: usize, head: usize) -> u32 {
        let (low, high) = (self.seed as u32, (self.seed >> 32) as u32);
        mix(mix(low ^ mix((batch * heads + head) as u32)) ^ high)
    }

    /// The uniform number of a pair of positions under `key`.
    #[inline]
    pub fn draw(key: u32, i: usize, j: usize) -> u32 {
        mix(mix(key.wrapping_add(i as u32)) ^ mix(j as u32))
    }

    /// A pair is kept iff its draw is at least this.
    #[inline]
    pub fn threshold(&self) -> u64 {
        (self.p * 2f64.powi(32)).floor() as u64
    }

    /// What kept weights are multiplied with: `1 / (1 - p)`, and 0 where nothing is kept.
    pub fn scale(&self) -> f64 {
        if self.p < 1.0 {
            1.0 / (1.0 - self.p)
        } else {
            0.0
        }
    }

    /// The factor of one pair: 0 or [`scale`](Self::scale). The positions are global.
    pub fn factor(&self, batch: usize, heads: usize, head: usize, i: usize, j: usize) -> f64 {
        let kept = u64::from(Self::draw(self.key(batch, heads, head), i, j)) >= self.threshold();
        if kept { self.scale() } else { 0.0 }
    }
}
