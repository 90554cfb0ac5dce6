//! Builds and runs a program of `benches/`.

use std::process::ExitCode;

use crate::program;

/// The programs that measure.
const PROGRAMS: [&str; 1] = ["cpu"];

/// Runs `program` in release mode from where the user stands.
pub fn run(name: &str, options: &[&str]) -> ExitCode {
    if !PROGRAMS.contains(&name) {
        let known = PROGRAMS.join(", ");
        eprintln!("bench {name}: no such program; there are: {known}");
        return ExitCode::FAILURE;
    }
    program::run("longnet-benches", name, options)
}
