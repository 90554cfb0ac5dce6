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

/// The most physical memory that this process has held so far; `None` where `/proc` does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
