//! Writing to standard output.

use crate::color;
use crate::exit::Failure;
use std::io::{ErrorKind, Write, stderr, stdout};

/// Prints `text` at once. A reader that has gone, such as `head`, ends the program quietly.
///
/// # Errors
///
/// Standard output cannot be written for another reason, such as a full disk.
pub fn out(text: &str) -> Result<(), Failure> {
    out_bytes(text.as_bytes())
}

/// Prints `text` at once, for a command that has more to do than to print: a reader that has gone
/// misses it, and the command goes on.
///
/// # Errors
///
/// As [`out`].
pub fn tell(text: &str) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::Output),
    }
}

/// As [`out`], for bytes that need not be UTF-8.
pub fn out_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Failure::Output),
    }
}

/// Says on standard error what the user should know of a command that goes on.
pub fn warn(text: &str) {
    // There is nowhere left to say that standard error is full.
    let warning = color::on_stderr("warning:", color::YELLOW);
    let _ = writeln!(stderr(), "{warning} {text}");
}

/// Says on standard error what happens, without being asked for.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
