//! A mask in characters.

use super::{Cell, Picture, caption, groups};
use crate::BlockMask;
use std::fmt::Write;

/// Rows and columns of a picture.
const MOST: usize = 64;

impl BlockMask {
    /// Pictures of some heads one below the other, those with the same blocks once: a row a query block, a
    /// column a key block, `#` where the block is full, `+` where it is partial, `.` where it is not listed.
    /// Where there are more than 64 blocks, a character stands for several, and `+` means some of their pairs.
    ///
    /// ```
    /// use longnet_pattern::{BlockGrid, BlockPattern};
    ///
    /// let mask = BlockPattern::longformer(32, 16).mask(2, BlockGrid::square(80, 16), true)?;
    /// let picture = [
    ///     "heads 0, 1: 5 by 5 blocks of 16 by 16 positions",
    ///     "+....",
    ///     "#+...",
    ///     "##+..",
    ///     "#.#+.",
    ///     "#..#+",
    /// ];
    /// assert!(mask.to_text([0, 1]).lines().eq(picture));
    /// # Ok::<(), longnet_pattern::PatternError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a head is not below the number of heads.
    pub fn to_text(&self, heads: impl IntoIterator<Item = usize>) -> String {
        let grid = self.grid();
        let mut text = String::new();
        for heads in groups(self, heads) {
            let picture = Picture::new(self, heads[0], MOST);
            let _ = write!(
                text,
                "{}: {} by {} blocks of {} by {} positions",
                caption(&heads),
                grid.q_blocks,
                grid.k_blocks,
                grid.q_block,
                grid.k_block
            );
            if picture.is_coarse() {
                let (q, k) = (picture.q_step, picture.k_step);
                let _ = write!(text, ", {q} by {k} of them a character");
            }
            text.push('\n');
            for row in &picture.cells {
                text.extend(row.iter().map(|cell| match cell {
                    Cell::None => '.',
                    Cell::Partial { .. } => '+',
                    Cell::Full => '#',
                }));
                text.push('\n');
            }
        }
        text
    }
}
