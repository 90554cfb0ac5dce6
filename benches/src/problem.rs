//! Causal self-attention of one batch entry, over branches or blocks.

use crate::contender::Pass;
use crate::number::Number;
use longnet_pattern::Pattern;
use longnet_pattern::{BlockGrid, BlockMask, BlockPattern, DilatedPattern, Schedule, Sizes, Span};

/// Sizes and branches.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Heads of queries, keys and values.
    pub heads: usize,
    /// Positions.
    pub n: usize,
    /// Head size.
    pub d: usize,
    /// Segment length and dilation rate of each branch; each length divides the longest.
    pub branches: Vec<(usize, usize)>,
    /// Blocks in place of the branches.
    pub mask: Option<BlockMask>,
}

impl Problem {
    /// Every earlier position.
    pub fn dense(heads: usize, n: usize, d: usize) -> Self {
        Self::dilated(heads, n, d, &[(n, 1)])
    }

    /// Dilated attention.
    pub fn dilated(heads: usize, n: usize, d: usize, branches: &[(usize, usize)]) -> Self {
        Self {
            heads,
            n,
            d,
            branches: branches.to_vec(),
            mask: None,
        }
    }

    /// The pairs of a mask.
    pub fn masked(&self, mask: BlockMask) -> Self {
        Self {
            mask: Some(mask),
            ..self.clone()
        }
    }

    /// The mask of a pattern, in blocks of `block`.
    pub fn mask(&self, pattern: &BlockPattern, block: usize) -> BlockMask {
        let grid = BlockGrid::square(self.n, block);
        let mask = pattern.mask(self.heads, grid, true);
        mask.expect("the cases are valid")
    }

    /// Pairs that are not visited, of those that dense causal attention visits.
    pub fn sparsity(&self) -> f64 {
        1.0 - self.schedule(Span::full(self.n)).density()
    }

    /// The same with another number of positions.
    pub fn with_n(&self, n: usize) -> Self {
        Self { n, ..self.clone() }
    }

    /// Length of a tensor.
    pub fn len(&self) -> usize {
        self.heads * self.n * self.d
    }

    /// The shape of a tensor.
    pub fn shape(&self) -> [usize; 4] {
        [1, self.heads, self.n, self.d]
    }

    /// What the kernels walk, for these queries and keys.
    pub fn schedule(&self, span: Span) -> Schedule {
        let pattern = match &self.mask {
            Some(mask) => Ok(Pattern::from(mask.clone())),
            None => DilatedPattern::new(self.heads, self.branches.iter().copied())
                .causal(true)
                .build(),
        };
        pattern
            .and_then(|pattern| pattern.schedule(span))
            .expect("the cases are valid")
    }

    /// Row `row` of `head` in a tensor; `None` if it is empty.
    pub fn row<E: Number>(&self, tensor: &[E], head: usize, row: usize) -> Option<Vec<f64>> {
        let at = (head * self.n + row) * self.d;
        let row = tensor.get(at..at + self.d)?;
        Some(row.iter().map(|x| x.to_f64()).collect())
    }

    /// FLOPs of the visited pairs: two products forward, five backward.
    pub fn flops(&self, pass: Pass) -> f64 {
        let (forward, backward) = self.costs(Span::full(self.n));
        match pass {
            Pass::Forward => forward,
            Pass::Both => forward + backward,
        }
    }

    /// FLOPs of the last row alone.
    pub fn decode_flops(&self) -> f64 {
        self.costs(Span::decode(1, self.n)).0
    }

    fn costs(&self, span: Span) -> (f64, f64) {
        let cost = self.schedule(span).cost(&Sizes {
            batch: 1,
            kv_heads: self.heads,
            d: self.d,
            d_v: self.d,
            bytes_per_element: 4,
        });
        (cost.forward_flops as f64, cost.backward_flops as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_are_those_of_the_visited_pairs() {
        // Positions 0 to 3 see 1, 2, 3, 4 keys in each of 2 heads.
        let problem = Problem::dense(2, 4, 8);
        assert_eq!(problem.flops(Pass::Forward), (2 * 10 * 2 * (8 + 8)) as f64);
        assert_eq!(problem.flops(Pass::Both), (2 * 10 * 7 * 2 * 8) as f64);
        assert_eq!(problem.decode_flops(), (2 * 4 * 2 * (8 + 8)) as f64);
    }
}
