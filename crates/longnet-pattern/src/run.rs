//! The unit of work of a schedule.

use std::ops::Range;

/// `len` indices from `first` on, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progression {
    /// The first index.
    pub first: usize,
    /// The distance between neighbours.
    pub step: usize,
    /// How many there are.
    pub len: usize,
}

impl Progression {
    /// The `i`-th index.
    pub fn at(&self, i: usize) -> usize {
        debug_assert!(i < self.len);
        self.first + i * self.step
    }

    /// All indices.
    pub fn iter(self) -> impl ExactSizeIterator<Item = usize> {
        (0..self.len).map(move |i| self.first + i * self.step)
    }

    /// The part of it at `range` of its own numbering.
    pub fn slice(&self, range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= self.len);
        Self {
            first: self.first + range.start * self.step,
            step: self.step,
            len: range.len(),
        }
    }
}

/// An ordinary attention problem on strided rows: row `a` of `q` sees the first [`Run::visible`]`(a)`
/// keys of `k`. The indices are rows of the query and the key tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Rows of the query tensor.
    pub q: Progression,
    /// Rows of the key and value tensors.
    pub k: Progression,
    /// `None`: every row sees every key. `Some(d)`: row `a` sees keys `0..=a + d`.
    pub diagonal: Option<usize>,
}

impl Run {
    /// How many keys row `a` sees: always the first ones, always at least one.
    #[inline]
    pub fn visible(&self, a: usize) -> usize {
        match self.diagonal {
            None => self.k.len,
            Some(d) => (a + d + 1).min(self.k.len),
        }
    }

    /// The first row that sees key `b`: it and all later ones do.
    #[inline]
    pub fn first_row(&self, b: usize) -> usize {
        self.diagonal.map_or(0, |d| b.saturating_sub(d))
    }

    /// How many pairs the run visits.
    pub fn pairs(&self) -> u64 {
        let (rows, keys) = (self.q.len as u64, self.k.len as u64);
        match self.diagonal {
            None => rows * keys,
            Some(d) => {
                // Row a sees a + d + 1 keys until that reaches all of them.
                let growing = rows.min(keys.saturating_sub(d as u64));
                growing * (d as u64 + 1)
                    + growing * growing.saturating_sub(1) / 2
                    + (rows - growing) * keys
            }
        }
    }
}
