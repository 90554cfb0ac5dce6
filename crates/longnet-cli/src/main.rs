//! The `longnet` program: trains, evaluates and runs LongNet language models.

mod args;
mod commands;
mod exit;
mod out;
mod signals;
mod target;

use clap::Parser;
use std::io::{Write, stderr};
use std::process::ExitCode;

fn main() -> ExitCode {
    longnet_train::backend::prepare_process();
    match commands::run(args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.to_string().lines() {
                // There is nowhere left to say that standard error is full.
                let _ = writeln!(stderr(), "error: {line}");
            }
            failure.code()
        }
    }
}
