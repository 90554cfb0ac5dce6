//! A byte-level BPE learned from text.

use super::{FileTokenizer, Tokenizer, TokenizerError};
use crate::data::prepare::{draft, replace};
use crate::data::{DataError, Watch, cut, files::Found, read};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, PostProcessorWrapper, TokenizerBuilder};

/// The special token that ends documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The largest vocabulary that is learned.
const MOST: usize = 1 << 20;
/// The bytes and [`END_OF_TEXT`].
const LEAST: usize = 257;

/// A tokenizer that was learned.
pub struct Trained {
    /// It, as it will be read again.
    pub tokenizer: FileTokenizer,
    /// Documents that it was learned from.
    pub documents: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Trained {
    /// Writes the tokenizer to `path`, whole or not at all.
    ///
    /// # Errors
    ///
    /// There is a file already, or it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokenizerError> {
        if path.symlink_metadata().is_ok() {
            return Err(TokenizerError::Exists { path: path.into() });
        }
        let content = self.tokenizer.file().unwrap_or_default();
        replace(path, content).map_err(|source| TokenizerError::Write {
            path: path.into(),
            source,
        })
    }
}

/// Whether a tokenizer can be [saved](Trained::save) at `path`, whose folder is made: before hours of
/// learning.
///
/// # Errors
///
/// There is a file already, or none can be written.
pub fn reserve(path: &Path) -> Result<(), TokenizerError> {
    if path.symlink_metadata().is_ok() {
        return Err(TokenizerError::Exists { path: path.into() });
    }
    let draft = draft(path);
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)
        .and_then(|()| fs::File::create(&draft))
        .and_then(|_| fs::remove_file(&draft))
        .map_err(|source| TokenizerError::Write {
            path: path.into(),
            source,
        })
}

/// Learns a byte-level BPE of up to `vocab` tokens from `files`: the bytes, the special token
/// [`END_OF_TEXT`], and what most often stands together. The same text gives the same file.
///
/// # Errors
///
/// Text that cannot be read or is not UTF-8, no text, and a vocabulary too small to hold the bytes.
pub fn train(
    files: &[Found],
    field: &str,
    vocab: usize,
    watch: &Watch,
) -> Result<Trained, DataError> {
    if !(LEAST..=MOST).contains(&vocab) {
        return Err(TokenizerError::Vocabulary {
            vocab,
            least: LEAST,
            most: MOST,
        }
        .into());
    }
    let failed = |e: tokenizers::Error| TokenizerError::Train(e.to_string());
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(vocab)
        .min_frequency(2)
        .initial_alphabet(alphabet)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        // A run of a thousand dashes is no word worth a token.
        .max_token_length(Some(64))
        .build();
    let byte_level = ByteLevel::new(false, true, true);
    let mut model = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        ByteLevel,
        PostProcessorWrapper,
        ByteLevel,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(byte_level))
    .with_decoder(Some(byte_level))
    .build()
    .map_err(failed)?;

    let (documents, bytes) = thread::scope(|scope| {
        // The text is read here and counted there; few pieces wait in between.
        let (send, receive) = sync_channel::<String>(8);
        let reader = scope.spawn(move || texts(files, field, watch, &send));
        model
            .train(&mut trainer, receive.into_iter())
            .map_err(failed)?;
        reader.join().expect("the reader does not panic")
    })?;
    if bytes == 0 {
        return Err(TokenizerError::Train("the text is empty".into()).into());
    }
    let content = model.to_string(true).map_err(failed)?;
    let tokenizer = FileTokenizer::parse("the new tokenizer", content.into(), Some(END_OF_TEXT))?;
    Ok(Trained {
        tokenizer,
        documents,
        bytes,
    })
}

/// Sends the text of `files`; how many documents and bytes it has.
fn texts(
    files: &[Found],
    field: &str,
    watch: &Watch,
    send: &SyncSender<String>,
) -> Result<(u64, u64), DataError> {
    let (mut documents, mut bytes) = (0, 0);
    for found in files {
        read::pieces(found, field, &watch.bytes_done, &mut |piece| {
            let mut at = 0;
            for part in cut::parts(piece.text) {
                let text = std::str::from_utf8(part).map_err(|error| {
                    let source = TokenizerError::NotUtf8 {
                        name: "that is learned".into(),
                        at: at + error.valid_up_to() as u64,
                        byte: part[error.valid_up_to()],
                    };
                    DataError::encode(found, piece.at, source)
                })?;
                at += part.len() as u64;
                // Nobody listens after a failure there, which is what will be reported.
                let _ = send.send(text.to_string());
            }
            bytes += piece.text.len() as u64;
            documents += u64::from(piece.last);
            Ok(())
        })?;
        watch.files_done.fetch_add(1, Ordering::Relaxed);
    }
    Ok((documents, bytes))
}
