//! What is asked for, beside the tensors.

use longnet_pattern::{Dropout, MixGradient, Precision, Schedule};

/// Labels that restrict who sees whom: a query sees a key iff their labels are equal and the key's is
/// not [`HIDDEN`](longnet_pattern::HIDDEN). They carry padding masks and document ids.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// `[batch * n_q]`.
    pub q: &'a [i32],
    /// `[batch * n_k]`.
    pub k: &'a [i32],
}

/// What is added to the scores of each listed block of a block mask.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// `[blocks]` for all batch entries, or `[batch * blocks]`, in the order of
    /// [`BlockMask::bias_starts`](longnet_pattern::BlockMask::bias_starts). `-inf` hides a block.
    pub values: &'a [f64],
}

/// How block masks are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Walk {
    /// Area by area in the way that takes less time.
    #[default]
    Fastest,
    /// Block by block, neighbours together.
    Blocks,
    /// As dense attention from which a rule takes what is not listed, wherever that is exact: not where a bias hides
    /// blocks, which may hold anything, nor over keys that no row of an area sees.
    Dense,
}

/// An attention problem.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Who sees whom.
    pub schedule: &'a Schedule,
    /// What scores are multiplied with, usually `1 / sqrt(d)`.
    pub scale: f64,
    /// Padding and documents.
    pub labels: Option<Labels<'a>>,
    /// What is added to scores block by block. For block masks only.
    pub bias: Option<Bias<'a>>,
    /// Dropout of attention weights.
    pub dropout: Option<Dropout>,
    /// How the backward pass treats the weights that mix the branches. Of a block mask nothing is mixed, and
    /// the gradient is exact.
    pub gradient: MixGradient,
    /// How exact products of f32 must be.
    pub precision: Precision,
    /// How block masks are walked. It changes no result but by rounding.
    pub walk: Walk,
}

impl<'a> Problem<'a> {
    /// Scale `1 / sqrt(d)`, no labels, no bias, no dropout, the exact gradient, the highest precision, the
    /// fastest walk.
    pub fn new(schedule: &'a Schedule, d: usize) -> Self {
        Self {
            schedule,
            scale: 1.0 / (d as f64).sqrt(),
            labels: None,
            bias: None,
            dropout: None,
            gradient: MixGradient::Exact,
            precision: Precision::Highest,
            walk: Walk::Fastest,
        }
    }
}
