//! The tokens of one file.

use super::shard::{HEADER, INDEX_ENTRY, ShardError, ShardHeader, Width};
use super::{DataError, Identity};
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Tokens in memory or, of a large file, mapped into it, with the ends of their documents.
#[derive(Debug)]
pub struct Part {
    name: String,
    memory: Memory,
    /// Of a shard; a text as it is has none.
    header: Option<ShardHeader>,
}

#[derive(Debug)]
enum Memory {
    /// A file that stays open, so that its size can be asked for.
    Mapped {
        path: PathBuf,
        file: File,
        map: Mmap,
    },
    /// What was a small file, if it was one.
    Owned {
        path: Option<PathBuf>,
        bytes: Vec<u8>,
    },
}

/// Files of fewer bytes are read at once: there may be more of them than can be open at a time.
const SMALL: u64 = 1 << 20;

impl Part {
    /// The text `name` at `path`, each byte of which is a token.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened or mapped.
    pub fn text(name: &str, path: &Path) -> Result<Self, DataError> {
        Ok(Self {
            name: name.into(),
            memory: Memory::open(path)?,
            header: None,
        })
    }

    /// The shard `name` at `path`. The header is checked; the contents are not read.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened or mapped, or is no whole shard.
    pub fn shard(name: &str, path: &Path) -> Result<Self, DataError> {
        let memory = Memory::open(path)?;
        let bytes = memory.bytes();
        let header = ShardHeader::parse(&bytes[..bytes.len().min(HEADER)]);
        let header = header.map_err(|e| DataError::shard(path, e))?;
        let (found, expected) = (bytes.len() as u64, header.file_bytes());
        if found != expected {
            return Err(DataError::shard(path, ShardError::Size { found, expected }));
        }
        Ok(Self {
            name: name.into(),
            memory,
            header: Some(header),
        })
    }

    /// The shard `name` with `header`, as it was written to memory.
    pub(super) fn owned(name: &str, shard: Vec<u8>, header: ShardHeader) -> Self {
        Self {
            name: name.into(),
            memory: Memory::Owned {
                path: None,
                bytes: shard,
            },
            header: Some(header),
        }
    }

    /// Name of the file, below the root of the data.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The header, if it is a shard.
    pub fn header(&self) -> Option<&ShardHeader> {
        self.header.as_ref()
    }

    /// Where the file is, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.memory {
            Memory::Mapped { path, .. } => Some(path),
            Memory::Owned { path, .. } => path.as_deref(),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        match &self.header {
            Some(header) => header.tokens,
            None => self.memory.bytes().len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if each of them is a token and nothing else is in the file.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self.header {
            None => Some(self.memory.bytes()),
            Some(_) => None,
        }
    }

    /// Whether the file is as long as when it was mapped: reading what it lost would end the program.
    ///
    /// # Errors
    ///
    /// It is shorter.
    pub fn intact(&self) -> Result<(), DataError> {
        let Memory::Mapped { path, file, map } = &self.memory else {
            return Ok(());
        };
        let now = file.metadata().map_err(|e| DataError::read(path, e))?.len();
        match now < map.len() as u64 {
            true => Err(DataError::Shrunk {
                path: path.clone(),
                then: map.len() as u64,
                now,
            }),
            false => Ok(()),
        }
    }

    /// Appends the tokens of `range`, which is within `0..len`, to `out`.
    ///
    /// # Errors
    ///
    /// A file that became shorter since it was opened, or a token that is not below `vocab`.
    pub fn read(
        &self,
        range: Range<u64>,
        vocab: u32,
        tokenizer: &dyn Fn() -> Identity,
        out: &mut Vec<i32>,
    ) -> Result<(), DataError> {
        self.intact()?;
        let width = self.header.as_ref().map_or(Width::One, |h| h.width);
        let start = self.header.as_ref().map_or(0, |_| HEADER as u64);
        let at = |token: u64| (start + token * width.bytes()) as usize;
        let bytes = &self.memory.bytes()[at(range.start)..at(range.end)];
        let from = out.len();
        match width {
            Width::One => out.extend(bytes.iter().map(|&b| i32::from(b))),
            Width::Two => {
                let (tokens, _) = bytes.as_chunks::<2>();
                out.extend(tokens.iter().map(|t| i32::from(u16::from_le_bytes(*t))));
            }
            Width::Four => {
                let (tokens, _) = bytes.as_chunks::<4>();
                out.extend(tokens.iter().map(|t| i32::from_le_bytes(*t)));
            }
        }
        let outside = out[from..].iter().position(|&t| t as u32 >= vocab);
        outside.map_or(Ok(()), |i| {
            let path = self.path().unwrap_or(Path::new(&self.name));
            Err(DataError::shard(
                path,
                ShardError::Token {
                    at: range.start + i as u64,
                    token: out[from + i] as u32,
                    tokenizer: tokenizer().name,
                    vocab,
                },
            ))
        })
    }

    /// Number of documents.
    pub fn documents(&self) -> u64 {
        self.header.as_ref().map_or(1, |h| h.documents)
    }

    /// The tokens and the bytes of text up to the end of a document.
    fn end(&self, document: u64) -> (u64, u64) {
        let Some(header) = &self.header else {
            return (self.len(), self.len());
        };
        let at = (header.index() + document * INDEX_ENTRY) as usize;
        let (entries, _) = self.memory.bytes()[at..].as_chunks::<8>();
        let tokens = u64::from_le_bytes(entries[0]);
        (tokens, u64::from_le_bytes(entries[1]))
    }

    /// The number of the document that token `at` is of.
    pub fn document(&self, at: u64) -> u64 {
        let (mut low, mut high) = (0, self.documents());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.end(middle).0 <= at {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Ends of documents after `range.start` and before `range.end`, in order.
    pub fn ends(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let ends = (self.document(range.start)..self.documents()).map(|d| self.end(d).0);
        // An index out of order, which only a check of the whole shard finds, must do no harm.
        let mut last = range.start;
        ends.take_while(move |&end| end < range.end)
            .filter(move |&end| {
                let later = end > last;
                last = last.max(end);
                later
            })
    }

    /// Bytes of text before token `at`; within a document its bytes are spread evenly.
    fn bytes_before(&self, at: u64) -> u64 {
        let Some(header) = &self.header else {
            return at;
        };
        let document = self.document(at);
        let (from, bytes) = match document.checked_sub(1) {
            Some(before) => self.end(before),
            None => (0, 0),
        };
        if document == header.documents {
            return bytes;
        }
        let (to, end) = self.end(document);
        let (tokens, length) = (to.saturating_sub(from).max(1), end.saturating_sub(bytes));
        let share = u128::from(length) * u128::from(at.saturating_sub(from)) / u128::from(tokens);
        bytes.saturating_add(share as u64)
    }

    /// Bytes of text that the tokens of `range` stand for.
    pub fn bytes(&self, range: Range<u64>) -> u64 {
        if self.intact().is_err() {
            // The index of a shard is gone, which the next read says.
            return 0;
        }
        let before = self.bytes_before(range.start);
        self.bytes_before(range.end).saturating_sub(before)
    }

    /// The place of token `at`, for messages.
    pub fn place(&self, at: u64) -> String {
        match &self.header {
            None => format!("{} from byte {at}", self.name),
            Some(_) if self.intact().is_err() => self.name.clone(),
            Some(_) => {
                let document = self.document(at);
                let before = document
                    .checked_sub(1)
                    .map_or(0, |before| self.end(before).0);
                format!(
                    "{} from token {} of document {}",
                    self.name,
                    at.saturating_sub(before),
                    document + 1
                )
            }
        }
    }
}

impl Memory {
    fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |e: io::Error| DataError::read(path, e);
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < SMALL {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(failed)?;
            return Ok(Self::Owned {
                path: Some(path.into()),
                bytes,
            });
        }
        // SAFETY: the map is only read. A program that truncates the file while it is mapped makes
        // reads of what is gone fail with SIGBUS, which asking for the size before each read
        // leaves little time for; one that rewrites it changes the bytes under us: tokens are
        // compared with the vocabulary on each read, so neither breaks memory safety. A file that
        // is renamed or deleted stays readable.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Self::Mapped {
            path: path.into(),
            file,
            map,
        })
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Owned { bytes, .. } => bytes,
        }
    }
}
