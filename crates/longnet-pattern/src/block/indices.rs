//! Block indices in the smallest type that holds them.

use std::ops::Range;

/// A list of block indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indices<'a> {
    /// Where no index is above 65,535.
    U16(&'a [u16]),
    /// Elsewhere.
    U32(&'a [u32]),
}

impl<'a> Indices<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U16(x) => x.len(),
            Self::U32(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index `at`.
    ///
    /// # Panics
    ///
    /// If `at` is not below the length.
    #[inline]
    pub fn get(&self, at: usize) -> usize {
        match self {
            Self::U16(x) => x[at] as usize,
            Self::U32(x) => x[at] as usize,
        }
    }

    /// Some of them.
    ///
    /// # Panics
    ///
    /// If `range` is outside.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::U16(x) => Self::U16(&x[range]),
            Self::U32(x) => Self::U32(&x[range]),
        }
    }

    /// All of them.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + 'a {
        (0..self.len()).map(move |at| self.get(at))
    }

    /// How many of the first satisfy `below`; the list must be split by it.
    pub fn partition_point(&self, below: impl Fn(usize) -> bool) -> usize {
        match self {
            Self::U16(x) => x.partition_point(|&x| below(x as usize)),
            Self::U32(x) => x.partition_point(|&x| below(x as usize)),
        }
    }
}

/// The same, owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnedIndices {
    U16(Box<[u16]>),
    U32(Box<[u32]>),
}

impl OwnedIndices {
    /// In 16 bits if all are below `count` and that allows it.
    pub fn new(indices: Vec<u32>, count: usize) -> Self {
        if count <= 1 << 16 {
            Self::U16(indices.into_iter().map(|x| x as u16).collect())
        } else {
            Self::U32(indices.into())
        }
    }

    pub fn as_indices(&self) -> Indices<'_> {
        match self {
            Self::U16(x) => Indices::U16(x),
            Self::U32(x) => Indices::U32(x),
        }
    }

    pub fn size_in_bytes(&self) -> usize {
        match self {
            Self::U16(x) => size_of_val(&**x),
            Self::U32(x) => size_of_val(&**x),
        }
    }
}
