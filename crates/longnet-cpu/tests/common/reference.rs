//! Dense attention in f64, straight from the definition: softmax over the multiset of visible keys.

use super::{Case, Inputs};
use longnet_pattern::{DilatedPattern, MixGradient, Pattern, Tail, labels_match};

pub struct Tensor {
    pub data: Vec<f64>,
    pub shape: [usize; 4],
}

impl Tensor {
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self {
            data: vec![0.0; shape.iter().product()],
            shape,
        }
    }

    /// The four indices of element `i`.
    pub fn index(&self, i: usize) -> [usize; 4] {
        let [_, heads, rows, width] = self.shape;
        [
            i / width / rows / heads,
            i / width / rows % heads,
            i / width % rows,
            i % width,
        ]
    }

    pub fn row(&self, b: usize, h: usize, i: usize) -> &[f64] {
        let start = ((b * self.shape[1] + h) * self.shape[2] + i) * self.shape[3];
        &self.data[start..start + self.shape[3]]
    }

    fn add(&mut self, [b, h, i]: [usize; 3], c: f64, x: &[f64]) {
        let start = ((b * self.shape[1] + h) * self.shape[2] + i) * self.shape[3];
        for (to, x) in self.data[start..].iter_mut().zip(x) {
            *to += c * x;
        }
    }
}

pub struct Results {
    pub out: Vec<f64>,
    pub lse: Vec<f64>,
    pub dq: Vec<f64>,
    pub dk: Vec<f64>,
    pub dv: Vec<f64>,
    pub dbias: Vec<f64>,
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Whether `branch` lets `i` see `j`: positions.
fn sees(p: &DilatedPattern, branch: usize, head: usize, i: usize, j: usize) -> bool {
    let w = p.branches()[branch].segment;
    i / w == j / w
        && p.covers(branch, head, i)
        && p.covers(branch, head, j)
        && (!p.is_causal() || j <= i)
}

/// The zero keys that torchscale's padding adds to row `i`.
fn zero_keys(p: &DilatedPattern, branch: usize, head: usize, i: usize, n: usize) -> f64 {
    if p.tail() == Tail::Masked || p.is_causal() || !p.covers(branch, head, i) {
        return 0.0;
    }
    let (w, r) = (p.branches()[branch].segment, p.branches()[branch].dilation);
    let (g, o) = (w.min(n), p.offset(branch, head).unwrap());
    let padded = |t: &usize| *t >= g || i / g * g + t >= n;
    (0..g.div_ceil(r)).map(|l| l * r + o).filter(padded).count() as f64
}

/// The results, and beside them sums of the absolute values of the gradients' terms: where terms
/// cancel these say what precision can be asked for.
pub fn reference(case: &Case, x: &Inputs) -> (Results, Results) {
    let (heads, span) = (case.pattern.heads(), case.span);
    let (group, mut lse) = (heads / case.kv_heads, Vec::new());
    let branches = match &case.pattern {
        Pattern::Dilated(p) => p.branches().len(),
        _ => 1,
    };
    let sees = |branch: usize, h: usize, i: usize, j: usize| match &case.pattern {
        Pattern::Dilated(p) => sees(p, branch, h, i, j),
        other => other.multiplicity(h, i, j) == 1,
    };
    let zeros_of = |branch: usize, h: usize, i: usize| match &case.pattern {
        Pattern::Dilated(p) => zero_keys(p, branch, h, i, span.n_k),
        _ => 0.0,
    };
    // The place of the block of a pair in the bias.
    let place = |b: usize, h: usize, i: usize, j: usize| {
        let (bias, Pattern::Blocks(mask)) = (case.bias.as_ref()?, &case.pattern) else {
            return None;
        };
        let index = mask.bias_index(h, i / mask.grid().q_block, j / mask.grid().k_block)?;
        Some(
            index
                + if bias.len() == mask.blocks() {
                    0
                } else {
                    b * mask.blocks()
                },
        )
    };
    let none = || vec![0.0; case.bias.as_ref().map_or(0, Vec::len)];
    let (mut dbias, mut size_bias) = (none(), none());
    let zeros = |t: &Tensor| Tensor::zeros(t.shape);
    let (mut out, mut size_out) = (zeros(&x.dout), zeros(&x.dout));
    let [
        [mut dq, mut dk, mut dv],
        [mut size_q, mut size_k, mut size_v],
    ] = [(); 2].map(|_| [zeros(&x.q), zeros(&x.k), zeros(&x.v)]);
    let abs = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
    for b in 0..case.batch {
        for h in 0..heads {
            for a in 0..span.n_q {
                let (i, kv) = (span.queries().at(a), h / group);
                let (q, dout) = (x.q.row(b, h, a), x.dout.row(b, h, a));
                let dlse = x.dlse[lse.len()];
                let visible = |c: usize| {
                    case.labels
                        .as_ref()
                        .is_none_or(|(q, k)| labels_match(q[b * span.n_q + a], k[b * span.n_k + c]))
                };
                // (branch, key, score, dropout factor, place in the bias)
                let mut pairs = Vec::new();
                for c in (0..span.n_k).filter(|&c| visible(c)) {
                    let j = span.keys().at(c);
                    let factor = case.dropout.map_or(1.0, |d| d.factor(b, heads, h, i, j));
                    let place = place(b, h, i, j);
                    let bias = place.map_or(0.0, |at| case.bias.as_ref().unwrap()[at]);
                    if bias == f64::NEG_INFINITY {
                        continue;
                    }
                    for branch in (0..branches).filter(|&branch| sees(branch, h, i, j)) {
                        let score = case.scale * dot(q, x.k.row(b, kv, c)) + bias;
                        pairs.push((branch, c, score, factor, place));
                    }
                }
                let zero: Vec<f64> = (0..branches).map(|branch| zeros_of(branch, h, i)).collect();
                let zero_sum: f64 = zero.iter().sum();
                let top = pairs.iter().map(|p| p.2).fold(f64::NEG_INFINITY, f64::max);
                let top = if zero_sum > 0.0 { top.max(0.0) } else { top };
                let sum: f64 = pairs.iter().map(|p| (p.2 - top).exp()).sum::<f64>();
                let total = sum
                    + if zero_sum > 0.0 {
                        zero_sum * (-top).exp()
                    } else {
                        0.0
                    };
                if total == 0.0 {
                    lse.push(f64::NEG_INFINITY);
                    continue;
                }
                let l = top + total.ln();
                lse.push(l);
                for &(_, c, s, factor, _) in &pairs {
                    let v = x.v.row(b, kv, c);
                    out.add([b, h, a], (s - l).exp() * factor, v);
                    size_out.add([b, h, a], (s - l).exp() * factor, &abs(v));
                }
                let own_output = |branch: usize| {
                    let (mut weight, mut sum) = (zero[branch] * (-l).exp(), 0.0);
                    for &(_, c, s, factor, _) in pairs.iter().filter(|p| p.0 == branch) {
                        weight += (s - l).exp();
                        sum += (s - l).exp() * factor * dot(dout, x.v.row(b, kv, c));
                    }
                    sum / weight
                };
                let exact = dot(dout, out.row(b, h, a)) - dlse;
                for &(branch, c, s, factor, place) in &pairs {
                    let weight = (s - l).exp();
                    let delta = match case.gradient {
                        MixGradient::Exact => exact,
                        MixGradient::Detached => own_output(branch) - dlse,
                    };
                    let (k, v) = (x.k.row(b, kv, c), x.v.row(b, kv, c));
                    let dp = factor * dot(dout, v);
                    let ds = weight * (dp - delta);
                    let size = weight * (factor * dot(&abs(dout), &abs(v)) + delta.abs());
                    if let Some(at) = place {
                        dbias[at] += ds;
                        size_bias[at] += size;
                    }
                    let (ds, size) = (case.scale * ds, case.scale * size);
                    dv.add([b, kv, c], weight * factor, dout);
                    dq.add([b, h, a], ds, k);
                    dk.add([b, kv, c], ds, q);
                    size_v.add([b, kv, c], weight * factor, &abs(dout));
                    size_q.add([b, h, a], size, &abs(k));
                    size_k.add([b, kv, c], size, &abs(q));
                }
            }
        }
    }
    let results = |[out, dq, dk, dv]: [Tensor; 4], lse: Vec<f64>, dbias: Vec<f64>| Results {
        out: out.data,
        lse,
        dq: dq.data,
        dk: dk.data,
        dv: dv.data,
        dbias,
    };
    let size_lse = lse.iter().map(|l: &f64| l.abs().max(1.0)).collect();
    (
        results([out, dq, dk, dv], lse, dbias),
        results([size_out, size_q, size_k, size_v], size_lse, size_bias),
    )
}
