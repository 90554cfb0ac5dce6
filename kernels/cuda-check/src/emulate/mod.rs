//! Kernels run on the host, as the CUDA C++ that CubeCL emits.
//!
//! [`client`] is the way to use it: a CubeCL client whose device is the emulator. [`Kernel`] is the
//! layer below: one compiled kernel and its arguments as bytes.
//!
//! What a launch checks, and ends with an error for:
//!
//! - accesses beside a buffer or shared memory;
//! - races: two threads that touch the same bytes, one of them writing, with no `__syncthreads`
//!   between (or `__syncwarp`, for lanes of one warp; shuffles do not order memory), and blocks that
//!   touch what another block writes; atomics are left out;
//! - lanes of a warp that come to different shuffles, products or barriers, and threads of a block
//!   that come to different barriers;
//! - addresses that `ldmatrix`, `cp.async` or a barrier do not allow.
//!
//! Shared memory holds NaN (all bits set) when a block starts, and so do the bytes that an
//! asynchronous copy is on its way to. Asynchronous copies end as late as they may. Products on tensor
//! cores are summed in double precision and rounded once; the approximate functions are as exact as
//! float is. A phase of a barrier in shared memory, once complete, counts as a barrier of the whole block.
//! Time is not emulated: nothing is learnt here about speed. The checks take some 25 bytes for each byte
//! of a buffer, so that problems are best kept small.

mod compile;
mod launch;
mod run;

pub(crate) use compile::cache;
pub use launch::{Order, client, client_with, compiler};
pub use run::{Argument, Kernel};
