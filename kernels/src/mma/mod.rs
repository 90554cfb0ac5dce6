//! Kernels on tensor cores (`mma.sync` m16n8k16, f32 accumulators) for f16 and bf16.
//!
//! A plane owns 16 or 32 rows of a tile and meets the rows of the other side in shared memory, which are
//! gathered by the stride of their residue class with asynchronous copies while the previous ones are in
//! use. Scores, weights and their gradients stay in registers.

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
