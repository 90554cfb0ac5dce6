//! `longnet train`.

use super::{dry_run, report};
use crate::args::TrainArgs;
use crate::exit::Failure;
use crate::out::{out, tell, warn};
use crate::signals;
use longnet_train::backend;
use longnet_train::checkpoint::{self, CheckpointError, Lock, Resume, checkpoints};
use longnet_train::config::{Config, Resolved};
use longnet_train::estimate::si;
use longnet_train::generate::generate;
use longnet_train::memory::Resident;
use longnet_train::trainer::{Control, Prepared, Report, Stop, TrainError};
use std::path::Path;

const VALIDATION: &str = "validation";

pub fn run(args: TrainArgs) -> Result<(), Failure> {
    let start = Resident::of_this_process();
    let sets = &args.config.set.set;
    let resolved = Resolved::load_for(Some(&args.config.config), sets, &args.resume)?;
    let device = backend::device(&args.backend.backend)?;
    let blame = |error: TrainError| Failure::of(&resolved, error);
    let config = resolved.config.clone();
    let run = Path::new(&config.train.run_dir);
    let skipped = |error: &CheckpointError| warn(&format!("not whole, left out: {error}"));
    // Before its newest checkpoint is looked for: another process may be writing a newer one.
    let goes_on = args.resume != Resume::Never && !args.dry_run;
    let held = match goes_on && checkpoint::occupied(run).map_err(|e| blame(e.into()))? {
        true => Some(Lock::take(run).map_err(|e| blame(e.into()))?),
        false => None,
    };
    let point = args.resume.point(run, skipped)?;
    let prepared = Prepared::new(resolved.clone(), &device, point).map_err(blame)?;
    if args.dry_run {
        let steps = config.train.steps;
        return dry_run::run(prepared, start, &args.backend.backend, steps).map_err(blame);
    }
    // A run that was stopped in its last evaluation makes it now.
    let is_done = prepared.done() >= config.train.steps && prepared.is_evaluated();
    if is_done && prepared.goes_on_in_place() {
        prepared.place(held).map_err(blame)?;
        return out(&format!(
            "{} has done {} of train.steps = {}: there is nothing left to do; --set train.steps trains longer, --resume never anew\n",
            run.display(),
            prepared.done(),
            config.train.steps
        ));
    }
    let (_lock, aside) = prepared.place(held).map_err(blame)?;
    // Nobody needs to read it for the run to be worth its time.
    tell(&header(&prepared, run, aside.as_deref()))?;

    // The file of the tokenizer may have gone when the run ends.
    let tokenizer = prepared.text.train.text().tokenizer().clone();
    let stop = Stop::default();
    let control = Control {
        progress: args.progress.into(),
        stop: stop.clone(),
        stop_at: args.stop_at,
    };
    let is_tui = control.progress.is_tui();
    let report = signals::stopping(&stop, is_tui, || prepared.train(control)).map_err(blame)?;
    let Report {
        steps, checkpoint, ..
    } = &report;
    out(&format!(
        "\ncheckpoint  {} ({steps} steps)\n",
        checkpoint.display()
    ))?;
    if let Some(reason) = &report.stopped {
        return out(&format!(
            "stopped by {reason} after step {steps} of {}; the same command with --resume auto goes on\n",
            config.train.steps,
        ));
    }
    if let Some(evaluation) = &report.evaluation {
        out(&report::evaluation(VALIDATION, evaluation, &report.entropy))?;
    }

    let mut sample = Vec::new();
    generate(&report.lm, &*tokenizer, &config, |bytes| {
        sample.extend_from_slice(bytes);
        Ok::<_, Failure>(())
    })?;
    let prompt = &config.generate.prompt;
    out(&format!(
        "\nsample      temperature {}, after {prompt:?}:\n",
        config.generate.temperature
    ))?;
    let sample = String::from_utf8_lossy(&sample);
    for line in format!("{prompt}{sample}").lines() {
        out(&format!("    {line}\n"))?;
    }
    out(&next(&args.config.config, run, &config))?;
    Ok(())
}

fn header(prepared: &Prepared, run: &Path, aside: Option<&Path>) -> String {
    let text = &prepared.text;
    let mut header = format!(
        "text        {} files: {} to learn, {} for validation\n\
         entropy     {}\n\
         model       {} parameters\n\
         run         {}\n",
        text.train.text().len(),
        report::size(&text.train),
        report::size(&text.valid),
        report::entropies(VALIDATION, &prepared.entropy),
        si(prepared.parameters() as f64),
        run.display(),
    );
    let skipped = text.train.text().skipped();
    if skipped > 0 {
        header += &format!("skipped     {skipped} records whose text is null\n");
    }
    if let Some(aside) = aside {
        header += &format!(
            "            (the run that was there is now {}",
            aside.display()
        );
        header += &match checkpoints(aside) {
            Ok(found) if !found.is_empty() => {
                format!("; --resume {} goes on with it)\n", aside.display())
            }
            _ => ")\n".into(),
        };
    }
    if let Some(point) = prepared.point() {
        header += &format!(
            "resumed     {}, after step {}\n",
            point.folder().display(),
            point.state.step
        );
        for change in &prepared.changes {
            header += &format!("changed     {change}\n");
        }
    }
    header + "\n"
}

/// What to try next.
fn next(file: &Path, run: &Path, config: &Config) -> String {
    let (file, run) = (shell(file), shell(run));
    let (steps, context) = (4 * config.train.steps, (config.data.context / 8).max(1));
    format!(
        "\nNext:\n\
         \x20   longnet generate --run {run} --prompt \"pub fn \" --tokens 500\n\
         \x20   longnet eval --run {run} --set data.context={context}      (what less context costs)\n\
         \x20   longnet train {file} --set train.steps={steps} --set train.run_dir=runs/longer\n\
         \x20   longnet train {file} --set data.paths=/path/to/text --set data.extensions=[]\n\
         (longnet is cargo run --release -p longnet-cli --, until it is installed)\n",
    )
}

/// `path` as one word of a shell.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
