//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Speed of attention on this CPU, beside other implementations in the same run.
///
/// Every result is checked against a definition in f64 before it is timed. The contenders of a case
/// take turns, so that drift hits all of them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cpu")]
pub struct Args {
    /// A Python with PyTorch to compare with
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Threads of every contender
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Small sizes, few repeats: shows that everything works, not how fast it is
    #[arg(long)]
    pub quick: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Folder for the JSON and SVG files. Default: benches/results for a whole run; the temporary
    /// folder for a quick or filtered one
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
