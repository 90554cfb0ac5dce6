//! From bytes to tokens and back.

/// Turns text into tokens and tokens into text.
pub trait Tokenizer: Send + Sync {
    /// Number of different tokens.
    fn vocab(&self) -> usize;

    /// The tokens of `text`.
    fn encode(&self, text: &[u8]) -> Vec<i32>;

    /// The bytes of `tokens`, which need not be UTF-8.
    fn decode(&self, tokens: &[i32]) -> Vec<u8>;
}

/// Each byte is its own token.
#[derive(Clone, Copy, Debug)]
pub struct ByteTokenizer;

impl Tokenizer for ByteTokenizer {
    fn vocab(&self) -> usize {
        256
    }

    fn encode(&self, text: &[u8]) -> Vec<i32> {
        text.iter().map(|&b| i32::from(b)).collect()
    }

    fn decode(&self, tokens: &[i32]) -> Vec<u8> {
        tokens.iter().map(|&t| t as u8).collect()
    }
}
