//! Builds and runs a program of `benches/`.

use std::path::Path;
use std::process::{Command, ExitCode};

/// The programs that measure.
const PROGRAMS: [&str; 1] = ["cpu"];

/// Runs `program` in release mode from where the user stands, so that relative paths are theirs.
pub fn run(program: &str, options: &[&str]) -> ExitCode {
    if !PROGRAMS.contains(&program) {
        let known = PROGRAMS.join(", ");
        eprintln!("bench {program}: no such program; there are: {known}");
        return ExitCode::FAILURE;
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = Command::new(cargo)
        .args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "longnet-benches",
        ])
        .arg("--manifest-path")
        .arg(workspace)
        .args(["--bin", program, "--"])
        .args(options)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // The program has said why.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
