//! Masks as sets: custom ones, made from functions and tensors, join patterns here.

use super::BlockMask;
use crate::PatternError;
use std::cmp::Ordering;
use std::ops::Range;

impl BlockMask {
    /// The blocks of either mask.
    ///
    /// # Errors
    ///
    /// The masks have different heads, grids or causality.
    pub fn union(&self, other: &Self) -> Result<Self, PatternError> {
        self.combine(other, |here, there| here || there)
    }

    /// The blocks of both masks.
    ///
    /// # Errors
    ///
    /// As [`union`](Self::union).
    pub fn intersection(&self, other: &Self) -> Result<Self, PatternError> {
        self.combine(other, |here, there| here && there)
    }

    /// The blocks of this mask that the other one does not have.
    ///
    /// # Errors
    ///
    /// As [`union`](Self::union).
    pub fn difference(&self, other: &Self) -> Result<Self, PatternError> {
        self.combine(other, |here, there| here && !there)
    }

    /// Some heads of this mask, numbered from 0: each sees what it sees here.
    ///
    /// # Panics
    ///
    /// If there are no such heads.
    pub fn of_heads(&self, heads: Range<usize>) -> Self {
        assert!(
            !heads.is_empty() && heads.end <= self.heads(),
            "heads {heads:?} are none of {} heads",
            self.heads()
        );
        let tables = &self.table_of()[heads.clone()];
        let first = |table| tables.iter().position(|t| t == table);
        let alike: Vec<usize> = tables.iter().filter_map(first).collect();
        let builder = Self::new(heads.len(), self.grid()).causal(self.is_causal());
        let part = builder.build_alike(&alike, |head, i, columns| {
            columns.extend(self.row(heads.start + head, i).iter());
        });
        part.expect("a part of a mask is one")
    }

    fn combine(
        &self,
        other: &Self,
        keep: impl Fn(bool, bool) -> bool,
    ) -> Result<Self, PatternError> {
        for (what, same) in [
            ("heads", self.heads() == other.heads()),
            ("grid", self.grid() == other.grid()),
            ("causality", self.is_causal() == other.is_causal()),
        ] {
            if !same {
                return Err(PatternError::MasksDiffer { what });
            }
        }
        let tables = |head: usize| (self.table_of()[head], other.table_of()[head]);
        let mut first = std::collections::HashMap::new();
        let alike: Vec<usize> = (0..self.heads())
            .map(|head| *first.entry(tables(head)).or_insert(head))
            .collect();
        let builder = Self::new(self.heads(), self.grid()).causal(self.is_causal());
        builder.build_alike(&alike, |head, i, columns| {
            let mut here = self.row(head, i).iter().peekable();
            let mut there = other.row(head, i).iter().peekable();
            loop {
                let order = match (here.peek(), there.peek()) {
                    (None, None) => return,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some(a), Some(b)) => a.cmp(b),
                };
                let column = match order {
                    Ordering::Less => here.next(),
                    Ordering::Greater => there.next(),
                    Ordering::Equal => here.next().and(there.next()),
                };
                if keep(order.is_le(), order.is_ge()) {
                    columns.extend(column);
                }
            }
        })
    }
}
