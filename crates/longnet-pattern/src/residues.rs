//! The runs of a dilated branch, in closed form.

use crate::{Branch, Progression, Run, Span};
use std::ops::Range;

/// One branch, with the residue that each head takes in its segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Residues {
    pub branch: Branch,
    pub offsets: Box<[Option<usize>]>,
}

impl Residues {
    /// Whether position `i` of `head` sees position `j`, causality apart.
    pub fn sees(&self, head: usize, i: usize, j: usize) -> bool {
        let Branch {
            segment: w,
            dilation,
        } = self.branch;
        let on_residue = |p: &usize| self.offsets[head] == Some(p % w % dilation);
        i / w == j / w && [i, j].iter().all(on_residue)
    }

    /// How many zero keys row `a` of `head` sees over `n` positions.
    pub fn zero_keys(&self, head: usize, a: usize, n: usize) -> usize {
        let Branch { segment, dilation } = self.branch;
        let Some(offset) = self.offsets[head].filter(|o| a % segment % dilation == *o) else {
            return 0;
        };
        let g = n.min(segment);
        let filled = g.min(n - a / segment * segment);
        g.div_ceil(dilation) - filled.saturating_sub(offset).div_ceil(dilation)
    }
}

/// The runs of a dilated branch.
#[derive(Clone, Debug)]
pub struct ResidueRuns {
    span: Span,
    branch: Branch,
    offset: Option<usize>,
    causal: bool,
    /// Positions of the queries and the keys, and the segments that hold both.
    q: Range<usize>,
    k: Range<usize>,
    segments: Range<usize>,
}

impl ResidueRuns {
    /// `q` and `k` are positions inside of `span`.
    pub fn new(
        residues: &Residues,
        head: usize,
        span: Span,
        causal: bool,
        q: Range<usize>,
        k: Range<usize>,
    ) -> Self {
        let (branch, offset) = (residues.branch, residues.offsets[head]);
        let segments = if offset.is_none() || q.is_empty() || k.is_empty() {
            0..0
        } else {
            // A run needs both a query and a key in its segment.
            q.start.max(k.start) / branch.segment..(q.end.min(k.end)).div_ceil(branch.segment)
        };
        Self {
            span,
            branch,
            offset,
            causal,
            q,
            k,
            segments,
        }
    }

    /// The positions of `range` on the residue of the segment at `start`.
    fn on_residue(&self, start: usize, range: &Range<usize>) -> Progression {
        let Branch {
            segment,
            dilation: step,
        } = self.branch;
        let residue = start + self.offset.expect("a head without offset has no segments");
        let low = range.start.max(start);
        let high = range.end.min(start + segment);
        let first = residue + low.saturating_sub(residue).div_ceil(step) * step;
        Progression {
            first,
            step,
            len: high.saturating_sub(first).div_ceil(step),
        }
    }
}

impl Iterator for ResidueRuns {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        while let Some(segment) = self.segments.next() {
            let start = segment * self.branch.segment;
            let (q, k) = (
                self.on_residue(start, &self.q),
                self.on_residue(start, &self.k),
            );
            if let Some(mut run) = Run::cut(q, k, self.causal) {
                run.q.first -= self.span.q_start;
                run.k.first -= self.span.k_start;
                return Some(run);
            }
        }
        None
    }
}
