//! Attention and its gradients by their definition: every pair, in f64.

use longnet_pattern::{Dropout, MixGradient, Schedule, Tail, labels_match};

/// What a call is about, beside its tensors.
pub struct Problem {
    /// The pattern over the call's rows.
    pub schedule: Schedule,
    /// Batch entries.
    pub batch: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// Width of queries and keys.
    pub d: usize,
    /// Width of values.
    pub d_v: usize,
    /// The factor of the scores.
    pub scale: f64,
    /// Labels of queries and of keys, a row for each batch entry.
    pub labels: Option<[Vec<i32>; 2]>,
    /// Dropout of weights.
    pub dropout: Option<Dropout>,
    /// How the mix of branches is differentiated.
    pub mix: MixGradient,
    /// Of a block mask: for how many batch entries its blocks have a bias, 0, 1 or all.
    pub biases: usize,
    /// Of a block mask with a bias: the key block that it hides from all, beside some of the others.
    pub hidden: Option<usize>,
}

/// The tensors of a call, each contiguous.
pub struct Inputs {
    /// `[batch, heads, n_q, d]`
    pub q: Vec<f64>,
    /// `[batch, kv_heads, n_k, d]`
    pub k: Vec<f64>,
    /// `[batch, kv_heads, n_k, d_v]`
    pub v: Vec<f64>,
    /// `[batch, heads, n_q, d_v]`
    pub dout: Vec<f64>,
    /// `[batch, heads, n_q]`
    pub dlse: Vec<f64>,
    /// `[biases, blocks]`
    pub bias: Vec<f64>,
}

/// The results of a call, each contiguous.
pub struct Results {
    /// `[batch, heads, n_q, d_v]`
    pub out: Vec<f64>,
    /// `[batch, heads, n_q]`
    pub lse: Vec<f64>,
    /// As `q`.
    pub dq: Vec<f64>,
    /// As `k`.
    pub dk: Vec<f64>,
    /// As `v`.
    pub dv: Vec<f64>,
    /// As `bias`.
    pub dbias: Vec<f64>,
}

/// A pair as one branch sees it.
struct Seen {
    branch: usize,
    key: usize,
    score: f64,
    factor: f64,
    /// The place in the bias, if there is one.
    bias: Option<usize>,
}

impl Problem {
    /// Rows of queries and of keys.
    pub fn rows(&self) -> (usize, usize) {
        let span = self.schedule.span();
        (span.n_q, span.n_k)
    }

    fn sees(&self, branch: usize, head: usize, query: usize, key: usize) -> bool {
        let span = self.schedule.span();
        let (i, j) = (span.q_start + query, span.k_start + key);
        if let Some(mask) = self.schedule.mask() {
            return mask.sees(head, i, j);
        }
        let shape = self.schedule.branch(branch);
        let (segment, rate) = (shape.segment, shape.dilation);
        self.schedule.offset(branch, head).is_some_and(|offset| {
            i / segment == j / segment
                && i % segment % rate == offset
                && j % segment % rate == offset
                && (!self.schedule.is_causal() || j <= i)
        })
    }

    /// The place of a pair's block in the bias.
    fn bias_of(&self, batch: usize, head: usize, query: usize, key: usize) -> Option<usize> {
        let mask = self.schedule.mask().filter(|_| self.biases > 0)?;
        let (span, grid) = (self.schedule.span(), mask.grid());
        let i = (span.q_start + query) / grid.q_block;
        let j = (span.k_start + key) / grid.k_block;
        Some(batch % self.biases * mask.blocks() + mask.bias_index(head, i, j)?)
    }

    /// Forward and backward.
    pub fn solve(&self, inputs: &Inputs) -> Results {
        let (heads, (n_q, n_k)) = (self.schedule.heads(), self.rows());
        let (d, d_v) = (self.d, self.d_v);
        let branches = self.schedule.branches();
        let mut results = Results {
            out: vec![0.0; inputs.dout.len()],
            lse: vec![f64::NEG_INFINITY; inputs.dlse.len()],
            dq: vec![0.0; inputs.q.len()],
            dk: vec![0.0; inputs.k.len()],
            dv: vec![0.0; inputs.v.len()],
            dbias: vec![0.0; inputs.bias.len()],
        };
        for (flat, query) in (0..self.batch * heads).flat_map(|f| (0..n_q).map(move |q| (f, q))) {
            let (batch, head) = (flat / heads, flat % heads);
            let kv = batch * self.kv_heads + head / (heads / self.kv_heads);
            let row = flat * n_q + query;
            let q = &inputs.q[row * d..][..d];
            let dout = &inputs.dout[row * d_v..][..d_v];
            let key_row = |key: usize| kv * n_k + key;
            let value = |key: usize| &inputs.v[key_row(key) * d_v..][..d_v];

            let mut seen = Vec::new();
            for (branch, key) in (0..branches).flat_map(|b| (0..n_k).map(move |k| (b, k))) {
                let hidden = self.labels.as_ref().is_some_and(|[of_q, of_k]| {
                    !labels_match(of_q[batch * n_q + query], of_k[batch * n_k + key])
                });
                if hidden || !self.sees(branch, head, query, key) {
                    continue;
                }
                let span = self.schedule.span();
                let (i, j) = (span.q_start + query, span.k_start + key);
                let factor = self
                    .dropout
                    .as_ref()
                    .map_or(1.0, |dropout| dropout.factor(batch, heads, head, i, j));
                let k = &inputs.k[key_row(key) * d..][..d];
                let bias = self.bias_of(batch, head, query, key);
                if bias.is_some_and(|at| inputs.bias[at] == f64::NEG_INFINITY) {
                    continue;
                }
                seen.push(Seen {
                    branch,
                    key,
                    score: self.scale * dot(q, k) + bias.map_or(0.0, |at| inputs.bias[at]),
                    factor,
                    bias,
                });
            }
            let zeros: Vec<usize> = (0..branches)
                .map(|branch| match self.schedule.tail() {
                    Tail::ZeroKeys => self.schedule.zero_keys(branch, head, query),
                    Tail::Masked => 0,
                })
                .collect();
            let all_zeros: usize = zeros.iter().sum();
            if seen.is_empty() && all_zeros == 0 {
                continue;
            }
            let highest = seen.iter().map(|pair| pair.score).fold(0.0, f64::max);
            let sum: f64 = seen
                .iter()
                .map(|pair| (pair.score - highest).exp())
                .sum::<f64>()
                + all_zeros as f64 * (-highest).exp();
            let lse = highest + sum.ln();
            results.lse[row] = lse;

            let weight = |pair: &Seen| (pair.score - lse).exp();
            let out = &mut results.out[row * d_v..][..d_v];
            for pair in &seen {
                add(out, weight(pair) * pair.factor, value(pair.key));
            }
            // What each branch's pairs subtract.
            let deltas: Vec<f64> = (0..branches)
                .map(|branch| {
                    let gain = match self.mix {
                        MixGradient::Exact => dot(dout, out),
                        MixGradient::Detached => {
                            let own = || seen.iter().filter(|pair| pair.branch == branch);
                            let sum: f64 = own().map(weight).sum::<f64>()
                                + zeros[branch] as f64 * (-lse).exp();
                            let weighted: f64 = own()
                                .map(|pair| weight(pair) * pair.factor * dot(dout, value(pair.key)))
                                .sum();
                            if sum > 0.0 { weighted / sum } else { 0.0 }
                        }
                    };
                    gain - inputs.dlse[row]
                })
                .collect();
            for pair in &seen {
                let at = key_row(pair.key);
                let gain = pair.factor * dot(dout, value(pair.key)) - deltas[pair.branch];
                if let Some(at) = pair.bias {
                    results.dbias[at] += weight(pair) * gain;
                }
                let slope = self.scale * weight(pair) * gain;
                let k = &inputs.k[at * d..][..d];
                add(&mut results.dq[row * d..][..d], slope, k);
                add(&mut results.dk[at * d..][..d], slope, q);
                let share = weight(pair) * pair.factor;
                add(&mut results.dv[at * d_v..][..d_v], share, dout);
            }
        }
        results
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(into: &mut [f64], factor: f64, row: &[f64]) {
    for (into, x) in into.iter_mut().zip(row) {
        *into += factor * x;
    }
}
