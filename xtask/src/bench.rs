//! Builds and runs a program of `benches/`.

use std::process::ExitCode;

use crate::program;

/// Measures on `device` in release mode, from where the user stands.
pub fn run(device: &str, options: &[&str]) -> ExitCode {
    match device {
        "cpu" => program::run("longnet-benches", "cpu", "", options),
        // Its cases have its name.
        "wgpu" => {
            let options = [&["--filter", "wgpu"], options].concat();
            program::run("longnet-benches", "cpu", "wgpu", &options)
        }
        _ => {
            eprintln!("bench {device}: no such device; there are: cpu, wgpu");
            ExitCode::FAILURE
        }
    }
}
