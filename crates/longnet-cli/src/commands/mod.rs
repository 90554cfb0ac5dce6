//! One file a command.

mod config;
mod doctor;
mod dry_run;
mod eval;
mod generate;
mod plan;
mod plot;
mod report;
mod train;

use crate::args::{Args, Command, ModelArgs};
use crate::exit::Failure;
use crate::out::out_bytes;
use clap::CommandFactory;
use longnet_train::checkpoint::{Checkpoint, OpenError};

pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions { shell } => completions(shell),
        Command::Config(command) => config::run(command),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "longnet", &mut script);
    out_bytes(&script)
}

/// The checkpoint that `--run` or `--checkpoint` names, its config changed by `--set`.
fn checkpoint(args: &ModelArgs) -> Result<Checkpoint, OpenError> {
    match (&args.run, &args.checkpoint) {
        (Some(run), _) => Checkpoint::latest(run, &args.set.set),
        (None, Some(folder)) => Checkpoint::open(folder, &args.set.set),
        (None, None) => unreachable!("clap requires one of them"),
    }
}
