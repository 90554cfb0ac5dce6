//! `longnet plot`.

use crate::args::PlotArgs;
use crate::exit::Failure;
use crate::out::out;
use crate::target::Target;
use longnet_train::plot::{self, Log, Options};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub fn run(args: PlotArgs) -> Result<(), Failure> {
    let metrics = args.metric.iter().map(|name| plot::metric(name));
    let options = Options {
        metrics: metrics.collect::<Result<_, _>>()?,
        over: args.over.into(),
        smooth: args.smooth.map(|n| n.get()),
        logarithmic: args.log,
    };
    let logs = args.runs.iter().map(|run| Log::read(run));
    let logs = logs.collect::<Result<Vec<_>, _>>()?;
    let files = match args.out.is_empty() {
        false => args.out,
        true => ["curves.svg", "curves.png"]
            .map(|name| beside(&args.runs, name))
            .into(),
    };
    // A file that cannot be written is known before anything is drawn.
    let targets = files.into_iter().map(|file| {
        let format = Format::of(&file)?;
        Ok((Target::new("--out", &file)?, format, file))
    });
    let targets = targets.collect::<Result<Vec<_>, Failure>>()?;
    let picture = plot::chart(&logs, &options).picture();
    for (target, format, file) in targets {
        let quiet = target.is_stdout();
        match format {
            Format::Svg => target.write(picture.to_svg().as_bytes())?,
            Format::Png => target.write(&picture.to_png())?,
        }
        if !quiet {
            out(&format!("{}\n", file.display()))?;
        }
    }
    Ok(())
}

/// In the folder of a single run, else in the working directory.
fn beside(runs: &[PathBuf], name: &str) -> PathBuf {
    match runs {
        [run] if run.is_dir() => run.join(name),
        _ => name.into(),
    }
}

#[derive(Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl Format {
    /// By the ending of the name; standard output is SVG.
    fn of(file: &Path) -> Result<Self, Failure> {
        let ending = file
            .extension()
            .and_then(OsStr::to_str)
            .map(str::to_lowercase);
        match ending.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ if file.as_os_str() == "-" => Ok(Self::Svg),
            _ => Err(Failure::Format { path: file.into() }),
        }
    }
}
