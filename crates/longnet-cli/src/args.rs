//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::path::PathBuf;

/// Train, evaluate and run LongNet language models.
///
/// A first run, on the text of this repository, takes about three minutes on two cores:
///
///     longnet train configs/quickstart.toml
///
/// Exit codes: 0 done, 1 failed, 2 the command line or the config is wrong.
#[derive(Debug, Parser)]
#[command(name = "longnet", version, verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at a config without running it.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a config, or 'ok' with its size and its pattern's warnings.
    Check(ConfigArgs),
    /// Print every value as TOML, with where it comes from: the file, --set or the default.
    Show(ConfigArgs),
}

/// A config and changes to it.
#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    /// A TOML file, such as configs/quickstart.toml, where each field is explained.
    pub config: PathBuf,
    #[command(flatten)]
    pub set: SetArgs,
}

#[derive(Debug, ClapArgs)]
pub struct SetArgs {
    /// Change one value: section.field=value, such as model.layers=4 or data.paths='["a.txt", "b"]'.
    /// May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
