//! Writing a shard.

use super::{HEADER, ShardHeader, Width};
use crate::data::Tokenizer;
use sha2::{Digest, Sha256};
use std::io::{self, Seek, SeekFrom, Write};

/// Writes the tokens of documents as a shard. It is none before [`finish`](Self::finish).
pub struct ShardWriter<W> {
    out: W,
    header: ShardHeader,
    sum: Sha256,
    /// For each document, the tokens and the bytes of text up to its end.
    ends: Vec<(u64, u64)>,
    buffer: Vec<u8>,
}

impl<W: Write + Seek> ShardWriter<W> {
    /// A shard of tokens of `tokenizer` in `out`, which is at its start, made from `source`.
    ///
    /// # Errors
    ///
    /// `out` cannot be written.
    pub fn new(mut out: W, tokenizer: &dyn Tokenizer, source: [u8; 32]) -> io::Result<Self> {
        // Until the header is there, the file is no shard.
        out.write_all(&[0; HEADER])?;
        let identity = tokenizer.identity();
        Ok(Self {
            out,
            header: ShardHeader {
                width: Width::of(tokenizer.vocab()),
                tokens: 0,
                documents: 0,
                bytes: 0,
                vocab: tokenizer.vocab() as u32,
                largest: 0,
                end: tokenizer.end().map(|end| end as u32),
                tokenizer: identity.hash,
                contents: [0; 32],
                source,
                tokenizer_name: identity.name,
            },
            sum: Sha256::new(),
            ends: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Appends `tokens`, which stand for `bytes` bytes of text, to the current document.
    ///
    /// # Errors
    ///
    /// The shard cannot be written.
    ///
    /// # Panics
    ///
    /// If a token is not in the vocabulary.
    pub fn push(&mut self, tokens: &[i32], bytes: u64) -> io::Result<()> {
        self.buffer.clear();
        for &token in tokens {
            let token = u32::try_from(token).expect("tokens are not negative");
            self.header.largest = self.header.largest.max(token);
            let all = token.to_le_bytes();
            self.buffer
                .extend_from_slice(&all[..self.header.width.bytes() as usize]);
        }
        assert!(
            self.header.largest < self.header.vocab,
            "token {} of a vocabulary of {}",
            self.header.largest,
            self.header.vocab
        );
        self.header.tokens += tokens.len() as u64;
        self.header.bytes += bytes;
        self.sum.update(&self.buffer);
        self.out.write_all(&self.buffer)
    }

    /// Ends the current document, with the token for that if there is one. An empty one is no document.
    ///
    /// # Errors
    ///
    /// The shard cannot be written.
    pub fn end_document(&mut self) -> io::Result<()> {
        let before = self.ends.last().map_or(0, |end| end.0);
        if self.header.tokens > before {
            if let Some(end) = self.header.end {
                self.push(&[end as i32], 0)?;
            }
            self.ends.push((self.header.tokens, self.header.bytes));
        }
        Ok(())
    }

    /// Writes what is missing; what it was written to, and its header.
    ///
    /// # Errors
    ///
    /// The shard cannot be written.
    pub fn finish(mut self) -> io::Result<(W, ShardHeader)> {
        self.end_document()?;
        self.header.documents = self.ends.len() as u64;
        let unaligned = HEADER as u64 + self.header.tokens * self.header.width.bytes();
        self.buffer.clear();
        self.buffer
            .resize((self.header.index() - unaligned) as usize, 0);
        for (tokens, bytes) in &self.ends {
            self.buffer.extend(tokens.to_le_bytes());
            self.buffer.extend(bytes.to_le_bytes());
        }
        self.sum.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.header.contents = self.sum.finalize().into();
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&self.header.encode())?;
        self.out.flush()?;
        Ok((self.out, self.header))
    }
}
