//! Tokens on disk, ready to be mapped into memory.
//!
//! A folder of shards, made by [`prepare`](fn@crate::data::prepare), has one shard for each file of text,
//! a manifest that is written last, and a copy of the tokenizer:
//!
//! ```text
//! wiki/shards.json               the manifest: what shards there are, and of what
//! wiki/tokenizer.json            the tokenizer, unless tokens are bytes
//! wiki/part-0-1f2e3d4c.tokens    a shard
//! ```
//!
//! A shard is a header of 256 bytes ([`ShardHeader`]), the tokens in 1, 2 or 4 bytes each, zeros up to
//! the next multiple of 8, and for each document two numbers: the tokens and the bytes of text up to
//! its end. All numbers are little-endian. The header has a SHA-256 of itself and one of all that
//! follows it.

mod check;
mod error;
mod header;
mod manifest;
mod writer;

pub(crate) use check::read_manifest;
pub use check::{Checked, check, check_folder};
pub use error::ShardError;
pub use header::{HEADER, ShardHeader, Width};
pub use manifest::{Entry, MANIFEST, Manifest};
pub use writer::ShardWriter;

/// Bytes of one entry of the index of documents.
pub(crate) const INDEX_ENTRY: u64 = 16;
