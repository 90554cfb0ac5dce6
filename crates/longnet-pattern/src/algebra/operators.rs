//! `|`, `&` and `-`.

use super::BlockPattern;
use std::ops::{BitAnd, BitOr, Sub};

impl BitOr for BlockPattern {
    type Output = Self;

    /// The union. Of a union and more it is one union.
    fn bitor(self, other: Self) -> Self {
        match self {
            Self::Union(mut of) if !of.is_empty() => {
                of.push(other);
                Self::Union(of)
            }
            first => Self::Union(vec![first, other]),
        }
    }
}

impl BitAnd for BlockPattern {
    type Output = Self;

    /// The intersection. Of an intersection and more it is one intersection.
    fn bitand(self, other: Self) -> Self {
        match self {
            Self::Intersection(mut of) if !of.is_empty() => {
                of.push(other);
                Self::Intersection(of)
            }
            first => Self::Intersection(vec![first, other]),
        }
    }
}

impl Sub for BlockPattern {
    type Output = Self;

    /// The difference.
    fn sub(self, other: Self) -> Self {
        Self::Difference {
            from: Box::new(self),
            without: Box::new(other),
        }
    }
}
