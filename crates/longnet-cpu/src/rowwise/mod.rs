//! What a transformer does to each row beside attention and products, in f32: one pass over memory
//! each, threaded, in vector code for the instruction sets of this machine.
//!
//! A matrix is a slice of whole rows. Rows are cut into blocks of a fixed size and sums over rows are
//! added block by block in their order, so results have the same bits for any number of threads.

mod adamw;
mod blocks;
mod cross_entropy;
mod gelu;
mod layer_norm;
mod level;
mod math;
mod rotate;
mod sums;

pub use adamw::{AdamW, adamw};
pub use cross_entropy::cross_entropy;
pub use gelu::{gelu, gelu_backward};
pub use layer_norm::{layer_norm, layer_norm_backward};
pub use rotate::rotate;
pub use sums::{add_row, add_slice, sum_rows};
