//! Block masks: which key blocks the queries of a block see, head by head, as compressed lists.
//!
//! ```
//! use longnet_pattern::{BlockGrid, BlockMask, Pattern, Span};
//!
//! // A window of 1024 tokens in blocks of 128, and the first block for all, in 8 heads.
//! let mask = BlockMask::new(8, BlockGrid::square(1 << 20, 128))
//!     .causal(true)
//!     .shared()
//!     .build_from_rows(|_, i, row| {
//!         let window = i.saturating_sub(8)..=i;
//!         row.extend((0..1.min(*window.start())).chain(window));
//!     })?;
//! assert_eq!(mask.tables(), 1);
//! let schedule = Pattern::from(mask).schedule(Span::full(1 << 20))?;
//! assert!(schedule.size_in_bytes() < 1 << 20);
//! # Ok::<(), longnet_pattern::PatternError>(())
//! ```

mod builder;
mod combine;
mod compiled;
mod explain;
mod grid;
mod indices;
mod picture;
mod reach;
mod runs;
mod visit;

pub use builder::BlockBuilder;
pub use grid::BlockGrid;
pub use indices::Indices;
pub use runs::BlockRuns;

use compiled::Compiled;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use visit::Order;

/// A validated block mask: for each head a set of (query block, key block) pairs at fixed positions, and
/// whether causality cuts inside of them. Cheap to clone.
///
/// Heads with equal lists share one *table*. The lists of all tables lie one after the other, in a form
/// that can be copied to a device as it is: an *entry* is a place in [`columns`](Self::columns).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlockMask(Arc<Compiled>, Option<Arc<Order>>);

impl fmt::Debug for BlockMask {
    /// Without the lists, which may be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockMask")
            .field("heads", &self.heads())
            .field("grid", &self.grid())
            .field("causal", &self.is_causal())
            .field("blocks", &self.blocks())
            .field("tables", &self.tables())
            .finish_non_exhaustive()
    }
}

impl BlockMask {
    /// Starts a mask of `heads` query heads over `grid`. Default: not causal.
    #[expect(
        clippy::new_ret_no_self,
        reason = "a mask exists only once it has been checked"
    )]
    pub fn new(heads: usize, grid: BlockGrid) -> BlockBuilder {
        BlockBuilder::new(heads, grid)
    }

    /// Number of query heads.
    pub fn heads(&self) -> usize {
        self.0.table_of.len()
    }

    /// Sizes and numbers of the blocks.
    pub fn grid(&self) -> BlockGrid {
        self.0.grid
    }

    /// Whether a position sees only itself and earlier ones. Blocks that lie wholly in the future are then
    /// not listed.
    pub fn is_causal(&self) -> bool {
        self.0.causal
    }

    /// How many blocks are listed in all heads: the values of a bias.
    pub fn blocks(&self) -> usize {
        self.0.bias_starts[self.heads()] as usize
    }

    /// How many tables the heads share.
    pub fn tables(&self) -> usize {
        self.0.row_starts.len() / (self.grid().q_blocks + 1)
    }

    /// The table of each head.
    pub fn table_of(&self) -> &[u32] {
        &self.0.table_of
    }

    /// Where lists start: the entries of query block `i` of table `t` are those from
    /// `row_starts[t * (q_blocks + 1) + i]` up to the next.
    pub fn row_starts(&self) -> &[u32] {
        &self.0.row_starts
    }

    /// The key block of each entry, ascending within a query block.
    pub fn columns(&self) -> Indices<'_> {
        self.0.columns.as_indices()
    }

    /// The transpose of [`row_starts`](Self::row_starts): what sees key block `j` of table `t` starts at
    /// `column_starts[t * (k_blocks + 1) + j]` of [`rows`](Self::rows).
    pub fn column_starts(&self) -> &[u32] {
        &self.0.column_starts
    }

    /// The query block of each entry of the transpose, ascending within a key block.
    pub fn rows(&self) -> Indices<'_> {
        self.0.rows.as_indices()
    }

    /// For each entry of the transpose its entry in [`columns`](Self::columns).
    pub fn entries(&self) -> &[u32] {
        &self.0.entries
    }

    /// Where the bias of each head starts, and its size at the end. A bias has one value a listed block:
    /// head by head, query block by query block, key blocks ascending. Heads that share a table have
    /// values of their own.
    pub fn bias_starts(&self) -> &[u32] {
        &self.0.bias_starts
    }

    /// The key blocks that query block `i` of `head` sees, ascending.
    pub fn row(&self, head: usize, i: usize) -> Indices<'_> {
        self.columns().slice(self.row_entries(head, i))
    }

    /// The query blocks of `head` that see key block `j`, ascending.
    pub fn column(&self, head: usize, j: usize) -> Indices<'_> {
        self.rows().slice(self.column_entries(head, j..j + 1))
    }

    /// The place of a listed block in a bias.
    pub fn bias_index(&self, head: usize, i: usize, j: usize) -> Option<usize> {
        let row = self.row(head, i);
        let at = row.partition_point(|x| x < j);
        let found = at < row.len() && row.get(at) == j;
        found.then(|| self.bias_of(head, self.row_entries(head, i).start + at))
    }

    /// Whether query position `i` of `head` sees key position `j`.
    pub fn sees(&self, head: usize, i: usize, j: usize) -> bool {
        let BlockGrid {
            q_block,
            k_block,
            q_blocks,
            k_blocks,
        } = self.grid();
        let (row, column) = (i / q_block, j / k_block);
        row < q_blocks
            && column < k_blocks
            && !(self.is_causal() && j > i)
            && self.bias_index(head, row, column).is_some()
    }

    /// Memory of the lists, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        self.0.size_in_bytes()
    }

    /// The entries of query block `i`.
    fn row_entries(&self, head: usize, i: usize) -> Range<usize> {
        let at = self.0.table_of[head] as usize * (self.grid().q_blocks + 1) + i;
        self.0.row_starts[at] as usize..self.0.row_starts[at + 1] as usize
    }

    /// The entries of the transpose of some key blocks.
    fn column_entries(&self, head: usize, columns: Range<usize>) -> Range<usize> {
        let table = self.0.table_of[head] as usize * (self.grid().k_blocks + 1);
        let start = |j: usize| self.0.column_starts[table + j] as usize;
        start(columns.start)..start(columns.end)
    }

    /// The place of an entry in the bias of `head`.
    fn bias_of(&self, head: usize, entry: usize) -> usize {
        let table = self.0.table_of[head] as usize * (self.grid().q_blocks + 1);
        self.0.bias_starts[head] as usize + entry - self.0.row_starts[table] as usize
    }
}
