//! Kernels on tensor cores (`mma.sync` m16n8k16, f32 accumulators) for f16 and bf16.
//!
//! A plane owns 16 or 32 rows of a tile and meets the rows of the other side in shared memory, which are
//! gathered by the stride of their residue class with asynchronous copies while the previous ones are in
//! use. Scores, weights and their gradients stay in registers: two accumulators side by side are, rounded to
//! 16 bits, the left operand of the next product. The pass over keys computes scores transposed for that.
//!
//! The kernels take the arguments of those in [`crate::unit`] and leave the same results, so that a launch
//! differs in three things only:
//!
//! - its blueprint is [`MmaBlueprint::new`] for the [`Kernel`], with `role` and `merges` of the launch; a
//!   cube has [`MmaBlueprint::units`] units in a row;
//! - its table is made for tiles of [`MmaBlueprint::rows`] rows, which may differ between the kernels;
//! - q, k, v and dout lie as [`aligned`] asks; the results, and what is merged, are contiguous.
//!
//! Scores are exponents of 2 from the start. A tile where every pair is seen skips the rules for single
//! pairs; rows past the end are zeros in shared memory and have no weight.

#[allow(missing_docs, reason = "the macros of CubeCL write items without")]
pub mod blueprint;
mod cursor;
mod forward;
mod fragment;
mod keys;
mod mask;
mod queries;
mod rows;
mod stage;

pub use blueprint::{Kernel, MmaBlueprint, aligned};
pub use forward::attention;
pub use keys::key_gradients;
pub use queries::query_gradients;
