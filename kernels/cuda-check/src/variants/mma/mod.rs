//! The kernels on tensor cores.

mod reference;
mod run;

use super::Variant;
use burn_longnet_kernels::mma::MmaBlueprint;
use cubecl::client::Client;
use longnet_pattern::{
    BlockGrid, BlockMask, DilatedPattern, Dropout, HIDDEN, MixGradient, Pattern, Span, Tail,
};
use reference::{Problem, error};
use run::{Device, Half, Layout, Way};

/// The key block that a bias hides from all queries.
const HIDDEN_BLOCK: usize = 2;

/// Numbers of about unit variance, the same in every run.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    (0..count)
        .map(|_| 2.0 * (next() + next() + next()))
        .collect()
}

/// What is computed, and by which kernels.
#[derive(Clone)]
struct Case {
    name: &'static str,
    hot: bool,
    pattern: Pattern,
    span: Span,
    batch: usize,
    kv_heads: usize,
    d: usize,
    d_v: usize,
    labels: bool,
    dropout: bool,
    bias: bool,
    mix: MixGradient,
    half: Half,
    layout: Layout,
    adjust: fn(MmaBlueprint) -> MmaBlueprint,
}

impl Case {
    fn problem(&self) -> Problem {
        let schedule = self.pattern.schedule(self.span).expect("a right span");
        let heads = schedule.heads();
        let (n_q, n_k, kv_heads) = (self.span.n_q, self.span.n_k, self.kv_heads);
        let round = self.half.round();
        let tensor = |heads: usize, n: usize, d: usize, seed| -> Vec<f64> {
            let count = self.batch * heads * n * d;
            numbers(count, seed).into_iter().map(round).collect()
        };
        let labels = |n: usize, hidden: bool| {
            let label = |i: usize| match i % n {
                i if hidden && i % 11 == 3 => HIDDEN,
                i => (i * 3 / n) as i32,
            };
            (0..self.batch * n).map(label).collect()
        };
        let mut problem = Problem {
            batch: self.batch,
            kv_heads,
            d: self.d,
            d_v: self.d_v,
            scale: 1.0 / (self.d as f64).sqrt(),
            labels: self.labels.then(|| (labels(n_q, false), labels(n_k, true))),
            dropout: self.dropout.then_some(Dropout {
                p: 0.25,
                seed: 0x1234_5678_9abc,
            }),
            bias: schedule.mask().filter(|_| self.bias).map(|mask| {
                let mut bias = numbers(self.batch * mask.blocks(), 6);
                bias[1] = f64::NEG_INFINITY;
                let rows = (0..heads).flat_map(|h| (0..mask.grid().q_blocks).map(move |i| (h, i)));
                for at in rows.filter_map(|(h, i)| mask.bias_index(h, i, HIDDEN_BLOCK)) {
                    for bias in bias.chunks_exact_mut(mask.blocks()) {
                        bias[at] = f64::NEG_INFINITY;
                    }
                }
                bias.iter().map(|&x| x as f32 as f64).collect()
            }),
            mix: self.mix,
            q: tensor(heads, n_q, self.d, 1),
            k: tensor(kv_heads, n_k, self.d, 2),
            v: tensor(kv_heads, n_k, self.d_v, 3),
            dout: tensor(heads, n_q, self.d_v, 4),
            dlse: numbers(self.batch * heads * n_q, 5),
            schedule,
        };
        // What labels or a bias hide may hold anything.
        let hidden = problem.bias.as_ref().zip(problem.schedule.mask());
        let hidden = hidden.map(|(_, mask)| mask.grid().k_block);
        let hidden = hidden.map(|length| HIDDEN_BLOCK * length..(HIDDEN_BLOCK + 1) * length);
        for (tensor, width) in [(&mut problem.k, self.d), (&mut problem.v, self.d_v)] {
            for (at, row) in tensor.chunks_exact_mut(width).enumerate() {
                let (batch, key) = (at / n_k / kv_heads, at % n_k);
                let labels = problem.labels.as_ref();
                let by_label =
                    labels.is_some_and(|(_, labels)| labels[batch * n_k + key] == HIDDEN);
                let position = self.span.k_start + key;
                let by_bias = hidden.as_ref().is_some_and(|keys| keys.contains(&position));
                if by_label || by_bias {
                    row.fill(f64::NAN);
                }
            }
        }
        problem
    }

    /// Runs all kernels and holds them to the tolerances.
    fn check(&self, client: &Client) -> Result<(), String> {
        let problem = self.problem();
        let device = Device {
            client,
            problem: &problem,
            way: Way {
                half: self.half,
                layout: self.layout,
                adjust: self.adjust,
            },
        };
        let got = device.run()?;
        if !got.lse.iter().any(|lse| lse.is_finite() && *lse != 0.0) {
            return Err("nothing was computed".into());
        }
        let exact = problem.solve(|x| x);
        let plain = problem.solve(self.half.round());
        for (i, (got, lse)) in got.lse.iter().zip(&exact.lse).enumerate() {
            if !(got == lse || (got - lse).abs() < 1e-4 * lse.abs().max(1.0)) {
                return Err(format!("lse of row {i}: {got}, not {lse}"));
            }
        }
        let tensors = [
            ("out", &got.out, &exact.out, &plain.out, 2.0),
            ("dq", &got.dq, &exact.dq, &plain.dq, 3.0),
            ("dk", &got.dk, &exact.dk, &plain.dk, 3.0),
            ("dv", &got.dv, &exact.dv, &plain.dv, 3.0),
        ];
        for (name, got, exact, plain, factor) in tensors {
            let (wrong, allowed) = (error(got, exact), factor * error(plain, exact));
            if wrong.is_nan() || wrong > allowed {
                return Err(format!("{name}: error {wrong:.2e}, allowed {allowed:.2e}"));
            }
        }
        // In f32 all the way but for the delta, whose out is rounded.
        let wrong = error(&got.dbias, &exact.dbias);
        let allowed = 3.0 * error(&plain.dbias, &exact.dbias) + 1e-5;
        match wrong <= allowed {
            true => Ok(()),
            false => Err(format!("dbias: error {wrong:.2e}, allowed {allowed:.2e}")),
        }
    }
}

/// Small problems, one for each way that compiles to other code.
pub fn variants() -> Vec<Variant> {
    let built = |builder: longnet_pattern::dilated::DilatedBuilder| {
        builder.build().expect("a right pattern")
    };
    // Tiles of more than 64 rows.
    let long = || built(DilatedPattern::new(2, [(256, 1), (512, 2)]).causal(true));
    let three =
        |causal| built(DilatedPattern::new(2, [(32, 1), (128, 2), (256, 5)]).causal(causal));
    let base = Case {
        name: "",
        hot: false,
        pattern: three(true),
        span: Span::full(200),
        batch: 1,
        kv_heads: 1,
        d: 64,
        d_v: 64,
        labels: false,
        dropout: false,
        bias: false,
        mix: MixGradient::Exact,
        half: Half::Bf16,
        layout: Layout::Permuted,
        adjust: |blueprint| blueprint,
    };
    let mask = |q_block, k_block, causal| {
        let grid = BlockGrid::cross(150, 150, q_block, k_block);
        let mask = BlockMask::new(2, grid).causal(causal);
        let built = mask.build_from_fn(|h, i, j| (i * 5 + j * 3 + h) % 4 != 1);
        Pattern::from(built.expect("a right mask"))
    };
    let cases = [
        Case {
            name: "causal, d 64, bf16",
            hot: true,
            ..base.clone()
        },
        Case {
            name: "causal, d 64, f16",
            hot: true,
            half: Half::F16,
            ..base.clone()
        },
        Case {
            name: "causal, d 128, bf16",
            hot: true,
            d: 128,
            d_v: 128,
            ..base.clone()
        },
        Case {
            name: "causal, d 128, f16",
            hot: true,
            d: 128,
            d_v: 128,
            half: Half::F16,
            ..base.clone()
        },
        Case {
            name: "causal, long classes, d 64, bf16",
            hot: true,
            pattern: long(),
            span: Span::full(300),
            ..base.clone()
        },
        Case {
            name: "causal, long classes, d 128, bf16",
            hot: true,
            pattern: long(),
            span: Span::full(300),
            d: 128,
            d_v: 128,
            ..base.clone()
        },
        Case {
            name: "one branch, d 64, f16",
            hot: true,
            pattern: built(DilatedPattern::new(2, [(512, 2)])),
            half: Half::F16,
            ..base.clone()
        },
        Case {
            name: "labels, d 40, d_v 24, f16",
            pattern: three(false),
            span: Span {
                q_start: 31,
                n_q: 150,
                k_start: 5,
                n_k: 170,
                step: 1,
            },
            batch: 2,
            d: 40,
            d_v: 24,
            labels: true,
            half: Half::F16,
            ..base.clone()
        },
        Case {
            name: "dropout, d 80, d_v 96, kv heads of their own",
            kv_heads: 2,
            d: 80,
            d_v: 96,
            dropout: true,
            ..base.clone()
        },
        Case {
            name: "detached, zero keys, contiguous",
            pattern: built(
                DilatedPattern::new(2, [(32, 1), (128, 2), (256, 5)]).tail(Tail::ZeroKeys),
            ),
            mix: MixGradient::Detached,
            d: 32,
            d_v: 64,
            layout: Layout::Contiguous,
            ..base.clone()
        },
        Case {
            name: "causal, detached, labels and dropout, f16",
            mix: MixGradient::Detached,
            labels: true,
            dropout: true,
            half: Half::F16,
            ..base.clone()
        },
        Case {
            name: "d 256, d_v 144",
            span: Span::full(100),
            d: 256,
            d_v: 144,
            ..base.clone()
        },
        Case {
            name: "blocks with a bias, causal",
            pattern: mask(48, 32, true),
            span: Span::full(150),
            batch: 2,
            bias: true,
            ..base.clone()
        },
        Case {
            name: "blocks, longer than tiles, d 128",
            pattern: mask(128, 16, false),
            span: Span {
                q_start: 10,
                n_q: 140,
                k_start: 3,
                n_k: 140,
                step: 1,
            },
            d: 128,
            d_v: 128,
            ..base.clone()
        },
        Case {
            name: "without asynchronous copies, d 48",
            d: 48,
            d_v: 48,
            labels: true,
            adjust: |blueprint| MmaBlueprint {
                copy_async: false,
                ..blueprint
            },
            ..base.clone()
        },
        Case {
            name: "one stage, d 16, f16",
            d: 16,
            d_v: 16,
            half: Half::F16,
            adjust: |blueprint| MmaBlueprint {
                stages: 1,
                ..blueprint
            },
            ..base.clone()
        },
    ];
    cases
        .map(|case| Variant {
            name: format!("tensor cores: {}", case.name),
            hot: case.hot,
            run: Box::new(move |client| case.check(client)),
        })
        .into()
}
