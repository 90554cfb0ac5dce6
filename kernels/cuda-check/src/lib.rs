//! Proof, without a GPU, that kernels written in CubeCL are right on CUDA.
//!
//! A kernel goes through three steps, each of which stands for itself:
//!
//! - [`Source`]: the CUDA C++ that CubeCL's CUDA backend would hand to NVRTC on a GPU of an [`Arch`],
//!   either of a kernel at hand ([`Source::of`]) or of all that some code launches
//!   ([`Recorder`]).
//! - [`nvcc`]: that source compiled by NVRTC and ptxas, which come from PyPI and run on any machine:
//!   registers, spills, shared memory.
//! - [`emulate`]: the same source compiled for the host and run there, blocks one after another,
//!   threads as fibers. Tensor-core products, `ldmatrix`, shuffles, asynchronous copies and barriers
//!   do what PTX says they do; accesses out of bounds, races, lanes that wait at different places
//!   and shared memory that was never written end or poison the launch.
//!
//! The emulator stands behind an ordinary CubeCL [`Client`](cubecl::prelude::Client): see
//! [`emulate::client`]. Code that launches kernels runs on it as on any device.

#![warn(missing_docs)]

mod device;
pub mod emulate;
mod error;
pub mod nvcc;
mod record;
mod server;
mod source;
mod translate;

pub use device::Arch;
pub use error::Error;
pub use record::Recorder;
pub use source::Source;

/// Whether `LONGNET_REQUIRE` (words between commas or spaces) contains `word`: what is missing then
/// fails tests instead of skipping them.
pub fn required(word: &str) -> bool {
    std::env::var("LONGNET_REQUIRE")
        .is_ok_and(|words| words.split([',', ' ']).any(|named| named == word))
}
