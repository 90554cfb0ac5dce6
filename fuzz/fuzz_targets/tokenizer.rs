//! A tokenizer.json of arbitrary bytes: an error or a tokenizer, never a panic; and a tokenizer's tokens are in
//! its vocabulary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longnet_train::data::tokenizer::FileTokenizer;
use longnet_train::data::{Decoder, Tokenizer};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::{Mutex, PoisonError};

/// What the last panic said, and where it was.
static LAST: Mutex<String> = Mutex::new(String::new());

fn remember(panic: &PanicHookInfo<'_>) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
}

/// Prints the last panic when it unwinds the target itself.
struct Tell;

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", LAST.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

// The tokenizers crate panics on some files, which must become an error: only a panic that nobody catches counts.
fuzz_target!(init: set_hook(Box::new(remember)), |bytes: &[u8]| {
    let _tell = Tell;
    let Ok(tokenizer) = FileTokenizer::parse("fuzz", bytes.to_vec(), None) else {
        return;
    };
    let vocab = tokenizer.vocab() as i32;
    let text = "One, two: drei, vier, \u{6771}\u{4eac} \u{1f600}\n\n\tfive  six<|endoftext|>";
    if let Ok(tokens) = tokenizer.try_encode(text.as_bytes()) {
        assert!(tokens.iter().all(|token| (0..vocab).contains(token)));
        let mut decoder = Decoder::new(&tokenizer);
        for &token in &tokens {
            decoder.push(token);
        }
        decoder.finish();
    }
    for token in 0..vocab.min(300) {
        tokenizer.decode(&[token, token]);
    }
});
