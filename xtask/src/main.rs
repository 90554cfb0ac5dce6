//! `cargo xtask TASK`: chores of this workspace, one file each.

mod bench;
mod cuda_check;
mod gpu_bundle;
mod program;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  bench cpu [OPTIONS]    speed on this CPU beside other implementations (--help: its options)
  bench wgpu [OPTIONS]   the same on the default Vulkan, Metal or DirectX device
  bench cuda [OPTIONS]   attention on the first CUDA device
  cuda-check [OPTIONS]   CUDA kernels compiled and emulated without a GPU (--help: its options)
  gpu-bundle [OPTIONS]   an archive that tests and measures the CUDA kernels on a machine with a GPU (--help)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["bench", program, options @ ..] => bench::run(program, options),
        ["cuda-check", options @ ..] => cuda_check::run(options),
        ["gpu-bundle", options @ ..] => gpu_bundle::run(options),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}
