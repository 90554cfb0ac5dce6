//! The kernels of one unit a row.

use burn_longnet_kernels::blueprint::Blueprint;
use burn_longnet_kernels::rules::ArgsLaunch;
use burn_longnet_kernels::table::{Side, Table};
use burn_longnet_kernels::unit;
use burn_longnet_kernels::walk::Role;
use cubecl::client::Client;
use cubecl::ir::{AddressType, ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};
use longnet_pattern::dropout::mix;
use longnet_pattern::{DilatedPattern, Dropout, HIDDEN, MixGradient, Schedule, Span, Tail};

use super::Variant;
use super::reference::{Inputs, Problem, Results};

/// Compile-time choices beside what the problem asks for.
#[derive(Clone, Copy)]
struct Choice {
    kind: FloatKind,
    rows: usize,
    stage: usize,
    split: usize,
}

const F32: Choice = Choice {
    kind: FloatKind::F32,
    rows: 32,
    stage: 16,
    split: 1,
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
    };
    let full = Span::full(75);
    // Neither range starts at the start of a segment.
    let shifted = Span {
        q_start: 21,
        n_q: 50,
        k_start: 5,
        n_k: 66,
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
            "three branches, f16, two units a row",
            problem(schedule(three(), full)),
            Choice {
                kind: FloatKind::F16,
                split: 2,
                ..F32
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
    ];
    cases
        .into_iter()
        .map(|(name, problem, choice)| Variant {
            name: format!("unit: {name}"),
            hot: false,
            run: Box::new(move |client| check(client, &problem, choice)),
        })
        .collect()
}

/// Runs all kernels of a problem, and compares.
fn check(client: &Client, problem: &Problem, choice: Choice) -> Result<(), String> {
    let inputs = inputs(problem, choice.kind);
    let results = Call::new(client, problem, choice, &inputs).run()?;
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
    } = &results;
    compare("out", out, &expected.out, forward)?;
    compare("lse", lse, &expected.lse, 1e-5)?;
    compare("dq", dq, &expected.dq, backward)?;
    compare("dk", dk, &expected.dk, backward)?;
    compare("dv", dv, &expected.dv, backward)
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
    let relative = (error / size).sqrt();
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
    }
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

    fn argument(&self) -> TensorArg {
        // SAFETY: the handle was made for this shape and these strides.
        unsafe {
            TensorArg::from_raw_parts(
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

/// The launches of one problem.
struct Call<'a> {
    client: &'a Client,
    problem: &'a Problem,
    choice: Choice,
    blueprint: Blueprint,
    table: Table,
    words: Handle,
    labels: [(Handle, usize); 2],
    q: Tensor4,
    k: Tensor4,
    v: Tensor4,
    dout: Tensor4,
    dlse: Tensor4,
}

impl<'a> Call<'a> {
    fn new(client: &'a Client, problem: &'a Problem, choice: Choice, inputs: &Inputs) -> Self {
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
        let table = Table::new(&problem.schedule, kv_heads, choice.rows, choice.rows)
            .expect("a small problem");
        let words = client.create_from_slice(bytemuck::cast_slice(&table.words));
        let labels = match &problem.labels {
            Some(labels) => labels.clone(),
            None => [vec![0], vec![0]],
        };
        Self {
            client,
            problem,
            choice,
            blueprint: Blueprint {
                d,
                d_v,
                rows: choice.rows,
                stage: choice.stage,
                split: choice.split,
                role: Role::Final,
                merges: false,
                causal: problem.schedule.is_causal(),
                labels: problem.labels.is_some(),
                dropout: problem.dropout.is_some(),
                zero_keys: problem.schedule.tail() == Tail::ZeroKeys,
                detached: problem.mix == MixGradient::Detached,
            },
            table,
            words,
            labels: labels.map(|labels| {
                let handle = client.create_from_slice(bytemuck::cast_slice(&labels));
                (handle, labels.len())
            }),
            q: Tensor4::spaced(client, &inputs.q, [batch, heads, n_q, d], kind),
            k: Tensor4::spaced(client, &inputs.k, [batch, kv_heads, n_k, d], kind),
            v: Tensor4::spaced(client, &inputs.v, [batch, kv_heads, n_k, d_v], kind),
            dout: Tensor4::spaced(client, &inputs.dout, [batch, heads, n_q, d_v], kind),
            dlse: Tensor4::contiguous(client, &inputs.dlse, &[batch, heads, n_q], FloatKind::F32),
        }
    }

    fn buffers(&self) -> [BufferArg; 3] {
        let buffer = |handle: &Handle, length| {
            // SAFETY: the handle was made of as many elements.
            unsafe { BufferArg::from_raw_parts(handle.clone(), length) }
        };
        let [(q, q_length), (k, k_length)] = &self.labels;
        [
            buffer(q, *q_length),
            buffer(k, *k_length),
            buffer(&self.words, self.table.words.len()),
        ]
    }

    fn args(&self, tiles: usize) -> ArgsLaunch {
        let (seed, threshold, keep) = self.problem.dropout.as_ref().map_or((0, 0, 1.0), |d| {
            (d.seed, d.threshold() as u32, d.scale() as f32)
        });
        ArgsLaunch::new(
            self.problem.scale as f32,
            f32::NEG_INFINITY,
            seed as u32,
            (seed >> 32) as u32,
            threshold,
            keep,
            tiles as u32,
        )
    }

    /// The launches of one side: the partial one, if a head has several branches, and the final one.
    fn launches(&self, side: Side) -> Vec<(Blueprint, usize)> {
        let blueprint = |role, merges| Blueprint {
            role,
            merges,
            ..self.blueprint
        };
        let merges = side.partial_tiles > 0;
        let partial = (blueprint(Role::Partial, false), side.partial_tiles);
        let last = (blueprint(Role::Final, merges), side.final_tiles);
        [partial, last]
            .into_iter()
            .filter(|(_, tiles)| *tiles > 0)
            .collect()
    }

    fn types(&self, role: Role) -> [ElemType; 2] {
        let result = match role {
            Role::Partial => FloatKind::F32,
            Role::Final => self.choice.kind,
        };
        [self.choice.kind, result].map(ElemType::Float)
    }

    fn run(&self) -> Result<Results, String> {
        let Problem {
            batch,
            kv_heads,
            d,
            d_v,
            ..
        } = *self.problem;
        let heads = self.problem.schedule.heads();
        let (n_q, n_k) = self.problem.rows();
        let (client, kind) = (self.client, self.choice.kind);
        let dim = CubeDim::new_1d(self.blueprint.units() as u32);
        let grid = |tiles: usize, heads: usize| CubeCount::Static(tiles as u32, heads as u32, 1);
        let empty = |shape: &[usize], kind| Tensor4::empty(client, shape, kind);
        let float = FloatKind::F32;
        let address = AddressType::U32;

        let (queries, keys) = (self.table.queries, self.table.keys);
        let partial_out = empty(&[batch, heads, queries.partial_rows, d_v], float);
        let partial_lse = empty(&[batch, heads, queries.partial_rows], float);
        let out = empty(&[batch, heads, n_q, d_v], kind);
        let lse = empty(&[batch, heads, n_q], float);
        for (blueprint, tiles) in self.launches(queries) {
            let [q_labels, k_labels, words] = self.buffers();
            let partial = blueprint.role == Role::Partial;
            let unused = empty(&[1, 1, 1, 1], float);
            let (from, into) = match partial {
                true => ((&unused, &unused), (&partial_out, &partial_lse)),
                false => ((&partial_out, &partial_lse), (&out, &lse)),
            };
            unit::attention::launch(
                client,
                grid(tiles, batch * heads),
                dim,
                address,
                self.q.argument(),
                self.k.argument(),
                self.v.argument(),
                q_labels,
                k_labels,
                words,
                from.0.argument(),
                from.1.argument(),
                into.0.argument(),
                into.1.argument(),
                self.args(tiles),
                blueprint,
                self.types(blueprint.role),
            );
        }

        let delta = match self.blueprint.detached {
            true => empty(&[batch, heads, queries.branch_rows], float),
            false => {
                let delta = empty(&[batch, heads, n_q], float);
                unit::deltas::launch(
                    client,
                    grid((batch * heads * n_q).div_ceil(64), 1),
                    CubeDim::new_1d(64),
                    address,
                    out.argument(),
                    self.dout.argument(),
                    self.dlse.argument(),
                    delta.argument(),
                    d_v,
                    ElemType::Float(kind),
                );
                delta
            }
        };

        let partial_dq = empty(&[batch, heads, queries.partial_rows, d], float);
        let dq = empty(&[batch, heads, n_q, d], kind);
        for (blueprint, tiles) in self.launches(queries) {
            let [q_labels, k_labels, words] = self.buffers();
            let unused = empty(&[1, 1, 1, 1], float);
            let (from, into) = match blueprint.role {
                Role::Partial => (&unused, &partial_dq),
                Role::Final => (&partial_dq, &dq),
            };
            unit::query_gradients::launch(
                client,
                grid(tiles, batch * heads),
                dim,
                address,
                self.q.argument(),
                self.k.argument(),
                self.v.argument(),
                self.dout.argument(),
                lse.argument(),
                self.dlse.argument(),
                q_labels,
                k_labels,
                words,
                from.argument(),
                delta.argument(),
                into.argument(),
                self.args(tiles),
                blueprint,
                self.types(blueprint.role),
            );
        }

        let partial_dk = empty(&[batch, heads, keys.partial_rows, d], float);
        let partial_dv = empty(&[batch, heads, keys.partial_rows, d_v], float);
        let dk = empty(&[batch, kv_heads, n_k, d], kind);
        let dv = empty(&[batch, kv_heads, n_k, d_v], kind);
        for (blueprint, tiles) in self.launches(keys) {
            let [q_labels, k_labels, words] = self.buffers();
            let unused = empty(&[1, 1, 1, 1], float);
            let (from, into, blocks) = match blueprint.role {
                Role::Partial => (
                    (&unused, &unused),
                    (&partial_dk, &partial_dv),
                    batch * heads,
                ),
                Role::Final => ((&partial_dk, &partial_dv), (&dk, &dv), batch * kv_heads),
            };
            unit::key_gradients::launch(
                client,
                grid(tiles, blocks),
                dim,
                address,
                self.q.argument(),
                self.k.argument(),
                self.v.argument(),
                self.dout.argument(),
                lse.argument(),
                delta.argument(),
                q_labels,
                k_labels,
                words,
                from.0.argument(),
                from.1.argument(),
                into.0.argument(),
                into.1.argument(),
                self.args(tiles),
                blueprint,
                self.types(blueprint.role),
            );
        }
        Ok(Results {
            out: out.read(client)?,
            lse: lse.read(client)?,
            dq: dq.read(client)?,
            dk: dk.read(client)?,
            dv: dv.read(client)?,
        })
    }
}
