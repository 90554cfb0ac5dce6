//! Builds and runs a program of `benches/`.

use std::process::ExitCode;

use crate::program;

/// Measures on `device` in release mode, from where the user stands.
pub fn run(device: &str, options: &[&str]) -> ExitCode {
    match device {
        "cpu" => program::run("longnet-benches", "cpu", "", options),
        // Their cases have their names.
        "wgpu" | "cuda" => {
            let options = [&["--filter", device], options].concat();
            program::run("longnet-benches", "cpu", device, &options)
        }
        _ => {
            eprintln!("bench {device}: no such device; there are: cpu, wgpu, cuda");
            ExitCode::FAILURE
        }
    }
}
