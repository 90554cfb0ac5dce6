//! A `tokenizer.json` of Hugging Face.

use super::{Identity, Tokenizer, TokenizerError};
use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::DecoderWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Ids that there may be: no model has room for more.
const MOST_IDS: u32 = 1 << 24;
/// What ends documents, if the config does not say.
const ENDS: [&str; 5] = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[SEP]"];

/// A tokenizer from a file. Padding, truncation and templates of the file are left aside: they are for
/// single inputs, not for running text.
pub struct FileTokenizer {
    inner: tokenizers::Tokenizer,
    file: Vec<u8>,
    identity: Identity,
    vocab: usize,
    end: Option<i32>,
    /// The bytes of each token, if each stands for some whatever comes before it.
    pieces: Option<Vec<Box<[u8]>>>,
}

impl FileTokenizer {
    /// The tokenizer in `content`; `name` is for messages. `end` is the token that ends documents; if
    /// not given, it is one of the usual names, if there is one.
    ///
    /// # Errors
    ///
    /// `content` holds no tokenizer, or `end` is none of its tokens.
    pub fn parse(
        name: impl Into<String>,
        content: Vec<u8>,
        end: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        let name = name.into();
        let failed = |reason: String| TokenizerError::Parse {
            name: name.clone(),
            reason,
        };
        // Whether it is JSON at all: of that the crate says less, or panics.
        serde_json::from_slice::<serde_json::Value>(&content).map_err(|e| failed(e.to_string()))?;
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(&content)).map_err(failed)?;
        let mut inner = inner.map_err(|e| failed(e.to_string()))?;
        inner
            .with_truncation(None)
            .map_err(|e| failed(e.to_string()))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let ids = inner.get_vocab(true);
        let Some(&last) = ids.values().max() else {
            return Err(failed("its vocabulary is empty".into()));
        };
        if last >= MOST_IDS {
            return Err(TokenizerError::Id {
                name,
                id: last,
                limit: MOST_IDS,
            });
        }
        let token = |token: &&str| inner.token_to_id(token);
        let end = match end {
            None => ENDS.iter().find_map(token),
            Some(given) => Some(token(&given).ok_or_else(|| TokenizerError::NoEnd {
                name: name.clone(),
                token: given.into(),
                hint: match ENDS.iter().find(|end| token(end).is_some()) {
                    Some(usual) => format!("; '{usual}' is one"),
                    None => String::new(),
                },
            })?),
        };
        let vocab = last as usize + 1;
        let pieces = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
            .then(|| pieces(&inner, &ids, vocab));
        Ok(Self {
            identity: Identity::new(name, &content),
            end: end.map(|id| id as i32),
            inner,
            file: content,
            vocab,
            pieces,
        })
    }
}

/// The result of `call` into the `tokenizers` crate, which panics on some files that are no good, such as a table
/// of characters that ends too early.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // What was in use when it panicked is not used again, but for vocabularies that calls only read.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("without a word");
        format!("the tokenizers crate panicked: {said}")
    })
}

/// The bytes of each token of a byte-level tokenizer; none for special tokens and for ids between them.
fn pieces(
    inner: &tokenizers::Tokenizer,
    ids: &HashMap<String, u32>,
    vocab: usize,
) -> Vec<Box<[u8]>> {
    let bytes = byte_of_char();
    let added = inner.get_added_tokens_decoder();
    let mut pieces = vec![Box::from([]); vocab];
    for (token, &id) in ids {
        pieces[id as usize] = match added.get(&id) {
            Some(token) if token.special => continue,
            // Added tokens are text as it is.
            Some(token) => token.content.as_bytes().into(),
            None => {
                let piece: Option<Vec<u8>> =
                    token.chars().map(|c| bytes.get(&c).copied()).collect();
                piece.unwrap_or_else(|| token.as_bytes().to_vec()).into()
            }
        };
    }
    pieces
}

/// The byte that each character of a byte-level vocabulary stands for: printable characters of Latin-1
/// for themselves, those from U+0100 on for the other bytes in order.
fn byte_of_char() -> HashMap<char, u8> {
    let printable = |b: &u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let themselves = (0..=255u8).filter(printable).map(|b| (char::from(b), b));
    let others = (0..=255u8).filter(|b| !printable(b));
    let others = ('\u{100}'..).zip(others);
    let map: HashMap<char, u8> = themselves.chain(others).collect();
    debug_assert!(ByteLevel::alphabet().iter().all(|c| map.contains_key(c)));
    map
}

impl Tokenizer for FileTokenizer {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn try_encode(&self, text: &[u8]) -> Result<Vec<i32>, TokenizerError> {
        let text = std::str::from_utf8(text).map_err(|error| TokenizerError::NotUtf8 {
            name: self.identity.name.clone(),
            at: error.valid_up_to() as u64,
            byte: text[error.valid_up_to()],
        })?;
        let failed = |reason: String| TokenizerError::Encode {
            name: self.identity.name.clone(),
            reason,
        };
        let encoded = guarded(|| self.inner.encode_fast(text, false)).map_err(failed)?;
        let encoded = encoded.map_err(|error| failed(error.to_string()))?;
        Ok(encoded.get_ids().iter().map(|&id| id as i32).collect())
    }

    fn decode(&self, tokens: &[i32]) -> Vec<u8> {
        match &self.pieces {
            Some(pieces) => {
                let pieces = tokens.iter().filter_map(|&t| pieces.get(t as usize));
                pieces.flatten().copied().collect()
            }
            None => {
                let ids: Vec<u32> = tokens.iter().map(|&t| t as u32).collect();
                // A decoder that fails has no text for these tokens.
                let text = guarded(|| self.inner.decode(&ids, true).unwrap_or_default());
                text.unwrap_or_default().into()
            }
        }
    }

    fn fixed(&self, token: i32) -> Option<Cow<'_, [u8]>> {
        let pieces = self.pieces.as_ref()?;
        let piece = pieces.get(token as usize);
        Some(Cow::Borrowed(piece.map_or(&[], |piece| piece)))
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn end(&self) -> Option<i32> {
        self.end
    }

    fn file(&self) -> Option<&[u8]> {
        Some(&self.file)
    }
}
