//! The programs of the archive.

use serde_json::Value;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The crates' targets, by what Cargo calls them, and their names in the archive.
const PROGRAMS: [(&str, &str); 3] = [
    ("device", "test-device"),
    ("half_precision", "test-half-precision"),
    ("cpu", "bench"),
];

/// Burn's `cuda` links a compiler, LLVM, that the kernels of this project do without: they go through NVRTC. Its
/// functions stay unresolved, and calls of them, of which there are none, would be looked up when they are made: so
/// calls go through a table that is filled lazily and can be written to.
const RUSTFLAGS: &str =
    "-C link-arg=-Wl,--unresolved-symbols=ignore-all -C link-arg=-Wl,-z,lazy -C relro-level=off";

/// Settings of the build.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("RUSTFLAGS", RUSTFLAGS),
    // Burn's build script fetches no LLVM.
    ("DOCS_RS", "1"),
    // The driver's functions that are asked for are those of CUDA 12.8, which later drivers have too.
    ("CUDARC_CUDA_VERSION", "12080"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

/// A program and its name in the archive.
pub struct Program {
    pub path: PathBuf,
    pub name: String,
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Builds the programs, with all that they need, in the folder `target`: its flags are not those of other builds.
///
/// # Errors
///
/// Cargo's, which it has printed, or a program that it did not make.
pub fn programs(target: &Path) -> Result<Vec<Program>, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--release",
            "--message-format=json-render-diagnostics",
        ])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(["--package", "longnet-tests", "--package", "longnet-benches"])
        .args(["--features", "longnet-tests/cuda,longnet-benches/cuda"])
        .args([
            "--test",
            "device",
            "--test",
            "half_precision",
            "--bin",
            "cpu",
        ])
        .envs(ENVIRONMENT)
        .env("LONGNET_COMMIT", commit())
        .env("LONGNET_RUSTC", output("rustc", &["--version"]))
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    let messages = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut found = Vec::new();
    for line in messages.lines() {
        let line = line.map_err(|error| format!("cargo's messages: {error}"))?;
        found.extend(program(&line));
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if !status.success() {
        return Err("cargo build has failed".into());
    }
    match PROGRAMS
        .iter()
        .find(|(_, name)| found.iter().all(|p| p.name != *name))
    {
        Some((missing, _)) => Err(format!("cargo build made no program {missing}")),
        None => Ok(found),
    }
}

/// The program that a message of Cargo says was made.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let made = message["target"]["name"].as_str()?;
    let (_, name) = PROGRAMS.iter().find(|(target, _)| *target == made)?;
    Some(Program {
        path: message["executable"].as_str()?.into(),
        name: (*name).into(),
    })
}

/// What the programs are built from.
pub fn commit() -> String {
    let folder = workspace();
    let git = |arguments: &[&str]| {
        let folder = folder.display().to_string();
        output("git", &[&["-C", &folder], arguments].concat())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"]);
    match git(&["status", "--porcelain"]).as_str() {
        "" => hash,
        _ => format!("{hash} with changes"),
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a program prints; "unknown" if it fails.
fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"device"},"executable":"/t/device-1"}"#;
        let found = program(line).unwrap();
        assert_eq!(
            (found.path, found.name.as_str()),
            ("/t/device-1".into(), "test-device")
        );
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"device"},"executable":null}"#;
        for line in [library, "not JSON", r#"{"reason":"build-finished"}"#] {
            assert!(program(line).is_none());
        }
    }
}
