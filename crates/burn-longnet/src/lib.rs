//! Long-context attention for [Burn](https://burn.dev): exact dilated attention (LongNet, arXiv
//! 2307.02486) as one differentiable op on any backend, as modules, and as a language model.
//!
//! One op, [`functional::sparse_attention`], computes attention for any
//! [`Pattern`](pattern::Pattern) of visible pairs without ever holding n×n scores:
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_longnet::functional::{AttentionOptions, sparse_attention};
//! use burn_longnet::pattern::DilatedPattern;
//!
//! let device = Device::default();
//! let x = Tensor::<4>::random([1, 4, 96, 16], Distribution::Default, &device);
//! let pattern = DilatedPattern::new(4, [(32, 1), (96, 2)]).causal(true).build()?;
//! let out = sparse_attention(x.clone(), x.clone(), x, &pattern, &AttentionOptions::default());
//! assert_eq!(out.dims(), [1, 4, 96, 16]);
//! # Ok::<(), burn_longnet::pattern::PatternError>(())
//! ```

pub mod attention;
pub mod backend;
mod dropout;
mod error;
pub mod functional;
pub mod interop;
pub mod model;
pub mod norm;
pub mod ops;
pub mod optim;
pub mod position;
mod precision;
pub mod prelude;
mod recompute;
pub mod ring;
mod rowwise;
#[cfg(test)]
mod testing;
mod vjp;

pub use dropout::DropoutSeed;
pub use error::ConfigError;
pub use longnet_pattern as pattern;
pub use recompute::recompute;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
