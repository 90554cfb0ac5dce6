//! Dense attention in f64 on the host, out of the pattern's multiplicities alone, and as exact as a plain
//! implementation in 16 bits is.

use longnet_pattern::{Dropout, MixGradient, Schedule, labels_match};

/// A call, its tensors as the device sees them: rounded already.
pub struct Problem {
    pub schedule: Schedule,
    pub batch: usize,
    pub kv_heads: usize,
    pub d: usize,
    pub d_v: usize,
    pub scale: f64,
    pub labels: Option<(Vec<i32>, Vec<i32>)>,
    pub dropout: Option<Dropout>,
    pub mix: MixGradient,
    /// f32 `[batch, blocks]`.
    pub bias: Option<Vec<f64>>,
    pub q: Vec<f64>,
    pub k: Vec<f64>,
    pub v: Vec<f64>,
    pub dout: Vec<f64>,
    pub dlse: Vec<f64>,
}

/// What the kernels are held to.
pub struct Expected {
    pub out: Vec<f64>,
    pub lse: Vec<f64>,
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
    /// `[batch, blocks]`, empty without a bias.
    pub dbias: Vec<f64>,
}

/// What is rounded to the tensors' type on the way, for the errors of a plain implementation.
pub type Rounding = fn(f64) -> f64;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Problem {
    pub fn heads(&self) -> usize {
        self.schedule.heads()
    }

    /// In f64 but for weights and their gradients, which `round` has as a plain implementation would: before
    /// they are multiplied with values, keys and queries, and results at the end.
    pub fn solve(&self, round: Rounding) -> Expected {
        let span = self.schedule.span();
        let (n_q, n_k, d, d_v) = (span.n_q, span.n_k, self.d, self.d_v);
        let (heads, branches) = (self.heads(), self.schedule.branches());
        let mut result = Expected {
            out: vec![0.0; self.batch * heads * n_q * d_v],
            lse: vec![f64::NEG_INFINITY; self.batch * heads * n_q],
            dq: vec![0.0; self.batch * heads * n_q * d],
            dk: vec![0.0; self.batch * self.kv_heads * n_k * d],
            dv: vec![0.0; self.batch * self.kv_heads * n_k * d_v],
            dbias: vec![0.0; self.bias.as_ref().map_or(0, Vec::len)],
        };
        for b in 0..self.batch {
            for h in 0..heads {
                let group = h / (heads / self.kv_heads);
                for i in 0..n_q {
                    let at = (b * heads + h) * n_q + i;
                    let q = &self.q[at * d..][..d];
                    let dout = &self.dout[at * d_v..][..d_v];
                    let key = |j: usize| ((b * self.kv_heads + group) * n_k + j) * d;
                    let value = |j: usize| ((b * self.kv_heads + group) * n_k + j) * d_v;
                    let visible = |j: usize| match &self.labels {
                        Some((q, k)) => labels_match(q[b * n_q + i], k[b * n_k + j]),
                        None => true,
                    };
                    let shown = |j: usize| {
                        let bias = self.bias_at(b, h, i, j);
                        bias.is_none_or(|(_, value)| value != f64::NEG_INFINITY)
                    };
                    let seen: Vec<(usize, usize)> = (0..n_k)
                        .map(|j| (j, self.schedule.multiplicity(h, i, j)))
                        .filter(|&(j, m)| m > 0 && visible(j) && shown(j))
                        .collect();
                    let zeros: Vec<usize> = (0..branches)
                        .map(|branch| self.schedule.zero_keys(branch, h, i))
                        .collect();
                    let scores: Vec<f64> = seen
                        .iter()
                        .map(|&(j, _)| {
                            let bias = self.bias_at(b, h, i, j);
                            let bias = bias.map_or(0.0, |(_, value)| value);
                            self.scale * dot(q, &self.k[key(j)..][..d]) + bias
                        })
                        .collect();
                    let z: usize = zeros.iter().sum();
                    let mut high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    if z > 0 {
                        high = high.max(0.0);
                    }
                    if high == f64::NEG_INFINITY {
                        continue;
                    }
                    let sum: f64 = z as f64 * (-high).exp()
                        + scores
                            .iter()
                            .zip(&seen)
                            .map(|(s, &(_, m))| m as f64 * (s - high).exp())
                            .sum::<f64>();
                    let lse = high + sum.ln();
                    result.lse[at] = lse;
                    let factor = |j: usize| match &self.dropout {
                        Some(dropout) => {
                            dropout.factor(b, heads, h, span.q_start + i, span.k_start + j)
                        }
                        None => 1.0,
                    };
                    let out = &mut result.out[at * d_v..][..d_v];
                    for (s, &(j, m)) in scores.iter().zip(&seen) {
                        let weight = round(m as f64 * (s - lse).exp() * factor(j));
                        for (o, v) in out.iter_mut().zip(&self.v[value(j)..]) {
                            *o += weight * v;
                        }
                    }
                    out.iter_mut().for_each(|o| *o = round(*o));
                    let full = dot(dout, out) - self.dlse[at];
                    // One delta for all branches, or each its own.
                    let deltas: Vec<f64> = (0..branches)
                        .map(|branch| match self.mix {
                            MixGradient::Exact => full,
                            MixGradient::Detached => {
                                let (mut sum, mut weighted) = (0.0, 0.0);
                                for (s, &(j, _)) in scores.iter().zip(&seen) {
                                    if self.in_branch(branch, h, i, j) {
                                        let p = (s - lse).exp();
                                        sum += p;
                                        weighted +=
                                            p * factor(j) * dot(dout, &self.v[value(j)..][..d_v]);
                                    }
                                }
                                sum += zeros[branch] as f64 * (-lse).exp();
                                if sum > 0.0 {
                                    weighted /= sum;
                                }
                                weighted - self.dlse[at]
                            }
                        })
                        .collect();
                    for (s, &(j, m)) in scores.iter().zip(&seen) {
                        let weight = (s - lse).exp();
                        let dweight = factor(j) * dot(dout, &self.v[value(j)..][..d_v]);
                        let ds: f64 = (0..branches)
                            .filter(|&branch| self.in_branch(branch, h, i, j))
                            .map(|branch| weight * (dweight - deltas[branch]))
                            .sum();
                        if let Some((at, _)) = self.bias_at(b, h, i, j) {
                            result.dbias[at] += ds;
                        }
                        let ds = round(ds);
                        let kept = round(m as f64 * weight * factor(j));
                        for (x, q) in q.iter().enumerate().take(d) {
                            result.dq[at * d + x] += self.scale * ds * self.k[key(j) + x];
                            result.dk[key(j) + x] += self.scale * ds * q;
                        }
                        for (x, dout) in dout.iter().enumerate().take(d_v) {
                            result.dv[value(j) + x] += kept * dout;
                        }
                    }
                }
            }
        }
        for gradient in [&mut result.dq, &mut result.dk, &mut result.dv] {
            gradient.iter_mut().for_each(|x| *x = round(*x));
        }
        result
    }

    /// The place and the value of a pair's bias.
    fn bias_at(&self, batch: usize, head: usize, i: usize, j: usize) -> Option<(usize, f64)> {
        let (bias, mask) = (self.bias.as_ref()?, self.schedule.mask()?);
        let (span, grid) = (self.schedule.span(), mask.grid());
        let (i, j) = (span.q_start + i, span.k_start + j);
        let of_head = mask.bias_index(head, i / grid.q_block, j / grid.k_block)?;
        let at = batch * mask.blocks() + of_head;
        Some((at, bias[at]))
    }

    fn in_branch(&self, branch: usize, head: usize, i: usize, j: usize) -> bool {
        if self.schedule.mask().is_some() {
            return self.schedule.multiplicity(head, i, j) > 0;
        }
        let Some(offset) = self.schedule.offset(branch, head) else {
            return false;
        };
        let span = self.schedule.span();
        let (i, j) = (span.q_start + i, span.k_start + j);
        let b = self.schedule.branch(branch);
        i / b.segment == j / b.segment
            && i % b.segment % b.dilation == offset
            && j % b.segment % b.dilation == offset
    }
}

/// The root of the mean square of `got - expected` over that of `expected`.
pub fn error(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let wrong = square(&mut got.iter().zip(expected).map(|(a, b)| a - b));
    (wrong / square(&mut expected.iter().copied()).max(1e-30)).sqrt()
}
