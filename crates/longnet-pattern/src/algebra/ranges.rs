//! Sets of key blocks as ranges: a row of a structured pattern has few, however long it is.

use std::ops::Range;

/// Ranges that are not empty, do not touch, and ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<usize>>);

impl Ranges {
    /// One range, or nothing if it is empty.
    pub fn one(range: Range<usize>) -> Self {
        Self(if range.is_empty() {
            Vec::new()
        } else {
            vec![range]
        })
    }

    /// Adds a range that does not start before the last one.
    pub fn push(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if range.start <= last.end => {
                debug_assert!(last.start <= range.start);
                last.end = last.end.max(range.end);
            }
            _ => self.0.push(range),
        }
    }

    /// Of numbers in any order.
    pub fn from_unsorted(mut numbers: Vec<usize>) -> Self {
        numbers.sort_unstable();
        let mut ranges = Self::default();
        numbers.into_iter().for_each(|x| ranges.push(x..x + 1));
        ranges
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.0.iter().cloned()
    }

    /// How many numbers they hold.
    pub fn count(&self) -> usize {
        self.0.iter().map(|range| range.len()).sum()
    }

    /// From the first number to the last.
    pub fn hull(&self) -> Range<usize> {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }

    pub fn contains(&self, x: usize) -> bool {
        let at = self.0.partition_point(|range| range.end <= x);
        self.0.get(at).is_some_and(|range| range.start <= x)
    }

    pub fn union(self, other: Self) -> Self {
        if self.0.is_empty() {
            return other;
        }
        let mut ranges = Self(Vec::with_capacity(self.0.len() + other.0.len()));
        let mut left = self.0.into_iter().peekable();
        let mut right = other.0.into_iter().peekable();
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.start <= b.start => left.next(),
                (Some(_), None) => left.next(),
                _ => right.next(),
            };
            match next {
                Some(range) => ranges.push(range),
                None => return ranges,
            }
        }
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let mut ranges = Self::default();
        let (mut a, mut b) = (0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            ranges.push(x.start.max(y.start)..x.end.min(y.end));
            match x.end < y.end {
                true => a += 1,
                false => b += 1,
            }
        }
        ranges
    }

    pub fn difference(&self, other: &Self) -> Self {
        let mut ranges = Self::default();
        let mut b = 0;
        for x in &self.0 {
            let mut start = x.start;
            while let Some(y) = other.0.get(b).filter(|y| y.start < x.end) {
                ranges.push(start..y.start.min(x.end));
                start = start.max(y.end);
                if y.end > x.end {
                    break;
                }
                b += 1;
            }
            ranges.push(start..x.end);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;
    use proptest::prelude::*;

    fn set(ranges: &Ranges) -> Vec<bool> {
        (0..40).map(|x| ranges.contains(x)).collect()
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(a in prop::collection::vec(any::<bool>(), 40), b in prop::collection::vec(any::<bool>(), 40)) {
            let make = |set: &[bool]| Ranges::from_unsorted((0..40).filter(|&x| set[x]).rev().collect());
            let both = |f: fn(bool, bool) -> bool| (0..40).map(|x| f(a[x], b[x])).collect::<Vec<_>>();
            let (left, right) = (make(&a), make(&b));
            prop_assert_eq!(set(&left), a.clone());
            for (result, expected) in [
                (left.clone().union(right.clone()), both(|x, y| x || y)),
                (left.intersection(&right), both(|x, y| x && y)),
                (left.difference(&right), both(|x, y| x && !y)),
            ] {
                prop_assert_eq!(set(&result), expected.clone());
                prop_assert_eq!(&result, &make(&expected));
                prop_assert_eq!(result.count(), expected.iter().filter(|x| **x).count());
            }
        }
    }
}
