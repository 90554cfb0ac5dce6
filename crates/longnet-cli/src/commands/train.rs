//! `longnet train`.

use super::{dry_run, report};
use crate::args::TrainArgs;
use crate::exit::Failure;
use crate::out::{out, tell, warn};
use crate::signals;
use longnet_train::backend;
use longnet_train::checkpoint::{self, CheckpointError, Lock, Point, Resume, checkpoints};
use longnet_train::config::sections::Parallel;
use longnet_train::config::{Config, Resolved};
use longnet_train::estimate::si;
use longnet_train::generate::generate;
use longnet_train::memory::Resident;
use longnet_train::trainer::parallel::{self, Mesh};
use longnet_train::trainer::{Control, Prepared, Report, Stop, TrainError};
use std::path::Path;

const VALIDATION: &str = "validation";

pub fn run(args: TrainArgs) -> Result<(), Failure> {
    let start = Resident::of_this_process();
    let sets = &args.config.set.set;
    let resolved = Resolved::load_for(Some(&args.config.config), sets, &args.resume)?;
    let blame = |error: TrainError| Failure::of(&resolved, error);
    let config = resolved.config.clone();
    if args.dry_run && config.parallel.ranks() > 1 {
        return Err(Failure::DryRun);
    }
    // Where ranks are processes, this is one of them.
    let mesh = parallel::of_this_process(&config.parallel).map_err(|e| blame(e.into()))?;
    let processes = Processes(mesh.as_ref());
    let backend = &args.backend.backend;
    let number = match mesh {
        None => 0,
        Some(_) => parallel::rank_on_this_machine(),
    };
    let device = backend::device_of_rank(backend, number);
    let device = processes.agree(device.map_err(Failure::from))?;
    let threads = match mesh {
        None => 1..config.parallel.ranks(),
        Some(_) => 0..0,
    };
    let others = threads.map(|rank| backend::device_of_rank(backend, rank));
    let mut devices = vec![device.clone()];
    devices.extend(others.collect::<Result<Vec<_>, _>>()?);

    let run = Path::new(&config.train.run_dir);
    // It reads all of the newest checkpoint.
    let found = processes.patiently(|| match processes.leads() {
        true => find(&args, run).map_err(|error| match error {
            Failure::Checkpoint(error) => blame(error.into()),
            other => other,
        }),
        false => Ok((None, None)),
    })?;
    let (held, point) = processes.agree(found)?;
    let point = match &mesh {
        None => point,
        Some(mesh) => {
            let folder = point.as_ref().map(|point| point.folder().to_path_buf());
            let folders = mesh.exchange(folder).map_err(|e| blame(e.into()))?;
            let point = match (point, &folders[0]) {
                (None, Some(folder)) => Point::verified(folder).map(Some),
                (point, _) => Ok(point),
            };
            processes.agree(point.map_err(Failure::from))?
        }
    };
    // Reading the text may take some ranks longer than others.
    let prepare = || Prepared::new(resolved.clone(), &device, point);
    let prepared = processes.patiently(prepare)?;
    let prepared = processes.agree(prepared.map_err(blame))?;
    if args.dry_run {
        let steps = config.train.steps;
        return dry_run::run(prepared, start, backend, steps).map_err(blame);
    }
    // A run that was stopped in its last evaluation makes it now.
    let is_done = prepared.done() >= config.train.steps && prepared.is_evaluated();
    if is_done && prepared.goes_on_in_place() {
        if !processes.leads() {
            return Ok(());
        }
        prepared.place(held).map_err(blame)?;
        return out(&format!(
            "{} has done {} of train.steps = {}: there is nothing left to do; --set train.steps trains longer, --resume never anew\n",
            run.display(),
            prepared.done(),
            config.train.steps
        ));
    }
    let placed = match processes.leads() {
        true => prepared.place(held).map(Some).map_err(blame),
        false => Ok(None),
    };
    let placed = processes.agree(placed)?;
    if let Some((_, aside)) = &placed {
        // Nobody needs to read it for the run to be worth its time.
        tell(&header(&prepared, &config.parallel, run, aside.as_deref()))?;
    }

    // The file of the tokenizer may have gone when the run ends.
    let tokenizer = prepared.text.train.text().tokenizer().clone();
    let stop = Stop::default();
    let control = Control {
        progress: args.progress.into(),
        stop: stop.clone(),
        stop_at: args.stop_at,
        devices,
    };
    let is_tui = control.progress.is_tui() && processes.leads();
    let trained = signals::stopping(&stop, is_tui, || match mesh.clone() {
        None => prepared.train(control).map(Some),
        Some(mesh) => prepared.train_on(control, mesh),
    });
    let report = match trained {
        Ok(Some(report)) => report,
        Ok(None) => return Ok(()),
        // The rank that failed says so itself, and rank 0 that it did.
        Err(error) if error.is_echo() && !processes.leads() => return Err(Failure::Echo),
        Err(error) => return Err(blame(error)),
    };
    // The other ranks have ended, and do not wait for what rank 0 still shows.
    drop(mesh);
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

/// The lock of a run that goes on, and the checkpoint that it goes on from.
fn find(args: &TrainArgs, run: &Path) -> Result<(Option<Lock>, Option<Point>), Failure> {
    let skipped = |error: &CheckpointError| warn(&format!("not whole, left out: {error}"));
    // Before its newest checkpoint is looked for: another process may be writing a newer one.
    let goes_on = args.resume != Resume::Never && !args.dry_run;
    let held = match goes_on && checkpoint::occupied(run)? {
        true => Some(Lock::take(run)?),
        false => None,
    };
    if held.is_some() {
        checkpoint::recover(run, |folder| {
            let folder = folder.display();
            warn(&format!(
                "{folder} was put back: the process that saved it ended before it was in its place"
            ));
        })?;
    }
    Ok((held, args.resume.point(run, skipped)?))
}

/// The processes that are ranks of this run, if there are several.
struct Processes<'a>(Option<&'a Mesh>);

impl Processes<'_> {
    /// Whether this one writes and prints.
    fn leads(&self) -> bool {
        self.0.is_none_or(Mesh::leads)
    }

    /// What `work` returns, which may take longer than ranks wait for each other.
    fn patiently<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, TrainError> {
        match self.0 {
            None => Ok(work()),
            Some(mesh) => Ok(mesh.patiently(work)?),
        }
    }

    /// `result`, if it is good on all of them. The first one with an error tells it.
    fn agree<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        let Some(mesh) = self.0 else { return result };
        let good = mesh.exchange(result.is_ok()).map_err(TrainError::from)?;
        match good.iter().position(|good| !good) {
            None => result,
            Some(rank) if rank == mesh.world.rank() => result,
            Some(_) => Err(Failure::Echo),
        }
    }
}

fn header(prepared: &Prepared, parallel: &Parallel, run: &Path, aside: Option<&Path>) -> String {
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
    if parallel.ranks() > 1 {
        let Parallel { ring, data, .. } = parallel;
        header += &format!(
            "ranks       {}: each sequence over {ring}, each batch over {data}\n",
            parallel.ranks()
        );
    }
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
