//! Memory, bytes and time of ring attention with threads as ranks, on the CPU.
//!
//! `cargo run --release -p longnet-tests --bin ring` measures all; `ring memory RANKS` and `ring time RANKS LAYOUT PATTERN`
//! measure one, in this process. 4 heads of size 64, causal, f32; a step is a forward and a backward pass.
//! `ring plan` computes what 2^30 positions would take on many devices.

use burn::tensor::{Device, Distribution, Tensor};
use burn_longnet::functional::{AttentionOptions, sparse_attention_with_lse};
use burn_longnet::ring::{LocalComm, SequenceShard, ring_attention};
use longnet_pattern::ring::{Layout, RingSchedule, RingTraffic, Shards};
use longnet_pattern::{DilatedPattern, Pattern, Sizes};
use longnet_tests::report::peak_resident_bytes;
use std::process::{Command, ExitCode};
use std::sync::Barrier;
use std::time::{Duration, Instant};

const HEADS: usize = 4;
const WIDTH: usize = 64;
/// Segment lengths and dilation rates of LongNet's pretraining runs.
const BRANCHES: [(usize, usize); 5] = [(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)];
const MEMORY_POSITIONS: usize = 32_768;
const TIME_POSITIONS: usize = 16_384;
const STEPS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(200);
const LAYOUTS: [(&str, Layout); 3] = [
    ("contiguous", Layout::Contiguous),
    ("zigzag", Layout::Zigzag),
    ("striped", Layout::Striped),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => all(),
        ["plan"] => {
            plan();
            Some(())
        }
        ["memory", ranks] => ranks.parse().ok().map(memory),
        ["time", ranks, layout, pattern] => LAYOUTS
            .iter()
            .find(|(name, _)| *name == layout)
            .zip(named(pattern))
            .zip(ranks.parse().ok())
            .map(|((&(_, layout), pattern), ranks)| time(ranks, layout, &pattern)),
        _ => None,
    };
    match done {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("usage: ring [plan | memory RANKS | time RANKS LAYOUT (longnet|dense)]");
            ExitCode::FAILURE
        }
    }
}

fn named(pattern: &str) -> Option<Pattern> {
    let branches = match pattern {
        "longnet" => &BRANCHES[..],
        "dense" => return Some(Pattern::dense(HEADS, true)),
        _ => return None,
    };
    let pattern = DilatedPattern::new(HEADS, branches.iter().copied());
    pattern.causal(true).build().ok()
}

/// Each measurement in a process of its own: a peak is that of a process, and each rank has one thread for its kernels.
fn all() -> Option<()> {
    let program = std::env::current_exe().expect("the path of this program");
    let run = |arguments: &[&str]| {
        let status = Command::new(&program)
            .args(arguments)
            .env("RAYON_NUM_THREADS", "1")
            .status();
        status.ok().filter(|status| status.success()).map(|_| ())
    };
    for ranks in ["1", "2", "4", "8"] {
        run(&["memory", ranks])?;
    }
    for pattern in ["longnet", "dense"] {
        run(&["time", "1", "contiguous", pattern])?;
        for (layout, _) in LAYOUTS {
            run(&["time", "2", layout, pattern])?;
        }
    }
    Some(())
}

/// A layer of 16 heads of 128 in bf16 over 2^30 positions: branches whose segments and rates grow fourfold, from 2048 at rate
/// 1 to all positions, so that each sees 2048 keys of a segment at most. Causal, contiguous. The rank with the most work.
fn plan() {
    const N: usize = 1 << 30;
    const PLAN_HEADS: usize = 16;
    const PLAN_WIDTH: usize = 128;
    /// FLOPs a second of a device: 989 TFLOP/s at 40 %.
    const FLOPS: f64 = 989e12 * 0.4;
    /// Bytes a second that a device sends: 400 Gbit/s.
    const LINK: f64 = 50e9;
    let mut branches: Vec<_> = (0..10).map(|i| (2048 << (2 * i), 1 << (2 * i))).collect();
    branches.push((N, 1 << 19));
    let pattern = DilatedPattern::new(PLAN_HEADS, branches);
    let pattern = pattern.causal(true).build().expect("right branches");
    let sizes = Sizes {
        batch: 1,
        kv_heads: PLAN_HEADS,
        d: PLAN_WIDTH,
        d_v: PLAN_WIDTH,
        bytes_per_element: 2,
    };
    for ranks in [64, 256, 1024] {
        let shards = Shards::new(Layout::Contiguous, N, ranks);
        let costs = [0, ranks / 2, ranks - 1].map(|rank| {
            let ring = RingSchedule::new(&pattern, &shards, PLAN_HEADS, rank);
            let ring = ring.expect("a right pattern");
            (ring.visited_pairs(), ring.traffic(&sizes, false))
        });
        let pairs = costs.iter().map(|(pairs, _)| *pairs).max().expect("ranks");
        let sent = |of: fn(&RingTraffic) -> u64| costs.iter().map(|(_, t)| of(t)).max();
        let sent = [sent(|t| t.forward), sent(|t| t.backward)].map(|x| x.expect("ranks") as f64);
        let flops = (4 * PLAN_WIDTH) as f64 * pairs as f64;
        // q, k, v and out in bf16, lse in f32.
        let row = PLAN_HEADS * (4 * PLAN_WIDTH * 2 + 4);
        println!(
            "plan: {ranks} ranks, {} rows a rank: {:.2} GB kept a layer; forward {:.1} TFLOP, {:.0} ms, sends {:.3} GB, {:.1} ms; \
             backward {:.1} TFLOP, {:.0} ms, sends {:.3} GB, {:.1} ms",
            N / ranks,
            (N / ranks * row) as f64 / 1e9,
            flops / 1e12,
            flops / FLOPS * 1e3,
            sent[0] / 1e9,
            sent[0] / LINK * 1e3,
            2.5 * flops / 1e12,
            2.5 * flops / FLOPS * 1e3,
            sent[1] / 1e9,
            sent[1] / LINK * 1e3,
        );
    }
}

/// What a rank holds: leaves, and the gradient that comes in.
struct Rank {
    leaves: [Tensor<4>; 3],
    dout: Tensor<4>,
}

impl Rank {
    fn new(queries: usize, keys: usize) -> Self {
        let device = Device::flex().autodiff();
        let random = |rows| {
            let shape = [1, HEADS, rows, WIDTH];
            Tensor::<4>::random(shape, Distribution::Uniform(-1.7, 1.7), &device)
        };
        Self {
            leaves: [queries, keys, keys].map(|rows| random(rows).require_grad()),
            dout: random(queries),
        }
    }

    fn step(&self, attention: impl FnOnce([Tensor<4>; 3]) -> Tensor<4>) {
        let out = attention(self.leaves.clone());
        let mut gradients = (out * self.dout.clone()).sum().backward();
        for leaf in &self.leaves {
            let gradient = leaf.grad_remove(&mut gradients).expect("a gradient");
            let size: f32 = gradient.abs().mean().into_scalar();
            assert!(size.is_finite(), "mean size {size}");
        }
    }

    fn ring_step(&self, pattern: &Pattern, shard: &SequenceShard) {
        self.step(|[q, k, v]| {
            ring_attention(q, k, v, pattern, shard, &AttentionOptions::default()).0
        });
    }
}

fn sizes() -> Sizes {
    Sizes {
        batch: 1,
        kv_heads: HEADS,
        d: WIDTH,
        d_v: WIDTH,
        bytes_per_element: 4,
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// The peak of a step, shared among the ranks, and the bytes that they send.
fn memory(ranks: usize) {
    let pattern = named("longnet").expect("a known name");
    let before = peak_resident_bytes().unwrap_or(0);
    let sent = LocalComm::run(ranks, DEADLINE, |comm| {
        let shard = SequenceShard::new(comm.clone(), Layout::Contiguous, MEMORY_POSITIONS);
        let rank = Rank::new(shard.rows(), shard.rows());
        comm.barrier().expect("all ranks come");
        rank.ring_step(&pattern, &shard);
        comm.traffic().bytes
    });
    let sent: u64 = sent
        .into_iter()
        .map(|sent| sent.expect("all ranks run"))
        .sum();
    let predicted = predicted(&pattern, Layout::Contiguous, MEMORY_POSITIONS, ranks);
    let peak = peak_resident_bytes().unwrap_or(0) - before;
    println!(
        "memory: longnet, contiguous, n {MEMORY_POSITIONS}, {ranks} ranks, n/P {}: peak a rank {:.0} MiB, {:.0} bytes a row; \
         sent in all {:.2} MiB, predicted {:.2} MiB",
        MEMORY_POSITIONS / ranks,
        mib(peak / ranks as u64),
        peak as f64 / MEMORY_POSITIONS as f64,
        mib(sent),
        mib(predicted),
    );
    assert_eq!(sent, predicted);
}

fn predicted(pattern: &Pattern, layout: Layout, n: usize, ranks: usize) -> u64 {
    let shards = Shards::new(layout, n, ranks);
    let of = |rank| {
        let ring = RingSchedule::new(pattern, &shards, HEADS, rank).expect("a right pattern");
        let traffic = ring.traffic(&sizes(), false);
        traffic.forward + traffic.backward
    };
    (0..ranks).map(of).sum()
}

/// Seconds of a step, the slowest rank's, and those of its attention alone: the same parts, without a ring.
fn time(ranks: usize, layout: Layout, pattern: &Pattern) {
    let n = TIME_POSITIONS;
    let start = Barrier::new(ranks);
    let seconds = |run: &dyn Fn()| {
        let time = |_| {
            start.wait();
            let before = Instant::now();
            run();
            before.elapsed().as_secs_f64()
        };
        (0..STEPS).map(time).fold(f64::INFINITY, f64::min)
    };
    let times = LocalComm::run(ranks, DEADLINE, |comm| {
        let shard = SequenceShard::new(comm.clone(), layout, n);
        let rank = Rank::new(shard.rows(), shard.rows());
        let ring = seconds(&|| rank.ring_step(pattern, &shard));
        let schedule = shard.schedule(pattern, HEADS);
        let parts: Vec<_> = (schedule.hops().iter().flat_map(|hop| &hop.parts))
            .map(|part| {
                let span = part.schedule.span();
                let options = AttentionOptions {
                    span: Some(span),
                    ..AttentionOptions::default()
                };
                (Rank::new(span.n_q, span.n_k), options)
            })
            .collect();
        let alone = seconds(&|| {
            for (part, options) in &parts {
                part.step(|[q, k, v]| sparse_attention_with_lse(q, k, v, pattern, options).0);
            }
        });
        let traffic = schedule.traffic(&sizes(), false);
        (ring, alone, traffic.forward + traffic.backward)
    });
    let times: Vec<_> = times
        .into_iter()
        .map(|times| times.expect("all ranks run"))
        .collect();
    let slowest = |of: fn(&(f64, f64, u64)) -> f64| times.iter().map(of).fold(0.0, f64::max);
    let sent: u64 = times.iter().map(|(.., sent)| sent).sum();
    let name = match pattern {
        Pattern::Dilated(dilated) if dilated.branches().len() > 1 => "longnet",
        _ => "dense",
    };
    println!(
        "time: {name}, {layout:?}, n {n}, {ranks} ranks of one thread: {:.3} s a step, attention alone {:.3} s; sent in all {:.1} MiB a step",
        slowest(|times| times.0),
        slowest(|times| times.1),
        mib(sent),
    );
}
