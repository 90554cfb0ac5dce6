//! Exact sparse attention on host slices, forward and backward, threaded.
//!
//! One op for every pattern: softmax over the multiset of keys that a
//! [`Schedule`](longnet_pattern::Schedule) says a query sees. A work item is a block of consecutive
//! rows of one head; it walks the runs of all branches and carries one online softmax through them
//! (the branch mix of LongNet, arXiv 2307.02486 section 2.2, is exactly that softmax). Scores exist
//! for one tile at a time: scratch memory is a few MiB a thread, whatever the length. The backward pass
//! also keeps, for the kv heads in progress (one a thread), the sums of dq of the rows that the current
//! keys reach: as many as the longest segment has, or as see the same blocks of a mask.
//!
//! Results have the same bits for any number of threads.
//!
//! The kernels are those of the best instruction set that the machine has; [`level`] names it, the
//! environment variable `LONGNET_CPU` forces another one of [`levels`]:
//!
//! | level | chosen where the CPU has | tested |
//! |---|---|---|
//! | `amx` | as `avx512bf16`, and AMX-TILE and AMX-BF16 (Linux) | under an emulator of these instructions, by `.ci/amx`; not yet on a processor, never timed |
//! | `avx512bf16` | as `avx512`, and AVX512-BF16; on Intel's only if forced, since there it is slower | where present |
//! | `avx512` | AVX-512 F, BW, DQ, VL | where present |
//! | `avx2` | AVX2 and FMA | where present |
//! | `neon` | aarch64: always | under qemu, by `.ci/aarch64`; never timed |
//! | `portable` | none of these; no fused multiply-adds | always |
//! | `emulated-bf16` | only if forced: the bfloat16 products of the first two in plain Rust | always |
//!
//! The first two differ from `avx512` for `bf16` tensors, whose products they compute in bfloat16 with
//! sums in f32, as the processor does; the others widen to f32. `f16` is always widened.
//!
//! ```
//! use longnet_cpu::{Problem, View, forward};
//! use longnet_pattern::{DilatedPattern, Span};
//!
//! let (heads, n, d) = (2, 100, 8);
//! let schedule = DilatedPattern::new(heads, [(16, 1), (64, 4)])
//!     .causal(true)
//!     .build()?
//!     .schedule(Span::full(n))?;
//! let x = vec![0.5f32; heads * n * d];
//! let view = View::contiguous(&x, [1, heads, n, d]);
//! let (mut out, mut lse) = (vec![0.0; heads * n * d], vec![0.0; heads * n]);
//! forward(&Problem::new(&schedule, d), view, view, view, &mut out, &mut lse);
//! assert!((out[0] - 0.5).abs() < 1e-6);
//! # Ok::<(), longnet_pattern::PatternError>(())
//! ```
//!
//! | module | concept |
//! |---|---|
//! | `pack`, `packed`, `panels` | gathers strided rows, widens them, transposes them for the products |
//! | `tiles` | what is packed and multiplied: in the accumulating type, or in bfloat16 |
//! | `kernels` | what runs per tile and per row, compiled once per instruction set |
//! | `rules` | what masks or drops single pairs: labels, dropout |
//! | `block_rule` | a block mask as such a rule, where that is faster than block by block |
//! | `work` | items over threads |
//! | `forward`, `backward` | the passes |
//! | `decode` | the forward pass of few rows, which reads keys and values where they lie |
//! | [`matrix`] | products of matrices |
//! | [`rowwise`] | what else a transformer does, row by row |

mod backward;
mod block_rule;
mod buffer;
mod context;
mod decode;
mod element;
mod forward;
mod kernels;
pub mod matrix;
mod memory;
mod pack;
mod packed;
mod panels;
mod problem;
mod real;
pub mod rowwise;
mod rules;
mod tiles;
mod view;
mod work;

pub use element::Element;
pub use kernels::UnknownLevel;
pub use memory::keep_freed_memory;
pub use problem::{Bias, Labels, Problem, Walk};
pub use view::View;

/// The instruction set whose kernels this process uses: what the environment variable `LONGNET_CPU`
/// names, else the best of [`levels`]. Read once.
///
/// # Errors
///
/// If `LONGNET_CPU` is none of [`levels`]. [`forward`] and [`backward`] then panic with that message.
pub fn level() -> Result<&'static str, UnknownLevel> {
    kernels::selected().map(|level| level.name)
}

/// The instruction sets that this machine has kernels for, best first. The last two, `portable` and
/// `emulated-bf16`, run anywhere.
pub fn levels() -> Vec<&'static str> {
    kernels::available()
        .iter()
        .map(|level| level.name)
        .collect()
}

/// Attention and its log-sum-exp.
///
/// `q` is `[batch, heads, n_q, d]`, `k` `[batch, kv_heads, n_k, d]`, `v` `[batch, kv_heads, n_k,
/// d_v]`; query head `h` reads kv head `h / (heads / kv_heads)`. Writes every element of `out`,
/// `[batch, heads, n_q, d_v]`, and of `lse`, `[batch, heads, n_q]` in natural units, both contiguous.
/// A row that sees nothing gets zeros and `-inf`. With dropout, `lse` is that of the undropped scores.
///
/// Keys with the label [`HIDDEN`](longnet_pattern::HIDDEN) are not read.
///
/// # Panics
///
/// If the shapes disagree with each other, with the schedule or with the lengths of the slices, a
/// view reaches outside of its slice, a pattern that is not a block mask has a bias, or [`level`] is an error.
pub fn forward<E: Element>(
    problem: &Problem,
    q: View<E>,
    k: View<E>,
    v: View<E>,
    out: &mut [E],
    lse: &mut [E::Acc],
) {
    E::forward(problem, q, k, v, out, lse);
}

/// The gradients of [`forward`], given its results and the gradients of these.
///
/// `out` and `dout` are `[batch, heads, n_q, d_v]`, `lse` and `dlse` (zero if `None`) contiguous
/// `[batch, heads, n_q]`. Writes every element of `dq`, `dk` and `dv`, contiguous in the shapes of
/// `q`, `k` and `v`, and of `dbias`, if that is asked for, in the order of the bias. Rows with an `lse` of `-inf` give and get no gradient.
///
/// `lse` may cover more keys than this problem's (partial results that were merged): then the
/// gradients are this problem's share of those of the merged result. With
/// [`MixGradient::Detached`](longnet_pattern::MixGradient::Detached) it must not, since the mixing
/// weights come from this problem's keys.
///
/// # Panics
///
/// As [`forward`].
pub fn backward<E: Element>(
    problem: &Problem,
    q: View<E>,
    k: View<E>,
    v: View<E>,
    out: View<E>,
    lse: &[E::Acc],
    dout: View<E>,
    dlse: Option<&[E::Acc]>,
    dq: &mut [E],
    dk: &mut [E],
    dv: &mut [E],
    dbias: Option<&mut [f64]>,
) {
    E::backward(problem, q, k, v, out, lse, dout, dlse, dq, dk, dv, dbias);
}
