//! The first 256 bytes of a shard.

use super::{INDEX_ENTRY, ShardError};
use sha2::{Digest, Sha256};

/// Bytes of the header.
pub const HEADER: usize = 256;

const MAGIC: &[u8; 8] = b"LNGSHARD";
const VERSION: u32 = 1;
/// Bytes of the tokenizer's name, filled up with zeros.
const NAME: usize = 64;
/// Bytes before the checksum of the header.
const SUMMED: usize = 224;

/// Bytes of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A byte: vocabularies of up to 256.
    One,
    /// Up to 65536.
    Two,
    /// Larger ones.
    Four,
}

impl Width {
    /// The smallest that holds all ids below `vocab`.
    pub fn of(vocab: usize) -> Self {
        match vocab {
            0..=0x100 => Self::One,
            0x101..=0x1_0000 => Self::Two,
            _ => Self::Four,
        }
    }

    /// Bytes of one token.
    pub fn bytes(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// What a shard says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHeader {
    /// Bytes of one token.
    pub width: Width,
    /// Tokens.
    pub tokens: u64,
    /// Documents, none of which is empty.
    pub documents: u64,
    /// Bytes of text that the tokens stand for.
    pub bytes: u64,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// The largest token, 0 if there is none.
    pub largest: u32,
    /// The token at the end of each document, if there is one.
    pub end: Option<u32>,
    /// SHA-256 of the tokenizer.
    pub tokenizer: [u8; 32],
    /// SHA-256 of what follows the header.
    pub contents: [u8; 32],
    /// SHA-256 of what the shard was made from: the file's name, size and time, and all that decides
    /// about the tokens.
    pub source: [u8; 32],
    /// Name of the tokenizer, for messages.
    pub tokenizer_name: String,
}

impl ShardHeader {
    /// Reads the header at the start of `bytes`, the first of a shard. What it says is consistent; that
    /// the file is as long as it says must be compared with [`file_bytes`](Self::file_bytes).
    ///
    /// # Errors
    ///
    /// Bytes that are too few, no header, of another version, damaged, or impossible.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShardError> {
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
            return Err(ShardError::Magic);
        }
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            let bytes = bytes.len() as u64;
            return Err(ShardError::Short { bytes });
        };
        let mut fields = Fields(&header[MAGIC.len()..]);
        let version = fields.u32();
        if version != VERSION {
            return Err(ShardError::Version {
                found: version.into(),
                known: VERSION.into(),
            });
        }
        if Sha256::digest(&header[..SUMMED])[..] != header[SUMMED..] {
            return Err(ShardError::HeaderChecksum);
        }
        let width = match fields.u32() {
            1 => Width::One,
            2 => Width::Two,
            4 => Width::Four,
            other => return Err(impossible(format!("tokens of {other} bytes"))),
        };
        let read = Self {
            width,
            tokens: fields.u64(),
            documents: fields.u64(),
            bytes: fields.u64(),
            vocab: fields.u32(),
            largest: fields.u32(),
            end: Some(fields.u32()).filter(|&end| end != u32::MAX),
            tokenizer: {
                fields.u32();
                fields.hash()
            },
            contents: fields.hash(),
            source: fields.hash(),
            tokenizer_name: {
                let name = fields.take::<NAME>();
                let len = name.iter().position(|&b| b == 0).unwrap_or(NAME);
                String::from_utf8_lossy(&name[..len]).into_owned()
            },
        };
        read.check()
    }

    fn check(self) -> Result<Self, ShardError> {
        let Self {
            tokens,
            documents,
            vocab,
            largest,
            ..
        } = self;
        let fits = vocab > 0 && Width::of(vocab as usize).bytes() <= self.width.bytes();
        if !fits || vocab > i32::MAX as u32 {
            let bytes = self.width.bytes();
            return Err(impossible(format!(
                "that tokens of {bytes} bytes have {vocab} ids"
            )));
        }
        if largest >= vocab || self.end.is_some_and(|end| end >= vocab) {
            let token = largest.max(self.end.unwrap_or(0));
            return Err(impossible(format!(
                "that there is a token {token} among {vocab}"
            )));
        }
        if documents > tokens || (documents == 0) != (tokens == 0) {
            return Err(impossible(format!(
                "that {tokens} tokens make {documents} documents"
            )));
        }
        match self
            .index_at()
            .and_then(|at| at.checked_add(documents.checked_mul(INDEX_ENTRY)?))
        {
            Some(_) => Ok(self),
            None => Err(impossible(format!("that there are {tokens} tokens"))),
        }
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut name = self.tokenizer_name.as_bytes();
        while name.len() > NAME {
            // The end of a path says more than its start.
            let cut = self.tokenizer_name.len() - NAME;
            let cut = (cut..).find(|&i| self.tokenizer_name.is_char_boundary(i));
            name = &self.tokenizer_name.as_bytes()[cut.unwrap_or(0)..];
        }
        let mut out = Vec::with_capacity(HEADER);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.width.bytes() as u32).to_le_bytes());
        for number in [self.tokens, self.documents, self.bytes] {
            out.extend(number.to_le_bytes());
        }
        for number in [self.vocab, self.largest, self.end.unwrap_or(u32::MAX), 0] {
            out.extend(number.to_le_bytes());
        }
        for hash in [self.tokenizer, self.contents, self.source] {
            out.extend(hash);
        }
        out.extend(name);
        out.resize(SUMMED, 0);
        out.extend(Sha256::digest(&out));
        out.try_into().expect("a header has 256 bytes")
    }

    /// Where the index of documents begins. None: beyond what can be counted.
    fn index_at(&self) -> Option<u64> {
        let tokens = self.tokens.checked_mul(self.width.bytes())?;
        (HEADER as u64)
            .checked_add(tokens)?
            .checked_next_multiple_of(8)
    }

    /// Where the index of documents begins in the file.
    pub fn index(&self) -> u64 {
        self.index_at().expect("seen when the header was read")
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.index() + self.documents * INDEX_ENTRY
    }
}

fn impossible(what: String) -> ShardError {
    ShardError::Impossible { what }
}

/// Fields one after the other, of which there are enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a header is long enough");
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn hash(&mut self) -> [u8; 32] {
        self.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> ShardHeader {
        ShardHeader {
            width: Width::Two,
            tokens: 1001,
            documents: 3,
            bytes: 4321,
            vocab: 32_000,
            largest: 31_999,
            end: Some(7),
            tokenizer: [1; 32],
            contents: [2; 32],
            source: [3; 32],
            tokenizer_name: "a/tökenizer.json".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (header, none) = (
            header(),
            ShardHeader {
                end: None,
                ..header()
            },
        );
        assert_eq!(ShardHeader::parse(&header.encode()).unwrap(), header);
        assert_eq!(ShardHeader::parse(&none.encode()).unwrap(), none);
        assert_eq!(header.index(), 256 + 2008);
        assert_eq!(header.file_bytes(), 256 + 2008 + 48);
        let long = ShardHeader {
            tokenizer_name: "ü".repeat(100),
            ..header
        };
        let read = ShardHeader::parse(&long.encode()).unwrap();
        assert_eq!(read.tokenizer_name, "ü".repeat(32));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let good = header().encode();
        for at in 0..HEADER {
            let mut bad = good;
            bad[at] ^= 1 << (at % 8);
            assert!(ShardHeader::parse(&bad).is_err(), "byte {at}");
            assert!(ShardHeader::parse(&good[..at]).is_err(), "{at} bytes");
        }
        assert!(matches!(
            ShardHeader::parse(b"{\"text\": 1}"),
            Err(ShardError::Magic)
        ));
        assert!(matches!(
            ShardHeader::parse(b""),
            Err(ShardError::Short { bytes: 0 })
        ));
    }

    #[test]
    fn what_cannot_be_is_refused_though_its_checksum_is_right() {
        let change = |change: &dyn Fn(&mut ShardHeader)| {
            let mut header = header();
            change(&mut header);
            ShardHeader::parse(&header.encode()).unwrap_err()
        };
        let changes: [&dyn Fn(&mut ShardHeader); 8] = [
            &|h| h.largest = 32_000,
            &|h| h.end = Some(32_000),
            &|h| h.vocab = 0,
            &|h| h.vocab = 65_537,
            &|h| h.documents = 1002,
            &|h| h.documents = 0,
            &|h| h.tokens = u64::MAX,
            &|h| (h.tokens, h.documents) = (u64::MAX / 4, u64::MAX / 4),
        ];
        for (i, c) in changes.into_iter().enumerate() {
            let error = change(c);
            assert!(
                matches!(error, ShardError::Impossible { .. }),
                "{i}: {error}"
            );
        }
        let mut bytes = header().encode();
        bytes[12] = 3;
        let sum = Sha256::digest(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum);
        let error = ShardHeader::parse(&bytes).unwrap_err().to_string();
        assert_eq!(error, "its header says tokens of 3 bytes, which cannot be");
    }
}
