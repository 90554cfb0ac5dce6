//! Writing to standard output.

use std::io::{ErrorKind, Write, stdout};

/// Prints `text` at once. A reader that has gone, such as `head`, ends the program quietly.
///
/// # Panics
///
/// If standard output cannot be written for another reason, as with `print!`.
pub fn out(text: &str) {
    out_bytes(text.as_bytes());
}

/// As [`out`], for bytes that need not be UTF-8.
pub fn out_bytes(bytes: &[u8]) {
    let mut stdout = stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.expect("standard output can be written"),
    }
}
