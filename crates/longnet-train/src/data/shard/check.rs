//! Reading all of a shard to see whether it is as it was written.

use super::{HEADER, INDEX_ENTRY, MANIFEST, Manifest, ShardError, ShardHeader};
use crate::data::{DataError, TOKENIZER};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What a check has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Shards.
    pub shards: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Documents in them.
    pub documents: u64,
}

/// Reads the whole shard `path` and compares it with its header.
///
/// # Errors
///
/// It cannot be read, or is damaged.
pub fn check(path: &Path) -> Result<ShardHeader, DataError> {
    let failed = |e: io::Error| DataError::read(path, e);
    let wrong = |e: ShardError| DataError::shard(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    let limit = HEADER as u64;
    file.by_ref()
        .take(limit)
        .read_to_end(&mut head)
        .map_err(failed)?;
    let header = ShardHeader::parse(&head).map_err(wrong)?;
    let (found, expected) = (file.metadata().map_err(failed)?.len(), header.file_bytes());
    if found != expected {
        return Err(wrong(ShardError::Size { found, expected }));
    }
    let summed = Summed {
        input: file,
        sum: Sha256::new(),
    };
    let mut input = BufReader::with_capacity(1 << 20, summed);
    let width = header.width.bytes() as usize;
    let mut token = [0; 4];
    let mut largest = (0, 0);
    for at in 0..header.tokens {
        input.read_exact(&mut token[..width]).map_err(failed)?;
        let token = u32::from_le_bytes(token);
        if token > largest.1 {
            largest = (at, token);
        }
    }
    let padding = header.index() - HEADER as u64 - header.tokens * width as u64;
    input
        .read_exact(&mut [0; 8][..padding as usize])
        .map_err(failed)?;
    let mut index = Ok(());
    let mut before = 0;
    for document in 0..header.documents {
        let mut entry = [0; INDEX_ENTRY as usize];
        input.read_exact(&mut entry).map_err(failed)?;
        let (end, _) = entry.split_first_chunk().expect("an entry has two numbers");
        let end = u64::from_le_bytes(*end);
        if index.is_ok() && (end <= before || end > header.tokens) {
            index = Err(ShardError::Index {
                document,
                end,
                tokens: header.tokens,
            });
        }
        before = end;
    }
    // Damage explains all else.
    if input.into_inner().sum.finalize()[..] != header.contents {
        return Err(wrong(ShardError::Contents));
    }
    index.map_err(wrong)?;
    if largest.1 > header.largest {
        return Err(wrong(ShardError::Token {
            at: largest.0,
            token: largest.1,
            tokenizer: header.tokenizer_name.clone(),
            vocab: header.vocab,
        }));
    }
    Ok(header)
}

/// Checks all shards of `folder`, several at a time, and that they are those of the manifest.
///
/// # Errors
///
/// The first that cannot be read or is damaged, by the order of the manifest; a folder without one.
pub fn check_folder(folder: &Path) -> Result<Checked, DataError> {
    let manifest = read_manifest(folder)?;
    let path = folder.join(TOKENIZER);
    if let Ok(content) = fs::read(&path)
        && super::manifest::hex(&Sha256::digest(&content)) != manifest.tokenizer_sha256
    {
        return Err(DataError::shard(&path, ShardError::NotListed));
    }
    let check = |entry: &super::Entry| {
        let path = folder.join(&entry.file);
        let header = check(&path)?;
        match entry.is_of(&header) {
            true => Ok(header),
            false => Err(DataError::shard(&path, ShardError::NotListed)),
        }
    };
    let found: Vec<_> = manifest.shards.par_iter().map(check).collect();
    let mut checked = Checked::default();
    for header in found {
        let header = header?;
        checked.shards += 1;
        checked.tokens += header.tokens;
        checked.documents += header.documents;
    }
    Ok(checked)
}

/// The manifest of `folder`.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest, DataError> {
    let path = folder.join(MANIFEST);
    let content = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DataError::Unfinished {
                folder: folder.into(),
            });
        }
        content => content.map_err(|e| DataError::read(&path, e))?,
    };
    Manifest::parse(&content).map_err(|e| DataError::shard(&path, e))
}

/// What is read, and its checksum.
struct Summed<R> {
    input: R,
    sum: Sha256,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(out)?;
        self.sum.update(&out[..n]);
        Ok(n)
    }
}
