//! Programs of this workspace.

use std::path::Path;
use std::process::{Command, ExitCode};

/// Builds program `binary` of `package` with `features` in release mode and runs it from where the user stands, so that
/// relative paths are theirs.
pub fn run(package: &str, binary: &str, features: &str, options: &[&str]) -> ExitCode {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", package])
        .arg("--manifest-path")
        .arg(workspace)
        .args(["--bin", binary, "--features", features, "--"])
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
