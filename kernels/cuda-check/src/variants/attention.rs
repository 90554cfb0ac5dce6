//! Forward and backward through the project's own launches.

use burn_longnet_kernels::launch::{self, Backward, Forward, Pass, Plan, Routine, Tiles};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};
use longnet_pattern::dropout::mix;
use longnet_pattern::{
    BlockGrid, BlockMask, DilatedPattern, Dropout, HIDDEN, MixGradient, Pattern, Schedule, Span,
    Tail,
};

use super::Variant;
use super::reference::{Inputs, Problem, Results};

/// Compile-time choices beside what the problem asks for.
#[derive(Clone, Copy)]
struct Choice {
    kind: FloatKind,
    /// `None`: what the plan picks for the device.
    tiles: Option<Tiles>,
}

const F32: Choice = Choice {
    kind: FloatKind::F32,
    tiles: None,
};

/// A small problem in each way that compiles to other code.
pub fn variants() -> Vec<Variant> {
    let one = || DilatedPattern::new(2, [(40, 2)]);
    let three = || DilatedPattern::new(3, [(16, 1), (48, 2), (96, 3)]);
    let schedule = |builder: longnet_pattern::dilated::DilatedBuilder, span| {
        let pattern = builder.build().expect("a right pattern");
        pattern.schedule(span).expect("a right span")
    };
    let problem = |schedule: Schedule| Problem {
        schedule,
        batch: 2,
        kv_heads: 1,
        d: 16,
        d_v: 16,
        scale: 0.25,
        labels: None,
        dropout: None,
        mix: MixGradient::Exact,
        biases: 0,
        hidden: None,
    };
    // Two heads of lists of their own, blocks that tiles do not divide, one row of which sees nothing.
    let blocks = |causal, span| {
        let mask = BlockMask::new(2, BlockGrid::cross(75, 75, 20, 12))
            .causal(causal)
            .build_from_fn(|head, i, j| i != 1 && (i * 5 + j * 3 + head) % 4 < 3)
            .expect("a right mask");
        Pattern::from(mask).schedule(span).expect("a right span")
    };
    let long_blocks = {
        let mask = BlockMask::new(2, BlockGrid::cross(300, 300, 20, 12)).causal(true);
        let mask = mask.build_from_fn(|head, i, j| (i + j + head) % 3 < 2);
        let pattern = Pattern::from(mask.expect("a right mask"));
        pattern
            .schedule(Span::decode(3, 300))
            .expect("a right span")
    };
    let full = Span::full(75);
    // Neither range starts at the start of a segment.
    let shifted = Span {
        q_start: 21,
        n_q: 50,
        k_start: 5,
        n_k: 66,
        step: 1,
    };
    let labels = |n: usize, shift: usize| -> Vec<i32> {
        let label = |row: usize| match (row + shift) % 7 {
            0 => HIDDEN,
            _ => (row / 24) as i32,
        };
        (0..2 * n).map(label).collect()
    };
    let cases = [
        ("one branch", problem(schedule(one(), full)), F32),
        (
            "one branch, causal, bf16",
            problem(schedule(one().causal(true), full)),
            Choice {
                kind: FloatKind::BF16,
                ..F32
            },
        ),
        (
            "three branches, f16, two units for two rows",
            problem(schedule(three(), full)),
            Choice {
                kind: FloatKind::F16,
                tiles: Some(Tiles {
                    rows: 32,
                    stage: 16,
                    split: 2,
                    each: 2,
                }),
            },
        ),
        (
            "three branches, causal, part of the positions",
            problem(schedule(three().causal(true), shifted)),
            F32,
        ),
        (
            "three branches, labels, odd widths",
            Problem {
                d: 9,
                d_v: 21,
                labels: Some([labels(75, 0), labels(75, 3)]),
                ..problem(schedule(three(), full))
            },
            F32,
        ),
        (
            "three branches, dropout, causal, a kv head each",
            Problem {
                kv_heads: 3,
                dropout: Some(Dropout {
                    p: 0.3,
                    seed: 0x1234_5678_9abc,
                }),
                ..problem(schedule(three().causal(true), full))
            },
            F32,
        ),
        (
            "three branches, detached",
            Problem {
                mix: MixGradient::Detached,
                ..problem(schedule(three(), shifted))
            },
            F32,
        ),
        (
            "three branches, detached, zero keys",
            Problem {
                mix: MixGradient::Detached,
                ..problem(schedule(three().tail(Tail::ZeroKeys), full))
            },
            F32,
        ),
        (
            "a block mask, causal, bf16",
            problem(blocks(true, full)),
            Choice {
                kind: FloatKind::BF16,
                ..F32
            },
        ),
        (
            "a block mask, a bias for all, hidden blocks",
            Problem {
                biases: 1,
                hidden: Some(2),
                ..problem(blocks(false, shifted))
            },
            F32,
        ),
        (
            "a block mask, a bias each, dropout, labels, causal",
            Problem {
                biases: 2,
                labels: Some([labels(75, 0), labels(75, 3)]),
                dropout: Some(Dropout { p: 0.3, seed: 7 }),
                ..problem(blocks(true, full))
            },
            F32,
        ),
        (
            "decoding, three branches, causal, labels",
            Problem {
                labels: Some([
                    vec![0; 6],
                    (0..600)
                        .map(|row| if row % 7 == 3 { HIDDEN } else { 0 })
                        .collect(),
                ]),
                ..problem(schedule(three().causal(true), Span::decode(3, 300)))
            },
            F32,
        ),
        (
            "decoding, a block mask, hidden blocks",
            Problem {
                biases: 2,
                hidden: Some(2),
                ..problem(long_blocks)
            },
            F32,
        ),
    ];
    cases
        .into_iter()
        .map(|(name, problem, choice)| Variant {
            name: format!("attention: {name}"),
            hot: false,
            run: Box::new(move |client| check(client, &problem, choice)),
        })
        .collect()
}

/// Runs all kernels of a problem, and compares.
fn check(client: &Client, problem: &Problem, choice: Choice) -> Result<(), String> {
    let inputs = poisoned(problem, inputs(problem, choice.kind));
    let results = run(client, problem, choice, &inputs)?;
    let expected = problem.solve(&inputs);
    // Relative errors; f32's is the project's law, the others allow for results rounded to the type
    // and a delta that is computed from a rounded output.
    let (forward, backward) = match choice.kind {
        FloatKind::F16 => (1e-3, 3e-3),
        FloatKind::BF16 => (5e-3, 2e-2),
        _ => (1e-5, 1e-5),
    };
    let Results {
        out,
        lse,
        dq,
        dk,
        dv,
        dbias,
    } = &results;
    compare("out", out, &expected.out, forward)?;
    compare("lse", lse, &expected.lse, 1e-5)?;
    compare("dq", dq, &expected.dq, backward)?;
    compare("dk", dk, &expected.dk, backward)?;
    compare("dv", dv, &expected.dv, backward)?;
    compare("dbias", dbias, &expected.dbias, backward)
}

/// The relative error by root mean squares; what is minus infinity must be so exactly.
fn compare(name: &str, found: &[f64], expected: &[f64], tolerance: f64) -> Result<(), String> {
    let (mut error, mut size) = (0.0, 0.0);
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        if expected == f64::NEG_INFINITY || !found.is_finite() {
            if found != expected {
                return Err(format!("{name}[{at}] is {found}, not {expected}"));
            }
            continue;
        }
        error += (found - expected).powi(2);
        size += expected.powi(2);
    }
    let relative = if error > 0.0 {
        (error / size).sqrt()
    } else {
        0.0
    };
    if found.len() == expected.len() && relative <= tolerance {
        return Ok(());
    }
    Err(format!(
        "{name}: relative error {relative:.1e}, {tolerance:.0e} allowed"
    ))
}

/// Numbers in -1..1, rounded to what the tensors hold.
fn inputs(problem: &Problem, kind: FloatKind) -> Inputs {
    let heads = problem.batch * problem.schedule.heads();
    let kv_heads = problem.batch * problem.kv_heads;
    let (n_q, n_k) = problem.rows();
    let blocks = problem.schedule.mask().map_or(0, |mask| mask.blocks());
    let draw = |count: usize, seed: u32, kind: FloatKind| -> Vec<f64> {
        (0..count as u32)
            .map(|i| f64::from(mix(mix(seed) ^ i)) / 2f64.powi(31) - 1.0)
            .map(|x| round(x, kind))
            .collect()
    };
    Inputs {
        q: draw(heads * n_q * problem.d, 1, kind),
        k: draw(kv_heads * n_k * problem.d, 2, kind),
        v: draw(kv_heads * n_k * problem.d_v, 3, kind),
        dout: draw(heads * n_q * problem.d_v, 4, kind),
        dlse: draw(heads * n_q, 5, FloatKind::F32),
        bias: draw(problem.biases * blocks, 6, FloatKind::F32)
            .into_iter()
            .enumerate()
            .map(|(at, x)| match hides(problem, at) {
                true => f64::NEG_INFINITY,
                false => x,
            })
            .collect(),
    }
}

/// Whether the bias at `at` hides its block.
fn hides(problem: &Problem, at: usize) -> bool {
    let (Some(mask), Some(hidden)) = (problem.schedule.mask(), problem.hidden) else {
        return false;
    };
    let (at, grid) = (at % mask.blocks(), mask.grid());
    let of_hidden = (0..problem.schedule.heads())
        .flat_map(|head| (0..grid.q_blocks).map(move |i| (head, i)))
        .any(|(head, i)| mask.bias_index(head, i, hidden) == Some(at));
    of_hidden || at.is_multiple_of(5)
}

/// NaN in the keys that labels hide, or their bias.
fn poisoned(problem: &Problem, mut inputs: Inputs) -> Inputs {
    let (_, n_k) = problem.rows();
    let by_label = |at: usize| {
        let labels = problem.labels.as_ref();
        labels.is_some_and(|[_, labels]| {
            labels[at / n_k / problem.kv_heads * n_k + at % n_k] == HIDDEN
        })
    };
    let by_bias = |at: usize| {
        let mask = problem.schedule.mask().zip(problem.hidden);
        mask.is_some_and(|(mask, hidden)| {
            (problem.schedule.span().k_start + at % n_k) / mask.grid().k_block == hidden
        })
    };
    for (tensor, width) in [(&mut inputs.k, problem.d), (&mut inputs.v, problem.d_v)] {
        for (at, row) in tensor.chunks_mut(width).enumerate() {
            if by_label(at) || by_bias(at) {
                row.fill(f64::NAN);
            }
        }
    }
    inputs
}

fn round(x: f64, kind: FloatKind) -> f64 {
    match kind {
        FloatKind::F16 => f16::from_f64(x).to_f64(),
        FloatKind::BF16 => bf16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

fn encode(values: &[f64], kind: FloatKind) -> Vec<u8> {
    match kind {
        FloatKind::F16 => values
            .iter()
            .flat_map(|&x| f16::from_f64(x).to_ne_bytes())
            .collect(),
        FloatKind::BF16 => values
            .iter()
            .flat_map(|&x| bf16::from_f64(x).to_ne_bytes())
            .collect(),
        _ => values
            .iter()
            .flat_map(|&x| (x as f32).to_ne_bytes())
            .collect(),
    }
}

fn decode(bytes: &[u8], kind: FloatKind) -> Vec<f64> {
    let half = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
    match kind {
        FloatKind::F16 => bytes
            .chunks_exact(2)
            .map(|pair| f16::from_bits(half(pair)).to_f64())
            .collect(),
        FloatKind::BF16 => bytes
            .chunks_exact(2)
            .map(|pair| bf16::from_bits(half(pair)).to_f64())
            .collect(),
        _ => bytemuck::pod_collect_to_vec::<u8, f32>(bytes)
            .into_iter()
            .map(f64::from)
            .collect(),
    }
}

/// A tensor on the device: contiguous, or with room between rows that holds NaN.
#[derive(Clone)]
struct Tensor4 {
    handle: Handle,
    shape: Vec<usize>,
    strides: Vec<usize>,
    kind: FloatKind,
}

impl Tensor4 {
    fn empty(client: &Client, shape: &[usize], kind: FloatKind) -> Self {
        let size = match kind {
            FloatKind::F32 => 4,
            _ => 2,
        };
        let mut strides = vec![1; shape.len()];
        for axis in (0..shape.len() - 1).rev() {
            strides[axis] = strides[axis + 1] * shape[axis + 1];
        }
        Self {
            // No tensor is without elements.
            handle: client.empty(shape.iter().product::<usize>().max(1) * size),
            shape: shape.to_vec(),
            strides,
            kind,
        }
    }

    fn contiguous(client: &Client, values: &[f64], shape: &[usize], kind: FloatKind) -> Self {
        Self {
            handle: client.create_from_slice(&encode(values, kind)),
            ..Self::empty(client, shape, kind)
        }
    }

    /// A view of rows that are five elements further apart than they are long.
    fn spaced(client: &Client, values: &[f64], shape: [usize; 4], kind: FloatKind) -> Self {
        let [_, heads, n, width] = shape;
        let pitch = width + 5;
        let spaced: Vec<f64> = values
            .chunks(width)
            .flat_map(|row| row.iter().copied().chain([f64::NAN; 5]))
            .collect();
        Self {
            handle: client.create_from_slice(&encode(&spaced, kind)),
            shape: shape.to_vec(),
            strides: vec![heads * n * pitch, n * pitch, pitch, 1],
            kind,
        }
    }

    fn binding(&self) -> TensorBinding {
        // SAFETY: the handle was made for this shape and these strides.
        unsafe {
            TensorBinding::from_raw_parts(
                self.handle.clone(),
                self.strides.clone().into(),
                self.shape.clone().into(),
            )
        }
    }

    fn read(&self, client: &Client) -> Result<Vec<f64>, String> {
        let bytes = client
            .read_one(self.handle.clone())
            .map_err(|error| error.to_string())?;
        Ok(decode(&bytes, self.kind))
    }
}

/// Forward and backward on the device.
fn run(
    client: &Client,
    problem: &Problem,
    choice: Choice,
    inputs: &Inputs,
) -> Result<Results, String> {
    let Problem {
        batch,
        kv_heads,
        d,
        d_v,
        ..
    } = *problem;
    let heads = problem.schedule.heads();
    let (n_q, n_k) = problem.rows();
    let kind = choice.kind;
    let call = launch::Problem {
        schedule: problem.schedule.clone(),
        scale: problem.scale,
        gradient: problem.mix,
        dropout: problem.dropout,
        labels: problem.labels.is_some(),
        bias: problem.biases > 0,
        dtype: ElemType::Float(kind),
        // Rows are five numbers further apart than they are long.
        aligned: false,
        batch,
        kv_heads,
        d,
        d_v,
    };
    let plan = |pass| {
        match choice.tiles {
            Some(tiles) => Plan::with_routine(client, &call, pass, Routine::Unit(tiles)),
            None => Plan::new(client, &call, pass),
        }
        .map_err(|declined| declined.to_string())
    };
    let labels = problem.labels.as_ref().map(|labels| {
        let [q, k] = labels.each_ref().map(|labels| {
            let shape = [batch, labels.len() / batch];
            let handle = client.create_from_slice(bytemuck::cast_slice(labels));
            // SAFETY: the handle was made of as many elements.
            unsafe { TensorBinding::from_raw_parts(handle, [shape[1], 1].into(), shape.into()) }
        });
        (q, k)
    });

    let float = FloatKind::F32;
    let spaced = |values: &[f64], shape| Tensor4::spaced(client, values, shape, kind).binding();
    let q = spaced(&inputs.q, [batch, heads, n_q, d]);
    let k = spaced(&inputs.k, [batch, kv_heads, n_k, d]);
    let v = spaced(&inputs.v, [batch, kv_heads, n_k, d_v]);
    let dout = spaced(&inputs.dout, [batch, heads, n_q, d_v]);
    let dlse = Tensor4::contiguous(client, &inputs.dlse, &[batch, heads, n_q], float).binding();
    // One row for all batch entries has no step from one to the next.
    let (bias, dbias) = match problem.schedule.mask().filter(|_| problem.biases > 0) {
        None => (None, None),
        Some(mask) => {
            let shape = [problem.biases, mask.blocks()];
            let mut bias = Tensor4::contiguous(client, &inputs.bias, &shape, float);
            if problem.biases == 1 {
                bias.shape[0] = batch;
                bias.strides[0] = 0;
            }
            (Some(bias), Some(Tensor4::empty(client, &shape, float)))
        }
    };
    let bias = bias.map(|bias| bias.binding());
    let out = Tensor4::empty(client, &[batch, heads, n_q, d_v], kind);
    let lse = Tensor4::empty(client, &[batch, heads, n_q], float);
    launch::forward(
        client,
        &plan(Pass::Forward)?,
        Forward {
            q: q.clone(),
            k: k.clone(),
            v: v.clone(),
            labels: labels.clone(),
            bias: bias.clone(),
            out: out.binding(),
            lse: lse.binding(),
        },
    );
    let dq = Tensor4::empty(client, &[batch, heads, n_q, d], kind);
    let dk = Tensor4::empty(client, &[batch, kv_heads, n_k, d], kind);
    let dv = Tensor4::empty(client, &[batch, kv_heads, n_k, d_v], kind);
    launch::backward(
        client,
        &plan(Pass::Backward)?,
        Backward {
            q,
            k,
            v,
            labels,
            bias,
            dbias: dbias.as_ref().map(Tensor4::binding),
            out: out.binding(),
            lse: lse.binding(),
            dout,
            dlse,
            dq: dq.binding(),
            dk: dk.binding(),
            dv: dv.binding(),
        },
    );
    Ok(Results {
        out: out.read(client)?,
        lse: lse.read(client)?,
        dq: dq.read(client)?,
        dk: dk.read(client)?,
        dv: dv.read(client)?,
        dbias: dbias.map_or(Ok(Vec::new()), |dbias| dbias.read(client))?,
    })
}
