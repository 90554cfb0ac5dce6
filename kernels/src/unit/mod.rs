//! A row a unit, or several rows, or a few units a row, each with a part of its channels: runs on every device.
//!
//! The rows of the other side pass through shared memory in f32; all units of a plane read the same
//! one at a time.

// Conditions at compile time and at run time are not one condition: only the latter is in the kernel.
#![allow(clippy::collapsible_if, clippy::if_same_then_else)]

mod delta;
mod forward;
mod keys;
mod queries;
mod rows;

pub(crate) use rows::{Four, LOWEST, four};

pub use delta::{deltas, sum_bias, zeros};
pub use forward::attention;
pub use keys::key_gradients;
pub use queries::query_gradients;
