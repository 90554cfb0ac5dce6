//! What can be wrong with the data.

use std::path::PathBuf;

/// Why the text of a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A path that is no file, folder or glob.
    #[error(
        "data.paths: '{path}' does not exist in {root}; relative paths start at data.root, itself relative to the working directory"
    )]
    NotFound {
        /// The path as configured.
        path: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// A path to a pipe or device.
    #[error("data.paths: {path} is neither a file nor a folder; leave it out")]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// A glob without a match.
    #[error(
        "data.paths: no file matches the glob '{glob}' in {root}; relative globs start at data.root, itself relative to the working directory"
    )]
    NoMatch {
        /// The glob as configured.
        glob: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// Every file was left out or empty.
    #[error(
        "no text: data.paths name {found} files, of which {excluded} have another ending than data.extensions or are in data.exclude, {binary} are binary and {empty} are empty{hint}"
    )]
    NoText {
        /// Files found.
        found: usize,
        /// Left out by name.
        excluded: usize,
        /// Left out because they hold NUL bytes.
        binary: usize,
        /// Left out because they hold nothing.
        empty: usize,
        /// What may be the reason, after a semicolon.
        hint: &'static str,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Text that is too short to be split.
    #[error(
        "{bytes} bytes of text cannot be split into training and validation text; add text to data.paths"
    )]
    TooLittle {
        /// Bytes of text.
        bytes: u64,
    },
    /// A split without a single window.
    #[error(
        "the {split} text has {tokens} tokens, and one window takes data.context + 1 = {window}; lower data.context or add text"
    )]
    NoWindow {
        /// "training" or "validation".
        split: &'static str,
        /// Tokens of the split.
        tokens: u64,
        /// Tokens of one window.
        window: u64,
    },
}

impl DataError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => None,
            Self::NoWindow { .. } => Some("data.context"),
            _ => Some("data.paths"),
        }
    }

    pub(crate) fn read(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Read {
            path: path.into(),
            source,
        }
    }
}
