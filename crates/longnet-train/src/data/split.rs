//! Training and validation text.

use super::random::fnv;
use super::stream::Piece;
use super::{DataError, Part, Random, Stream, Text};
use std::ops::Range;
use std::sync::Arc;

/// Streams without a token in common.
#[derive(Clone, Debug)]
pub struct Split {
    /// Text to learn from: all of it.
    pub train: Stream,
    /// Text held out.
    pub valid: Stream,
    /// The text to learn from, source by source, with the share of each. One, if nothing is mixed.
    pub sources: Vec<(Stream, f64)>,
}

/// Holds out about `fraction` of the tokens of each source.
///
/// Each file is cut into blocks of up to `block` tokens (less where the text is so short that one
/// block would exceed the fraction). Where documents end within a block, the block before ends with the
/// first of them, so that only documents longer than a block are cut. The blocks with the lowest
/// hashes of (file name, block number) are held out until they reach the fraction, so validation text is
/// spread over the files, and is the same on every machine. No window reaches from one stream into
/// the other.
///
/// # Errors
///
/// A source of a single block.
pub fn split(text: Text, fraction: f64, block: usize) -> Result<Split, DataError> {
    let text = Arc::new(text);
    let (mut train, mut valid, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (files, weight) in text.sources() {
        let (learned, held_out) = split_source(&text, files.clone(), fraction, block)?;
        let stream = Stream::new(text.clone(), learned.iter().cloned());
        sources.push((stream, *weight));
        train.extend(learned);
        valid.extend(held_out);
    }
    Ok(Split {
        train: Stream::new(text.clone(), train),
        valid: Stream::new(text.clone(), valid),
        sources,
    })
}

/// The pieces of `files` to learn, and those to hold out.
fn split_source(
    text: &Text,
    files: Range<usize>,
    fraction: f64,
    block: usize,
) -> Result<(Vec<Piece>, Vec<Piece>), DataError> {
    let tokens: u64 = files.clone().map(|f| text.part(f).len()).sum();
    let wanted = (tokens as f64 * fraction).ceil() as u64;
    let block = (block as u64).min(wanted).max(1);
    let mut blocks = Vec::new();
    for file in files.clone() {
        let part = text.part(file);
        let name = fnv(part.name().as_bytes());
        let mut start = 0;
        for number in 0..part.len().div_ceil(block) {
            let hash = Random::new(name ^ number).next();
            let end = end_of_block(part, number, block);
            blocks.push((
                hash,
                Piece {
                    file,
                    tokens: start..end,
                },
            ));
            start = end;
        }
    }
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&b| (blocks[b].0, b));
    let mut held_out = vec![false; blocks.len()];
    let mut sum = 0;
    for b in order {
        if sum >= wanted {
            break;
        }
        let Range { start, end } = blocks[b].1.tokens;
        sum += end - start;
        held_out[b] = true;
    }
    let chosen = |valid: bool| {
        let chosen = blocks.iter().zip(&held_out).filter(|(_, h)| **h == valid);
        let pieces = chosen.map(|((_, piece), _)| piece.clone());
        pieces
            .filter(|piece| !piece.tokens.is_empty())
            .collect::<Vec<_>>()
    };
    let (learned, held_out) = (chosen(false), chosen(true));
    match learned.is_empty() || held_out.is_empty() {
        true => Err(DataError::TooLittle {
            file: text.name(files.start).into(),
            more: match files.len() {
                1 => String::new(),
                files => format!(" and {} more files", files - 1),
            },
            tokens,
        }),
        false => Ok((learned, held_out)),
    }
}

/// Where block `number` of `part` ends: with the first document that ends within the next one.
fn end_of_block(part: &Part, number: u64, block: u64) -> u64 {
    let (next, len) = ((number + 1) * block, part.len());
    if next >= len {
        return len;
    }
    // The end of the only document is that of the file, which moves no block.
    let last = len + u64::from(part.documents() > 1);
    // From the token before: a document may end exactly here.
    let mut ends = part.ends(next - 1..last.min(next + block));
    ends.next().unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::ShardWriter;
    use crate::data::{ByteTokenizer, Tokenizer};
    use std::io::Cursor;

    /// A shard of documents of these lengths.
    fn part(lengths: &[usize]) -> Part {
        let mut writer = ShardWriter::new(Cursor::new(vec![]), &ByteTokenizer, [0; 32]).unwrap();
        for &length in lengths {
            let tokens = ByteTokenizer.encode(&vec![b'a'; length]);
            writer.push(&tokens, length as u64).unwrap();
            writer.end_document().unwrap();
        }
        let (out, header) = writer.finish().unwrap();
        Part::owned("a", out.into_inner(), header)
    }

    fn ends(lengths: &[usize], block: u64) -> Vec<u64> {
        let part = part(lengths);
        let blocks = 0..part.len().div_ceil(block);
        blocks.map(|b| end_of_block(&part, b, block)).collect()
    }

    #[test]
    fn blocks_end_with_documents_that_are_not_longer_than_a_block() {
        assert_eq!(ends(&[100], 30), [30, 60, 90, 100]);
        assert_eq!(ends(&[10; 10], 30), [30, 60, 90, 100]);
        assert_eq!(ends(&[7; 10], 30), [35, 63, 70]);
        // The document from 5 to 85 is cut, and no other.
        assert_eq!(ends(&[5, 80, 15], 30), [30, 85, 100, 100]);
        assert_eq!(ends(&[1], 1), [1]);
        assert_eq!(ends(&[1, 1, 1], 1), [1, 2, 3]);
    }
}
