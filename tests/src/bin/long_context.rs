//! Memory and time of the op at long context, on the CPU.
//!
//! `cargo run --release -p longnet-tests --bin long_context` measures forward and backward at 16,384
//! and 262,144 positions and a forward at 1,048,576. `long_context N forward|backward` measures one,
//! in this process. 4 heads of size 64, the paper's five branches, causal, f32.

use burn::tensor::{Device, Distribution, Tensor};
use burn_longnet::functional::{AttentionOptions, sparse_attention};
use longnet_pattern::{DilatedPattern, Pattern, Sizes, Span};
use longnet_tests::report::peak_resident_bytes;
use std::process::{Command, ExitCode};
use std::time::Instant;

const HEADS: usize = 4;
const WIDTH: usize = 64;
/// Segment lengths and dilation rates of LongNet's pretraining runs.
const BRANCHES: [(usize, usize); 5] = [(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)];
/// What forward and backward at 262,144 positions may hold.
const MOST_MEMORY: u64 = 4 << 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => all(),
        [n, pass] if ["forward", "backward"].contains(&pass.as_str()) => match n.parse() {
            Ok(n) => measure(n, pass == "backward"),
            Err(error) => {
                eprintln!("{n}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: long_context [N forward|backward]");
            ExitCode::FAILURE
        }
    }
}

/// Each measurement in a process of its own: the peak is that of a process.
fn all() -> ExitCode {
    let program = std::env::current_exe().expect("the path of this program");
    for (n, pass) in [
        ("16384", "backward"),
        ("262144", "backward"),
        ("1048576", "forward"),
    ] {
        let status = Command::new(&program).args([n, pass]).status();
        match status {
            Ok(status) if status.success() => {}
            other => {
                eprintln!("{n} {pass}: {other:?}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Fails if a backward pass takes more than [`MOST_MEMORY`].
fn measure(n: usize, backward: bool) -> ExitCode {
    let pattern = DilatedPattern::new(HEADS, BRANCHES)
        .causal(true)
        .build()
        .expect("a valid pattern");
    // Short sequences are measured over several runs, the first of which warms up.
    let runs = (262_144 / n).clamp(1, 4);
    let best = if backward {
        backward_seconds(n, &pattern, runs)
    } else {
        forward_seconds(n, &pattern, runs)
    };
    let cost = pattern
        .schedule(Span::full(n))
        .expect("a whole sequence")
        .cost(&Sizes {
            batch: 1,
            kv_heads: HEADS,
            d: WIDTH,
            d_v: WIDTH,
            bytes_per_element: 4,
        });
    let flops = cost.forward_flops + if backward { cost.backward_flops } else { 0 };
    let peak = peak_resident_bytes();
    let mib = peak.map_or("unknown".to_owned(), |bytes| {
        format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64)
    });
    println!(
        "n {n}, {}: {best:.2} s, {:.2} us a token, {:.1} visited GFLOP/s, peak resident memory {mib}",
        if backward {
            "forward and backward"
        } else {
            "forward"
        },
        best / n as f64 * 1e6,
        flops as f64 / best / 1e9,
    );
    if backward && peak.is_some_and(|bytes| bytes > MOST_MEMORY) {
        eprintln!("more than {} MiB", MOST_MEMORY >> 20);
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn random(n: usize, device: &Device) -> Tensor<4> {
    let shape = [1, HEADS, n, WIDTH];
    Tensor::random(shape, Distribution::Uniform(-1.7, 1.7), device)
}

/// The shortest of `runs` times.
fn best(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    (0..runs).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn forward_seconds(n: usize, pattern: &Pattern, runs: usize) -> f64 {
    let device = Device::flex();
    let [q, k, v] = [0; 3].map(|_| random(n, &device));
    best(runs, || {
        let (q, k, v) = (q.clone(), k.clone(), v.clone());
        let start = Instant::now();
        let out = sparse_attention(q, k, v, pattern, &AttentionOptions::default());
        let seconds = start.elapsed().as_secs_f64();
        check(out);
        seconds
    })
}

fn backward_seconds(n: usize, pattern: &Pattern, runs: usize) -> f64 {
    let device = Device::flex().autodiff();
    let leaves = [0; 3].map(|_| random(n, &device).require_grad());
    let dout = random(n, &device);
    best(runs, || {
        let [q, k, v] = leaves.clone();
        let start = Instant::now();
        let out = sparse_attention(q, k, v, pattern, &AttentionOptions::default());
        let mut gradients = (out * dout.clone()).sum().backward();
        let seconds = start.elapsed().as_secs_f64();
        for leaf in &leaves {
            check(leaf.grad_remove(&mut gradients).expect("a gradient"));
        }
        seconds
    })
}

/// A result is finite and not zero.
fn check(x: Tensor<4>) {
    let size: f32 = x.abs().mean().into_scalar();
    assert!(size.is_finite() && size > 0.0, "mean size {size}");
}
