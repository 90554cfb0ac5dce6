//! Text on disk, cut into training and validation windows.
//!
//! Files are found ([`files`]), memory-mapped ([`Text`]) and split into two [`Stream`]s of bytes
//! that share none ([`split`]). A stream is the concatenation of its pieces; [`Windows`] cut it
//! into sequences.

mod error;
pub mod files;
mod fingerprint;
mod random;
mod split;
mod stream;
mod text;
mod tokenizer;
mod windows;

pub use error::DataError;
pub use fingerprint::Fingerprint;
pub use random::Random;
pub use split::{Split, split};
pub use stream::{Stream, Tokens};
pub use text::Text;
pub use tokenizer::{ByteTokenizer, Tokenizer};
pub use windows::{Cursor, Window, Windows};

use crate::config::sections::{Data, TokenizerKind};

/// The tokenizer that a config names.
pub fn tokenizer(kind: TokenizerKind) -> Box<dyn Tokenizer> {
    match kind {
        TokenizerKind::Byte => Box::new(ByteTokenizer),
    }
}

/// Finds and maps the text of a config.
///
/// # Errors
///
/// A path that does not exist or matches nothing, a file that cannot be read, no text at all.
pub fn open(data: &Data) -> Result<Text, DataError> {
    Text::open(&files::find(data)?)
}

/// Finds, maps and splits the text of a config.
///
/// # Errors
///
/// As [`open`], and text that is too short.
pub fn load(data: &Data) -> Result<Split, DataError> {
    split(open(data)?, data.valid_fraction, data.valid_block)
}
