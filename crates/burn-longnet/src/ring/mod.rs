//! Attention over a sequence that is spread over several ranks (Ring Attention, arXiv 2310.01889), and
//! what ranks say to each other.
//!
//! Every rank is a thread or a process that runs the same program on its own shard (SPMD), with a
//! [`Comm`] as its end of the group. [`ring_attention`] is the op, [`Ring`] makes modules of it, and
//! [`LmInput::shard`](crate::model::LmInput::shard) runs a language model on it.

mod attention;
mod comm;
mod heads;
mod message;
mod module;
mod shard;

pub use attention::ring_attention;
#[cfg(feature = "mpi")]
pub use comm::MpiComm;
pub use comm::{
    Comm, CommError, Expected, LocalComm, Pending, Single, Traffic, catch, even_parts, raise,
};
pub use heads::{HeadShard, head_parallel_attention};
pub use module::{
    Ring, RingBlockSparseAttention, RingDilatedAttention, RingMultiHeadBlockSparseAttention,
    RingMultiHeadDilatedAttention,
};
pub use shard::SequenceShard;

pub(crate) use attention::attention;
