//! Which keys of one rank the queries of another see.

use super::Part;
use crate::{Schedule, Sizes};
use std::collections::HashSet;
use std::ops::Range;

/// Rows of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenRows {
    /// So many, and so all of them.
    All(usize),
    /// These, ascending.
    Some(Vec<u32>),
}

impl SeenRows {
    fn new(seen: &[bool]) -> Self {
        if seen.iter().all(|seen| *seen) {
            return Self::All(seen.len());
        }
        let rows = seen.iter().enumerate().filter(|(_, seen)| **seen);
        Self::Some(rows.map(|(row, _)| row as u32).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::All(rows) => *rows,
            Self::Some(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (all, some) = match self {
            Self::All(rows) => (0..*rows, &[][..]),
            Self::Some(rows) => (0..0, &rows[..]),
        };
        all.chain(some.iter().map(|row| *row as usize))
    }
}

/// The rows of keys and values that a rank sends another: for each kv head those that some query of the receiver sees,
/// in any of the heads that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    heads: Vec<SeenRows>,
    any: SeenRows,
}

impl Exchange {
    /// Bytes of a label, which tells padding and documents apart and travels with its row.
    pub const LABEL_BYTES: usize = 8;

    /// Nothing.
    pub(super) fn nothing(kv_heads: usize) -> Self {
        Self {
            heads: vec![SeenRows::Some(Vec::new()); kv_heads],
            any: SeenRows::Some(Vec::new()),
        }
    }

    /// What `parts` read of a shard of `rows` rows. Takes time in proportion to the rows that runs reach.
    pub(super) fn new(parts: &[Part], kv_heads: usize, rows: usize) -> Self {
        if parts.is_empty() {
            return Self::nothing(kv_heads);
        }
        let mut any = vec![false; rows];
        let heads = (0..kv_heads).map(|kv_head| {
            let mut seen = vec![false; rows];
            for Part { k, schedule, .. } in parts {
                let group = schedule.heads() / kv_heads;
                let heads = kv_head * group..(kv_head + 1) * group;
                mark(schedule, heads, &mut seen[k.clone()]);
            }
            any.iter_mut()
                .zip(&seen)
                .for_each(|(any, seen)| *any |= seen);
            SeenRows::new(&seen)
        });
        Self {
            heads: heads.collect(),
            any: SeenRows::new(&any),
        }
    }

    /// The rows of each kv head.
    pub fn heads(&self) -> &[SeenRows] {
        &self.heads
    }

    /// The rows of any kv head: those whose labels are needed.
    pub fn any(&self) -> &SeenRows {
        &self.any
    }

    /// Whether nothing is sent.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Rows over all kv heads.
    pub fn rows(&self) -> usize {
        self.heads.iter().map(SeenRows::len).sum()
    }

    /// Whether all rows of all kv heads are sent, so that nothing need be picked out.
    pub fn is_whole(&self) -> bool {
        self.heads
            .iter()
            .all(|rows| matches!(rows, SeenRows::All(_)))
    }

    /// Bytes of the keys and values; those of their gradients are as many.
    pub fn bytes(&self, sizes: &Sizes) -> u64 {
        let row = (sizes.d + sizes.d_v) * sizes.bytes_per_element;
        (sizes.batch * self.rows() * row) as u64
    }

    /// Bytes of the labels of the keys.
    pub fn label_bytes(&self, batch: usize) -> u64 {
        (batch * self.any.len() * Self::LABEL_BYTES) as u64
    }
}

/// Marks the keys that some row of `heads` sees: all keys of a run are seen.
fn mark(schedule: &Schedule, heads: Range<usize>, seen: &mut [bool]) {
    let mut known = HashSet::new();
    for branch in 0..schedule.branches() {
        for head in heads.clone() {
            // Heads with the same residue, or the same lists, see the same.
            let class = match schedule.mask() {
                Some(mask) => Some(mask.table_of()[head] as usize),
                None => schedule.offset(branch, head),
            };
            if class.is_none() || !known.insert((branch, class)) {
                continue;
            }
            for run in schedule.runs(branch, head) {
                match run.k.step {
                    1 => seen[run.k.first..run.k.first + run.k.len].fill(true),
                    _ => run.k.iter().for_each(|row| seen[row] = true),
                }
            }
        }
    }
}
