//! One file a command.

mod config;

use crate::args::{Args, Command};
use crate::exit::Failure;

pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Config(command) => config::run(command),
    }
}
