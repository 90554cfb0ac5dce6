//! Text on disk, cut into training and validation windows.
//!
//! Files are found ([`files`]) and mapped into memory or turned into tokens ([`Text`]): text, JSONL,
//! Parquet ([`read`]), or [`shard`]s that [`prepare`](fn@prepare) has made. A text is split into [`Stream`]s
//! of tokens that share none ([`split`]). A stream is the concatenation of its pieces; [`Windows`] cut
//! it into sequences, and a [`Mixture`] draws from several.

mod bar;
mod cut;
mod error;
pub mod files;
mod fingerprint;
pub mod format;
mod mixture;
mod part;
mod permutation;
mod prepare;
mod random;
pub mod read;
pub mod shard;
mod split;
mod stream;
mod text;
mod tokenise;
pub mod tokenizer;
mod windows;

pub use bar::with_progress;
pub use error::DataError;
pub use fingerprint::Fingerprint;
pub(crate) use mixture::Draws;
pub use mixture::Mixture;
pub use part::Part;
pub use prepare::{Made, Watch, prepare};
pub use random::Random;
pub use split::{Split, split};
pub use stream::{Piece, Stream, Tokens};
pub use text::Text;
pub use tokenizer::{ByteTokenizer, Decoder, Identity, TOKENIZER, Tokenizer, TokenizerError};
pub use windows::{Cursor, Order, Window, Windows};

use crate::config::sections::Data;
use std::sync::Arc;

/// Finds and maps the text of a config, or turns it into tokens.
///
/// # Errors
///
/// A path that does not exist or matches nothing, a file that cannot be read, a tokenizer that cannot be
/// used, shards of another one, no text at all.
pub fn open(data: &Data) -> Result<Text, DataError> {
    open_with(data, tokenizer::open(data)?)
}

/// As [`open`], with a tokenizer that is open already.
///
/// # Errors
///
/// As [`open`].
pub fn open_with(data: &Data, tokenizer: Arc<dyn Tokenizer>) -> Result<Text, DataError> {
    let sources = files::find_sources(data)?;
    Text::load(&sources, &data.field, tokenizer, data.documents)
}

/// As [`open`], and splits the text.
///
/// # Errors
///
/// As [`open`], and text that is too short.
pub fn load(data: &Data) -> Result<Split, DataError> {
    load_with(data, tokenizer::open(data)?)
}

/// As [`load`], with a tokenizer that is open already.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(data: &Data, tokenizer: Arc<dyn Tokenizer>) -> Result<Split, DataError> {
    let text = open_with(data, tokenizer)?;
    split(text, data.valid_fraction, data.valid_block)
}
