//! The unit of work of a schedule.

use std::ops::Range;

/// `len` indices from `first` on, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progression {
    /// The first index.
    pub first: usize,
    /// The distance between neighbours.
    pub step: usize,
    /// How many there are.
    pub len: usize,
}

impl Progression {
    /// One past the last index, or the first if there are none.
    pub fn end(&self) -> usize {
        match self.len {
            0 => self.first,
            len => self.first + (len - 1) * self.step + 1,
        }
    }

    /// Of those of its indices that are not below `index`, the number of the first; at most `len`.
    pub(crate) fn lower_bound(&self, index: usize) -> usize {
        let steps = index.saturating_sub(self.first).div_ceil(self.step);
        steps.min(self.len)
    }

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// Rows of the query tensor.
    pub q: Progression,
    /// Rows of the key and value tensors.
    pub k: Progression,
    /// `None`: every row sees every key. `Some(d)`: row `a` sees keys `0..=a + d`.
    pub diagonal: Option<usize>,
}

impl Run {
    /// The run of rows and keys on positions with one step, or `None` if no row sees anything. If `causal`,
    /// rows see keys up to their own position.
    pub(crate) fn cut(q: Progression, k: Progression, causal: bool) -> Option<Self> {
        let (mut q, mut k) = (q, k);
        if q.len == 0 || k.len == 0 {
            return None;
        }
        let mut diagonal = None;
        if causal {
            // Rows before the first key see nothing; keys after the last row are not seen.
            let early = k.first.saturating_sub(q.first).div_ceil(q.step);
            if early >= q.len {
                return None;
            }
            q = q.slice(early..q.len);
            let d = (q.first - k.first) / q.step;
            k.len = k.len.min(q.len + d);
            // A diagonal that cuts nothing is no diagonal.
            diagonal = (d + 1 < k.len).then_some(d);
        }
        Some(Self { q, k, diagonal })
    }

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
