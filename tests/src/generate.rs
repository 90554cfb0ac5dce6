//! Seeded random problems: small ones, with everything that can go wrong in them.

use crate::blocks::Blocks;
use crate::dilated::Dilated;
use crate::problem::{Inputs, Problem};
use crate::rng::Rng;
use longnet_pattern::Span;

/// Problem `index` of the stream of `seed`: the same on every machine.
pub fn problem(seed: u64, index: u64) -> Problem {
    let rng = &mut Rng::new(seed, index);
    let heads = rng.range(1, 12);
    let longest = longest(rng, heads);
    let branches = branches(rng, longest);
    let causal = rng.chance(0.5);
    let zero_keys = rng.chance(0.15);
    let pattern = Dilated {
        heads,
        branches,
        causal,
        grouped: rng.chance(0.25),
        by_group: rng.chance(0.4),
        zero_keys,
    };
    let span = if zero_keys {
        Span::full(rng.range(1, longest))
    } else {
        span(rng, longest)
    };
    let divisors: Vec<usize> = (1..=heads).filter(|x| heads.is_multiple_of(*x)).collect();
    let d = width(rng);
    let batch = rng.pick(&[1, 1, 2, 3]);
    Problem {
        batch,
        kv_heads: if rng.chance(0.4) {
            rng.pick(&divisors)
        } else {
            heads
        },
        d,
        d_v: if rng.chance(0.3) { width(rng) } else { d },
        span,
        scale: rng
            .chance(0.25)
            .then(|| rng.pick(&[0.1, 0.5, 1.0, 2.0, -0.7]) / (d as f64).sqrt()),
        hidden: rng.chance(0.3).then(|| hidden(rng, batch, span.n_k)),
        documents: (!zero_keys && rng.chance(0.25)).then(|| documents(rng, batch, span)),
        dropout: rng
            .chance(0.25)
            .then(|| (rng.pick(&[0.1, 0.5, 0.9, 0.1, 1.0]), rng.next())),
        detached: rng.chance(0.3),
        blocks: None,
        pattern,
    }
}

/// As [`problem`], with 700 to 2500 positions in few heads: longer than the blocks that kernels work
/// in, which [`problem`] stays inside.
pub fn long_problem(seed: u64, index: u64) -> Problem {
    let rng = &mut Rng::new(seed ^ 0x1049, index);
    let mut long = problem(seed, index);
    let longest = rng.range(700, 2500);
    long.pattern.heads = rng.range(1, 3);
    long.pattern.branches = branches(rng, longest);
    (long.batch, long.kv_heads) = (
        1,
        if rng.chance(0.5) {
            1
        } else {
            long.pattern.heads
        },
    );
    (long.d, long.d_v) = (rng.pick(&[4, 8, 17, 64]), rng.pick(&[4, 8, 17, 64]));
    long.span = if long.pattern.zero_keys || rng.chance(0.7) {
        Span::full(longest)
    } else {
        span(rng, longest)
    };
    if long.hidden.is_some() {
        long.hidden = Some(hidden(rng, 1, long.span.n_k));
    }
    if long.documents.is_some() {
        long.documents = Some(documents(rng, 1, long.span));
    }
    long
}

/// As [`problem`], with a block mask for its branches and, mostly, a bias.
pub fn block_problem(seed: u64, index: u64) -> Problem {
    with_blocks(problem(seed ^ 0xb10c, index), seed, index)
}

/// As [`long_problem`], with a block mask.
pub fn long_block_problem(seed: u64, index: u64) -> Problem {
    with_blocks(long_problem(seed ^ 0xb10c, index), seed, index)
}

fn with_blocks(mut problem: Problem, seed: u64, index: u64) -> Problem {
    let rng = &mut Rng::new(seed ^ 0xb1a5, index);
    problem.pattern.zero_keys = false;
    let span = problem.span;
    let ends = [span.q_end(), span.k_end()];
    let size = [0; 2].map(|_| match rng.range(0, 3) {
        0 => rng.pick(&[16, 32, 64, 128]),
        1 => rng.range(1, 5),
        _ => rng.range(1, 40),
    });
    // Long sequences in tiny blocks are the same work many times over.
    let size = [0, 1].map(|side| size[side].max(ends[side] / 64));
    // Sometimes the mask has blocks past the end.
    let [rows, columns] =
        [0, 1].map(|side| ends[side].div_ceil(size[side]) + usize::from(rng.chance(0.2)));
    let (kind, wide, share) = (rng.range(0, 4), rng.range(0, 3), rng.pick(&[0.1, 0.5, 0.8]));
    let heads = if rng.chance(0.3) {
        1
    } else {
        problem.pattern.heads
    };
    let mut tables: Vec<Vec<Vec<bool>>> = (0..heads)
        .map(|head| {
            let mut set = |i: usize, j: usize| {
                let far = (i * size[0]).abs_diff(j * size[1]);
                let near = far <= (wide + head % 2) * size[0].max(size[1]);
                match kind {
                    0 => true,
                    1 => near,
                    2 => near || i == 0 || j == 0,
                    _ => rng.chance(share),
                }
            };
            (0..rows)
                .map(|i| (0..columns).map(|j| set(i, j)).collect())
                .collect()
        })
        .collect();
    tables.resize(problem.pattern.heads, tables[0].clone());
    let mut blocks = Blocks {
        size,
        set: tables,
        bias: None,
    };
    if rng.chance(0.6) {
        let listed = blocks.listed(problem.pattern.causal).len();
        let entries = rng.pick(&[1, problem.batch]);
        let hides = rng.chance(0.3);
        let value = |_| match hides && rng.chance(0.2) {
            true => f64::NEG_INFINITY,
            // Exact in f32.
            false => f64::from(2.0 * rng.normal() as f32),
        };
        blocks.bias = Some((0..entries * listed).map(value).collect());
    }
    problem.blocks = Some(blocks);
    problem
}

/// Numbers for `problem`, again the same everywhere. Hidden keys hold NaN in k and v half the time.
pub fn inputs(problem: &Problem, seed: u64, index: u64) -> Inputs {
    let rng = &mut Rng::new(!seed, index);
    let size = |shape: [usize; 4]| shape.iter().product();
    let mut inputs = Inputs {
        q: rng.normals(size(problem.q_shape())),
        k: rng.normals(size(problem.k_shape())),
        v: rng.normals(size(problem.v_shape())),
        dout: rng.normals(size(problem.out_shape())),
        dlse: rng
            .chance(0.5)
            .then(|| rng.normals(problem.lse_shape().iter().product())),
    };
    if let Some(hidden) = &problem.hidden
        && rng.chance(0.5)
    {
        let n_k = problem.span.n_k;
        for (tensor, width) in [(&mut inputs.k, problem.d), (&mut inputs.v, problem.d_v)] {
            for (row, numbers) in tensor.chunks_mut(width).enumerate() {
                let batch = row / n_k / problem.kv_heads;
                if hidden[batch * n_k + row % n_k] {
                    numbers.fill(f64::NAN);
                }
            }
        }
    }
    inputs
}

/// Mostly short, up to 300 where few heads leave the oracle time for it.
fn longest(rng: &mut Rng, heads: usize) -> usize {
    match rng.range(0, 19) {
        0 if heads <= 4 => 300,
        0..3 => 140,
        3..9 => 64,
        9..15 => 33,
        _ => 12,
    }
}

fn width(rng: &mut Rng) -> usize {
    match rng.range(0, 5) {
        0 => rng.range(1, 40),
        1 => rng.range(1, 4),
        _ => rng.pick(&[4, 8, 16, 7, 12]),
    }
}

/// One to five branches in any order: segments below, at and above `longest`, rates up to more than
/// the segment, sometimes one branch twice.
fn branches(rng: &mut Rng, longest: usize) -> Vec<(usize, usize)> {
    let count = rng.range(1, 5);
    let mut branches: Vec<(usize, usize)> = (0..count)
        .map(|_| {
            let w = match rng.range(0, 4) {
                0 => 1 << rng.range(0, 8),
                1 => longest,
                2 => longest + rng.range(1, 50),
                _ => rng.range(1, longest),
            };
            let r = match rng.range(0, 9) {
                0 => w + rng.range(0, 3),
                1 => rng.range(1, 13),
                _ => rng.pick(&[1, 1, 2, 3, 4, 5, 6, 7]),
            };
            (w, r)
        })
        .collect();
    if count > 1 && rng.chance(0.2) {
        branches[count - 1] = branches[0];
    }
    branches
}

fn span(rng: &mut Rng, longest: usize) -> Span {
    let (n, m) = (rng.range(1, longest), rng.range(1, longest));
    match rng.range(0, 9) {
        0 => Span::cross(n, m),
        1 => Span::decode(n.min(m), n.max(m)),
        2 => Span {
            q_start: rng.range(0, longest),
            n_q: n,
            k_start: rng.range(0, longest),
            n_k: m,
            step: 1,
        },
        3 => Span {
            q_start: rng.range(0, longest),
            n_q: n,
            k_start: rng.range(0, longest),
            n_k: m,
            step: rng.range(2, 9),
        },
        _ => Span::full(n),
    }
}

/// A tail of each batch entry, a random subset, or all keys.
fn hidden(rng: &mut Rng, batch: usize, n_k: usize) -> Vec<bool> {
    let mut hidden = Vec::with_capacity(batch * n_k);
    for _ in 0..batch {
        let kind = rng.range(0, 9);
        let start = rng.range(0, n_k);
        hidden.extend((0..n_k).map(|j| match kind {
            0 => true,
            1..5 => rng.chance(0.3),
            _ => j >= start,
        }));
    }
    hidden
}

/// Runs of rows of one document, or any id anywhere; ids include the extreme ones.
fn documents(rng: &mut Rng, batch: usize, span: Span) -> (Vec<i32>, Vec<i32>) {
    let packed = rng.chance(0.6);
    let length = rng.range(1, span.n_q.max(40) / 2);
    let ids = [0, 1, -1, 7, i32::MAX];
    let mut row = |start: usize, n: usize| -> Vec<i32> {
        (0..n)
            .map(|a| {
                if packed {
                    ids[(start + a) / length % ids.len()]
                } else {
                    ids[rng.range(0, 2)]
                }
            })
            .collect()
    };
    let (mut query, mut key) = (Vec::new(), Vec::new());
    for _ in 0..batch {
        query.extend(row(span.q_start, span.n_q));
        key.extend(row(span.k_start, span.n_k));
    }
    (query, key)
}
