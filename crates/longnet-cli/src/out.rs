//! Writing to standard output.

use std::io::{ErrorKind, Write, stdout};

/// Prints `text`. A reader that has gone, such as `head`, ends the program quietly.
///
/// # Panics
///
/// If standard output cannot be written for another reason, as with `print!`.
pub fn out(text: &str) {
    let mut stdout = stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.expect("standard output can be written"),
    }
}
