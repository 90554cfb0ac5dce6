//! What can be wrong with shards.

/// Why bytes are no shard or manifest, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Fewer bytes than a header has.
    #[error(
        "it has {bytes} bytes, and the header of a shard alone has 256; it was cut off, or is no shard"
    )]
    Short {
        /// Bytes there are.
        bytes: u64,
    },
    /// Another kind of file.
    #[error("it does not begin as a shard does: it is not from 'longnet data prepare'")]
    Magic,
    /// A format of another time.
    #[error("it is of format version {found}, and this program reads {known}; prepare it again")]
    Version {
        /// The version in the file.
        found: u64,
        /// The version that can be read.
        known: u64,
    },
    /// A header that was changed.
    #[error(
        "its header does not have the checksum that stands in it: the file is damaged; prepare it again"
    )]
    HeaderChecksum,
    /// A header that cannot be.
    #[error("its header says {what}, which cannot be")]
    Impossible {
        /// What it says.
        what: String,
    },
    /// A file of another size than its header says.
    #[error(
        "it has {found} bytes, and its header says {expected}; it was cut off or changed: prepare it again"
    )]
    Size {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Contents that were changed.
    #[error(
        "its contents do not have the checksum of its header: the file is damaged; prepare it again"
    )]
    Contents,
    /// An index that is out of order.
    #[error(
        "document {document} ends at token {end}, which is not after the one before and within {tokens} tokens"
    )]
    Index {
        /// Number of the document, from 0.
        document: u64,
        /// Its end.
        end: u64,
        /// Tokens of the shard.
        tokens: u64,
    },
    /// A token that is not in the vocabulary.
    #[error("token {at} is {token}, and the tokenizer {tokenizer} has ids below {vocab} only")]
    Token {
        /// Its place.
        at: u64,
        /// The token.
        token: u32,
        /// The tokenizer of the run.
        tokenizer: String,
        /// Size of its vocabulary.
        vocab: u32,
    },
    /// A shard of another tokenizer.
    #[error(
        "it was made with the tokenizer {found}, and data.tokenizer is {expected}, which is another one; take the one that it was made with ({remedy}), or prepare the text again"
    )]
    Tokenizer {
        /// The one that it was made with.
        found: String,
        /// The one that is configured.
        expected: String,
        /// How to name the right one.
        remedy: String,
    },
    /// A shard whose documents end otherwise.
    #[error(
        "its documents end with {found}, and with data.end_token they would end with {expected}; set data.end_token as it was, or prepare the text again"
    )]
    End {
        /// In the shard.
        found: String,
        /// As configured.
        expected: String,
    },
    /// A manifest that cannot be read.
    #[error("it is no manifest of shards: {0}")]
    Manifest(String),
    /// A shard that the manifest describes otherwise.
    #[error("it is not the shard that shards.json lists under this name; prepare it again")]
    NotListed,
    /// Shards where text is needed.
    #[error("it holds tokens already; give the text that they were made of")]
    NotText,
}
