//! What shards a folder has.

use super::{ShardError, ShardHeader};
use crate::data::Tokenizer;
use crate::data::format::Format;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The name of the manifest in its folder.
pub const MANIFEST: &str = "shards.json";

const FORMAT: &str = "longnet shards";
const VERSION: u64 = 1;

/// The shards of a folder. It is written when all of them are whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u64,
    /// Name of the tokenizer.
    pub tokenizer: String,
    /// SHA-256 of the tokenizer, in hexadecimal.
    pub tokenizer_sha256: String,
    /// Size of the vocabulary.
    pub vocab: u32,
    /// Tokens of all shards.
    pub tokens: u64,
    /// Documents of all shards.
    pub documents: u64,
    /// Bytes of text that the tokens stand for.
    pub bytes: u64,
    /// The shards, by the names of their sources.
    pub shards: Vec<Entry>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its file, in the folder of the manifest.
    pub file: String,
    /// The file of text that it was made from.
    pub source: String,
    /// Tokens.
    pub tokens: u64,
    /// Documents.
    pub documents: u64,
    /// SHA-256 of its contents, in hexadecimal.
    pub contents: String,
}

impl Manifest {
    /// The manifest of `shards`: file, source and header of each.
    pub fn new(tokenizer: &dyn Tokenizer, shards: &[(String, String, ShardHeader)]) -> Self {
        let identity = tokenizer.identity();
        let sum = |of: fn(&ShardHeader) -> u64| shards.iter().map(|(_, _, h)| of(h)).sum();
        Self {
            format: FORMAT.into(),
            version: VERSION,
            tokenizer: identity.name,
            tokenizer_sha256: hex(&identity.hash),
            vocab: tokenizer.vocab() as u32,
            tokens: sum(|h| h.tokens),
            documents: sum(|h| h.documents),
            bytes: sum(|h| h.bytes),
            shards: shards
                .iter()
                .map(|(file, source, header)| Entry {
                    file: file.clone(),
                    source: source.clone(),
                    tokens: header.tokens,
                    documents: header.documents,
                    contents: hex(&header.contents),
                })
                .collect(),
        }
    }

    /// Reads the contents of a manifest.
    ///
    /// # Errors
    ///
    /// It is no manifest, of another version, or names files outside of its folder.
    pub fn parse(content: &[u8]) -> Result<Self, ShardError> {
        // What another version adds must not hide that it is another version.
        #[derive(Deserialize)]
        struct Kind {
            format: String,
            version: u64,
        }
        let wrong = |message: String| ShardError::Manifest(message);
        let kind: Kind = serde_json::from_slice(content).map_err(|e| wrong(e.to_string()))?;
        if kind.format != FORMAT {
            return Err(wrong(format!("its format is '{}'", kind.format)));
        }
        if kind.version != VERSION {
            return Err(ShardError::Version {
                found: kind.version,
                known: VERSION,
            });
        }
        let manifest: Self = serde_json::from_slice(content).map_err(|e| wrong(e.to_string()))?;
        let mut files = HashSet::new();
        for Entry { file, .. } in &manifest.shards {
            let plain = !file.contains(['/', '\\', '\0']) && !file.starts_with('.');
            if !plain || Format::of(file).0 != Format::Shard {
                return Err(wrong(format!("'{file}' is no name of a shard")));
            }
            if !files.insert(file) {
                return Err(wrong(format!("it lists '{file}' twice")));
            }
        }
        Ok(manifest)
    }

    /// The manifest as it is written.
    pub fn encode(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest is plain data") + "\n"
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Entry {
    /// Whether `header` is of this shard.
    pub fn is_of(&self, header: &ShardHeader) -> bool {
        self.contents == hex(&header.contents) && self.tokens == header.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ByteTokenizer;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new(&ByteTokenizer, &[]);
        manifest.shards.push(Entry {
            file: "a.tokens".into(),
            source: "a.txt".into(),
            tokens: 3,
            documents: 1,
            contents: "00".into(),
        });
        manifest
    }

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_named() {
        let good = manifest();
        assert_eq!(Manifest::parse(good.encode().as_bytes()).unwrap(), good);
        let wrong = |from: &str, to: &str| {
            let text = good.encode().replace(from, to);
            assert_ne!(text, good.encode());
            Manifest::parse(text.as_bytes()).unwrap_err().to_string()
        };
        for name in [
            "../a.tokens",
            "/a.tokens",
            "a.txt",
            ".a.tokens",
            "b\\\\a.tokens",
            "",
        ] {
            let error = wrong("a.tokens", name);
            assert!(error.contains("is no name of a shard"), "{error}");
        }
        assert!(wrong("longnet shards", "x").contains("its format is 'x'"));
        let error = wrong("\"version\": 1", "\"version\": 2, \"shards\": 0");
        assert!(error.contains("format version 2"), "{error}");
        assert!(wrong("\"tokens\": 3", "\"tokens\": -3").contains("invalid value"));
        let mut twice = good.clone();
        twice.shards.push(twice.shards[0].clone());
        let error = Manifest::parse(twice.encode().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
        for cut in 0..good.encode().len() - 2 {
            assert!(Manifest::parse(&good.encode().as_bytes()[..cut]).is_err());
        }
    }
}
