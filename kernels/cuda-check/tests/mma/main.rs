//! The attention kernels on tensor cores, run by the emulator, against dense attention in f64.

mod reference;
mod run;

use burn_longnet_kernels::mma::MmaBlueprint;
use burn_longnet_kernels::walk::Role;
use longnet_cuda_check::Arch;
use longnet_cuda_check::emulate::{self, Order};
use longnet_pattern::{DilatedPattern, Dropout, HIDDEN, MixGradient, Pattern, Span, Tail};
use reference::{Problem, error};
use run::{Device, Half, Layout, Way};

/// Numbers of about unit variance, the same in every run.
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            let mut sum = 0.0;
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                sum += (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
            }
            2.0 * sum
        })
        .collect()
}

/// A case: what is computed, and by which kernels.
struct Case {
    pattern: Pattern,
    span: Span,
    batch: usize,
    kv_heads: usize,
    d: usize,
    d_v: usize,
    labels: bool,
    dropout: bool,
    mix: MixGradient,
    half: Half,
    layout: Layout,
    order: Order,
    tiles: usize,
    stages: usize,
    resident: bool,
    copy_async: bool,
}

impl Case {
    fn new(pattern: Pattern, n: usize, d: usize) -> Self {
        Self {
            pattern,
            span: Span::full(n),
            batch: 1,
            kv_heads: 0,
            d,
            d_v: d,
            labels: false,
            dropout: false,
            mix: MixGradient::Exact,
            half: Half::Bf16,
            layout: Layout::Contiguous,
            order: Order::Ascending,
            tiles: 1,
            stages: 2,
            resident: true,
            copy_async: true,
        }
    }

    fn problem(&self) -> Problem {
        let schedule = self.pattern.schedule(self.span).unwrap();
        let heads = schedule.heads();
        let kv_heads = if self.kv_heads == 0 {
            heads
        } else {
            self.kv_heads
        };
        let (n_q, n_k) = (self.span.n_q, self.span.n_k);
        let round = self.half.round();
        let tensor = |heads: usize, n: usize, d: usize, seed| -> Vec<f64> {
            numbers(self.batch * heads * n * d, seed)
                .into_iter()
                .map(round)
                .collect()
        };
        let labels = |n: usize, hidden: bool| {
            let label = |i: usize| match i % n {
                i if hidden && i % 11 == 3 => HIDDEN,
                i => (i * 3 / n) as i32,
            };
            (0..self.batch * n).map(label).collect()
        };
        Problem {
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
            mix: self.mix,
            q: tensor(heads, n_q, self.d, 1),
            k: tensor(kv_heads, n_k, self.d, 2),
            v: tensor(kv_heads, n_k, self.d_v, 3),
            dout: tensor(heads, n_q, self.d_v, 4),
            dlse: numbers(self.batch * heads * n_q, 5),
            schedule,
        }
    }

    /// Runs all kernels and holds them to the tolerances.
    fn check(&self) {
        let Some(client) = emulate::client_with(Arch::Sm80, self.order) else {
            return;
        };
        let problem = self.problem();
        let exact = problem.solve(|x| x);
        let plain = problem.solve(self.half.round());
        let blueprint = MmaBlueprint {
            d: self.d,
            d_v: self.d_v,
            planes: 4,
            tiles: self.tiles,
            share: 1,
            stage: 32,
            stages: self.stages,
            resident: self.resident,
            copy_async: self.copy_async,
            role: Role::Final,
            merges: false,
            causal: false,
            labels: false,
            dropout: false,
            zero_keys: false,
            detached: false,
        };
        let device = Device {
            client: &client,
            problem: &problem,
            way: Way {
                half: self.half,
                layout: self.layout,
                blueprints: [blueprint; 3],
            },
        };
        let got = device.run();
        for (i, (got, lse)) in got.lse.iter().zip(&exact.lse).enumerate() {
            assert!(
                got == lse || (got - lse).abs() < 1e-3,
                "lse of row {i}: {got}, not {lse}"
            );
        }
        let tensors = [
            ("out", &got.out, &exact.out, &plain.out, 2.0),
            ("dq", &got.dq, &exact.dq, &plain.dq, 3.0),
            ("dk", &got.dk, &exact.dk, &plain.dk, 3.0),
            ("dv", &got.dv, &exact.dv, &plain.dv, 3.0),
        ];
        for (name, got, exact, plain, factor) in tensors {
            let (wrong, allowed) = (error(got, exact), error(plain, exact));
            eprintln!("{name}: {wrong:.2e}, plain {allowed:.2e}");
            assert!(
                wrong <= factor * allowed,
                "{name}: error {wrong:.2e}, a plain implementation's is {allowed:.2e}"
            );
        }
    }
}

#[test]
fn dense_causal() {
    Case::new(Pattern::dense(2, true), 150, 64).check();
}

#[test]
fn dilated_branches_causal() {
    let pattern = DilatedPattern::new(3, [(32, 1), (128, 2), (256, 5)]).causal(true);
    Case {
        span: Span::full(200),
        tiles: 2,
        half: Half::F16,
        ..Case::new(pattern.build().unwrap(), 200, 64)
    }
    .check();
}
