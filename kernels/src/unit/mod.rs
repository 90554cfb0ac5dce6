//! A row a unit (or a few units, each with a part of its channels): runs on every device.
//!
//! The rows of the other side pass through shared memory in f32; all units of a plane read the same
//! one at a time.

mod delta;
mod forward;
mod keys;
mod queries;
mod rows;

pub use delta::{deltas, sum_bias, zeros};
pub use forward::attention;
pub use keys::key_gradients;
pub use queries::query_gradients;
