//! One attention problem: what is computed ([`Problem`]), on which numbers ([`Inputs`]), with
//! which results ([`Outputs`]). Tensors are contiguous host vectors in Burn's order,
//! `[batch, heads, rows, width]`.

use crate::blocks::Blocks;
use crate::dilated::Dilated;
use longnet_pattern::{Pattern, Span};

/// Everything but the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The pattern.
    pub pattern: Dilated,
    /// A block mask in place of the pattern's branches; heads and causality are the pattern's.
    pub blocks: Option<Blocks>,
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
            blocks: None,
            pattern,
        }
    }

    /// The pattern, as the op takes it.
    pub fn op_pattern(&self) -> Pattern {
        match &self.blocks {
            Some(blocks) => blocks.pattern(&self.pattern),
            None => self.pattern.pattern(),
        }
    }

    /// How many branches a pair may be seen by.
    pub fn branches(&self) -> usize {
        match self.blocks {
            Some(_) => 1,
            None => self.pattern.branches.len(),
        }
    }

    /// Whether `branch` lets query position `i` of `head` see key position `j`.
    pub fn sees(&self, branch: usize, head: usize, i: usize, j: usize) -> bool {
        match &self.blocks {
            Some(blocks) => blocks.sees(self.pattern.causal, head, i, j),
            None => self.pattern.sees(branch, head, i, j),
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

    /// What is added to the scores of each listed block.
    pub fn bias(&self) -> Option<&[f64]> {
        self.blocks.as_ref()?.bias.as_deref()
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
            * self.branches()
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
    /// Gradient of the bias, where there is one.
    pub dbias: Vec<f64>,
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
            dbias: vec![0.0; problem.bias().map_or(0, <[f64]>::len)],
        }
    }

    /// The tensors with their names.
    pub fn named(&self) -> [(&'static str, &[f64]); 6] {
        [
            ("out", &self.out),
            ("lse", &self.lse),
            ("dq", &self.dq),
            ("dk", &self.dk),
            ("dv", &self.dv),
            ("dbias", &self.dbias),
        ]
    }
}
