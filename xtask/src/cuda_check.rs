//! Builds and runs the checks of the CUDA kernels.

use std::process::ExitCode;

use crate::program;

/// Runs `longnet-cuda-check` in release mode from where the user stands.
pub fn run(options: &[&str]) -> ExitCode {
    program::run("longnet-cuda-check", "longnet-cuda-check", "", options)
}
