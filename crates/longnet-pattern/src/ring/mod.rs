//! Sequences that are sharded over the ranks of a ring: who holds which positions.

mod layout;

pub use layout::{Layout, Shards};
