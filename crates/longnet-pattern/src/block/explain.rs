//! A block mask in words.

use super::{BlockGrid, BlockMask};
use std::fmt::Write;

impl BlockMask {
    pub(crate) fn explain(&self, head: usize, i: usize) -> String {
        let BlockGrid {
            q_block,
            k_block,
            q_blocks,
            ..
        } = self.grid();
        let mut text = format!("head {head}, position {i}\n");
        let row = i / q_block;
        if row >= q_blocks {
            let end = self.grid().q_end();
            let _ = writeln!(text, "  past the {end} positions of the mask: sees nothing");
            return text;
        }
        let (start, list) = (row * q_block, self.row(head, row));
        let _ = write!(
            text,
            "  query block {row} (positions {start}..{}): ",
            start + q_block
        );
        let named: Vec<String> = list.iter().take(4).map(|j| j.to_string()).collect();
        let named = named.join(", ");
        let last = list.iter().next_back();
        let more = match (list.len(), last) {
            (5, Some(last)) => format!(", {last}"),
            (6.., Some(last)) => format!(", ..., {last}"),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{} key blocks of {k_block} positions: {named}{more}",
            list.len()
        );
        let keys = |j: usize| match self.is_causal() {
            true => (i + 1).saturating_sub(j * k_block).min(k_block),
            false => k_block,
        };
        match list.iter().map(keys).sum() {
            0 => text.push_str("  attends to nothing: its output is zero\n"),
            total => {
                let _ = writeln!(text, "  {total} keys in all");
            }
        }
        text
    }

    pub(crate) fn warnings(&self, n: usize) -> Vec<String> {
        let grid = self.grid();
        let mut warnings = Vec::new();
        for (side, end) in [("query", grid.q_end()), ("key", grid.k_end())] {
            if end < n {
                warnings.push(format!(
                    "the {side} blocks of the mask end at position {end} of {n}; make the grid as long as the sequence"
                ));
            }
        }
        for head in 0..self.heads() {
            let rows = self.uncovered_rows(head, n);
            if rows > 0 {
                warnings.push(format!(
                    "head {head}: {rows} of {n} rows see no block and attend to nothing; list the blocks on the diagonal"
                ));
            }
        }
        warnings
    }
}
