//! Dilated attention: LongNet, arXiv 2307.02486, section 2.

use crate::residues::{gcd, zero_keys};
use crate::{Pattern, PatternError};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Lengths and rates up to this keep every position computation inside 64 bits.
pub(crate) const LARGEST: usize = 1 << 48;

/// One segment length with its dilation rate (`w` and `r` of the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Branch {
    /// Segment length in tokens.
    pub segment: usize,
    /// Dilation rate: every `dilation`-th token of a segment takes part.
    pub dilation: usize,
}

impl From<(usize, usize)> for Branch {
    fn from((segment, dilation): (usize, usize)) -> Self {
        Self { segment, dilation }
    }
}

/// Which heads run which branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadAssignment {
    /// Every head runs every branch (the paper).
    #[default]
    All,
    /// Heads are split into as many contiguous groups as there are branches, and each group runs
    /// one branch (dilated-attention-pytorch). The first groups take the remainder.
    Grouped,
}

/// Which residue of a segment a head takes, when every head runs every branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadOffset {
    /// `head mod dilation` (the paper).
    #[default]
    Modulo,
    /// `head div ceil(heads / dilation)` (torchscale).
    ByGroup,
}

/// What happens where a segment is not filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// Positions past the end do not exist.
    #[default]
    Masked,
    /// Non-causal rows see a zero key with a zero value for each padded position, as in
    /// torchscale: for weights that were trained there.
    ZeroKeys,
}

/// A validated dilated pattern. Made by [`DilatedPattern::new`] and [`DilatedBuilder::build`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DilatedPattern {
    /// The heads of the whole pattern that this one has; their numbers decide what they see.
    pub(crate) own: Range<usize>,
    pub(crate) all_heads: usize,
    pub(crate) branches: Vec<Branch>,
    pub(crate) causal: bool,
    pub(crate) assignment: HeadAssignment,
    pub(crate) offset: HeadOffset,
    pub(crate) tail: Tail,
}

/// A dilated pattern whose parts have not been checked yet.
#[derive(Clone, Debug)]
pub struct DilatedBuilder(DilatedPattern);

impl DilatedPattern {
    /// Starts a pattern of `heads` query heads over `branches`, each `(segment, dilation)`.
    ///
    /// Defaults: not causal, [`HeadAssignment::All`], [`HeadOffset::Modulo`], [`Tail::Masked`].
    #[expect(
        clippy::new_ret_no_self,
        reason = "a pattern exists only once it has been checked"
    )]
    pub fn new<B: Into<Branch>>(
        heads: usize,
        branches: impl IntoIterator<Item = B>,
    ) -> DilatedBuilder {
        DilatedBuilder(Self {
            own: 0..heads,
            all_heads: heads,
            branches: branches.into_iter().map(Into::into).collect(),
            causal: false,
            assignment: HeadAssignment::All,
            offset: HeadOffset::Modulo,
            tail: Tail::Masked,
        })
    }

    /// As [`DilatedPattern::new`], from a list of segment lengths and one of dilation rates.
    ///
    /// # Errors
    ///
    /// The lists differ in length.
    pub fn from_lists(
        heads: usize,
        segment_lengths: &[usize],
        dilation_rates: &[usize],
    ) -> Result<DilatedBuilder, PatternError> {
        if segment_lengths.len() != dilation_rates.len() {
            return Err(PatternError::UnequalLists {
                segments: segment_lengths.len(),
                dilations: dilation_rates.len(),
            });
        }
        let branches = segment_lengths
            .iter()
            .copied()
            .zip(dilation_rates.iter().copied());
        Ok(Self::new(heads, branches))
    }

    /// Number of query heads.
    pub fn heads(&self) -> usize {
        self.own.len()
    }

    /// Some heads of this pattern, numbered from 0: each sees what it sees here.
    ///
    /// # Panics
    ///
    /// If there are no such heads.
    pub fn of_heads(&self, heads: Range<usize>) -> Self {
        let (start, end) = (self.own.start + heads.start, self.own.start + heads.end);
        assert!(
            start < end && end <= self.own.end,
            "heads {heads:?} are none of {} heads",
            self.heads()
        );
        Self {
            own: start..end,
            ..self.clone()
        }
    }

    /// The branches, in the order given.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Whether a position sees only itself and earlier ones.
    pub fn is_causal(&self) -> bool {
        self.causal
    }

    /// What happens where a segment is not filled.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The heads that run `branch`.
    pub fn heads_of(&self, branch: usize) -> Range<usize> {
        match self.assignment {
            HeadAssignment::All => 0..self.heads(),
            HeadAssignment::Grouped => {
                let groups = self.branches.len();
                let (size, rest) = (self.all_heads / groups, self.all_heads % groups);
                let start = branch * size + branch.min(rest);
                let end = start + size + usize::from(branch < rest);
                let own = |head: usize| head.clamp(self.own.start, self.own.end) - self.own.start;
                own(start)..own(end)
            }
        }
    }

    /// The residue that `head` takes in the segments of `branch`, or `None` where it sees nothing:
    /// the head does not run the branch, or its offset is not below the segment length.
    pub fn offset(&self, branch: usize, head: usize) -> Option<usize> {
        if !self.heads_of(branch).contains(&head) {
            return None;
        }
        let Branch { segment, dilation } = self.branches[branch];
        let head = self.own.start + head;
        let offset = match (self.assignment, self.offset) {
            (HeadAssignment::Grouped, _) => branch % dilation,
            (HeadAssignment::All, HeadOffset::Modulo) => head % dilation,
            (HeadAssignment::All, HeadOffset::ByGroup) => head / self.all_heads.div_ceil(dilation),
        };
        (offset < segment).then_some(offset)
    }

    /// The same branches with another tail.
    pub fn with_tail(&self, tail: Tail) -> Self {
        Self {
            tail,
            ..self.clone()
        }
    }

    /// How many zero keys position `p` of `head` sees in a sequence of `n`, over all branches: none but with
    /// [`Tail::ZeroKeys`], which causal attention never sees.
    pub fn zero_keys(&self, head: usize, p: usize, n: usize) -> usize {
        if self.tail != Tail::ZeroKeys || self.causal {
            return 0;
        }
        let of = |b: usize| zero_keys(self.branches[b], self.offset(b, head), p, n);
        (0..self.branches.len()).map(of).sum()
    }

    /// The branches as patterns of their own, of which this one is the sum; `None` if no head runs two.
    pub fn branches_apart(&self) -> Option<Vec<Self>> {
        if self.assignment == HeadAssignment::Grouped || self.branches.len() == 1 {
            return None;
        }
        let apart = |&branch: &Branch| Self {
            branches: vec![branch],
            ..self.clone()
        };
        Some(self.branches.iter().map(apart).collect())
    }

    /// Whether position `p` takes part in `branch` for `head`.
    pub fn covers(&self, branch: usize, head: usize, p: usize) -> bool {
        let Branch { segment, dilation } = self.branches[branch];
        self.offset(branch, head) == Some(p % segment % dilation)
    }

    /// How many branches let query position `i` of `head` see key position `j`.
    pub fn multiplicity(&self, head: usize, i: usize, j: usize) -> usize {
        if self.causal && j > i {
            return 0;
        }
        let sees = |&b: &usize| {
            let w = self.branches[b].segment;
            i / w == j / w && self.covers(b, head, i) && self.covers(b, head, j)
        };
        (0..self.branches.len()).filter(sees).count()
    }

    /// Positions in `0..n` that no branch covers for `head`: such rows attend to nothing.
    pub fn uncovered_rows(&self, head: usize, n: usize) -> usize {
        let sees_all = |b: usize| self.branches[b].dilation == 1 && self.offset(b, head).is_some();
        if (0..self.branches.len()).any(sees_all) {
            return 0;
        }
        let covered = |p: usize| (0..self.branches.len()).any(|b| self.covers(b, head, p));
        let count = |rows: Range<usize>| rows.filter(|&p| !covered(p)).count();
        // Coverage repeats with the segments' least common multiple.
        let period = self.period(n);
        if period == 0 {
            return 0;
        }
        count(0..period) * (n / period) + count(0..n % period)
    }

    /// The least common multiple of the segment lengths, or `n` if that is smaller.
    pub(crate) fn period(&self, n: usize) -> usize {
        let lcm = |a: usize, w: usize| (a / gcd(a, w)).saturating_mul(w).min(n.max(1));
        self.branches.iter().map(|b| b.segment).fold(1, lcm).min(n)
    }
}

impl DilatedBuilder {
    /// Whether a position sees only itself and earlier ones. Default: `false`.
    pub fn causal(mut self, causal: bool) -> Self {
        self.0.causal = causal;
        self
    }

    /// Which heads run which branches. Default: [`HeadAssignment::All`].
    pub fn head_assignment(mut self, assignment: HeadAssignment) -> Self {
        self.0.assignment = assignment;
        self
    }

    /// Which residue a head takes. Default: [`HeadOffset::Modulo`].
    pub fn head_offset(mut self, offset: HeadOffset) -> Self {
        self.0.offset = offset;
        self
    }

    /// What happens where a segment is not filled. Default: [`Tail::Masked`].
    pub fn tail(mut self, tail: Tail) -> Self {
        self.0.tail = tail;
        self
    }

    /// Checks the parts.
    ///
    /// # Errors
    ///
    /// No heads, no branches, or a branch whose segment length or dilation rate cannot work.
    pub fn build(self) -> Result<Pattern, PatternError> {
        self.check().map(Pattern::Dilated)
    }

    pub(crate) fn check(self) -> Result<DilatedPattern, PatternError> {
        let pattern = self.0;
        if pattern.all_heads == 0 {
            return Err(PatternError::NoHeads);
        }
        if pattern.branches.is_empty() {
            return Err(PatternError::NoBranches);
        }
        for (branch, &Branch { segment, dilation }) in pattern.branches.iter().enumerate() {
            if !(1..=LARGEST).contains(&segment) {
                return Err(PatternError::Segment {
                    branch,
                    value: segment,
                });
            }
            if !(1..=LARGEST).contains(&dilation) {
                return Err(PatternError::Dilation {
                    branch,
                    value: dilation,
                });
            }
        }
        Ok(pattern)
    }
}
