//! Training and validation text.

use super::random::fnv;
use super::stream::Piece;
use super::{DataError, Random, Stream, Text, Tokens};
use std::sync::Arc;

/// Two streams without a byte in common.
#[derive(Clone, Debug)]
pub struct Split {
    /// Text to learn from.
    pub train: Stream,
    /// Text held out.
    pub valid: Stream,
}

/// Holds out about `fraction` of the bytes.
///
/// Each file is cut into blocks of up to `block` bytes (less where the text is so short that one
/// block would exceed the fraction). The blocks with the lowest hashes of (file name, block number)
/// are held out until they reach the fraction, so validation text is spread over the files, and is
/// the same on every machine. No window reaches from one stream into the other.
///
/// # Errors
///
/// Text of a single block.
pub fn split(text: Text, fraction: f64, block: usize) -> Result<Split, DataError> {
    let bytes: u64 = (0..text.len()).map(|f| text.bytes(f).len() as u64).sum();
    let wanted = (bytes as f64 * fraction).ceil() as u64;
    let block = block.min(wanted as usize).max(1);
    let mut blocks = Vec::new();
    for file in 0..text.len() {
        let (name, len) = (fnv(text.name(file).as_bytes()), text.bytes(file).len());
        for (number, start) in (0..len).step_by(block).enumerate() {
            let hash = Random::new(name ^ number as u64).next();
            let bytes = start..len.min(start + block);
            blocks.push((hash, Piece { file, bytes }));
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
        sum += blocks[b].1.bytes.len() as u64;
        held_out[b] = true;
    }
    let text = Arc::new(text);
    let stream = |valid: bool| {
        let chosen = blocks.iter().zip(&held_out).filter(|(_, h)| **h == valid);
        Stream::new(text.clone(), chosen.map(|((_, piece), _)| piece.clone()))
    };
    let split = Split {
        train: stream(false),
        valid: stream(true),
    };
    match split.train.is_empty() || split.valid.is_empty() {
        true => Err(DataError::TooLittle { bytes }),
        false => Ok(split),
    }
}
