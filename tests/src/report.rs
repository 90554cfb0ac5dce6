//! Lines that a test run shows whether its tests pass or not.

use std::io::Write;

/// Prints `line` past the capture of test output: the numbers belong to every run.
pub fn report(line: &str) {
    // Nothing to be done about a closed stderr.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The number in the environment variable `name`, or `default`.
///
/// # Panics
///
/// If the variable is set but is no number.
pub fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a whole number")),
        Err(_) => default,
    }
}
