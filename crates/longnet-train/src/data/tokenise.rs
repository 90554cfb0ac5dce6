//! From files of text to shards.

use super::files::Found;
use super::read::{self, At};
use super::shard::{ShardHeader, ShardWriter};
use super::tokenizer::TokenizerError;
use super::{DataError, Part, Tokenizer, cut};
use rayon::prelude::*;
use std::io::{self, Cursor, Seek, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes of text that are turned into tokens at once, each part by one thread.
const ROUND: usize = 4 << 20;
/// Bytes of text that is turned into tokens in memory, at each start of a program.
const MOST_IN_MEMORY: u64 = 512 << 20;

/// What is read on the way to tokens, of all files.
pub struct Count<'a> {
    /// Bytes read from the disk.
    pub read: &'a AtomicU64,
    /// Bytes of text, unpacked.
    pub text: AtomicU64,
    /// The most bytes of text.
    pub most: u64,
}

/// Writes the tokens of `found` to `out`, from its start; what the header of the shard says, and how many
/// records had no text.
///
/// # Errors
///
/// `found` cannot be read, has no tokens or more text than `count` allows, or `out`, which `failed` names, cannot be written.
pub fn tokenise<W: Write + Seek>(
    found: &Found,
    field: &str,
    tokenizer: &dyn Tokenizer,
    source: [u8; 32],
    count: &Count,
    out: W,
    failed: &dyn Fn(io::Error) -> DataError,
) -> Result<(W, ShardHeader, u64), DataError> {
    let mut writer = ShardWriter::new(out, tokenizer, source).map_err(failed)?;
    let mut round = Round::default();
    let skipped = read::pieces(found, field, count.read, &mut |piece| {
        let new = piece.text.len() as u64;
        let bytes = count.text.fetch_add(new, Ordering::Relaxed) + new;
        if bytes > count.most {
            return Err(DataError::TooLarge {
                bytes,
                limit: count.most,
            });
        }
        round.bytes += piece.text.len();
        round
            .pieces
            .push((piece.text.to_vec(), piece.last, piece.at));
        match round.bytes < ROUND && round.pieces.len() < ROUND / 64 {
            true => Ok(()),
            false => round.write(found, tokenizer, &mut writer, failed),
        }
    })?;
    round.write(found, tokenizer, &mut writer, failed)?;
    let (out, header) = writer.finish().map_err(failed)?;
    Ok((out, header, skipped))
}

/// Pieces of text that wait until there are enough for all threads.
#[derive(Default)]
struct Round {
    pieces: Vec<(Vec<u8>, bool, At)>,
    bytes: usize,
}

impl Round {
    fn write<W: Write + Seek>(
        &mut self,
        found: &Found,
        tokenizer: &dyn Tokenizer,
        writer: &mut ShardWriter<W>,
        failed: &dyn Fn(io::Error) -> DataError,
    ) -> Result<(), DataError> {
        let encoded: Vec<_> = self
            .pieces
            .par_iter()
            .map(|(text, _, at)| {
                encode(text, tokenizer).map_err(|e| DataError::encode(found, *at, e))
            })
            .collect();
        for (tokens, (text, last, _)) in encoded.into_iter().zip(&self.pieces) {
            writer.push(&tokens?, text.len() as u64).map_err(failed)?;
            if *last {
                writer.end_document().map_err(failed)?;
            }
        }
        *self = Self::default();
        Ok(())
    }
}

fn encode(text: &[u8], tokenizer: &dyn Tokenizer) -> Result<Vec<i32>, TokenizerError> {
    let parts: Vec<&[u8]> = cut::parts(text).collect();
    let starts = parts.iter().scan(0, |at, part| {
        let start = *at;
        *at += part.len() as u64;
        Some(start)
    });
    let starts: Vec<u64> = starts.collect();
    let encoded: Vec<_> = parts
        .par_iter()
        .zip(starts)
        .map(|(part, start)| {
            tokenizer
                .try_encode(part)
                .map_err(|error| error.moved(start))
        })
        .collect();
    let mut all = Vec::new();
    for tokens in encoded {
        all.extend(tokens?);
    }
    Ok(all)
}

/// The tokens of `files` in memory, and how many of their records had no text.
///
/// # Errors
///
/// As [`tokenise`], and files that are too large for that.
pub(super) fn tokenise_all(
    files: &[&Found],
    field: &str,
    tokenizer: &dyn Tokenizer,
) -> Result<(Vec<Part>, u64), DataError> {
    let mut bytes = 0;
    for found in files {
        let metadata = found.path.metadata();
        bytes += metadata.map_err(|e| DataError::read(&found.path, e))?.len();
    }
    if bytes > MOST_IN_MEMORY {
        return Err(DataError::TooLarge {
            bytes,
            limit: MOST_IN_MEMORY,
        });
    }
    let read = AtomicU64::new(0);
    let count = Count {
        read: &read,
        text: AtomicU64::new(0),
        most: MOST_IN_MEMORY,
    };
    let found = at_once(files.len(), |i| {
        let found = files[i];
        let failed = |e: io::Error| DataError::read(&found.path, e);
        let out = Cursor::new(Vec::new());
        let (out, header, skipped) =
            tokenise(found, field, tokenizer, [0; 32], &count, out, &failed)?;
        Ok((Part::owned(&found.name, out.into_inner(), header), skipped))
    })?;
    let skipped = found.iter().map(|(_, skipped)| skipped).sum();
    Ok((found.into_iter().map(|(part, _)| part).collect(), skipped))
}

/// Calls `work` with each number below `n`, as many at a time as there are cores; the results in order.
/// These are threads of their own: within one of rayon's, a wait for the parts of a file would begin
/// another file.
///
/// # Errors
///
/// The first error by number. What has begun is ended, nothing else is begun.
pub(super) fn at_once<T: Send>(
    n: usize,
    work: impl Fn(usize) -> Result<T, DataError> + Sync,
) -> Result<Vec<T>, DataError> {
    let (next, stop) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let results = Mutex::new(Vec::new());
    let threads = rayon::current_num_threads().min(n);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n || stop.load(Ordering::Relaxed) < n {
                        return;
                    }
                    let result = work(i);
                    if result.is_err() {
                        stop.fetch_min(i, Ordering::Relaxed);
                    }
                    results
                        .lock()
                        .expect("no thread panicked")
                        .push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ByteTokenizer;

    #[test]
    fn a_limit_counts_what_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt.zst");
        let packed = zstd::encode_all(&[b'a'; 10_000][..], 1).unwrap();
        assert!(packed.len() < 1000);
        std::fs::write(&path, packed).unwrap();
        let found = Found {
            name: "a.txt.zst".into(),
            path,
        };
        let read = AtomicU64::new(0);
        let all = |most| {
            let count = Count {
                read: &read,
                text: AtomicU64::new(0),
                most,
            };
            let out = Cursor::new(Vec::new());
            let failed = |e| DataError::read(&found.path, e);
            tokenise(
                &found,
                "text",
                &ByteTokenizer,
                [0; 32],
                &count,
                out,
                &failed,
            )
        };
        assert!(all(10_000).is_ok());
        let error = all(9_999).map(|(_, header, _)| header).unwrap_err();
        assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
    }
}
