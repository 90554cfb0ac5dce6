//! Which pairs a block mask sees.

use crate::dilated::Dilated;
use longnet_pattern::{BlockGrid, BlockMask, Pattern};

/// A block mask by its definition, in place of a problem's branches. As [`Dilated`], deliberately not
/// the type that is tested.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// Positions of a query and of a key block.
    pub size: [usize; 2],
    /// Whether a query block sees a key block: `[head][query block][key block]`.
    pub set: Vec<Vec<Vec<bool>>>,
    /// What is added to the scores of each listed block, for all batch entries or for each.
    pub bias: Option<Vec<f64>>,
}

impl Blocks {
    /// Whether query position `i` of `head` sees key position `j`.
    pub fn sees(&self, causal: bool, head: usize, i: usize, j: usize) -> bool {
        self.set[head][i / self.size[0]][j / self.size[1]] && (!causal || j <= i)
    }

    /// The blocks that are listed: those of the set that causality does not hide wholly.
    pub fn listed(&self, causal: bool) -> Vec<[usize; 3]> {
        let mut listed = Vec::new();
        for (head, rows) in self.set.iter().enumerate() {
            for (i, row) in rows.iter().enumerate() {
                let last_row = (i + 1) * self.size[0] - 1;
                for (j, set) in row.iter().enumerate() {
                    if *set && (!causal || j * self.size[1] <= last_row) {
                        listed.push([head, i, j]);
                    }
                }
            }
        }
        listed
    }

    /// Where in the bias the block of a pair of positions lies.
    pub fn place(&self, listed: &[[usize; 3]], batch: usize, at: [usize; 3]) -> Option<usize> {
        let bias = self.bias.as_ref()?;
        let [head, i, j] = at;
        let block = [head, i / self.size[0], j / self.size[1]];
        let place = listed.binary_search(&block).ok()?;
        Some(
            place
                + if bias.len() == listed.len() {
                    0
                } else {
                    batch * listed.len()
                },
        )
    }

    /// The same as a pattern of `longnet-pattern`, with the heads and the causality of `dilated`.
    pub fn pattern(&self, dilated: &Dilated) -> Pattern {
        let grid = BlockGrid {
            q_block: self.size[0],
            k_block: self.size[1],
            q_blocks: self.set[0].len(),
            k_blocks: self.set[0].first().map_or(0, Vec::len),
        };
        let mask = BlockMask::new(dilated.heads, grid).causal(dilated.causal);
        let mask = mask.build_from_fn(|head, i, j| self.set[head][i][j]);
        mask.expect("the configurations are valid").into()
    }
}
