//! The `longnet` program: trains, evaluates and runs LongNet language models.

mod args;
mod color;
mod commands;
mod exit;
mod out;
mod signals;
mod target;

use clap::{CommandFactory, FromArgMatches};
use std::io::{Write, stderr};
use std::process::ExitCode;

/// Keeps a run at the memory that it uses.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: longnet_train::memory::KeptBlocks = longnet_train::memory::KeptBlocks;

fn main() -> ExitCode {
    longnet_train::backend::prepare_process();
    let color = color::choose(std::env::args_os());
    let matches = args::Args::command().color(color).get_matches();
    let args = args::Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing where another rank has told it.
            for line in failure.to_string().lines() {
                // There is nowhere left to say that standard error is full.
                let error = color::on_stderr("error:", color::RED);
                let _ = writeln!(stderr(), "{error} {line}");
            }
            failure.code()
        }
    }
}
