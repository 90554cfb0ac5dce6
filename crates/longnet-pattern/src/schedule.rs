//! A pattern over a query range and a key range, in the form that kernels walk.

use crate::dilated::LARGEST;
use crate::residues::{ResidueRuns, Residues};
use crate::{
    BlockMask, BlockRuns, Branch, DilatedPattern, Pattern, PatternError, Progression, Run, Tail,
};
use std::ops::Range;
use std::sync::Arc;

/// Which positions the queries and the keys of a problem hold: query row `a` sits at
/// `q_start + a * step`, key row `b` at `k_start + b * step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Position of the first query.
    pub q_start: usize,
    /// Number of queries.
    pub n_q: usize,
    /// Position of the first key.
    pub k_start: usize,
    /// Number of keys.
    pub n_k: usize,
    /// How far apart neighbouring rows sit, at least 1: more where a sequence is striped over ranks.
    pub step: usize,
}

impl Span {
    /// Self-attention over a whole sequence of `n` positions.
    pub fn full(n: usize) -> Self {
        Self::cross(n, n)
    }

    /// `n_q` queries and `n_k` keys, both from position 0.
    pub fn cross(n_q: usize, n_k: usize) -> Self {
        Self {
            q_start: 0,
            n_q,
            k_start: 0,
            n_k,
            step: 1,
        }
    }

    /// The last `n_q` positions of `n_k` as queries: decoding.
    ///
    /// # Panics
    ///
    /// If `n_q > n_k`.
    pub fn decode(n_q: usize, n_k: usize) -> Self {
        assert!(
            n_q <= n_k,
            "decoding {n_q} queries needs at least as many keys, got {n_k}"
        );
        Self {
            q_start: n_k - n_q,
            n_q,
            k_start: 0,
            n_k,
            step: 1,
        }
    }

    /// The positions of the queries.
    pub fn queries(&self) -> Progression {
        Progression {
            first: self.q_start,
            step: self.step,
            len: self.n_q,
        }
    }

    /// The positions of the keys.
    pub fn keys(&self) -> Progression {
        Progression {
            first: self.k_start,
            step: self.step,
            len: self.n_k,
        }
    }

    /// One past the last query position.
    pub fn q_end(&self) -> usize {
        self.queries().end()
    }

    /// One past the last key position.
    pub fn k_end(&self) -> usize {
        self.keys().end()
    }

    /// A run on positions as one on rows.
    pub(crate) fn rows(&self, run: Run) -> Run {
        let rows = |positions: Progression, start| Progression {
            first: (positions.first - start) / self.step,
            step: positions.step / self.step,
            len: positions.len,
        };
        Run {
            q: rows(run.q, self.q_start),
            k: rows(run.k, self.k_start),
            ..run
        }
    }
}

/// The runs of a pattern over a [`Span`], branch by branch and head by head.
///
/// Dilated branches are closed-form: their size depends on the number of branches and heads only. A block
/// mask is its lists, shared with the pattern, and one branch. Any part of a schedule (the runs of some
/// rows, the runs that see some keys) is computed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    span: Span,
    heads: usize,
    causal: bool,
    tail: Tail,
    walk: Walk,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Walk {
    Residues(Arc<[Residues]>),
    Blocks(BlockMask),
}

impl Schedule {
    pub(crate) fn new(pattern: &Pattern, span: Span) -> Result<Self, PatternError> {
        let step = span.step;
        if !(1..=LARGEST).contains(&step) {
            return Err(PatternError::Step { value: step });
        }
        for (side, start, len) in [
            ("queries", span.q_start, span.n_q),
            ("keys", span.k_start, span.n_k),
        ] {
            let end = len.checked_mul(step).and_then(|n| n.checked_add(start));
            if end.is_none_or(|end| end > LARGEST + step - 1) {
                return Err(PatternError::Positions { side, start, len });
            }
        }
        match pattern {
            Pattern::Dilated(dilated) => Self::dilated(dilated, span),
            Pattern::Blocks(mask) => Self::blocks(mask, span),
        }
    }

    fn dilated(dilated: &DilatedPattern, span: Span) -> Result<Self, PatternError> {
        let tail = dilated.tail;
        if tail == Tail::ZeroKeys && span != Span::full(span.n_k) {
            return Err(PatternError::ZeroKeysSpan {
                q_start: span.q_start,
                q_end: span.q_end(),
                k_start: span.k_start,
                k_end: span.k_end(),
            });
        }
        let residues = |(b, &branch): (usize, &Branch)| Residues {
            branch,
            offsets: (0..dilated.heads()).map(|h| dilated.offset(b, h)).collect(),
        };
        Ok(Self {
            span,
            heads: dilated.heads(),
            causal: dilated.causal,
            tail,
            walk: Walk::Residues(dilated.branches.iter().enumerate().map(residues).collect()),
        })
    }

    fn blocks(mask: &BlockMask, span: Span) -> Result<Self, PatternError> {
        let grid = mask.grid();
        for (side, len, end, covered) in [
            ("queries", span.n_q, span.q_end(), grid.q_end()),
            ("keys", span.n_k, span.k_end(), grid.k_end()),
        ] {
            if len > 0 && end > covered {
                return Err(PatternError::MaskSpan { side, end, covered });
            }
        }
        Ok(Self {
            span,
            heads: mask.heads(),
            causal: mask.is_causal(),
            tail: Tail::Masked,
            walk: Walk::Blocks(mask.clone()),
        })
    }

    /// The positions of the queries and keys.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Number of query heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Number of branches; 1 of a block mask.
    pub fn branches(&self) -> usize {
        match &self.walk {
            Walk::Residues(branches) => branches.len(),
            Walk::Blocks(_) => 1,
        }
    }

    /// Segment length and dilation rate of `branch`. A block mask has one segment of all positions.
    pub fn branch(&self, branch: usize) -> Branch {
        match &self.walk {
            Walk::Residues(branches) => branches[branch].branch,
            Walk::Blocks(_) => Branch {
                segment: LARGEST,
                dilation: 1,
            },
        }
    }

    /// The residue that `head` takes in the segments of `branch`; `None` where it sees nothing.
    pub fn offset(&self, branch: usize, head: usize) -> Option<usize> {
        match &self.walk {
            Walk::Residues(branches) => branches[branch].offsets[head],
            Walk::Blocks(_) => Some(0),
        }
    }

    /// The block mask, if the pattern is one.
    pub fn mask(&self) -> Option<&BlockMask> {
        match &self.walk {
            Walk::Residues(_) => None,
            Walk::Blocks(mask) => Some(mask),
        }
    }

    /// Whether a position sees only itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// What happens where a segment is not filled.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// All runs of `branch` in `head`. Of a dilated branch they come in the order of positions, and a row is in
    /// at most one of them. Of a block mask a row may be in several, in no order of keys, and neighbouring
    /// blocks are one run where that is exact.
    pub fn runs(&self, branch: usize, head: usize) -> Runs {
        self.query_runs(branch, head, 0..self.span.n_q)
    }

    /// The runs of `branch` in `head`, with query rows in `rows` only and the keys that they see.
    pub fn query_runs(&self, branch: usize, head: usize, rows: Range<usize>) -> Runs {
        debug_assert!(rows.end <= self.span.n_q);
        self.runs_within(branch, head, rows, 0..self.span.n_k)
    }

    /// The transpose: the runs with key rows in `keys` only and the queries that see them.
    pub fn key_runs(&self, branch: usize, head: usize, keys: Range<usize>) -> Runs {
        debug_assert!(keys.end <= self.span.n_k);
        self.runs_within(branch, head, 0..self.span.n_q, keys)
    }

    /// The runs of `branch` in `head`, with query rows in `rows` and key rows in `keys` only.
    pub fn runs_within(
        &self,
        branch: usize,
        head: usize,
        rows: Range<usize>,
        keys: Range<usize>,
    ) -> Runs {
        let (span, [q, k]) = (self.span, self.positions(&rows, &keys));
        Runs(match &self.walk {
            Walk::Residues(branches) => {
                let residues = &branches[branch];
                Walker::Residues(ResidueRuns::new(residues, head, span, self.causal, q, k))
            }
            Walk::Blocks(mask) => {
                assert_eq!(branch, 0, "a block mask has one branch");
                Walker::Blocks(BlockRuns::new(mask, span, head, q, k, true))
            }
        })
    }

    /// The runs of a block mask in `head`, with query rows in `rows` and key rows in `keys` only, one for
    /// each listed block, and the place of the block in a bias. Blocks of which no pair is left are not among
    /// them.
    ///
    /// # Panics
    ///
    /// If the pattern is not a block mask.
    pub fn block_runs(&self, head: usize, rows: Range<usize>, keys: Range<usize>) -> BlockRuns {
        let [q, k] = self.positions(&rows, &keys);
        let mask = self.mask().expect("the runs of blocks need a block mask");
        BlockRuns::new(mask, self.span, head, q, k, false)
    }

    /// All pairs of the query rows `rows` and the key rows `keys` that causality leaves, whatever the pattern.
    pub fn area(&self, rows: Range<usize>, keys: Range<usize>) -> Option<Run> {
        let [q, k] = self.positions(&rows, &keys);
        let run = Run::cut(q, k, self.causal)?;
        Some(self.span.rows(run))
    }

    /// The listed key blocks of query block `i` that are full: every row of the block sees all keys that could
    /// sit in them. Those outside of this range are cut, by causality or by an end of the keys.
    ///
    /// # Panics
    ///
    /// If the pattern is not a block mask.
    pub fn full_columns(&self, i: usize) -> Range<usize> {
        let grid = self.mask().expect("blocks need a block mask").grid();
        let Span {
            q_start,
            k_start,
            n_k,
            step,
            ..
        } = self.span;
        // The nearest positions on both sides where a key is missing or later than the first row.
        let before = (k_start + 1).saturating_sub(step);
        let mut after = k_start + n_k * step;
        if self.causal {
            let block = (i * grid.q_block).max(q_start) - q_start;
            let first_row = q_start + block.div_ceil(step) * step;
            let seen = (first_row + 1).saturating_sub(k_start).div_ceil(step);
            after = after.min(k_start + seen * step);
        }
        let start = before.div_ceil(grid.k_block);
        start..(after / grid.k_block).max(start)
    }

    /// The positions of rows of the query and the key tensor.
    fn positions(&self, rows: &Range<usize>, keys: &Range<usize>) -> [Progression; 2] {
        [
            self.span.queries().slice(rows.clone()),
            self.span.keys().slice(keys.clone()),
        ]
    }

    /// Whether no row of any head sees anything.
    pub fn is_empty(&self) -> bool {
        let mut all = (0..self.branches()).flat_map(|b| (0..self.heads()).map(move |h| (b, h)));
        all.all(|(branch, head)| self.runs(branch, head).next().is_none())
    }

    /// How many times query row `a` of `head` sees key row `b`.
    pub fn multiplicity(&self, head: usize, a: usize, b: usize) -> usize {
        let (i, j) = (self.span.queries().at(a), self.span.keys().at(b));
        let branches = match &self.walk {
            Walk::Residues(branches) => branches,
            Walk::Blocks(mask) => return usize::from(mask.sees(head, i, j)),
        };
        if self.causal && j > i {
            return 0;
        }
        branches.iter().filter(|r| r.sees(head, i, j)).count()
    }

    /// [`Tail::ZeroKeys`]: how many zero keys `branch` adds to query row `a` of `head`.
    pub fn zero_keys(&self, branch: usize, head: usize, a: usize) -> usize {
        match &self.walk {
            Walk::Residues(branches) if self.tail == Tail::ZeroKeys && !self.causal => {
                branches[branch].zero_keys(head, a, self.span.n_k)
            }
            _ => 0,
        }
    }

    /// Memory that the schedule takes, in bytes, with that of the lists that it shares with its pattern.
    pub fn size_in_bytes(&self) -> usize {
        let walk = match &self.walk {
            Walk::Residues(branches) => {
                let offsets: usize = branches.iter().map(|r| size_of_val(&*r.offsets)).sum();
                size_of_val(&**branches) + offsets
            }
            Walk::Blocks(mask) => mask.size_in_bytes(),
        };
        size_of::<Self>() + walk
    }
}

/// An iterator over runs.
#[derive(Clone, Debug)]
pub struct Runs(Walker);

#[derive(Clone, Debug)]
enum Walker {
    Residues(ResidueRuns),
    Blocks(BlockRuns),
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        match &mut self.0 {
            Walker::Residues(runs) => runs.next(),
            Walker::Blocks(runs) => runs.next().map(|(run, _)| run),
        }
    }
}
