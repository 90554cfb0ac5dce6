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

/// The bytes of `tokens`. A model may have more tokens than there are bytes; the others have none.
fn bytes(tokens: &[i32]) -> Vec<u8> {
    let bytes = tokens.iter().filter_map(|&token| u8::try_from(token).ok());
    bytes.collect()
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
        Some(Cow::Owned(bytes(&[token])))
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
        Some(Cow::Owned(bytes(&[token])))
    }

    fn identity(&self) -> Identity {
        ByteTokenizer.identity()
    }

    fn end(&self) -> Option<i32> {
        Some(i32::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_no_bytes_have_none() {
        for tokenizer in [&ByteTokenizer as &dyn Tokenizer, &EndedBytes(0)] {
            assert_eq!(tokenizer.decode(&[97, 256 + 98, 255, -1, 99]), b"a\xffc");
            assert_eq!(tokenizer.fixed(97).as_deref(), Some(&b"a"[..]));
            assert_eq!(tokenizer.fixed(256 + 97).as_deref(), Some(&b""[..]));
        }
    }
}
