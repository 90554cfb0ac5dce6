//! Whether a text is the one that a run has seen.

use super::Text;
use super::random::fnv;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What tells one text from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Number of files.
    pub files: usize,
    /// Bytes of text in all of them.
    pub bytes: u64,
    /// A hash of their names, sizes and contents, and of the sources of a mixture, in hexadecimal.
    pub hash: String,
}

impl Fingerprint {
    /// The fingerprint of `text`, which is read once; of a shard, its header alone.
    pub fn of(text: &Text) -> Self {
        let (mut hash, mut bytes) = (fnv(&[]), 0);
        for file in 0..text.len() {
            let part = text.part(file);
            bytes += part.bytes(0..part.len());
            let content = match (part.as_text(), part.header()) {
                (Some(text), _) => words(text),
                (None, header) => fnv(&header.map_or([0; 32], |header| header.contents)),
            };
            for part in [fnv(part.name().as_bytes()), part.len(), content] {
                hash = mix(hash, part);
            }
        }
        if text.sources().len() > 1 {
            // Which files are mixed with which decides about the windows, as the files do.
            for (files, _) in text.sources() {
                hash = mix(hash, files.end as u64);
            }
        }
        Self {
            files: text.len(),
            bytes,
            hash: format!("{hash:016x}"),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, hash } = self;
        write!(f, "{files} files, {bytes} bytes, hash {hash}")
    }
}

/// Eight bytes at a time: a text may be large.
fn words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    mix(words.fold(0, mix), fnv(rest))
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
