//! Tokens as text while they come.

use super::Tokenizer;

/// Turns a stream of tokens into text, giving out bytes as soon as no later token can change them.
///
/// A character of several bytes may come in several tokens: its bytes are held back until it is whole,
/// or until what follows shows that it never will be.
///
/// ```
/// use longnet_train::data::{ByteTokenizer, Decoder};
/// let mut decoder = Decoder::new(&ByteTokenizer);
/// assert_eq!(decoder.push(0xc3), b"");
/// assert_eq!(decoder.push(0xa9), "é".as_bytes());
/// assert_eq!(decoder.push(0xc3), b"");
/// assert_eq!(decoder.finish(), b"\xc3");
/// ```
pub struct Decoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    /// Bytes that wait for the rest of their character.
    held: Vec<u8>,
    /// The last tokens, if their bytes depend on each other, and how many bytes of them are given out.
    tokens: Vec<i32>,
    given: usize,
    /// For how many tokens nothing has come out.
    waiting: usize,
}

/// A character has at most four bytes, so at most as many tokens.
const LONGEST_WAIT: usize = 4;
/// Tokens that are decoded together, and how many stay as context when there are more.
const MOST_TOKENS: usize = 48;
const CONTEXT: usize = 16;

impl<'a> Decoder<'a> {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &'a dyn Tokenizer) -> Self {
        Self {
            tokenizer,
            held: Vec::new(),
            tokens: Vec::new(),
            given: 0,
            waiting: 0,
        }
    }

    /// Takes the next token; the bytes that are certain now.
    pub fn push(&mut self, token: i32) -> Vec<u8> {
        match self.tokenizer.fixed(token) {
            Some(bytes) => self.held.extend_from_slice(&bytes),
            None => self.push_in_context(token),
        }
        let certain = certain(&self.held);
        self.held.drain(..certain).collect()
    }

    /// Decodes the token with those before it: it may be joined to them.
    fn push_in_context(&mut self, token: i32) {
        self.tokens.push(token);
        let text = self.tokenizer.decode(&self.tokens);
        self.waiting += 1;
        // What stands for a broken character may become a whole one.
        let broken = text.ends_with("\u{fffd}".as_bytes());
        if broken && self.waiting <= LONGEST_WAIT {
            return;
        }
        self.waiting = 0;
        self.held.extend(text.get(self.given..).unwrap_or_default());
        self.given = text.len();
        if self.tokens.len() > MOST_TOKENS {
            self.tokens.drain(..self.tokens.len() - CONTEXT);
            self.given = self.tokenizer.decode(&self.tokens).len();
        }
    }

    /// The bytes that are still held back, at the end of the text.
    pub fn finish(mut self) -> Vec<u8> {
        if self.waiting > 0 {
            let text = self.tokenizer.decode(&self.tokens);
            self.held.extend(text.get(self.given..).unwrap_or_default());
        }
        self.held
    }
}

/// How many of `bytes` are not part of a character that may go on.
fn certain(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(broken) => start += error.valid_up_to() + broken,
                None => return start + error.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::certain;

    #[test]
    fn only_a_character_that_may_go_on_is_held_back() {
        let text = "aé€🙂".as_bytes();
        let whole = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        let got: Vec<_> = (0..=text.len()).map(|n| certain(&text[..n])).collect();
        assert_eq!(got, whole);
        assert_eq!(certain(b"\xff\xfe"), 2);
        assert_eq!(certain(b"\xe2a"), 2);
        assert_eq!(certain(b"\xff\xe2\x82"), 1);
    }
}
