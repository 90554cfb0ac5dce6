//! Which pairs LongNet's branches see: arXiv 2307.02486, section 2.2.

use longnet_pattern::{DilatedPattern, HeadAssignment, HeadOffset, Pattern, Tail};

/// A dilated pattern by its definition. Deliberately not a [`Pattern`]: the oracle must not share
/// code with what it checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Dilated {
    /// Query heads.
    pub heads: usize,
    /// Segment length and dilation rate of each branch.
    pub branches: Vec<(usize, usize)>,
    /// Whether a position sees only itself and earlier ones.
    pub causal: bool,
    /// `Grouped` head assignment; else `All`.
    pub grouped: bool,
    /// `ByGroup` head offset; else `Modulo`.
    pub by_group: bool,
    /// `ZeroKeys` tails; else `Masked`.
    pub zero_keys: bool,
}

impl Dilated {
    /// Every head runs every branch, offsets modulo the rate, masked tails.
    pub fn new(heads: usize, branches: &[(usize, usize)], causal: bool) -> Self {
        Self {
            heads,
            branches: branches.to_vec(),
            causal,
            grouped: false,
            by_group: false,
            zero_keys: false,
        }
    }

    /// The branch that `head` runs alone when heads are grouped.
    fn group(&self, head: usize) -> usize {
        let (mut end, count) = (0, self.branches.len());
        (0..count)
            .find(|&group| {
                end += self.heads / count + usize::from(group < self.heads % count);
                head < end
            })
            .expect("the groups hold all heads")
    }

    /// The offset of `head` in `branch`, or `None` where it does not run it.
    pub fn offset(&self, branch: usize, head: usize) -> Option<usize> {
        let rate = self.branches[branch].1;
        if self.grouped {
            (self.group(head) == branch).then_some(branch % rate)
        } else if self.by_group {
            Some(head / self.heads.div_ceil(rate))
        } else {
            Some(head % rate)
        }
    }

    /// Whether `branch` covers position `p` in `head`.
    pub fn covers(&self, branch: usize, head: usize, p: usize) -> bool {
        let (w, r) = self.branches[branch];
        self.offset(branch, head) == Some((p % w) % r)
    }

    /// Whether `branch` lets query position `i` of `head` see key position `j`.
    pub fn sees(&self, branch: usize, head: usize, i: usize, j: usize) -> bool {
        let w = self.branches[branch].0;
        i / w == j / w
            && self.covers(branch, head, i)
            && self.covers(branch, head, j)
            && (!self.causal || j <= i)
    }

    /// `z_b`: the zero keys that `branch` adds to query position `i` of `head`, over `n` positions.
    pub fn zeros(&self, branch: usize, head: usize, i: usize, n: usize) -> usize {
        if !self.zero_keys || self.causal || !self.covers(branch, head, i) {
            return 0;
        }
        let (w, r) = self.branches[branch];
        let (g, o) = (w.min(n), self.offset(branch, head).expect("covered"));
        let segment = i / w;
        (0..g.div_ceil(r))
            .map(|l| l * r + o)
            .filter(|t| *t >= g || segment * g + t >= n)
            .count()
    }

    /// The same as a pattern of `longnet-pattern`.
    pub fn pattern(&self) -> Pattern {
        DilatedPattern::new(self.heads, self.branches.iter().copied())
            .causal(self.causal)
            .head_assignment(if self.grouped {
                HeadAssignment::Grouped
            } else {
                HeadAssignment::All
            })
            .head_offset(if self.by_group {
                HeadOffset::ByGroup
            } else {
                HeadOffset::Modulo
            })
            .tail(if self.zero_keys {
                Tail::ZeroKeys
            } else {
                Tail::Masked
            })
            .build()
            .expect("the configurations are valid")
    }
}
