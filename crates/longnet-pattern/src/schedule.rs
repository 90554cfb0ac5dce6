//! A pattern over a query range and a key range, in the form that kernels walk.

use crate::dilated::LARGEST;
use crate::{Branch, Pattern, PatternError, Progression, Run, Tail};
use std::ops::Range;
use std::sync::Arc;

/// Which positions the queries and the keys of a problem hold: query row `a` sits at
/// `q_start + a`, key row `b` at `k_start + b`.
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
        }
    }

    fn q_end(&self) -> usize {
        self.q_start + self.n_q
    }

    fn k_end(&self) -> usize {
        self.k_start + self.n_k
    }
}

/// The runs of a pattern over a [`Span`], branch by branch and head by head.
///
/// Closed-form: its size depends on the number of branches and heads only, and any part of it (the
/// runs of some rows, the runs that see some keys) is computed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    span: Span,
    heads: usize,
    causal: bool,
    tail: Tail,
    branches: Arc<[Residues]>,
}

/// One branch, with the residue that each head takes in its segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Residues {
    branch: Branch,
    offsets: Box<[Option<usize>]>,
}

impl Schedule {
    pub(crate) fn new(pattern: &Pattern, span: Span) -> Result<Self, PatternError> {
        for (side, start, len) in [
            ("queries", span.q_start, span.n_q),
            ("keys", span.k_start, span.n_k),
        ] {
            if start.checked_add(len).is_none_or(|end| end > LARGEST) {
                return Err(PatternError::Positions { side, start, len });
            }
        }
        let Pattern::Dilated(dilated) = pattern;
        let tail = dilated.tail;
        if tail == Tail::ZeroKeys && (span.q_start, span.k_start, span.n_q) != (0, 0, span.n_k) {
            return Err(PatternError::ZeroKeysSpan {
                q_start: span.q_start,
                q_end: span.q_end(),
                k_start: span.k_start,
                k_end: span.k_end(),
            });
        }
        let residues = |(b, &branch): (usize, &Branch)| Residues {
            branch,
            offsets: (0..dilated.heads).map(|h| dilated.offset(b, h)).collect(),
        };
        Ok(Self {
            span,
            heads: dilated.heads,
            causal: dilated.causal,
            tail,
            branches: dilated.branches.iter().enumerate().map(residues).collect(),
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

    /// Number of branches.
    pub fn branches(&self) -> usize {
        self.branches.len()
    }

    /// Segment length and dilation rate of `branch`.
    pub fn branch(&self, branch: usize) -> Branch {
        self.branches[branch].branch
    }

    /// The residue that `head` takes in the segments of `branch`; `None` where it sees nothing.
    pub fn offset(&self, branch: usize, head: usize) -> Option<usize> {
        self.branches[branch].offsets[head]
    }

    /// Whether a position sees only itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// What happens where a segment is not filled.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// All runs of `branch` in `head`, in the order of positions. A row is in at most one of them.
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
        debug_assert!(rows.end <= self.span.n_q && keys.end <= self.span.n_k);
        let Residues { branch, offsets } = &self.branches[branch];
        let shift = |r: Range<usize>, start: usize| r.start + start..r.end + start;
        let (q, k) = (
            shift(rows, self.span.q_start),
            shift(keys, self.span.k_start),
        );
        let segments = if q.is_empty() || k.is_empty() {
            0..0
        } else {
            // A run needs both a query and a key in its segment.
            q.start.max(k.start) / branch.segment..(q.end.min(k.end)).div_ceil(branch.segment)
        };
        Runs {
            span: self.span,
            branch: *branch,
            offset: offsets[head],
            causal: self.causal,
            q,
            k,
            segments: if offsets[head].is_some() {
                segments
            } else {
                0..0
            },
        }
    }

    /// How many times query row `a` of `head` sees key row `b`.
    pub fn multiplicity(&self, head: usize, a: usize, b: usize) -> usize {
        let (i, j) = (self.span.q_start + a, self.span.k_start + b);
        if self.causal && j > i {
            return 0;
        }
        let sees = |r: &&Residues| {
            let Branch {
                segment: w,
                dilation,
            } = r.branch;
            i / w == j / w
                && [i, j]
                    .iter()
                    .all(|p| r.offsets[head] == Some(p % w % dilation))
        };
        self.branches.iter().filter(sees).count()
    }

    /// [`Tail::ZeroKeys`]: how many zero keys `branch` adds to query row `a` of `head`.
    pub fn zero_keys(&self, branch: usize, head: usize, a: usize) -> usize {
        let Residues {
            branch: Branch { segment, dilation },
            offsets,
        } = &self.branches[branch];
        let Some(offset) = offsets[head] else {
            return 0;
        };
        if self.tail == Tail::Masked || self.causal || a % segment % dilation != offset {
            return 0;
        }
        let n = self.span.n_k;
        let g = n.min(*segment);
        let filled = g.min(n - a / segment * segment);
        g.div_ceil(*dilation) - filled.saturating_sub(offset).div_ceil(*dilation)
    }

    /// Memory that the schedule takes, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        let offsets: usize = self.branches.iter().map(|r| size_of_val(&*r.offsets)).sum();
        size_of::<Self>() + size_of_val(&*self.branches) + offsets
    }
}

/// An iterator over runs.
#[derive(Clone, Debug)]
pub struct Runs {
    span: Span,
    branch: Branch,
    offset: Option<usize>,
    causal: bool,
    /// Positions of the queries and the keys, and the segments that hold both.
    q: Range<usize>,
    k: Range<usize>,
    segments: Range<usize>,
}

impl Runs {
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

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        while let Some(segment) = self.segments.next() {
            let start = segment * self.branch.segment;
            let (mut q, mut k) = (
                self.on_residue(start, &self.q),
                self.on_residue(start, &self.k),
            );
            if q.len == 0 || k.len == 0 {
                continue;
            }
            let mut diagonal = None;
            if self.causal {
                let step = self.branch.dilation;
                // Rows before the first key see nothing; keys after the last row are not seen.
                let early = k.first.saturating_sub(q.first).div_ceil(step);
                if early >= q.len {
                    continue;
                }
                q = q.slice(early..q.len);
                let d = (q.first - k.first) / step;
                k.len = k.len.min(q.len + d);
                // A diagonal that cuts nothing is no diagonal.
                diagonal = (d + 1 < k.len).then_some(d);
            }
            q.first -= self.span.q_start;
            k.first -= self.span.k_start;
            return Some(Run { q, k, diagonal });
        }
        None
    }
}
