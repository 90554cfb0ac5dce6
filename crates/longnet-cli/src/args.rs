//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use longnet_train::checkpoint::Resume;
use longnet_train::progress::Progress;
use std::path::PathBuf;

const FIRST_STEPS: &str = "\
A first run, on the text of this repository, takes about three minutes on two cores:

    longnet train configs/quickstart.toml
    longnet generate --run runs/quickstart --prompt '//! '

configs/quickstart.toml explains every field of a config.

Before a long run: 'longnet plan' says what it will cost, 'longnet train --dry-run' tries two steps, and
'longnet doctor' shows what this machine has.

Exit codes:
    0    done; also a run that Ctrl-C or SIGTERM stopped with a checkpoint, and a reader that went away
    1    failed: a file, the disk, the data, a loss that is not finite
    2    the command line or the config is wrong; nothing was changed
    130, 143    ended at once by a second Ctrl-C or SIGTERM

NO_COLOR and --color never turn colours off. LONGNET_CPU names the instruction set of the CPU's kernels.";

const PLAN_HELP: &str = "\
Examples:
    longnet plan configs/small.toml
    longnet plan configs/longnet-125m.toml --memory 80GB --flops 400T
    longnet plan configs/longnet-2.7b.toml --memory 80GB --devices 64 --flops 400T --mfu 0.35
    longnet plan configs/small.toml --set model.recompute=true     (what recomputing saves)

Amounts: 80GB, 80G (powers of 1000), 80GiB (powers of 1024). Rates: 400T, 1.5P.";

const PLOT_HELP: &str = "\
Examples:
    longnet plot runs/quickstart                          (runs/quickstart/curves.svg and .png)
    longnet plot runs/a runs/b --metric loss,lr --out ab.svg --out ab.png
    longnet plot runs/* --metric bits_per_byte --over tokens --smooth 50 --log

Numbers: loss, perplexity (ppl), bits_per_byte (bits), tokens_per_s (speed), mfu, gradient_norm (grad),
learning_rate (lr). Lines are training, smoothed over a hundredth of the steps; dots are validation.";

const SCHEMA_HELP: &str = "\
Editors with a TOML language server (Taplo, tombi) complete and check a config that begins with

    #:schema longnet.schema.json

after: longnet config schema > longnet.schema.json";

const COMPLETIONS_HELP: &str = "\
Examples:
    longnet completions bash > ~/.local/share/bash-completion/completions/longnet
    longnet completions zsh > ~/.zfunc/_longnet             (with fpath+=~/.zfunc before compinit)
    longnet completions fish > ~/.config/fish/completions/longnet.fish
    longnet completions powershell >> $PROFILE";

const TRAIN_EXAMPLES: &str = "\
Examples:
    longnet train configs/quickstart.toml --set train.steps=1000
    longnet train configs/small.toml --set data.paths='[\"book.txt\", \"src\"]'
    longnet train configs/small.toml --resume auto       (go on where it stopped, if it did)
    longnet train configs/small.toml --resume runs/small.1 --set train.steps=9000

Ctrl-C and SIGTERM stop the run after the pass that it is in, with a checkpoint; a second one ends it at once.";

const EVAL_HELP: &str = "\
What is measured (--tasks, or eval.tasks in the config):

  text     The loss on the validation text with windows of each length, one after the other; with
           --sliding S also with windows moved by S tokens, where only the last S of each are
           scored and the rest is context (the first window scores all). Either way each token but
           the first (of every document, if data.documents is masked) is scored once. A second
           table has the loss by how many tokens of its window are before a token.
  passkey  A number hidden in filler text, at several depths, and asked for at the end (Mohtashami
           and Jaggi 2023). Prompt and key together have the length.
  recall   Lines such as qx=7, and later the same lines again: is the digit found by its key? Each
           key is asked for once, among filler (multi-query associative recall, Arora et al. 2023).

In passkey and recall an answer counts if each of its tokens is the likeliest one after the right ones
before it, which is exactly if greedy decoding would write it. Both say something of a model that has
seen such text: expect 0 % of keys, and guesses of digits, of any other.

Lengths are in tokens. They may be longer than in training, where the positions of the model allow it
(a learned position each does not, xpos up to a limit); they are marked then.

Examples:
    longnet eval --run runs/quickstart
    longnet eval --run runs/quickstart --lengths 512,1024,4096 --sliding 256 --svg loss.svg
    longnet eval --run runs/quickstart --tasks passkey,recall --lengths 512,2048 --json -
    longnet eval --run runs/quickstart --set data.context=512    (what less context costs)
    longnet eval --run runs/quickstart --set data.paths=book.txt (all of another text)

JSON: {schema: 1, checkpoint, trained_context, text, passkey, recall}; what was not measured is null.
    text     {label, order0, order1, whole: SCORE, lengths: [{length, beyond_training, stride (null:
             one after the other), SCORE, positions: [{from, to, tokens, loss}]}]}
    passkey  {seed, chance, skipped, cells: [{length, beyond_training, depth, ANSWERED}]}
    recall   {seed, chance, skipped, cells: [{length, beyond_training, pairs, ANSWERED,
             distances: [{from, to, ANSWERED}]}]}
    SCORE    tokens, bytes, loss (nats a token), perplexity, bits_per_byte
    ANSWERED asked, right, accuracy, loss (nats a token), rank (mean in the vocabulary; 1: likeliest)
Numbers that are not finite are null.";

const GENERATE_HELP: &str = "\
Without a prompt the model continues a line feed. A prompt longer than data.context is read from its
end. A token is drawn from what is left by, in this order: repetition penalty, temperature, top-k,
top-p, min-p. Text comes as soon as it is certain: whole characters that cannot begin a stop string.

Examples:
    longnet generate --run runs/quickstart --prompt 'pub fn ' --tokens 500 --temperature 0.7
    longnet generate --run runs/quickstart --prompt 'fn ' --stop '}' --stop $'\\n\\n' --min-p 0.05
    head -c 2000 src/lib.rs | longnet generate --run runs/quickstart --prompt-file -";

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
    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model as a config says, evaluate it, and show a sample
    ///
    /// Checkpoints and log.jsonl go to train.run_dir (runs/NAME for configs/NAME.toml). An earlier run
    /// there is kept: it is renamed to NAME.1, NAME.2, ... unless --resume goes on with it.
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(TrainArgs),
    /// Measure a trained model on its validation text, or on other text
    ///
    /// Without changes to data.paths this is the text that the run held out, found again where the run
    /// found it. With other data.paths it is all of the text they name.
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Continue a prompt with a trained model
    #[command(after_help = GENERATE_HELP)]
    Generate(GenerateArgs),
    /// Say what a config will cost: parameters, FLOPs, memory by part, the longest context that fits
    #[command(after_help = PLAN_HELP)]
    Plan(PlanArgs),
    /// Draw curves of one or more runs, as SVG and PNG
    #[command(after_help = PLOT_HELP)]
    Plot(PlotArgs),
    /// Show what this machine and program have, and whether a run can start
    Doctor(BackendArgs),
    /// Print a script that completes longnet's arguments in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
    /// Whether to go on with an earlier run: auto (from the newest whole checkpoint in train.run_dir, if there
    /// is one), the folder of a run or of a checkpoint, or never. A run that goes on ends with the same
    /// weights as one that was never stopped.
    #[arg(long, value_name = "auto|DIR|never", default_value = "never")]
    pub resume: Resume,
    /// Stop after this step, as Ctrl-C would: with a checkpoint to resume.
    #[arg(long, value_name = "STEP")]
    pub stop_at: Option<usize>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: ProgressArg,
    /// Only plan, run two steps, and say whether the plan held; nothing is left behind.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub struct PlanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Memory of a device, such as 80GB: does the step fit, and how long may the context be?
    #[arg(long, value_parser = longnet_train::plan::parse_bytes)]
    pub memory: Option<f64>,
    /// Devices that each sequence is spread over, in place of parallel.ring.
    #[arg(long, value_name = "N")]
    pub devices: Option<std::num::NonZeroUsize>,
    /// FLOPs a second of a device at best, such as 400T: how long will the run take?
    #[arg(long, value_name = "RATE", value_parser = longnet_train::plan::parse_flops)]
    pub flops: Option<f64>,
    /// Bytes a second that a device sends at best, such as 50GB: how long does it send in a step?
    #[arg(long, value_name = "RATE", value_parser = longnet_train::plan::parse_bytes)]
    pub link: Option<f64>,
    /// Share of --flops that the model gets, above 0 and up to 1.
    #[arg(long, value_name = "SHARE", default_value = "0.4", value_parser = share)]
    pub mfu: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    let ok = value.filter(|value| *value > 0.0 && *value <= 1.0);
    ok.ok_or_else(|| "must be above 0 and at most 1, such as 0.4".into())
}

#[derive(Debug, ClapArgs)]
pub struct PlotArgs {
    /// Folders of runs, or their logs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Where to, by its ending as SVG or PNG; - is SVG on standard output. May be given several times
    /// [default: curves.svg and curves.png in the folder of a single run, else here].
    #[arg(long, value_name = "FILE|-")]
    pub out: Vec<PathBuf>,
    /// What to draw, one panel each.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,...",
        default_value = "loss,gradient_norm,learning_rate"
    )]
    pub metric: Vec<String>,
    /// What the x axis is.
    #[arg(long, value_enum, default_value = "steps")]
    pub over: OverArg,
    /// Steps that are averaged into a point of a line; 1 does not smooth [default: a hundredth].
    #[arg(long, value_name = "STEPS")]
    pub smooth: Option<std::num::NonZeroUsize>,
    /// Make the y axes logarithmic.
    #[arg(long)]
    pub log: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OverArg {
    /// Steps.
    Steps,
    /// Tokens learned from.
    Tokens,
    /// Hours of training.
    Hours,
}

impl From<OverArg> for longnet_train::plot::Over {
    fn from(arg: OverArg) -> Self {
        match arg {
            OverArg::Steps => Self::Steps,
            OverArg::Tokens => Self::Tokens,
            OverArg::Hours => Self::Hours,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// What to measure: text, passkey, recall [default: eval.tasks of the config].
    #[arg(long, value_delimiter = ',', value_name = "TASK,...")]
    pub tasks: Vec<String>,
    /// Context lengths in tokens [default: eval.lengths, or data.context, half and a quarter of it].
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub lengths: Vec<usize>,
    /// Also move windows by so many tokens, 0 not [default: eval.sliding].
    #[arg(long, value_name = "STRIDE")]
    pub sliding: Option<usize>,
    /// Score only so many tokens at each length, 0 all [default: eval.text_tokens].
    #[arg(long, value_name = "N")]
    pub text_tokens: Option<usize>,
    /// Prompts of each length and depth or number of pairs [default: eval.samples].
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Where passkey hides the key, 0 (begin) to 1 (end) [default: eval.depths].
    #[arg(long, value_delimiter = ',', value_name = "SHARE,...")]
    pub depths: Vec<f64>,
    /// Numbers of pairs in recall [default: eval.pairs].
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    pub pairs: Vec<usize>,
    /// Seed of the prompts [default: eval.seed].
    #[arg(long)]
    pub seed: Option<usize>,
    /// Write the results as JSON; with - to standard output, instead of the tables.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Write the results as a figure in SVG; with - to standard output, instead of the tables.
    #[arg(long, value_name = "FILE|-")]
    pub svg: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub backend: BackendArgs,
    /// Text to continue [default: generate.prompt of the config].
    #[arg(long, allow_hyphen_values = true, conflicts_with = "prompt_file")]
    pub prompt: Option<String>,
    /// File with the text to continue; - is standard input.
    #[arg(long, value_name = "FILE|-")]
    pub prompt_file: Option<PathBuf>,
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
    /// Draw from tokens at least this share as likely as the likeliest, 0 from all
    /// [default: generate.min_p].
    #[arg(long)]
    pub min_p: Option<f64>,
    /// Make tokens that were there before less likely, 1 not [default: generate.repetition_penalty].
    #[arg(long)]
    pub repetition_penalty: Option<f64>,
    /// Last tokens that the penalty counts, 0 all [default: generate.repetition_window].
    #[arg(long)]
    pub repetition_window: Option<usize>,
    /// String that ends the text and is not shown. May be given several times
    /// [default: generate.stop].
    #[arg(long, value_name = "STRING", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Seed of the draws [default: generate.seed].
    #[arg(long)]
    pub seed: Option<usize>,
    /// Texts to generate, each with the seed after the one before.
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub num: u32,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a config, or 'ok' with its size and its pattern's warnings.
    Check(ConfigArgs),
    /// Print every value as TOML, with where it comes from: the file, --set or the default.
    Show(ConfigArgs),
    /// Print a JSON Schema of configs, by which editors complete and check them.
    #[command(after_help = SCHEMA_HELP)]
    Schema,
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
    /// The full-screen display; there, q asks whether to stop the run, and Ctrl-C stops it.
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
