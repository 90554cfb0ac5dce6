//! From text to tokens and back.
//!
//! [`open`] finds the tokenizer that a config names: bytes, or any `tokenizer.json` of Hugging Face.
//! A checkpoint keeps a copy of the file ([`Tokenizer::file`]), so that it can be used where the file
//! is not ([`open_in`]). [`train`](fn@train) makes a byte-level BPE from text.

mod bytes;
mod decoder;
mod error;
mod file;
mod train;

pub use bytes::{BYTE, ByteTokenizer, EndedBytes};
pub use decoder::Decoder;
pub use error::TokenizerError;
pub use file::FileTokenizer;
pub use train::{END_OF_TEXT, Trained, reserve, train};

use crate::config::sections::Data;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The name of a tokenizer's file in a checkpoint, a run or a folder of shards.
pub const TOKENIZER: &str = "tokenizer.json";

/// Turns text into tokens and tokens into text.
pub trait Tokenizer: Send + Sync {
    /// Number of different tokens: all ids are below it.
    fn vocab(&self) -> usize;

    /// The tokens of `text`. What looks like a special token in it is text like any other.
    ///
    /// # Errors
    ///
    /// `text` is not UTF-8, and the tokenizer needs it to be.
    fn try_encode(&self, text: &[u8]) -> Result<Vec<i32>, TokenizerError>;

    /// The tokens of `text`, such as a prompt, as far as there are any: what is not UTF-8 in it is read
    /// as U+FFFD, if the tokenizer needs it to be.
    fn encode(&self, text: &[u8]) -> Vec<i32> {
        self.try_encode(text)
            .or_else(|_| self.try_encode(String::from_utf8_lossy(text).as_bytes()))
            .unwrap_or_default()
    }

    /// The bytes of `tokens`, which need not be UTF-8. Special tokens have none.
    fn decode(&self, tokens: &[i32]) -> Vec<u8>;

    /// The bytes of `token`, if they do not depend on the tokens around it.
    fn fixed(&self, token: i32) -> Option<Cow<'_, [u8]>>;

    /// What tells this tokenizer from others.
    fn identity(&self) -> Identity;

    /// The token that ends a document.
    fn end(&self) -> Option<i32> {
        None
    }

    /// The contents of its `tokenizer.json`, if it comes from one.
    fn file(&self) -> Option<&[u8]> {
        None
    }
}

/// What tells one tokenizer from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `byte`, or the path of the file.
    pub name: String,
    /// SHA-256 of the file. Equal for equal tokenizers, whatever their names.
    pub hash: [u8; 32],
}

impl Identity {
    /// Of the tokenizer `name` with the definition `content`.
    pub fn new(name: impl Into<String>, content: &[u8]) -> Self {
        Self {
            name: name.into(),
            hash: Sha256::digest(content).into(),
        }
    }
}

/// The tokenizer that `data` names.
///
/// # Errors
///
/// A file that cannot be read or holds none, and an end of documents that is none of its tokens.
pub fn open(data: &Data) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    if data.tokenizer == BYTE {
        return bytes(data);
    }
    read(&Path::new(&data.root).join(&data.tokenizer), data)
}

/// The tokenizer that `data` names: the copy of it in `folder`, a checkpoint or a run, if there is one.
///
/// # Errors
///
/// As [`open`].
pub fn open_in(folder: &Path, data: &Data) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    let copy = folder.join(TOKENIZER);
    match data.tokenizer != BYTE && copy.is_file() {
        true => read(&copy, data),
        false => open(data),
    }
}

/// The tokenizer of a model that learned from `then`: the copy of it in `folder`, its checkpoint, unless
/// `now` names another one.
///
/// # Errors
///
/// As [`open`].
pub fn open_trained(
    folder: &Path,
    now: &Data,
    then: &Data,
) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    match now.tokenizer == then.tokenizer {
        true => open_in(folder, now),
        false => open(now),
    }
}

fn read(path: &Path, data: &Data) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    let content = fs::read(path).map_err(|source| TokenizerError::Read {
        path: path.into(),
        source,
    })?;
    let end = Some(data.end_token.as_str()).filter(|end| !end.is_empty());
    let name = path.display().to_string();
    Ok(Arc::new(FileTokenizer::parse(name, content, end)?))
}

fn bytes(data: &Data) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
    match data.end_token.as_bytes() {
        [] => Ok(Arc::new(ByteTokenizer)),
        [end] => Ok(Arc::new(EndedBytes(*end))),
        _ => Err(TokenizerError::NoEnd {
            name: BYTE.into(),
            token: data.end_token.clone(),
            hint: "; give a single byte, such as \"\\u0000\", or leave it out".into(),
        }),
    }
}
