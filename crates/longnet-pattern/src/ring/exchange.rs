//! Which keys of one rank the queries of another see.

use super::Part;
use crate::{Progression, Sizes};
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
    /// Those of `all` rows that are in some of `parts`, in time proportional to their lengths or to `all`, whichever
    /// is less.
    fn new(all: usize, parts: &HashSet<Progression>) -> Self {
        let listed: usize = parts.iter().map(|part| part.len).sum();
        let rows: Vec<u32> = if listed < all / 8 {
            let mut rows: Vec<u32> = parts.iter().flat_map(|part| part.iter()).map(row).collect();
            rows.sort_unstable();
            rows.dedup();
            rows
        } else {
            let mut seen = vec![false; all];
            for part in parts {
                match part.step {
                    1 => seen[part.first..part.end()].fill(true),
                    _ => part.iter().for_each(|row| seen[row] = true),
                }
            }
            if seen.iter().all(|seen| *seen) {
                return Self::All(all);
            }
            (0..all).filter(|&row| seen[row]).map(row).collect()
        };
        Self::Some(rows)
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

    /// What `parts` read of a shard of `rows` rows.
    pub(super) fn new(parts: &[Part], kv_heads: usize, rows: usize) -> Self {
        if parts.is_empty() {
            return Self::nothing(kv_heads);
        }
        let mut all = HashSet::new();
        let heads = (0..kv_heads).map(|kv_head| {
            let mut seen = HashSet::new();
            for part in parts {
                let group = part.schedule.heads() / kv_heads;
                keys_of(part, kv_head * group..(kv_head + 1) * group, &mut seen);
            }
            all.extend(&seen);
            SeenRows::new(rows, &seen)
        });
        let heads: Vec<_> = heads.collect();
        Self {
            any: SeenRows::new(rows, &all),
            heads,
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

fn row(row: usize) -> u32 {
    u32::try_from(row).expect("a shard has less than 2^32 rows")
}

/// The keys that some row of `heads` sees, as rows of the shard: all keys of a run are seen.
fn keys_of(part: &Part, heads: Range<usize>, seen: &mut HashSet<Progression>) {
    let Part { k, schedule, .. } = part;
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
            seen.extend(schedule.runs(branch, head).map(|run| Progression {
                first: k.start + run.k.first,
                ..run.k
            }));
        }
    }
}
