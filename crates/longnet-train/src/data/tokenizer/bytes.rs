//! Bytes as tokens.

use super::{Identity, Tokenizer, TokenizerError};
use std::borrow::Cow;

/// Each byte is its own token.
#[derive(Clone, Copy, Debug)]
pub struct ByteTokenizer;

/// Each byte is its own token, and one of them ends documents.
#[derive(Clone, Copy, Debug)]
pub struct EndedBytes(pub u8);

/// The name of the byte tokenizer in a config.
pub const BYTE: &str = "byte";

fn bytes(tokens: &[i32]) -> Vec<u8> {
    tokens.iter().map(|&t| t as u8).collect()
}

impl Tokenizer for ByteTokenizer {
    fn vocab(&self) -> usize {
        256
    }

    fn try_encode(&self, text: &[u8]) -> Result<Vec<i32>, TokenizerError> {
        Ok(text.iter().map(|&b| i32::from(b)).collect())
    }

    fn decode(&self, tokens: &[i32]) -> Vec<u8> {
        bytes(tokens)
    }

    fn fixed(&self, token: i32) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Owned(vec![token as u8]))
    }

    fn identity(&self) -> Identity {
        Identity::new(BYTE, BYTE.as_bytes())
    }
}

impl Tokenizer for EndedBytes {
    fn vocab(&self) -> usize {
        256
    }

    fn try_encode(&self, text: &[u8]) -> Result<Vec<i32>, TokenizerError> {
        ByteTokenizer.try_encode(text)
    }

    fn decode(&self, tokens: &[i32]) -> Vec<u8> {
        bytes(tokens)
    }

    fn fixed(&self, token: i32) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Owned(vec![token as u8]))
    }

    fn identity(&self) -> Identity {
        ByteTokenizer.identity()
    }

    fn end(&self) -> Option<i32> {
        Some(i32::from(self.0))
    }
}
