//! One attention problem: what is computed ([`Problem`]), on which numbers ([`Inputs`]), with
//! which results ([`Outputs`]). Tensors are contiguous host vectors in Burn's order,
//! `[batch, heads, rows, width]`.

use longnet_pattern::{DilatedPattern, HeadAssignment, HeadOffset, Pattern, Span, Tail};

/// A dilated pattern, as the definition in SEMANTICS names its parts. Deliberately not a
/// [`Pattern`]: the oracle must not share code with what it checks.
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

/// Everything but the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The pattern.
    pub pattern: Dilated,
    /// Batch entries.
    pub batch: usize,
    /// Key/value heads; divides the query heads.
    pub kv_heads: usize,
    /// Head size of queries and keys.
    pub d: usize,
    /// Head size of values.
    pub d_v: usize,
    /// Which positions the queries and keys hold.
    pub span: Span,
    /// Factor of the scores; `1/sqrt(d)` if `None`.
    pub scale: Option<f64>,
    /// `[batch, n_k]`: keys that are hidden.
    pub hidden: Option<Vec<bool>>,
    /// `[batch, n_q]` and `[batch, n_k]`: document ids.
    pub documents: Option<(Vec<i32>, Vec<i32>)>,
    /// Probability and seed.
    pub dropout: Option<(f64, u64)>,
    /// `Detached` gradient of the mix; else `Exact`.
    pub detached: bool,
}

impl Problem {
    /// Self-attention over `n` positions, one batch entry, without extras.
    pub fn new(pattern: Dilated, n: usize, d: usize) -> Self {
        Self {
            batch: 1,
            kv_heads: pattern.heads,
            d,
            d_v: d,
            span: Span::full(n),
            scale: None,
            hidden: None,
            documents: None,
            dropout: None,
            detached: false,
            pattern,
        }
    }

    /// Shape of q and its gradient.
    pub fn q_shape(&self) -> [usize; 4] {
        [self.batch, self.pattern.heads, self.span.n_q, self.d]
    }

    /// Shape of k and its gradient.
    pub fn k_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.span.n_k, self.d]
    }

    /// Shape of v and its gradient.
    pub fn v_shape(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.span.n_k, self.d_v]
    }

    /// Shape of out and its gradient.
    pub fn out_shape(&self) -> [usize; 4] {
        [self.batch, self.pattern.heads, self.span.n_q, self.d_v]
    }

    /// Shape of lse and its gradient.
    pub fn lse_shape(&self) -> [usize; 3] {
        [self.batch, self.pattern.heads, self.span.n_q]
    }

    /// Whether query row `a` may see key row `b` of batch entry `batch`, by masks and documents.
    pub fn allows(&self, batch: usize, a: usize, b: usize) -> bool {
        let (q, k) = (batch * self.span.n_q + a, batch * self.span.n_k + b);
        !self.hidden.as_ref().is_some_and(|h| h[k])
            && self
                .documents
                .as_ref()
                .is_none_or(|(query, key)| query[q] == key[k])
    }

    /// How much work the problem is: products of the dense form.
    pub fn size(&self) -> usize {
        self.batch
            * self.pattern.heads
            * self.span.n_q
            * self.span.n_k
            * (self.d + self.d_v)
            * self.pattern.branches.len()
    }
}

/// The numbers that go in.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Queries.
    pub q: Vec<f64>,
    /// Keys.
    pub k: Vec<f64>,
    /// Values.
    pub v: Vec<f64>,
    /// Gradient that reaches `out`.
    pub dout: Vec<f64>,
    /// Gradient that reaches `lse`, if any.
    pub dlse: Option<Vec<f64>>,
}

impl Inputs {
    /// All numbers through `round`, so that every implementation reads the same.
    pub fn rounded(mut self, round: impl Fn(f64) -> f64) -> Self {
        let tensors = [&mut self.q, &mut self.k, &mut self.v, &mut self.dout];
        for tensor in tensors.into_iter().chain(&mut self.dlse) {
            tensor.iter_mut().for_each(|x| *x = round(*x));
        }
        self
    }
}

/// The numbers that come out.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// The output.
    pub out: Vec<f64>,
    /// Log of the sum of exponentials, a number a row.
    pub lse: Vec<f64>,
    /// Gradient of the queries.
    pub dq: Vec<f64>,
    /// Gradient of the keys.
    pub dk: Vec<f64>,
    /// Gradient of the values.
    pub dv: Vec<f64>,
}

impl Outputs {
    /// All zero.
    pub fn zeros(problem: &Problem) -> Self {
        let zeros = |shape: [usize; 4]| vec![0.0; shape.iter().product()];
        Self {
            out: zeros(problem.out_shape()),
            lse: vec![0.0; problem.lse_shape().iter().product()],
            dq: zeros(problem.q_shape()),
            dk: zeros(problem.k_shape()),
            dv: zeros(problem.v_shape()),
        }
    }

    /// The tensors with their names.
    pub fn named(&self) -> [(&'static str, &[f64]); 5] {
        [
            ("out", &self.out),
            ("lse", &self.lse),
            ("dq", &self.dq),
            ("dk", &self.dk),
            ("dv", &self.dv),
        ]
    }
}
