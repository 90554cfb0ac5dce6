//! One file a command.

mod config;
mod data;
mod doctor;
mod dry_run;
mod eval;
mod generate;
mod plan;
mod plot;
mod report;
mod tokenizer;
mod train;

use crate::args::{Args, Command, InputArgs, ModelArgs};
use crate::exit::Failure;
use crate::out::out_bytes;
use clap::CommandFactory;
use longnet_train::checkpoint::{Checkpoint, OpenError};
use longnet_train::config::{ConfigErrors, Resolved, quoted};
use std::path::Path;

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
        Command::Data(command) => data::run(command),
        Command::Tokenizer(command) => tokenizer::run(command),
    }
}

/// The config that `args` name, or one whose text they name, with `more` assignments at the end.
fn input(args: InputArgs, more: &[&str]) -> Result<Resolved, ConfigErrors> {
    let InputArgs { input, set } = args;
    let is_config = |name: &String| Path::new(name).extension().is_some_and(|e| e == "toml");
    let mut sets = Vec::new();
    let config = match &input[..] {
        [one] if is_config(one) => Some(Path::new(one)),
        _ => {
            let paths: Vec<String> = input.iter().map(|path| quoted(path)).collect();
            sets.push(format!("data.paths=[{}]", paths.join(", ")));
            None
        }
    };
    sets.extend(set.set);
    sets.extend(more.iter().map(|set| set.to_string()));
    Resolved::load(config, &sets)
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
