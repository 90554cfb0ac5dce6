//! Pieces of files, one after the other.

use super::Text;
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
    /// # Panics
    ///
    /// If `range` is not within `0..len`.
    fn read(&self, range: Range<u64>, out: &mut Vec<i32>);

    /// The file and the byte in it that token `at` comes from, for messages.
    fn place(&self, at: u64) -> String;
}

/// A part of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the file in its [`Text`].
    pub file: usize,
    /// The bytes of it.
    pub bytes: Range<usize>,
}

/// Bytes of the pieces of a text. As [`Tokens`], each byte is one.
#[derive(Clone, Debug)]
pub struct Stream {
    text: Arc<Text>,
    pieces: Vec<Piece>,
    /// Where each piece starts in the stream, and where the last one ends.
    starts: Vec<u64>,
}

impl Stream {
    /// The stream of `pieces`, in order. Pieces that touch become one.
    pub fn new(text: Arc<Text>, pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut merged: Vec<Piece> = Vec::new();
        for piece in pieces {
            match merged.last_mut() {
                Some(last) if last.file == piece.file && last.bytes.end == piece.bytes.start => {
                    last.bytes.end = piece.bytes.end;
                }
                _ => merged.push(piece),
            }
        }
        let mut starts = vec![0];
        for piece in &merged {
            starts.push(starts[starts.len() - 1] + piece.bytes.len() as u64);
        }
        Self {
            text,
            pieces: merged,
            starts,
        }
    }

    /// All of `text`.
    pub fn whole(text: Text) -> Self {
        let pieces: Vec<Piece> = (0..text.len())
            .map(|file| Piece {
                file,
                bytes: 0..text.bytes(file).len(),
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

    /// The bytes of `range`, as slices of files.
    ///
    /// # Panics
    ///
    /// If `range` is not within `0..len`.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = &[u8]> {
        assert!(
            range.start <= range.end && range.end <= self.starts[self.pieces.len()],
            "bytes {range:?} of a stream of {}",
            self.starts[self.pieces.len()]
        );
        let first = self.starts.partition_point(|&s| s <= range.start) - 1;
        let last = self.starts.partition_point(|&s| s < range.end);
        (first..last.min(self.pieces.len())).map(move |p| {
            let (piece, start) = (&self.pieces[p], self.starts[p]);
            let from = range.start.saturating_sub(start) as usize;
            let to = ((range.end - start) as usize).min(piece.bytes.len());
            &self.text.bytes(piece.file)[piece.bytes.clone()][from..to]
        })
    }
}

impl Tokens for Stream {
    fn len(&self) -> u64 {
        self.starts[self.pieces.len()]
    }

    fn bytes(&self) -> u64 {
        self.len()
    }

    fn bytes_of(&self, range: Range<u64>) -> u64 {
        range.end - range.start
    }

    fn read(&self, range: Range<u64>, out: &mut Vec<i32>) {
        for slice in self.slices(range) {
            out.extend(slice.iter().map(|&b| i32::from(b)));
        }
    }

    fn place(&self, at: u64) -> String {
        let piece = self.starts.partition_point(|&s| s <= at) - 1;
        match self.pieces.get(piece) {
            Some(Piece { file, bytes }) => {
                let byte = bytes.start as u64 + at - self.starts[piece];
                format!("{} from byte {byte}", self.text.name(*file))
            }
            None => "the end of the text".into(),
        }
    }
}
