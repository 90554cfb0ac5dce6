//! All files of a text, ready to be read.

use super::files::Found;
use super::format::{Compression, Format};
use super::shard::{ShardError, ShardHeader};
use super::tokenise::tokenise_all;
use super::tokenizer::{BYTE, ByteTokenizer, TOKENIZER};
use super::{DataError, Part, Tokenizer};
use crate::config::sections::Documents;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The tokens of some files.
pub struct Text {
    parts: Vec<Part>,
    tokenizer: Arc<dyn Tokenizer>,
    /// What is mixed: files and the share of them. All files, if nothing is.
    sources: Vec<(Range<usize>, f64)>,
    apart: bool,
    /// Records of the files without text.
    skipped: u64,
}

impl Text {
    /// The bytes of `files` as tokens, whatever their names.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened or mapped.
    pub fn open(files: &[Found]) -> Result<Self, DataError> {
        let parts = files
            .iter()
            .map(|found| Part::text(&found.name, &found.path));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            sources: vec![(0..parts.len(), 1.0)],
            parts,
            tokenizer: Arc::new(ByteTokenizer),
            apart: false,
            skipped: 0,
        })
    }

    /// The tokens of `sources`, files with the share of training that is theirs. Text of which each byte
    /// is a token, and shards, are mapped; all else is turned into tokens now, in memory.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, has no tokens of `tokenizer`, or is a shard of another one.
    pub fn load(
        sources: &[(Vec<Found>, f64)],
        field: &str,
        tokenizer: Arc<dyn Tokenizer>,
        documents: Documents,
    ) -> Result<Self, DataError> {
        let plain = tokenizer.file().is_none() && tokenizer.end().is_none();
        let (mut parts, mut ranges, mut skipped) = (Vec::new(), Vec::new(), 0);
        for (files, weight) in sources {
            let before = parts.len();
            let mapped = |found: &Found| match Format::of(&found.name) {
                (Format::Text, Compression::None) if plain => {
                    Some(Part::text(&found.name, &found.path))
                }
                (Format::Shard, _) => Some(
                    Part::shard(&found.name, &found.path)
                        .and_then(|part| same_tokenizer(part, &*tokenizer)),
                ),
                _ => None,
            };
            let mut found: Vec<Option<Part>> = Vec::new();
            let mut rest = Vec::new();
            for file in files {
                let part = mapped(file).transpose()?;
                if part.is_none() {
                    rest.push(file);
                }
                found.push(part);
            }
            let (made, without) = tokenise_all(&rest, field, &*tokenizer)?;
            skipped += without;
            let mut made = made.into_iter();
            parts.extend(
                found
                    .into_iter()
                    .filter_map(|part| part.or_else(|| made.next())),
            );
            let new = parts.drain(before..).collect::<Vec<Part>>();
            parts.extend(new.into_iter().filter(|part| !part.is_empty()));
            ranges.push((before..parts.len(), *weight));
            if before == parts.len() {
                return Err(DataError::NoTokens {
                    file: files.first().map_or(String::new(), |f| f.name.clone()),
                    files: files.len(),
                    skipped,
                });
            }
        }
        Ok(Self {
            parts,
            tokenizer,
            sources: ranges,
            apart: documents == Documents::Masked,
            skipped,
        })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// One of the files.
    pub fn part(&self, file: usize) -> &Part {
        &self.parts[file]
    }

    /// Name of a file, below the root of the data.
    pub fn name(&self, file: usize) -> &str {
        self.parts[file].name()
    }

    /// What its tokens are of.
    pub fn tokenizer(&self) -> &Arc<dyn Tokenizer> {
        &self.tokenizer
    }

    /// Whether documents must not see each other.
    pub fn keeps_documents_apart(&self) -> bool {
        self.apart
    }

    /// The files of each source of a mixture, and its share.
    pub fn sources(&self) -> &[(Range<usize>, f64)] {
        &self.sources
    }

    /// Records without text: null, in JSONL and Parquet.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether a model with `vocab` token ids has one for each token.
    ///
    /// # Errors
    ///
    /// It has too few.
    pub fn fits(&self, vocab: usize) -> Result<(), DataError> {
        let needed = self.tokenizer.vocab();
        match needed <= vocab {
            true => Ok(()),
            false => Err(DataError::Vocabulary {
                tokenizer: self.tokenizer.identity().name,
                needed,
                vocab,
            }),
        }
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text")
            .field("parts", &self.parts)
            .field("tokenizer", &self.tokenizer.identity().name)
            .finish_non_exhaustive()
    }
}

/// `part`, if it was made with `tokenizer` and ends documents as it does.
fn same_tokenizer(part: Part, tokenizer: &dyn Tokenizer) -> Result<Part, DataError> {
    let path = part.path().unwrap_or(Path::new(part.name())).to_path_buf();
    let header: &ShardHeader = part.header().expect("a shard has a header");
    let identity = tokenizer.identity();
    if header.tokenizer != identity.hash {
        let copy = path.with_file_name(TOKENIZER);
        let remedy = match copy.is_file() {
            true => std::path::absolute(&copy)
                .unwrap_or(copy)
                .display()
                .to_string(),
            false if header.tokenizer_name == BYTE => BYTE.into(),
            false => header.tokenizer_name.clone(),
        };
        return Err(DataError::shard(
            &path,
            ShardError::Tokenizer {
                found: header.tokenizer_name.clone(),
                expected: identity.name,
                remedy: format!("data.tokenizer = \"{remedy}\""),
            },
        ));
    }
    let end = tokenizer.end().map(|end| end as u32);
    if header.end != end {
        let name = |end: Option<u32>| match end {
            Some(end) => format!("token {end}"),
            None => "no token".into(),
        };
        return Err(DataError::shard(
            &path,
            ShardError::End {
                found: name(header.end),
                expected: name(end),
            },
        ));
    }
    Ok(part)
}
