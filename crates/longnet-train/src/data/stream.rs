//! Pieces of files, one after the other.

use super::{DataError, Text};
use crate::entropy::Entropy;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A long sequence of tokens, read in parts.
pub trait Tokens: Send + Sync {
    /// Number of tokens.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text that the tokens stand for.
    fn bytes(&self) -> u64;

    /// Bytes of text that the tokens of `range` stand for. Unless a stream knows better, that is
    /// their share of all bytes, rounded.
    fn bytes_of(&self, range: Range<u64>) -> u64 {
        let share = (range.end - range.start) as f64 / self.len().max(1) as f64;
        (self.bytes() as f64 * share).round() as u64
    }

    /// Appends the tokens of `range` to `out`.
    ///
    /// # Errors
    ///
    /// Text that has become unreadable, or a token that is not in the vocabulary.
    ///
    /// # Panics
    ///
    /// If `range` is not within `0..len`.
    fn read(&self, range: Range<u64>, out: &mut Vec<i32>) -> Result<(), DataError>;

    /// Which document each token of `range` is of, counted from 0 at the first, if documents must not
    /// see each other.
    ///
    /// # Errors
    ///
    /// Text that has become unreadable.
    ///
    /// # Panics
    ///
    /// If `range` is not within `0..len`.
    fn documents(&self, range: Range<u64>) -> Result<Option<Vec<i32>>, DataError> {
        let _ = range;
        Ok(None)
    }

    /// The file and the place in it that token `at` comes from, for messages.
    fn place(&self, at: u64) -> String;
}

/// A part of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the file in its [`Text`].
    pub file: usize,
    /// The tokens of it.
    pub tokens: Range<u64>,
}

/// Tokens of the pieces of a text.
#[derive(Clone, Debug)]
pub struct Stream {
    text: Arc<Text>,
    pieces: Vec<Piece>,
    /// Where each piece starts in the stream, and where the last one ends.
    starts: Vec<u64>,
    bytes: u64,
}

/// Tokens that are decoded at once.
const DECODED: u64 = 1 << 16;
/// Tokens whose text is looked at for its entropy, unless they are bytes.
const MOST_DECODED: u64 = 1 << 24;

impl Stream {
    /// The stream of `pieces`, in order. Pieces that touch become one.
    pub fn new(text: Arc<Text>, pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut merged: Vec<Piece> = Vec::new();
        for piece in pieces {
            match merged.last_mut() {
                Some(last) if last.file == piece.file && last.tokens.end == piece.tokens.start => {
                    last.tokens.end = piece.tokens.end;
                }
                _ => merged.push(piece),
            }
        }
        let (mut starts, mut bytes) = (vec![0], 0);
        for Piece { file, tokens } in &merged {
            starts.push(starts[starts.len() - 1] + (tokens.end - tokens.start));
            bytes += text.part(*file).bytes(tokens.clone());
        }
        Self {
            text,
            pieces: merged,
            starts,
            bytes,
        }
    }

    /// All of `text`.
    pub fn whole(text: Text) -> Self {
        let pieces: Vec<Piece> = (0..text.len())
            .map(|file| Piece {
                file,
                tokens: 0..text.part(file).len(),
            })
            .collect();
        Self::new(Arc::new(text), pieces)
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The text that the pieces are of.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The bytes of text of `range`, in order. A character may lie in two of the slices.
    ///
    /// # Panics
    ///
    /// If `range` is not within `0..len`.
    pub fn slices(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Cow<'_, [u8]>, DataError>> {
        self.parts(range).flat_map(move |piece| {
            let part = self.text.part(piece.file);
            let step = match part.as_text() {
                Some(_) => u64::MAX,
                None => DECODED,
            };
            let Range { start, end } = piece.tokens;
            let starts = std::iter::successors(Some(start), move |at| at.checked_add(step));
            let starts = starts.take_while(move |&at| at < end);
            starts.map(move |from| {
                let to = from.saturating_add(step).min(end);
                if let Some(text) = part.as_text() {
                    part.intact()?;
                    return Ok(Cow::Borrowed(&text[from as usize..to as usize]));
                }
                let mut tokens = Vec::new();
                self.read_part(piece.file, from..to, &mut tokens)?;
                Ok(Cow::Owned(self.text.tokenizer().decode(&tokens)))
            })
        })
    }

    /// The entropies of the bytes; of tokens that are not bytes, those of the first of them.
    ///
    /// # Errors
    ///
    /// Text that cannot be read.
    pub fn entropy(&self) -> Result<Entropy, DataError> {
        let tokens = match self.text.tokenizer().file() {
            None => self.len(),
            Some(_) => self.len().min(MOST_DECODED),
        };
        let mut error = None;
        let slices = self.slices(0..tokens).map_while(|slice| {
            let slice = slice.map_err(|e| error = Some(e));
            slice.ok()
        });
        let entropy = Entropy::of_parts(slices);
        error.map_or(Ok(entropy), Err)
    }

    /// The pieces of `range`.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Piece> {
        assert!(
            range.start <= range.end && range.end <= self.starts[self.pieces.len()],
            "tokens {range:?} of a stream of {}",
            self.starts[self.pieces.len()]
        );
        let first = self.starts.partition_point(|&s| s <= range.start) - 1;
        let last = self.starts.partition_point(|&s| s < range.end);
        (first..last.min(self.pieces.len())).map(move |p| {
            let (Piece { file, tokens }, start) = (&self.pieces[p], self.starts[p]);
            let from = tokens.start + range.start.saturating_sub(start);
            let to = tokens.end.min(tokens.start + (range.end - start));
            Piece {
                file: *file,
                tokens: from..to,
            }
        })
    }

    fn read_part(
        &self,
        file: usize,
        tokens: Range<u64>,
        out: &mut Vec<i32>,
    ) -> Result<(), DataError> {
        let tokenizer = self.text.tokenizer();
        let vocab = tokenizer.vocab() as u32;
        let part = self.text.part(file);
        part.read(tokens, vocab, &|| tokenizer.identity(), out)
    }
}

impl Tokens for Stream {
    fn len(&self) -> u64 {
        self.starts[self.pieces.len()]
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn bytes_of(&self, range: Range<u64>) -> u64 {
        let parts = self.parts(range);
        parts
            .map(|piece| self.text.part(piece.file).bytes(piece.tokens))
            .sum()
    }

    fn read(&self, range: Range<u64>, out: &mut Vec<i32>) -> Result<(), DataError> {
        for piece in self.parts(range) {
            self.read_part(piece.file, piece.tokens, out)?;
        }
        Ok(())
    }

    fn documents(&self, range: Range<u64>) -> Result<Option<Vec<i32>>, DataError> {
        if !self.text.keeps_documents_apart() {
            return Ok(None);
        }
        let mut documents = Vec::with_capacity((range.end - range.start) as usize);
        let mut number = -1;
        for Piece { file, tokens } in self.parts(range) {
            let part = self.text.part(file);
            part.intact()?;
            // What follows in the stream does not follow in the text.
            let mut from = tokens.start;
            for end in part.ends(tokens.clone()).chain([tokens.end]) {
                number += 1;
                documents.extend((from..end).map(|_| number));
                from = end;
            }
        }
        Ok(Some(documents))
    }

    fn place(&self, at: u64) -> String {
        let piece = self.starts.partition_point(|&s| s <= at) - 1;
        match self.pieces.get(piece) {
            Some(Piece { file, tokens }) => {
                let at = tokens.start + (at - self.starts[piece]);
                self.text.part(*file).place(at)
            }
            None => "the end of the text".into(),
        }
    }
}
