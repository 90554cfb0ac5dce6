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
    (block(), block(), 0..5usize, 0..4usize).prop_map(|(q_block, k_block, set, bias)| Kind {
        q_block,
        k_block,
        set,
        bias,
    })
}

impl Kind {
    /// Over the positions of `span`, and some more. Sets: 0: everything; 1: a window, other in each head; 2:
    /// that and the first blocks; else: pairs at random, few or many.
    pub fn pattern(&self, heads: usize, causal: bool, span: Span, seed: u64) -> Pattern {
        let (q_end, k_end) = (span.q_start + span.n_q, span.k_start + span.n_k);
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
            _ => !random(head % 2, i, j).is_multiple_of(5),
        })
        .unwrap()
        .into()
    }

    /// 0: none; 1: for all batch entries; 2: for each; 3: that, and some blocks are hidden.
    pub fn bias(&self, pattern: &Pattern, batch: usize, seed: u64) -> Option<Vec<f64>> {
        let Pattern::Blocks(mask) = pattern else {
            return None;
        };
        let mut random = Random(!seed);
        let entries = match self.bias {
            0 => return None,
            1 => 1,
            _ => batch,
        };
        let values = (0..entries * mask.blocks()).map(|_| {
            let value = f64::from(3.0 * random.uniform() as f32);
            if self.bias == 3 && random.next().is_multiple_of(5) {
                f64::NEG_INFINITY
            } else {
                value
            }
        });
        Some(values.collect())
    }
}
