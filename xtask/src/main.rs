//! `cargo xtask TASK`: chores of this workspace, one file each.

mod bench;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask TASK

tasks:
  bench cpu [OPTIONS]   speed on this CPU beside other implementations (--help: its options)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["bench", program, options @ ..] => bench::run(program, options),
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
