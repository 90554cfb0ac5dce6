//! Attention over a sequence that is spread over several ranks (Ring Attention, arXiv 2310.01889), and
//! what ranks say to each other.
//!
//! Every rank is a thread or a process that runs the same program on its own shard (SPMD), with a
//! [`Comm`] as its end of the group.

mod comm;

pub use comm::{
    Comm, CommError, Expected, LocalComm, Pending, Single, Traffic, catch, even_parts, raise,
};
