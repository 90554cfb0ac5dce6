//! The oracle: attention as its definition says, dense, in f64, one row at a time.
//!
//! `lse_i = ln sum_j m_ij exp(s_ij)`, `out_i = sum_j P_ij c_ij v_j`,
//! `D_i = <dout_i, out_i> - dlse_i`, `dS_ij = P_ij (c_ij <dout_i, v_j> - D_i)`, `dbias = sum dS_ij` over
//! the pairs of a block. Nothing here knows of schedules, runs or blocks. Keys that a row does not see are not read: they may hold NaN.

use crate::problem::{Inputs, Outputs, Problem};

/// What an implementation should give, and on what scale it may err.
pub struct Reference {
    /// The results.
    pub values: Outputs,
    /// The same sums over absolute values: what the results would be if nothing cancelled. The
    /// rounding error of any implementation is proportional to this, not to a result that happens to
    /// cancel.
    pub magnitudes: Outputs,
}

/// One (branch, key) that a row sees: `m` counts how many of them share a key.
struct Visit {
    branch: usize,
    key: usize,
    score: f64,
    keep: f64,
    /// Where the bias of its block lies.
    bias: Option<usize>,
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846ca68b);
    x ^= x >> 16;
    x
}

/// `c_ij` of batch entry `b`, head `h` and positions `i`, `j`.
fn keep(problem: &Problem, b: usize, h: usize, i: usize, j: usize) -> f64 {
    let Some((p, seed)) = problem.dropout else {
        return 1.0;
    };
    let stream = (b * problem.pattern.heads + h) as u32;
    let key = mix(mix(seed as u32 ^ mix(stream)) ^ (seed >> 32) as u32);
    let u = mix(mix(key.wrapping_add(i as u32)) ^ mix(j as u32));
    if f64::from(u) >= (p * 4294967296.0).floor() {
        1.0 / (1.0 - p)
    } else {
        0.0
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn dot_abs(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x * y).abs()).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

fn add_abs(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(t, f)| *t += (factor * f).abs());
}

/// Out, lse and the gradients of q, k, v and the bias.
pub fn attention(problem: &Problem, x: &Inputs) -> Reference {
    let mut reference = Reference {
        values: Outputs::zeros(problem),
        magnitudes: Outputs::zeros(problem),
    };
    let listed = match &problem.blocks {
        Some(blocks) => blocks.listed(problem.pattern.causal),
        None => Vec::new(),
    };
    for b in 0..problem.batch {
        for h in 0..problem.pattern.heads {
            for a in 0..problem.span.n_q {
                row(problem, x, &listed, [b, h, a], &mut reference);
            }
        }
    }
    reference
}

/// The visits of query row `a` and the zero keys of each branch.
fn visits(
    problem: &Problem,
    x: &Inputs,
    listed: &[[usize; 3]],
    [b, h, a]: [usize; 3],
) -> (Vec<Visit>, Vec<usize>) {
    let Problem { span, d, .. } = problem;
    let scale = problem.scale.unwrap_or(1.0 / (*d as f64).sqrt());
    let (q, kv) = (index(problem, b, h, a), kv_row(problem, b, h));
    let i = span.queries().at(a);
    let mut list = Vec::new();
    let mut zeros = Vec::new();
    for branch in 0..problem.branches() {
        for key in 0..span.n_k {
            let j = span.keys().at(key);
            if problem.sees(branch, h, i, j) && problem.allows(b, a, key) {
                let blocks = problem.blocks.as_ref();
                let bias = blocks.and_then(|blocks| blocks.place(listed, b, [h, i, j]));
                let added = bias.map_or(0.0, |at| problem.bias().expect("a place in it")[at]);
                if added == f64::NEG_INFINITY {
                    continue;
                }
                let k = &x.k[(kv + key) * d..][..*d];
                list.push(Visit {
                    branch,
                    key,
                    score: scale * dot(&x.q[q * d..][..*d], k) + added,
                    keep: keep(problem, b, h, i, j),
                    bias,
                });
            }
        }
        zeros.push(match problem.blocks {
            Some(_) => 0,
            None => problem.pattern.zeros(branch, h, i, span.n_k),
        });
    }
    (list, zeros)
}

/// The row of q, out and lse.
fn index(problem: &Problem, b: usize, h: usize, a: usize) -> usize {
    (b * problem.pattern.heads + h) * problem.span.n_q + a
}

/// The first row of k and v that head `h` reads.
fn kv_row(problem: &Problem, b: usize, h: usize) -> usize {
    let kv_head = h / (problem.pattern.heads / problem.kv_heads);
    (b * problem.kv_heads + kv_head) * problem.span.n_k
}

/// `ln(sum exp(score) + zeros)` over the visits.
fn log_sum_exp<'a>(visits: impl Iterator<Item = &'a Visit> + Clone, zeros: usize) -> f64 {
    // A zero key has score 0.
    let floor = if zeros > 0 { 0.0 } else { f64::NEG_INFINITY };
    let max = visits.clone().map(|v| v.score).fold(floor, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    let seen: f64 = visits.map(|v| (v.score - max).exp()).sum();
    let sum = match zeros {
        0 => seen,
        _ => seen + zeros as f64 * (-max).exp(),
    };
    max + sum.ln()
}

fn row(problem: &Problem, x: &Inputs, listed: &[[usize; 3]], at: [usize; 3], to: &mut Reference) {
    let [b, h, a] = at;
    let (d, d_v) = (problem.d, problem.d_v);
    let scale = problem.scale.unwrap_or(1.0 / (d as f64).sqrt());
    let (visits, zeros) = visits(problem, x, listed, at);
    let (r, kv) = (index(problem, b, h, a), kv_row(problem, b, h));
    let v = |key: usize| &x.v[(kv + key) * d_v..][..d_v];
    let lse = log_sum_exp(visits.iter(), zeros.iter().sum());
    to.values.lse[r] = lse;
    to.magnitudes.lse[r] = 1.0;
    if visits.is_empty() {
        return;
    }
    let p = |visit: &Visit| (visit.score - lse).exp();
    let out = &mut to.values.out[r * d_v..][..d_v];
    let out_abs = &mut to.magnitudes.out[r * d_v..][..d_v];
    for visit in &visits {
        add(out, p(visit) * visit.keep, v(visit.key));
        add_abs(out_abs, p(visit) * visit.keep, v(visit.key));
    }

    // D, of the row or of each branch, and the scale of its parts.
    let dout = &x.dout[r * d_v..][..d_v];
    let dlse = x.dlse.as_ref().map_or(0.0, |dlse| dlse[r]);
    let deltas: Vec<(f64, f64)> = (0..zeros.len())
        .map(|branch| {
            if !problem.detached {
                return (dot(dout, out) - dlse, dot_abs(dout, out_abs) + dlse.abs());
            }
            let own = || visits.iter().filter(move |v| v.branch == branch);
            let lse = log_sum_exp(own(), zeros[branch]);
            let (mut o, mut o_abs) = (vec![0.0; d_v], vec![0.0; d_v]);
            for visit in own() {
                let p = (visit.score - lse).exp() * visit.keep;
                add(&mut o, p, v(visit.key));
                add_abs(&mut o_abs, p, v(visit.key));
            }
            (dot(dout, &o) - dlse, dot_abs(dout, &o_abs) + dlse.abs())
        })
        .collect();

    let q = &x.q[r * d..][..d];
    for visit in &visits {
        let (p, key) = (p(visit), kv + visit.key);
        let (v, k) = (v(visit.key), &x.k[key * d..][..d]);
        let (delta, delta_abs) = deltas[visit.branch];
        let ds = p * (visit.keep * dot(dout, v) - delta);
        // A dropped pair may be computed and subtracted again.
        let ds_abs = p * (visit.keep.max(1.0) * dot_abs(dout, v) + delta_abs);
        if let Some(at) = visit.bias {
            to.values.dbias[at] += ds;
            to.magnitudes.dbias[at] += ds_abs;
        }
        let (ds, ds_abs) = (scale * ds, scale * ds_abs);
        add(&mut to.values.dv[key * d_v..][..d_v], p * visit.keep, dout);
        add(&mut to.values.dq[r * d..][..d], ds, k);
        add(&mut to.values.dk[key * d..][..d], ds, q);
        add_abs(
            &mut to.magnitudes.dv[key * d_v..][..d_v],
            p * visit.keep,
            dout,
        );
        add_abs(&mut to.magnitudes.dq[r * d..][..d], ds_abs, k);
        add_abs(&mut to.magnitudes.dk[key * d..][..d], ds_abs, q);
    }
}
