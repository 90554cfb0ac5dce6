//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use longnet_train::progress::Progress;
use std::path::PathBuf;

const FIRST_STEPS: &str = "\
A first run, on the text of this repository, takes about three minutes on two cores:

    longnet train configs/quickstart.toml
    longnet generate --run runs/quickstart --prompt '//! '

configs/quickstart.toml explains every field of a config.

Exit codes: 0 done, 1 failed, 2 the command line or the config is wrong.";

const TRAIN_EXAMPLES: &str = "\
Examples:
    longnet train configs/quickstart.toml --set train.steps=1000
    longnet train configs/small.toml --set data.paths='[\"book.txt\", \"src\"]'";

const EVAL_EXAMPLES: &str = "\
Examples:
    longnet eval --run runs/quickstart
    longnet eval --run runs/quickstart --set data.context=512    (what less context costs)
    longnet eval --run runs/quickstart --set data.paths=book.txt (all of another text)";

const GENERATE_EXAMPLES: &str = "\
Example:
    longnet generate --run runs/quickstart --prompt 'pub fn ' --tokens 500 --temperature 0.7";

const PREPARE_EXAMPLES: &str = "\
Examples:
    longnet data prepare wiki/*.jsonl.zst --out shards/wiki --set data.tokenizer=tokenizer.json
    longnet data prepare configs/mine.toml --out shards/mine
    longnet train configs/mine.toml --set data.paths=shards/mine";

const TOKENIZER_EXAMPLES: &str = "\
Examples:
    longnet tokenizer train books/*.txt --vocab 16384 --out tokenizer.json
    longnet tokenizer train dump.parquet --vocab 32000 --out tokenizer.json --set data.field=body";

/// Train, evaluate and run LongNet language models
#[derive(Debug, Parser)]
#[command(name = "longnet", version, after_help = FIRST_STEPS)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model as a config says, evaluate it, and show a sample
    ///
    /// Checkpoints and log.jsonl go to train.run_dir (runs/NAME for configs/NAME.toml). An earlier run
    /// there is kept: it is renamed to NAME.1, NAME.2, ...
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Measure a trained model on its validation text, or on other text
    ///
    /// Without changes to data.paths this is the text that the run held out, found again where the run
    /// found it. With other data.paths it is all of the text they name.
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// Continue a prompt with a trained model
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Look at a config without running it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Turn text into tokens once for many runs, and check what was made
    #[command(subcommand)]
    Data(DataCommand),
    /// Make a tokenizer
    #[command(subcommand)]
    Tokenizer(TokenizerCommand),
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Make token shards of text, JSONL (also .gz and .zst) and Parquet
    ///
    /// One shard for each file, as many at a time as there are cores. What was interrupted goes on
    /// where it was when the same command is given again. data.paths may then name the folder.
    #[command(after_help = PREPARE_EXAMPLES)]
    Prepare(PrepareArgs),
    /// Read whole shards and compare them with their checksums
    Check {
        /// Folders that 'longnet data prepare' has made.
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
pub struct PrepareArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder for the shards; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum TokenizerCommand {
    /// Learn a byte-level BPE from text
    ///
    /// The result is a tokenizer.json of Hugging Face with the 256 bytes, <|endoftext|>, and what most
    /// often stands together. The same text gives the same file.
    #[command(after_help = TOKENIZER_EXAMPLES)]
    Train(TokenizerTrainArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TokenizerTrainArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// The file to write, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Number of tokens.
    #[arg(long, value_name = "N")]
    pub vocab: usize,
}

/// Text, named by a config or file by file.
#[derive(Debug, ClapArgs)]
pub struct InputArgs {
    /// A config (one file that ends in .toml), or files, folders and globs, as data.paths of a config.
    #[arg(required = true)]
    pub input: Vec<String>,
    #[command(flatten)]
    pub set: SetArgs,
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressArg,
}

#[derive(Debug, ClapArgs)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
}

#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Text to continue [default: generate.prompt of the config].
    #[arg(long, allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Tokens to generate [default: generate.tokens].
    #[arg(long)]
    pub tokens: Option<usize>,
    /// 0 takes the likeliest token; higher is more varied [default: generate.temperature].
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Draw from the k likeliest tokens only, 0 from all [default: generate.top_k].
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that reach this probability together, 1 from all
    /// [default: generate.top_p].
    #[arg(long)]
    pub top_p: Option<f64>,
    /// Seed of the draws [default: generate.seed].
    #[arg(long)]
    pub seed: Option<usize>,
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

/// A trained model.
#[derive(Debug, ClapArgs)]
pub struct ModelArgs {
    /// Folder of a run, whose newest checkpoint is taken.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "checkpoint",
        conflicts_with = "checkpoint"
    )]
    pub run: Option<PathBuf>,
    /// Folder of one checkpoint, such as runs/quickstart/step-000100.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArgs,
}

#[derive(Debug, ClapArgs)]
pub struct SetArgs {
    /// Change one value of the config: section.field=value, such as model.layers=4 or
    /// data.paths='["a.txt", "b"]'. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct BackendArgs {
    /// Where to compute: flex (the CPU), or another backend that the program was built with.
    #[arg(long, default_value = "flex")]
    pub backend: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ProgressArg {
    /// The full-screen display on a terminal, lines elsewhere.
    Auto,
    /// The full-screen display; there, q stops the run (Ctrl-C does nothing).
    Tui,
    /// A line every train.log_seconds.
    Plain,
}

impl From<ProgressArg> for Progress {
    fn from(arg: ProgressArg) -> Self {
        match arg {
            ProgressArg::Auto => Self::Auto,
            ProgressArg::Tui => Self::Tui,
            ProgressArg::Plain => Self::Plain,
        }
    }
}
