//! How sparse attention is.

use crate::{BlockMask, Run, Schedule};

impl Schedule {
    /// The pairs that dense attention over the same positions visits, over all heads: all of them, or those
    /// that causality leaves.
    pub fn possible_pairs(&self) -> u64 {
        let span = self.span();
        let run = Run::cut(span.queries(), span.keys(), self.is_causal());
        self.heads() as u64 * run.map_or(0, |run| run.pairs())
    }

    /// Visited pairs over those that dense attention visits, 0 where there are none. Pairs that several
    /// branches see count as often.
    pub fn density(&self) -> f64 {
        ratio(self.visited_pairs(), self.possible_pairs())
    }
}

impl BlockMask {
    /// Listed blocks over those that could be listed: all of the grid, or those that do not lie wholly in the
    /// future. 0 where there are none.
    pub fn block_density(&self) -> f64 {
        let grid = self.grid();
        let row = |i| grid.visible(i, self.is_causal()) as u64;
        let possible: u64 = (0..grid.q_blocks).map(row).sum();
        ratio(self.blocks() as u64, self.heads() as u64 * possible)
    }
}

fn ratio(part: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        all => part as f64 / all as f64,
    }
}
