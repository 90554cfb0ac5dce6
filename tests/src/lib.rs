//! What the tests that cross crates share.
//!
//! | module | what it holds |
//! |---|---|
//! | [`dilated`], [`blocks`] | the patterns by their definition |
//! | [`problem`] | an attention problem, its inputs and outputs on the host |
//! | [`oracle`] | the dense f64 reference |
//! | [`generate`] | seeded random problems |
//! | [`run`] | the op on a problem, through Burn |
//! | `device` | the device of a CubeCL backend that tests run on |
//! | [`implementations`] | kernels and fallback, as functions |
//! | [`compare`] | errors against the oracle |
//! | [`goldens`] | reading reference results of other projects |
//! | [`ranks`] | what every communicator must do |
//! | [`weights`] | gradients of modules by other names |
//! | [`check`], [`torchscale`], [`dilated_attention_pytorch`] | those of the op, as comparisons |

pub mod blocks;
pub mod check;
pub mod compare;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod device;
pub mod dilated;
pub mod dilated_attention_pytorch;
pub mod generate;
pub mod goldens;
pub mod implementations;
pub mod oracle;
pub mod problem;
pub mod ranks;
pub mod report;
pub mod rng;
pub mod run;
pub mod torchscale;
pub mod weights;
