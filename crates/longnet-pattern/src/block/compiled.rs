//! The lists of all tables, one after the other, and their transpose.

use super::BlockGrid;
use super::indices::OwnedIndices;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a mask holds. See the accessors of [`BlockMask`](super::BlockMask).
#[derive(Debug, PartialEq, Eq)]
pub struct Compiled {
    pub grid: BlockGrid,
    pub causal: bool,
    pub table_of: Box<[u32]>,
    pub row_starts: Box<[u32]>,
    pub columns: OwnedIndices,
    pub column_starts: Box<[u32]>,
    pub rows: OwnedIndices,
    pub entries: Box<[u32]>,
    pub bias_starts: Box<[u32]>,
    digest: u64,
}

impl Hash for Compiled {
    /// By what was computed once: masks are keys of caches.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// The lists of one table.
#[derive(Default, PartialEq, Eq, Hash)]
pub struct Table {
    /// Where the list of each query block starts, and the end.
    pub starts: Vec<u32>,
    /// Key blocks.
    pub columns: Vec<u32>,
}

impl Compiled {
    /// From lists that have been checked.
    pub fn new(grid: BlockGrid, causal: bool, table_of: Vec<u32>, tables: &[Table]) -> Self {
        let stored = tables.iter().map(|t| t.columns.len()).sum();
        let mut row_starts = Vec::with_capacity(tables.len() * (grid.q_blocks + 1));
        let mut column_starts = Vec::with_capacity(tables.len() * (grid.k_blocks + 1));
        let (mut columns, mut rows) = (Vec::with_capacity(stored), vec![0; stored]);
        let mut entries = vec![0; stored];
        for table in tables {
            let base = columns.len() as u32;
            row_starts.extend(table.starts.iter().map(|&start| base + start));
            // Counts of each column, then where it starts.
            let mut next = vec![0; grid.k_blocks + 1];
            for &j in &table.columns {
                next[j as usize + 1] += 1;
            }
            next[0] = base;
            for j in 0..grid.k_blocks {
                next[j + 1] += next[j];
            }
            column_starts.extend_from_slice(&next);
            for (i, row) in table.starts.windows(2).enumerate() {
                for entry in row[0]..row[1] {
                    let at = &mut next[table.columns[entry as usize] as usize];
                    rows[*at as usize] = i as u32;
                    entries[*at as usize] = base + entry;
                    *at += 1;
                }
            }
            columns.extend_from_slice(&table.columns);
        }
        let mut bias_starts = vec![0];
        let mut blocks = 0;
        for &table in &table_of {
            blocks += tables[table as usize].columns.len() as u32;
            bias_starts.push(blocks);
        }
        let mut hasher = DefaultHasher::new();
        (grid, causal, &table_of, &row_starts, &columns).hash(&mut hasher);
        let count = grid.q_blocks.max(grid.k_blocks);
        Self {
            grid,
            causal,
            table_of: table_of.into(),
            row_starts: row_starts.into(),
            columns: OwnedIndices::new(columns, count),
            column_starts: column_starts.into(),
            rows: OwnedIndices::new(rows, count),
            entries: entries.into(),
            bias_starts: bias_starts.into(),
            digest: hasher.finish(),
        }
    }

    pub fn size_in_bytes(&self) -> usize {
        let words = [
            &self.table_of,
            &self.row_starts,
            &self.column_starts,
            &self.entries,
            &self.bias_starts,
        ];
        size_of::<Self>()
            + words.iter().map(|x| size_of_val(&***x)).sum::<usize>()
            + self.columns.size_in_bytes()
            + self.rows.size_in_bytes()
    }
}
