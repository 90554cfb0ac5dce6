//! Random block masks, and biases for them.

use super::Random;
use longnet_pattern::{BlockGrid, BlockMask, Pattern, Span};
use proptest::prelude::*;

/// What a mask and its bias are like.
#[derive(Clone, Debug)]
pub struct Kind {
    q_block: usize,
    k_block: usize,
    set: usize,
    bias: usize,
}

pub fn kinds() -> impl Strategy<Value = Kind> {
    let block = || prop_oneof![2 => 1usize..50, 1 => Just(16), 1 => Just(64), 1 => Just(128)];
    (block(), block(), 0..7usize, 0..6usize).prop_map(|(q_block, k_block, set, bias)| Kind {
        q_block,
        k_block,
        set,
        bias,
    })
}

impl Kind {
    /// Over the positions of `span`, and some more. Sets: 0: everything; 1: a window, other in each head; 2:
    /// that and the first blocks; 3, 4: pairs at random, few or many; else: a stretch at random in each row.
    pub fn pattern(&self, heads: usize, causal: bool, span: Span, seed: u64) -> Pattern {
        let (q_end, k_end) = (span.q_end(), span.k_end());
        let grid = BlockGrid::cross(q_end, k_end, self.q_block, self.k_block);
        let random = |head: usize, i: usize, j: usize| {
            let mut random = Random(seed ^ ((head * 1_000_003 + i) * 1_000_003 + j) as u64);
            random.next()
        };
        let window = |head: usize, i: usize, j: usize| {
            let (q, k) = (i * self.q_block, j * self.k_block);
            q.abs_diff(k) <= (head % 2 + 1) * self.k_block.max(self.q_block)
        };
        let mask = BlockMask::new(heads, grid).causal(causal);
        mask.build_from_fn(|head, i, j| match self.set {
            0 => true,
            1 => window(head, i, j),
            2 => i == 0 || j == 0 || window(head, i, j),
            3 => random(head, i, j).is_multiple_of(5),
            4 => !random(head % 2, i, j).is_multiple_of(5),
            _ => {
                let (a, b) = (random(head, i, 0) % 12, random(head, i, 1) % 12);
                (a.min(b)..=a.max(b)).contains(&(j as u64 % 13))
            }
        })
        .unwrap()
        .into()
    }

    /// 0: for all batch entries; 1: for each; 2: that, and some blocks are hidden; else: none.
    pub fn bias(&self, pattern: &Pattern, batch: usize, seed: u64) -> Option<Vec<f64>> {
        let Pattern::Blocks(mask) = pattern else {
            return None;
        };
        let mut random = Random(!seed);
        let entries = match self.bias {
            0 => 1,
            1 | 2 => batch,
            _ => return None,
        };
        let values = (0..entries * mask.blocks()).map(|_| {
            let value = f64::from(3.0 * random.uniform() as f32);
            if self.bias == 2 && random.next().is_multiple_of(5) {
                f64::NEG_INFINITY
            } else {
                value
            }
        });
        Some(values.collect())
    }
}
