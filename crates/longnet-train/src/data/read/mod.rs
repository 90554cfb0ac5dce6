//! Documents from files.
//!
//! A text file is one document, a line of JSONL and a row of Parquet are one each. Files are read from
//! front to back with bounded memory, packed or not; a long document comes in several pieces.

mod json;
mod parquet;
mod text;

use super::files::Found;
use super::format::{Compression, Format};
use super::{DataError, shard::ShardError};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// A document or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its bytes.
    pub text: &'a [u8],
    /// Whether the document ends here.
    pub last: bool,
    /// Where the bytes are from.
    pub at: At,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A byte of the unpacked text, counted from 0.
    Byte(u64),
    /// A line, counted from 1.
    Line(u64),
    /// A row of a table, counted from 1.
    Row(u64),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(n) => write!(f, "byte {n}"),
            Self::Line(n) => write!(f, "line {n}"),
            Self::Row(n) => write!(f, "row {n}"),
        }
    }
}

/// What takes the pieces of a file.
pub type Each<'a> = dyn FnMut(Piece<'_>) -> Result<(), DataError> + 'a;

/// Hands the pieces of `found` to `each`, and adds the bytes read from the disk to `read_bytes` on the
/// way. How many records had no text: null, in JSONL and Parquet.
///
/// # Errors
///
/// A file that cannot be read, has become shorter meanwhile, is cut off or damaged; a record without
/// `field` or whose `field` is no string; the first error of `each`.
pub fn pieces(
    found: &Found,
    field: &str,
    read_bytes: &AtomicU64,
    each: &mut Each<'_>,
) -> Result<u64, DataError> {
    let failed = |e: io::Error| DataError::read(&found.path, e);
    let (format, compression) = Format::of(&found.name);
    let file = File::open(&found.path).map_err(failed)?;
    if format == Format::Parquet {
        return parquet::pieces(found, file, field, read_bytes, each);
    }
    if format == Format::Shard {
        return Err(DataError::shard(&found.path, ShardError::NotText));
    }
    let size = file.metadata().map_err(failed)?.len();
    let counted = Counted {
        file,
        sum: read_bytes,
        read: 0,
    };
    match compression {
        Compression::None => {
            let mut input = counted;
            let skipped = lines_or_text(found, format, field, &mut input, each)?;
            match input.read < size {
                true => Err(DataError::Shrunk {
                    path: found.path.clone(),
                    then: size,
                    now: input.read,
                }),
                false => Ok(skipped),
            }
        }
        Compression::Gzip => {
            let mut input = flate2::read::MultiGzDecoder::new(BufReader::new(counted));
            lines_or_text(found, format, field, &mut input, each)
        }
        Compression::Zstd => {
            let mut input = zstd::stream::read::Decoder::new(counted).map_err(failed)?;
            // As far as 'zstd --long=31' looks back; the default is 27.
            input.window_log_max(31).map_err(failed)?;
            lines_or_text(found, format, field, &mut input, each)
        }
    }
}

fn lines_or_text(
    found: &Found,
    format: Format,
    field: &str,
    input: &mut dyn Read,
    each: &mut Each<'_>,
) -> Result<u64, DataError> {
    match format {
        Format::JsonLines => json::pieces(found, field, input, each),
        _ => text::pieces(found, input, each).map(|()| 0),
    }
}

/// A file whose bytes are counted as they are read.
struct Counted<'a> {
    file: File,
    sum: &'a AtomicU64,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.read += n as u64;
        self.sum.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
