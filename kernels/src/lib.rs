//! Sparse attention in CubeCL: forward and backward over the schedules of `longnet-pattern`, for every
//! device that CubeCL reaches.
//!
//! For each row `i`, over the keys `j` of all its branches: `out_i = sum_j P_ij c_ij v_j` with
//! `P_ij = exp(s_ij - lse_i)`, `s_ij = scale <q_i, k_j>` and `c_ij` the factor of dropout. Backward, with
//! `delta_i = <dout_i, out_i> - dlse_i`: `dS_ij = P_ij (c_ij <dout_i, v_j> - delta_i)`,
//! `dq_i = scale sum_j dS_ij k_j`, `dk_j = scale sum_i dS_ij q_i`, `dv_j = sum_i P_ij c_ij dout_i`.
//!
//! Scores never leave a cube. A tile is consecutive rows of one residue class of one segment; where a row
//! is in several branches, all but the one that covers most rows leave f32 results for their own rows,
//! and the launch of that one merges them. Nothing is added atomically: the same call gives the same bits.

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
