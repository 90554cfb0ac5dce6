//! `longnet eval`.

use super::{checkpoint, report};
use crate::args::EvalArgs;
use crate::exit::Failure;
use crate::out::{out, tell, warn};
use crate::target::Target;
use longnet_train::backend;
use longnet_train::checkpoint::Checkpoint;
use longnet_train::config::quoted;
use longnet_train::config::sections::{AttentionKind, Data, Task};
use longnet_train::data::{self, Fingerprint, Stream, Windows};
use longnet_train::evaluate::by_length::{Mode, by_length, scored};
use longnet_train::evaluate::figure::figure;
use longnet_train::evaluate::passkey::{self, passkey};
use longnet_train::evaluate::recall::{self, recall};
use longnet_train::evaluate::results::{Results, Text};
use longnet_train::evaluate::{Length, LongNetLM, evaluate, lengths};
use longnet_train::memory::settle;
use std::sync::Arc;

pub fn run(mut args: EvalArgs) -> Result<(), Failure> {
    let device = backend::device(&args.backend.backend)?;
    let flags = flags(&args);
    args.model.set.set.extend(flags);
    let checkpoint = checkpoint(&args.model)?;
    let config = &checkpoint.config.config;
    let blame = |error| Failure::of(&checkpoint.config, error);
    let asked = |task| config.eval.tasks.contains(&task);

    // All that may be wrong comes before anything is spent.
    let lengths = lengths(config, checkpoint.trained.data.context).map_err(blame)?;
    let tokenizer = checkpoint.tokenizer()?;
    if asked(Task::Passkey) {
        passkey::check(&*tokenizer, &config.eval, &lengths).map_err(blame)?;
    }
    if asked(Task::Recall) {
        recall::check(&*tokenizer, &config.eval, &lengths).map_err(blame)?;
    }
    let json = args.json.as_deref().map(|path| Target::new("--json", path));
    let json = json.transpose()?;
    let svg = args.svg.as_deref().map(|path| Target::new("--svg", path));
    let svg = svg.transpose()?;
    if let [Some(path), Some(_)] =
        [&args.svg, &args.json].map(|p| p.as_ref().filter(|p| p.as_os_str() == "-"))
    {
        return Err(Failure::Twice {
            flag: "--svg",
            path: path.clone(),
        });
    }
    // A file that is asked for is written even where nobody reads what is printed.
    let files = [&json, &svg].into_iter().flatten().any(|t| !t.is_stdout());
    let taken = [&json, &svg];
    let taken = taken.into_iter().flatten().any(Target::is_stdout);
    let show = |text: &str| match taken {
        true => Ok(()),
        false if files => tell(text),
        false => out(text),
    };

    let lm = checkpoint.weights(config.language_model().init(&device))?;
    // The file of the weights is not needed any more.
    settle();
    let folder = checkpoint.folder().display().to_string();
    show(&format!("checkpoint  {folder}\n"))?;
    let mut results = Results::new(folder, checkpoint.trained.data.context);
    if asked(Task::Text) {
        results.text = Some(measure_text(&checkpoint, &lm, &lengths, show)?);
    } else {
        changes(&checkpoint, show)?;
    }
    // As many tokens at once as in training.
    let pass = config.train.batch * config.data.context;
    if asked(Task::Passkey) {
        let found = passkey(&lm, &*tokenizer, &config.eval, &lengths, pass);
        show(&report::passkey(&found, config.eval.samples))?;
        results.passkey = Some(found);
    }
    if asked(Task::Recall) {
        let found = recall(&lm, &*tokenizer, &config.eval, &lengths, pass);
        show(&report::recall(&found, config.eval.samples))?;
        results.recall = Some(found);
    }
    if lengths.iter().any(|length| length.beyond_training) {
        show(&report::beyond(results.trained_context))?;
    }
    // Blocks and their choices may see any distance.
    let dilated = config
        .attention
        .kind
        .iter()
        .all(|kind| *kind == AttentionKind::Dilated);
    let segment = config.attention.segments.iter().copied().max().unwrap_or(0);
    if dilated && lengths.iter().any(|length| length.tokens > segment) {
        show(&report::sight(segment))?;
    }
    let json = json.map(|json| (json, results.json()));
    let svg = svg.map(|svg| (svg, figure(&results)));
    let mut results: Vec<_> = [json, svg].into_iter().flatten().collect();
    // A reader of standard output that has gone ends the program.
    results.sort_by_key(|(target, _)| target.is_stdout());
    let mut results = results.into_iter();
    results.try_for_each(|(target, text)| target.write(text.as_bytes()))
}

/// The flags as `--set` assignments.
fn flags(args: &EvalArgs) -> Vec<String> {
    let list = |name: &str, values: Vec<String>| {
        let list = format!("eval.{name}=[{}]", values.join(", "));
        (!values.is_empty()).then_some(list)
    };
    let count =
        |name: &str, value: Option<usize>| value.map(|value| format!("eval.{name}={value}"));
    let counts = |values: &[usize]| values.iter().map(ToString::to_string).collect();
    // As TOML writes what Rust would write as NaN.
    let share = |share: &f64| format!("{share:e}").to_lowercase();
    let flags = [
        list(
            "tasks",
            args.tasks.iter().map(|task| quoted(task)).collect(),
        ),
        list("lengths", counts(&args.lengths)),
        count("sliding", args.sliding),
        count("text_tokens", args.text_tokens),
        count("samples", args.samples),
        list("depths", args.depths.iter().map(share).collect()),
        list("pairs", counts(&args.pairs)),
        count("seed", args.seed),
    ];
    flags.into_iter().flatten().collect()
}

fn changes(
    checkpoint: &Checkpoint,
    show: impl Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut changes = checkpoint.attention_changes().into_iter();
    changes.try_for_each(|change| show(&format!("changed     {change}\n")))
}

/// The loss on text, as a whole and by length.
fn measure_text(
    checkpoint: &Checkpoint,
    lm: &LongNetLM,
    lengths: &[Length],
    show: impl Fn(&str) -> Result<(), Failure>,
) -> Result<Text, Failure> {
    let config = &checkpoint.config.config;
    let (label, text) = text(checkpoint)?;
    show(&format!(
        "text        {} of {} files in {}\n",
        report::size(&text),
        text.text().len(),
        config.data.root,
    ))?;
    changes(checkpoint, &show)?;
    let count = scored(label, &text, config.eval.text_tokens, lengths)
        .map_err(|error| Failure::of(&checkpoint.config, error))?;
    text.text()
        .fits(config.model.vocab)
        .map_err(|error| Failure::of(&checkpoint.config, error))?;
    let entropy = text.entropy()?;
    let windows = Windows::new(
        Arc::new(text),
        config.data.context,
        &format!("{label} text"),
    )
    .map_err(|error| Failure::of(&checkpoint.config, error))?;
    let evaluation = evaluate(lm, &windows, config.train.batch, &|| false)?;
    let evaluation = evaluation.expect("nothing stops it");
    show(&report::evaluation(label, &evaluation, &entropy))?;

    let modes = match config.eval.sliding {
        0 => vec![Mode::Full],
        stride => vec![Mode::Full, Mode::Sliding(stride)],
    };
    let pass = config.train.batch * config.data.context;
    let mut all = Vec::new();
    for &length in lengths {
        for &mode in &modes {
            let found = by_length(lm, windows.tokens(), count, length, mode, pass)?;
            if all.is_empty() {
                show(&report::by_length_head(&found))?;
            }
            show(&report::by_length(&found))?;
            all.push(found);
        }
    }
    show(&report::by_position(&all))?;
    Ok(Text {
        label: label.into(),
        order0: entropy.order0,
        order1: entropy.order1,
        whole: report::score(&evaluation),
        lengths: all,
    })
}

/// What to measure, and what to call it: the text that was held out, or all of another text.
fn text(checkpoint: &Checkpoint) -> Result<(&'static str, Stream), Failure> {
    let blame = |error| Failure::of(&checkpoint.config, error);
    let (now, then) = (&checkpoint.config.config.data, &checkpoint.trained.data);
    let text = data::open_with(now, checkpoint.tokenizer()?).map_err(blame)?;
    let (found, learned) = (Fingerprint::of(&text), checkpoint.state()?.text);
    let same = found == learned;
    if !same && now.paths != then.paths {
        return Ok(("given", Stream::whole(text)));
    }
    let cut = |data: &Data| (data.valid_fraction, data.valid_block);
    if !same {
        warn(&format!(
            "the text is not the one that the run learned from ({learned} then, {found} now): the part that is measured may hold text that was learned, and the numbers may be too good"
        ));
    } else if cut(now) != cut(then) {
        warn(
            "data.valid_fraction or data.valid_block is not that of the run: the part that is measured holds text that was learned, and the numbers are too good",
        );
    }
    let split = data::split(text, now.valid_fraction, now.valid_block).map_err(blame)?;
    Ok(("validation", split.valid))
}
