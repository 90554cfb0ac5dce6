//! The op on each backend.
//!
//! | backend | implementation |
//! |---|---|
//! | Flex | `longnet-cpu`'s kernels, reading Burn's buffers through their strides |
//! | CubeCL's (CUDA, ROCm, Vulkan, Metal, WebGPU) | `burn-longnet-kernels`; what they decline (f64, heads of more than 256 channels), said in the log, as every other |
//! | every other | [`fallback`]: plain tensor ops, memory in proportion to one branch's pairs |
//! | Autodiff over any | a hand-written backward step |

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
pub mod fallback;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "remote")]
mod remote;

/// See [`longnet_cpu::keep_freed_memory`].
#[cfg(feature = "flex")]
pub use longnet_cpu::keep_freed_memory;
/// See [`longnet_cpu::level`].
#[cfg(feature = "flex")]
pub use longnet_cpu::level as cpu_level;
/// See [`longnet_cpu::levels`].
#[cfg(feature = "flex")]
pub use longnet_cpu::levels as cpu_levels;
