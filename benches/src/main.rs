//! `cargo xtask bench cpu`: speed on this CPU beside other implementations, in one run.
//!
//! | module | concept |
//! |---|---|
//! | `cases` | what is measured |
//! | `problem`, `inputs`, `number` | sizes and branches, the numbers, their types |
//! | `oracle`, `check` | what should come out, and how far from it is too far |
//! | `contender`, `baselines` | who computes |
//! | `rounds`, `stats` | who runs when, medians |
//! | `bars` | what the numbers must show |
//! | `machine`, `report` | what they were measured on, how they are shown |

mod args;
mod bars;
mod baselines;
mod cases;
mod check;
mod contender;
mod inputs;
mod machine;
mod number;
mod oracle;
mod problem;
mod report;
mod rounds;
mod stats;

use args::Args;
use baselines::{Python, Start};
use cases::Bench;
use clap::Parser;
use machine::Machine;
use report::Case;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let threads = usize::from(args.threads);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| format!("--threads {threads}: {error}"))?;
    let python = python(args, threads)?;
    let torch = python.as_ref().map_or("not measured".into(), |python| {
        format!("{} ({})", python.version, python.capability)
    });
    #[cfg_attr(not(feature = "cuda"), allow(unused_mut))]
    let mut machine = Machine::here();
    println!("{}", machine.lines().join("\n"));
    println!("PyTorch {torch}; {threads} threads each");
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let python = python.map(RefCell::new);
    let mut bench = Bench {
        args,
        python: python.as_ref(),
        folder: folder.path(),
        cases: Vec::new(),
    };
    let outcome = cases::run(&mut bench);
    let cases = bench.cases;
    #[cfg(feature = "cuda")]
    if cases.iter().any(|case| case.name.starts_with("cuda")) {
        machine.gpu = machine::cuda();
        println!("\n{}", machine.gpu.as_deref().unwrap_or_default());
    }
    if cases.iter().any(|case| !case.bars.is_empty()) {
        println!("\n{}", report::bars_table(&cases));
    }
    if !cases.is_empty() {
        if args.quick {
            println!("--quick: these sizes show that everything works, not how fast it is");
        }
        for path in save(args, &machine, &torch, &cases)? {
            println!("{}", path.display());
        }
    }
    outcome?;
    let wrong = |case: &Case| case.rows.iter().any(|row| row.times.is_err());
    Ok(match cases.iter().any(wrong) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The Python with PyTorch, if there is one.
fn python(args: &Args, threads: usize) -> Result<Option<Python>, String> {
    let Some(program) = &args.python else {
        println!("no --python: nothing is compared with PyTorch");
        return Ok(None);
    };
    Ok(match Python::start(program, threads, &[])? {
        Start::Ready(python) => Some(python),
        Start::Missing(why) => {
            println!("{why}: nothing is compared with PyTorch");
            None
        }
    })
}

/// Writes the JSON and SVG files, beside those of earlier runs.
fn save(
    args: &Args,
    machine: &Machine,
    torch: &str,
    cases: &[Case],
) -> Result<[PathBuf; 2], String> {
    let part = args.quick || args.filter.is_some();
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None if part => env::temp_dir().join("longnet-bench"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("results"),
    };
    let threads = usize::from(args.threads);
    let name = format!("{}-{}", machine.date, machine.short_name());
    let name = unused(&folder, &name);
    let json = report::json(machine, torch, threads, cases);
    let json = serde_json::to_string_pretty(&json).expect("numbers and strings") + "\n";
    let svg = report::svg(machine, torch, threads, cases);
    let write = |ending: &str, text: String| -> Result<PathBuf, String> {
        let path = folder.join(format!("{name}.{ending}"));
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    Ok([write("json", json)?, write("svg", svg)?])
}

/// `name`, with a number where `folder` has files of that name.
fn unused(folder: &Path, name: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let taken = |name: &String| {
        let mut endings = ["json", "svg"].iter();
        endings.any(|ending| folder.join(format!("{name}.{ending}")).exists())
    };
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).expect("numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_earlier_runs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let name = || unused(folder.path(), "a");
        assert_eq!(name(), "a");
        fs::write(folder.path().join("a.json"), "").unwrap();
        assert_eq!(name(), "a-2");
        fs::write(folder.path().join("a-2.svg"), "").unwrap();
        assert_eq!(name(), "a-3");
    }
}
