//! What can be wrong with the data.

use super::files::Found;
use super::read::At;
use super::shard::ShardError;
use super::tokenizer::TokenizerError;
use std::path::{Path, PathBuf};

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
    /// A file that lost a part of what it held.
    #[error(
        "{path} has {now} bytes now, and had {then} when it was opened: another program has cut it off; put it back and start again"
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Bytes that it had.
        then: u64,
        /// Bytes that it has.
        now: u64,
    },
    /// A record that is no document.
    #[error("{path}: {at} {message}")]
    Record {
        /// The file.
        path: PathBuf,
        /// The record.
        at: At,
        /// What is wrong with it.
        message: String,
    },
    /// A table without a column of text.
    #[error("{path} {message}; data.field names the column with the text")]
    Column {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Text that the tokenizer does not take.
    #[error("{path}{at}: {source}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The record, after a comma; nothing in a text.
        at: String,
        /// Why.
        source: TokenizerError,
    },
    /// A shard or a manifest of shards that cannot be used.
    #[error("cannot use {path}: {source}")]
    Shard {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ShardError,
    },
    /// A folder of shards without a manifest.
    #[error(
        "{folder} has no shards.json: 'longnet data prepare' has not made shards there, or was interrupted; run it again, and it goes on where it was"
    )]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// A shard that a glob names.
    #[error("data.paths: {path} is one of the shards of {folder}; name the folder instead")]
    OfFolder {
        /// The shard.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A model without an id for each token.
    #[error(
        "the tokenizer {tokenizer} has {needed} tokens, and model.vocab = {vocab} has no room for them; leave model.vocab out, or make it larger"
    )]
    Vocabulary {
        /// The tokenizer.
        tokenizer: String,
        /// Its tokens.
        needed: usize,
        /// The model's.
        vocab: usize,
    },
    /// Sources of a mixture that overlap.
    #[error(
        "data.paths: {file} is in '{first}' and in '{second}', which data.weights mixes; each file must be in one of them"
    )]
    TwoSources {
        /// The file.
        file: String,
        /// The first source.
        first: String,
        /// The second.
        second: String,
    },
    /// Text that would take too long and too much memory at each start.
    #[error(
        "data.paths name {} MB of text or more, unpacked, that would be turned into tokens in memory at each start, and {} MB are the limit; run 'longnet data prepare' once and train from the shards",
        .bytes / 1_000_000, .limit / 1_000_000
    )]
    TooLarge {
        /// Bytes that were counted so far.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// Files without a token.
    #[error(
        "no text: the {files} files of data.paths, such as {file}, have no tokens ({skipped} records were null); is data.field the right one?"
    )]
    NoTokens {
        /// One of the files.
        file: String,
        /// How many there are.
        files: usize,
        /// Records without text.
        skipped: u64,
    },
    /// Shards that cannot be written.
    #[error(
        "cannot write {path}: {source}; what is finished is kept, and the next run goes on from there"
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder in which another program prepares shards.
    #[error(
        "another 'longnet data prepare' is at work in {folder}; wait for it, or give another --out"
    )]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Several sources for one folder of shards.
    #[error(
        "data.weights: the shards of one folder are one source; prepare each entry of data.paths in a folder of its own, and give those folders weights"
    )]
    OneSource,
    /// A folder that is read and written.
    #[error("data.paths: {folder} is --out, too; give another --out")]
    IsOut {
        /// The folder.
        folder: PathBuf,
    },
    /// Two files with one shard.
    #[error("data.paths: {first} and {second} would have the same shard; rename one of them")]
    SameShard {
        /// A file.
        first: String,
        /// Another one.
        second: String,
    },
    /// A tokenizer that no earlier call has left.
    #[error(
        "{path} is there already, is not the tokenizer of data.tokenizer, and not of shards; give another --out, or move it away"
    )]
    OtherTokenizer {
        /// The file.
        path: PathBuf,
    },
    /// Text that is too short to be split.
    #[error(
        "{file}{more}: {tokens} tokens of text cannot be split into training and validation text; add text to data.paths"
    )]
    TooLittle {
        /// The first file of the source.
        file: String,
        /// How many more it has, if any.
        more: String,
        /// Tokens of the source.
        tokens: u64,
    },
    /// A split without a single window.
    #[error(
        "the {name} has {tokens} tokens, and one window takes data.context + 1 = {window}; lower data.context or add text"
    )]
    NoWindow {
        /// What the text is, such as "training text".
        name: String,
        /// Its tokens.
        tokens: u64,
        /// Tokens of one window.
        window: u64,
    },
}

impl DataError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. }
            | Self::Shrunk { .. }
            | Self::Record { .. }
            | Self::Encode { .. }
            | Self::Write { .. }
            | Self::Busy { .. }
            | Self::OtherTokenizer { .. } => None,
            Self::NoWindow { .. } => Some("data.context"),
            Self::Column { .. } => Some("data.field"),
            Self::Vocabulary { .. } => Some("model.vocab"),
            Self::OneSource | Self::TwoSources { .. } => Some("data.weights"),
            Self::Tokenizer(error) => error.field(),
            Self::Shard { source, .. } => match source {
                ShardError::Tokenizer { .. } => Some("data.tokenizer"),
                ShardError::End { .. } => Some("data.end_token"),
                _ => None,
            },
            _ => Some("data.paths"),
        }
    }

    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        let source = match source.raw_os_error() {
            // EMFILE, of Linux and of macOS.
            Some(24) if cfg!(unix) => std::io::Error::new(
                source.kind(),
                format!("{source}; raise the limit for this shell: ulimit -n 65536"),
            ),
            _ => source,
        };
        Self::Read {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn shard(path: &Path, source: ShardError) -> Self {
        Self::Shard {
            path: path.into(),
            source,
        }
    }

    pub(crate) fn encode(found: &Found, at: At, source: TokenizerError) -> Self {
        let (place, by) = match at {
            At::Byte(by) => (String::new(), by),
            record => (format!(", {record}"), 0),
        };
        Self::Encode {
            path: found.path.clone(),
            at: place,
            source: source.moved(by),
        }
    }
}
