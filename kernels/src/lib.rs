//! Sparse attention in CubeCL: forward and backward over the schedules of `longnet-pattern`, for every
//! device that CubeCL reaches.
//!
//! For each row `i`, over the keys `j` of all its branches: `out_i = sum_j P_ij c_ij v_j` with
//! `P_ij = exp(s_ij - lse_i)`, `s_ij = scale <q_i, k_j>` and `c_ij` the factor of dropout. Backward, with
//! `delta_i = <dout_i, out_i> - dlse_i`: `dS_ij = P_ij (c_ij <dout_i, v_j> - delta_i)`,
//! `dq_i = scale sum_j dS_ij k_j`, `dk_j = scale sum_i dS_ij q_i`, `dv_j = sum_i P_ij c_ij dout_i`.
//!
//! # Tiles
//!
//! A tile is consecutive rows of one residue class of one segment (of one block of a block mask); it meets
//! the rows of the other side that its schedule lists, staged in shared memory, and scores never leave the
//! cube. Where rows are in several branches, all branches but the one that covers most rows leave f32 results
//! for their own rows, and the launch of that one merges them: nothing of a branch outlives the call. Few
//! queries against many keys are split over keys instead ([`decode`]).
//!
//! # Routines
//!
//! | routine | runs on | types |
//! |---|---|---|
//! | [`unit`](mod@unit) | every device | f32, f16, bf16; heads of 1 to 256 channels |
//! | [`mma`] | tensor cores with `mma.sync` and `ldmatrix` (CUDA, sm_80 on) | f16, bf16; heads of 16 to 256 channels by 8 |
//!
//! [`launch::Plan`] asks the device's properties which can run a problem, and says why not; where several can,
//! cubecl's tuner tries them once for each kind of problem. `LONGNET_ROUTINE` forces one.
//!
//! # Determinism
//!
//! dq comes from a pass over queries, dk and dv from one over keys, on the transposed schedule. Nothing is
//! added atomically, and sums have a fixed order: the same routine gives the same bits. The tuner may choose
//! another routine in another process; force one where bits matter across processes.
//!
//! # Addresses
//!
//! Offsets into tensors are computed ([`mod@address`]) in the kernel's address type, 64 bits as soon as one of its
//! tensors has more than 2^32 elements (CubeCL's `AddressType`), from 32-bit row numbers; a call over more than
//! 2^31 positions, or with labels of more than 2^32, is declined.

#[allow(missing_docs, reason = "the macros of CubeCL write items without")]
pub mod address;
pub mod blueprint;
#[allow(missing_docs, reason = "the macros of CubeCL write items without")]
pub mod decode;
pub mod launch;
#[allow(
    missing_docs,
    clippy::collapsible_if,
    clippy::manual_is_multiple_of,
    reason = "the macros of CubeCL write items without; what is known when a kernel is compiled stands by itself"
)]
pub mod mma;
#[allow(missing_docs, reason = "the macros of CubeCL write items without")]
pub mod rules;
pub mod table;
#[allow(missing_docs, reason = "the macros of CubeCL write items without")]
pub mod unit;
pub mod walk;
