//! The runs of a dilated branch, in closed form.

use crate::{Branch, Progression, Run, Span};

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
        zero_keys(self.branch, self.offsets[head], a, n)
    }
}

/// How many zero keys position `p` sees over `n` positions in a head with this offset.
pub(crate) fn zero_keys(branch: Branch, offset: Option<usize>, p: usize, n: usize) -> usize {
    let Branch { segment, dilation } = branch;
    let Some(offset) = offset.filter(|o| p % segment % dilation == *o) else {
        return 0;
    };
    let g = n.min(segment);
    let filled = g.min(n - p / segment * segment);
    g.div_ceil(dilation) - filled.saturating_sub(offset).div_ceil(dilation)
}

/// The runs of a dilated branch.
#[derive(Clone, Debug)]
pub struct ResidueRuns {
    span: Span,
    branch: Branch,
    /// `None` where there are no runs.
    offset: Option<usize>,
    causal: bool,
    /// Positions of the queries and the keys.
    q: Progression,
    k: Progression,
    steps: Steps,
    /// The first segment that has not been looked at.
    segment: usize,
}

/// How the steps of positions and the dilation rate fall together.
#[derive(Clone, Copy, Debug)]
struct Steps {
    /// Their greatest common divisor.
    common: usize,
    /// Every how many positions one is on the residue.
    period: usize,
    /// `inverse * step = common` modulo the rate.
    inverse: usize,
}

impl Steps {
    fn new(step: usize, rate: usize) -> Self {
        let common = gcd(step, rate);
        let period = rate / common;
        Self {
            common,
            period,
            inverse: inverse((step / common) % period.max(1), period),
        }
    }
}

/// The greatest common divisor.
pub(crate) fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `x` with `a * x = 1` modulo `m`; they have no common divisor.
fn inverse(a: usize, m: usize) -> usize {
    let (mut r, mut x) = ((m as i64, a as i64), (0i64, 1i64));
    while r.1 != 0 {
        let quotient = r.0 / r.1;
        r = (r.1, r.0 - quotient * r.1);
        x = (x.1, x.0 - quotient * x.1);
    }
    x.0.rem_euclid(m as i64) as usize
}

impl ResidueRuns {
    /// `q` and `k` are positions of `span`.
    pub fn new(
        residues: &Residues,
        head: usize,
        span: Span,
        causal: bool,
        q: Progression,
        k: Progression,
    ) -> Self {
        let (branch, offset) = (residues.branch, residues.offsets[head]);
        Self {
            span,
            branch,
            offset,
            causal,
            q,
            k,
            steps: Steps::new(span.step, branch.dilation),
            segment: 0,
        }
    }

    /// The positions of `all` on the residue of the segment at `start`.
    fn on_residue(&self, start: usize, offset: usize, all: &Progression) -> Progression {
        let Branch {
            segment,
            dilation: rate,
        } = self.branch;
        let Steps {
            common,
            period,
            inverse,
        } = self.steps;
        let (low, high) = (all.lower_bound(start), all.lower_bound(start + segment));
        let step = all.step * period;
        let none = Progression {
            first: start,
            step,
            len: 0,
        };
        if low == high {
            return none;
        }
        // How far the residue is ahead, modulo the rate: as many steps, if they ever meet it.
        let first = all.at(low);
        let ahead = (start + offset + rate - first % rate) % rate;
        if !ahead.is_multiple_of(common) {
            return none;
        }
        let steps = (ahead / common) as u128 * inverse as u128 % period as u128;
        let at = low + steps as usize;
        match at < high {
            true => Progression {
                first: all.at(at),
                step,
                len: (high - at).div_ceil(period),
            },
            false => none,
        }
    }
}

impl Iterator for ResidueRuns {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let (offset, length) = (self.offset?, self.branch.segment);
        loop {
            // A run needs both a query and a key in its segment.
            let start = self.segment * length;
            let (q, k) = (self.q.lower_bound(start), self.k.lower_bound(start));
            if q == self.q.len || k == self.k.len {
                self.offset = None;
                return None;
            }
            let segment = self.q.at(q).max(self.k.at(k)) / length;
            self.segment = segment + 1;
            let start = segment * length;
            let q = self.on_residue(start, offset, &self.q);
            let k = self.on_residue(start, offset, &self.k);
            if let Some(run) = Run::cut(q, k, self.causal) {
                return Some(self.span.rows(run));
            }
        }
    }
}
