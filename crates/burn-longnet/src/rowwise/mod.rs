//! What a layer does to each row beside attention.
//!
//! On Flex in f32 each of these is one threaded pass of [`longnet_cpu::rowwise`], and its gradient
//! another, where Burn's own ops are single-threaded and several. Everywhere else they are Burn's ops.

mod gelu;
#[cfg(feature = "flex")]
pub(crate) mod host;
mod linear;
#[cfg(test)]
mod tests;

pub(crate) use gelu::gelu_of_sum;
pub(crate) use linear::{linear, matmul, project};
