//! What can be wrong with a tokenizer.

use std::path::PathBuf;

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file that cannot be read.
    #[error(
        "data.tokenizer: cannot read {path}: {source}; give 'byte' or the path of a tokenizer.json, which starts at data.root"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds no tokenizer.
    #[error("{name} is no tokenizer.json of Hugging Face: {reason}")]
    Parse {
        /// The tokenizer.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Ids that no model has room for.
    #[error("{name}: token id {id} is too large; {limit} ids are the limit")]
    Id {
        /// The tokenizer.
        name: String,
        /// The largest id.
        id: u32,
        /// How many ids there may be.
        limit: u32,
    },
    /// An end of documents that is no token.
    #[error("data.end_token: '{token}' is no token of the tokenizer {name}{hint}")]
    NoEnd {
        /// The tokenizer.
        name: String,
        /// The token as configured.
        token: String,
        /// What would be one, after a semicolon.
        hint: String,
    },
    /// Bytes that are no text.
    #[error(
        "byte {at} (0x{byte:02x}) is not UTF-8, and the tokenizer {name} takes nothing else; convert the text, or use data.tokenizer = \"byte\""
    )]
    NotUtf8 {
        /// The tokenizer.
        name: String,
        /// The place, counted from 0.
        at: u64,
        /// The byte there.
        byte: u8,
    },
    /// Text that the tokenizer has no tokens for.
    #[error("the tokenizer {name} cannot encode it: {reason}")]
    Encode {
        /// The tokenizer.
        name: String,
        /// Why.
        reason: String,
    },
    /// A vocabulary that cannot be learned.
    #[error(
        "--vocab {vocab}: a byte-level vocabulary has 256 bytes and one special token: use {least} to {most}"
    )]
    Vocabulary {
        /// As asked for.
        vocab: usize,
        /// The smallest.
        least: usize,
        /// The largest.
        most: usize,
    },
    /// A place that is taken.
    #[error("{path} exists, and a run may need it as it is; delete it, or give another --out")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file that cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tokenizer that could not be learned.
    #[error("cannot learn a tokenizer: {0}")]
    Train(String),
}

impl TokenizerError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } | Self::Parse { .. } | Self::Id { .. } => Some("data.tokenizer"),
            Self::NoEnd { .. } => Some("data.end_token"),
            _ => None,
        }
    }

    /// The same, `by` bytes further on.
    pub(crate) fn moved(self, by: u64) -> Self {
        match self {
            Self::NotUtf8 { name, at, byte } => Self::NotUtf8 {
                name,
                at: at + by,
                byte,
            },
            other => other,
        }
    }
}
