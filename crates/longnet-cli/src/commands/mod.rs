//! One file a command.

mod config;
mod eval;
mod generate;
mod report;
mod train;

use crate::args::{Args, Command, ModelArgs};
use crate::exit::Failure;
use longnet_train::checkpoint::{Checkpoint, OpenError};

pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Config(command) => config::run(command),
    }
}

/// The checkpoint that `--run` or `--checkpoint` names, its config changed by `--set`.
fn checkpoint(args: &ModelArgs) -> Result<Checkpoint, OpenError> {
    match (&args.run, &args.checkpoint) {
        (Some(run), _) => Checkpoint::latest(run, &args.set.set),
        (None, Some(folder)) => Checkpoint::open(folder, &args.set.set),
        (None, None) => unreachable!("clap requires one of them"),
    }
}
